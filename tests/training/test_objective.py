"""The objective: values and gradients against NumPy and against autograd of the losses."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from training_zoo import targets_of, training_set

from skdistill import losses
from skdistill.training import objective as _objective
from skdistill.training.objective import LossSums, Objective, Targets

N, K = 7, 4
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(N, K)) * 3
P = RNG.dirichlet(np.ones(K), size=N)
P[0] = [0.5, 0.5, 0, 0]
LABEL = RNG.integers(K, size=N)
SOFT, HARD = RNG.random(N), RNG.random(N)
TARGETS = Targets(P, LABEL, SOFT, HARD)
SETTINGS = [(1.0, 0.7), (4.0, 0.3), (2.0, 1.0), (3.0, 0.0)]
GRIDS = {
    "one": (3.0, 0.7),
    "T=1": (1.0, 0.9),
    "soft only": (2.0, 1.0),
    "hard only": (2.0, 0.0),
    "a stack of one": ([3.0], [0.7]),
    "several temperatures": ([1.0, 4.0, 0.5, 4.0], [0.3, 1.0, 0.7, 0.0]),
    "one temperature": ([2.0, 2.0], [0.3, 1.0]),
    "two temperatures": ([1.0, 4.0], [0.3, 1.0]),
    # So cold that exponentials vanish unless each row is taken from its own maximum.
    "cold": (1e-3, 0.7),
    "cold beside warm": ([1e-3, 2.0], [0.7, 0.3]),
}


def squared(student_logits, target_proba, y, *, temperature):
    """A loss of the user's own, which no constant added to the logits leaves alone."""
    return (student_logits - target_proba.log().clamp(min=-9)).square().sum(-1) / temperature**0.5


def squared_of_a_stack(student_logits, target_proba, y, *, temperature):
    rows = (student_logits - target_proba.log().clamp(min=-9)).square().sum(-1)
    return rows / torch.as_tensor(temperature).reshape(-1, 1) ** 0.5


def decoupled(logits, proba, label, *, temperature):
    return losses.decoupled_kl(logits, proba, label, temperature=temperature)


LOSSES = {
    "kl": lambda z, q, y, T: losses.kl_divergence(z, q, temperature=T),
    "mse": lambda z, q, y, T: losses.logit_mse(z, q),
    "dkd": lambda z, q, y, T: losses.decoupled_kl(z, q, y, temperature=T),
    squared: lambda z, q, y, T: squared(z, q, y, temperature=T),
}


def by_autograd(loss, T, alpha, logits, targets):
    """Return the sums and the gradient of the weighed batch mean, from the public losses."""
    proba, label, soft, hard = map(torch.tensor, targets[:4])
    leaf = torch.tensor(logits, requires_grad=True)
    soft_sum = (soft * LOSSES[loss](leaf, proba, label, T)).sum()
    hard_sum = (hard * losses.cross_entropy(leaf, label.clamp(min=0))).sum()
    ((alpha * soft_sum + (1 - alpha) * hard_sum) / len(logits)).backward()
    return soft_sum.item(), hard_sum.item(), leaf.grad.numpy()


def drawn(k, n=40):
    """Return targets with classes, and with all classes but one, ruled out, and some unlabelled."""
    training = training_set(n, k=k)
    training.proba[:3, 0] = 0
    training.proba[3:6] = np.eye(k)[1]
    training.proba /= training.proba.sum(axis=1, keepdims=True)
    training.label[6:12], training.hard_weight[6:12] = -1, 0
    return targets_of(training)


@pytest.mark.parametrize(("T", "alpha"), SETTINGS)
def test_values_and_gradient_are_the_formulas(T, alpha):
    sums, gradient = Objective(T, alpha).sums(Z[None], TARGETS)
    q = P ** (1 / T) / (P ** (1 / T)).sum(axis=1, keepdims=True)
    kl = (q * (np.log(np.where(q > 0, q, 1)) - log_softmax(Z / T, axis=1))).sum(axis=1)
    cross_entropy = -log_softmax(Z, axis=1)[np.arange(N), LABEL]
    expected = alpha * T * (softmax(Z / T, axis=1) - q) * SOFT[:, None]
    expected += (1 - alpha) * (softmax(Z, axis=1) - np.eye(K)[LABEL]) * HARD[:, None]
    np.testing.assert_allclose(sums.soft, (SOFT * T**2 * kl).sum(), rtol=1e-12)
    np.testing.assert_allclose(sums.hard, (HARD * cross_entropy).sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient[0], expected / N, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("k", [3, 12])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_gradient_is_autograds_of_the_public_losses(loss, k, grid):
    targets = drawn(k)
    pairs = list(zip(*map(np.atleast_1d, grid), strict=True))
    logits = np.random.default_rng(1).normal(size=(len(pairs), 40, k))
    own = squared_of_a_stack if loss is squared and np.ndim(grid[0]) else loss
    objective = Objective(*grid, own)
    sums, gradient = objective.sums(logits.copy(), targets)
    total = objective.total(sums)
    assert np.shape(total) == np.shape(sums.soft) == np.shape(grid[0])
    for i, (T, alpha) in enumerate(pairs):
        soft, hard, expected = by_autograd(loss, float(T), alpha, logits[i], targets)
        np.testing.assert_allclose(np.ravel(sums.soft)[i], soft, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(np.ravel(sums.hard)[i], hard, rtol=1e-12)
        np.testing.assert_allclose(np.ravel(total)[i], alpha * soft + (1 - alpha) * hard)
        np.testing.assert_allclose(gradient[i], expected, rtol=0, atol=1e-14)


def test_two_classes_have_no_decoupled_loss_and_all_others():
    logits = np.random.default_rng(1).normal(size=(1, 40, 2))
    for loss in ("kl", "mse", squared):
        _, _, expected = by_autograd(loss, 2.3, 0.7, logits[0], drawn(2))
        _, gradient = Objective(2.3, 0.7, loss).sums(logits.copy(), drawn(2))
        np.testing.assert_allclose(gradient[0], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
def test_batches_add_up(loss):
    objective = Objective(3.0, 0.6, loss)
    whole, _ = objective.sums(Z[None], TARGETS)
    rows = objective.prepare(TARGETS)
    total = np.zeros(2)
    for some in (np.array([0, 2, 4, 6]), np.array([1, 3, 5])):
        total += objective.at_logits(Z[None, some], rows.take(some))[0]
    np.testing.assert_allclose(objective.finish(tuple(total), rows), whole, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_all_stays_in_the_dtype_of_the_targets(grid, loss, dtype):
    training = training_set(40)
    objective = Objective(*grid, loss)
    logits = np.random.default_rng(0).normal(size=(np.size(grid[0]), 40, 3)).astype(dtype)
    sums, gradient = objective.sums(logits.copy(), targets_of(training, dtype))
    exact, expected = objective.sums(logits.astype(float), targets_of(training))
    assert objective.prepare(targets_of(training, dtype)).columns.dtype == gradient.dtype == dtype
    eps = np.finfo(dtype).eps
    cold = 100 if np.min(grid[0]) < 0.1 else 1
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2 * cold * eps)
    np.testing.assert_allclose(sums.soft, exact.soft, rtol=200 * eps, atol=200 * cold * eps)


@pytest.mark.parametrize("n_rows", [1, 7, 39, 40, 41])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_blocks_of_rows_join_without_a_seam(grid, n_rows, monkeypatch):
    targets, objective = drawn(3), Objective(*grid)
    whole = objective.prepare(targets)
    monkeypatch.setattr(_objective, "_BLOCK_ROWS", n_rows)
    parts = objective.prepare(targets)
    np.testing.assert_allclose(parts.columns, whole.columns, rtol=1e-14)
    np.testing.assert_allclose(parts.offset, whole.offset, rtol=1e-14)


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_number_added_to_the_logits_of_a_row_changes_nothing(grid, loss):
    targets, objective = targets_of(training_set(40)), Objective(*grid, loss)
    rng = np.random.default_rng(0)
    # Halves and thousands, which add up without rounding.
    logits = rng.integers(-9, 9, size=(np.size(grid[0]), 40, 3)) / 2
    sums, expected = objective.sums(logits.copy(), targets)
    far = logits + 4096.0 * rng.integers(-9, 9, size=(np.size(grid[0]), 40, 1))
    found, gradient = objective.sums(far, targets)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.soft, sums.soft, rtol=1e-13)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_large_logits_do_not_overflow_the_hard_term(loss):
    targets = targets_of(training_set(4))
    logits = np.array([[[1e300, 0, -1e300]] * 4])
    _, gradient = Objective(2.0, 0.5, loss).sums(logits, targets)
    assert np.isfinite(gradient).all()


def test_the_soft_gradient_keeps_its_size_when_the_temperature_grows():
    # T² undoes what dividing by T takes from the gradient: its limit is finite and not zero.
    targets = TARGETS._replace(proba=softmax(Z[::-1], axis=1))
    hot, hotter = (Objective(T, 1.0).sums(Z[None], targets)[1] for T in (1e4, 1e5))
    assert np.abs(hot).max() > 0.01
    np.testing.assert_allclose(hot, hotter, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
def test_a_row_without_a_label_has_no_hard_term(loss):
    objective = Objective(2.0, 0.6, loss)
    hidden = TARGETS._replace(
        label=np.array([-1, *LABEL[1:]]), hard_weight=np.array([0, *HARD[1:]])
    )
    sums, gradient = objective.sums(Z[None], hidden)
    rest, _ = objective.sums(Z[None, 1:], TARGETS.take(np.arange(1, N)))
    np.testing.assert_allclose(sums.hard, rest.hard, rtol=1e-14)
    assert np.isfinite(gradient).all()


def test_decoupling_takes_a_label():
    unlabelled = TARGETS._replace(label=np.full(N, -1))
    kl, dkd = (Objective(3.0, 1.0, loss).sums(Z[None], unlabelled) for loss in ("kl", "dkd"))
    np.testing.assert_allclose(dkd[0].soft, kl[0].soft)
    np.testing.assert_allclose(dkd[1], kl[1], atol=1e-15)


def test_a_callable_loss_is_given_what_the_losses_here_are_given():
    own, called = (Objective(3.0, 0.6, loss).sums(Z[None], TARGETS) for loss in ("dkd", decoupled))
    np.testing.assert_array_equal(called[0].soft, own[0].soft)
    np.testing.assert_array_equal(called[1], own[1])
    seen = []

    def spy(student_logits, target_proba, y, *, temperature):
        seen.append((student_logits.detach().numpy(), target_proba, y, temperature))
        return torch.zeros(len(student_logits), dtype=torch.float64)

    _, gradient = Objective(3.0, 1.0, spy).sums(Z[None], TARGETS)
    ((logits, proba, y, temperature),) = seen
    np.testing.assert_array_equal(logits, Z)
    np.testing.assert_array_equal(proba, P)
    np.testing.assert_array_equal(y, LABEL)
    assert type(temperature) is float
    assert not gradient.any()


@pytest.mark.parametrize(
    ("answer", "found"),
    [(torch.tensor(0.0), r"\(\)"), (torch.zeros(N, 1), rf"\({N}, 1\)"), (np.zeros(N), "ndarray")],
)
def test_a_callable_loss_has_one_value_a_row(answer, found):
    objective = Objective(1.0, 0.5, lambda *args, **kwargs: answer)
    words = (
        rf"^The callable loss must return .*, of shape \({N},\); got {found}\. Do not reduce it\.$"
    )
    with pytest.raises(ValueError, match=words):
        objective.sums(Z[None], TARGETS)


def test_the_hidden_term_is_added_as_it_is():
    assert Objective(1.0, 0.25).total(LossSums(4.0, 8.0, 3.0)) == 0.25 * 4 + 0.75 * 8 + 3
