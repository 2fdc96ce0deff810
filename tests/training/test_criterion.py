"""Values and gradients of the criterion against NumPy, in all its forms."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from skdistill import losses
from skdistill.training.objective import DistillationCriterion, Targets

N, K = 7, 4
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(N, K)) * 3
P = RNG.dirichlet(np.ones(K), size=N)
P[0] = [0.5, 0.5, 0, 0]
LABEL = RNG.integers(K, size=N)
SOFT, HARD = RNG.random(N), RNG.random(N)
TARGETS = Targets(*map(torch.tensor, (P, LABEL, SOFT, HARD)))
SETTINGS = [(1.0, 0.7), (4.0, 0.3), (2.0, 1.0), (3.0, 0.0)]


def decoupled(logits, proba, label, *, temperature):
    return losses.decoupled_kl(logits, proba, label, temperature=temperature)


def reference(T, alpha):
    """Return the two sums and the gradient of the weighed batch mean."""
    q = P ** (1 / T) / (P ** (1 / T)).sum(axis=1, keepdims=True)
    kl = (q * (np.log(np.where(q > 0, q, 1)) - log_softmax(Z / T, axis=1))).sum(axis=1)
    cross_entropy = -log_softmax(Z, axis=1)[np.arange(N), LABEL]
    gradient = alpha * T * (softmax(Z / T, axis=1) - q) * SOFT[:, None]
    gradient += (1 - alpha) * (softmax(Z, axis=1) - np.eye(K)[LABEL]) * HARD[:, None]
    return (SOFT * T**2 * kl).sum(), (HARD * cross_entropy).sum(), gradient / N


@pytest.mark.parametrize(("T", "alpha"), SETTINGS)
@pytest.mark.parametrize("weighed", [False, True])
def test_values_and_gradient_at_the_logits(T, alpha, weighed):
    criterion = DistillationCriterion(T, alpha)
    targets = criterion.weigh(TARGETS) if weighed else TARGETS
    sums, gradient = criterion.at_logits(torch.tensor(Z), targets)
    soft, hard, expected = reference(T, alpha)
    np.testing.assert_allclose([sums.soft, sums.hard], [soft, hard], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected, atol=1e-14)
    np.testing.assert_allclose(criterion.total(sums), alpha * soft + (1 - alpha) * hard)


@pytest.mark.parametrize(("T", "alpha"), SETTINGS)
@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
def test_gradient_equals_autograd(T, alpha, loss):
    criterion = DistillationCriterion(T, alpha, loss)
    leaf = torch.tensor(Z, requires_grad=True)
    sums = criterion(leaf, TARGETS)
    (criterion.total(sums) / N).backward()
    at_logits, gradient = criterion.at_logits(torch.tensor(Z), TARGETS)
    torch.testing.assert_close(gradient, leaf.grad)
    torch.testing.assert_close(at_logits.soft, sums.soft.detach())
    torch.testing.assert_close(at_logits.hard, sums.hard.detach())
    assert sums.hidden == 0


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd", decoupled])
def test_a_stack_equals_its_students(loss):
    logits = torch.tensor(np.stack([Z, 2 * Z, -Z, Z + 1]))
    T, alpha = (torch.tensor(v).view(-1, 1, 1) for v in zip(*SETTINGS, strict=True))
    sums, gradient = DistillationCriterion(T, alpha, loss).at_logits(logits, TARGETS)
    for i, setting in enumerate(SETTINGS):
        one, its_gradient = DistillationCriterion(*setting, loss).at_logits(logits[i], TARGETS)
        torch.testing.assert_close(gradient[i], its_gradient)
        torch.testing.assert_close(sums.soft[i], one.soft)
        torch.testing.assert_close(sums.hard[i], one.hard)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_row_without_a_label_has_no_hard_term(loss, stacked):
    T, alpha = (torch.tensor([[[v]]]) if stacked else v for v in (2.0, 0.6))
    logits = torch.tensor(Z[None] if stacked else Z)
    criterion = DistillationCriterion(T, alpha, loss)
    hidden = TARGETS._replace(
        label=torch.tensor([-1, *LABEL[1:]]), hard_weight=torch.tensor([0, *HARD[1:]])
    )
    rest = TARGETS.take(torch.arange(1, N))
    sums, gradient = criterion.at_logits(logits, criterion.weigh(hidden))
    others = criterion.at_logits(logits[..., 1:, :], criterion.weigh(rest))[0]
    torch.testing.assert_close(sums.hard, others.hard)
    assert gradient.isfinite().all()


def test_a_class_without_a_label_keeps_its_column():
    criterion = DistillationCriterion(2.0, 0.6)
    first = TARGETS._replace(label=torch.zeros(N, dtype=torch.long))
    plain, weighed = (
        criterion.at_logits(torch.tensor(Z), t) for t in (first, criterion.weigh(first))
    )
    torch.testing.assert_close(weighed, plain)


def test_decoupling_takes_a_label():
    hidden = TARGETS._replace(label=torch.full((N,), -1))
    z = torch.tensor(Z)
    kl, dkd = (DistillationCriterion(3.0, 1.0, loss).at_logits(z, hidden) for loss in ("kl", "dkd"))
    torch.testing.assert_close(dkd[0].soft, kl[0].soft)
    torch.testing.assert_close(dkd[1], kl[1])


def test_a_callable_loss_is_given_what_the_losses_here_are_given():
    z = torch.tensor(Z)
    own, called = (
        DistillationCriterion(3.0, 0.6, d).at_logits(z, TARGETS) for d in ("dkd", decoupled)
    )
    torch.testing.assert_close(called, own)


@pytest.mark.parametrize(
    ("answer", "found"),
    [(torch.tensor(0.0), r"\(\)"), (torch.zeros(N, 1), rf"\({N}, 1\)"), (np.zeros(N), "ndarray")],
)
def test_a_callable_loss_has_one_value_a_row(answer, found):
    criterion = DistillationCriterion(1.0, 0.5, lambda *args, **kwargs: answer)
    words = (
        rf"^The callable loss must return .*, of shape \({N},\); got {found}\. Do not reduce it\.$"
    )
    with pytest.raises(ValueError, match=words):
        criterion.at_logits(torch.tensor(Z), TARGETS)


def test_a_callable_loss_has_one_value_a_row_of_each_student():
    T, alpha = torch.ones(2, 1, 1), torch.ones(2, 1, 1)
    criterion = DistillationCriterion(T, alpha, lambda *args, **kwargs: torch.zeros(N))
    with pytest.raises(ValueError, match=rf"of shape \(2, {N}\); got \({N},\)\."):
        criterion.at_logits(torch.tensor(np.stack([Z, Z])), TARGETS)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("stacked", [False, True])
def test_the_gradient_is_the_same_with_gradients_off(loss, stacked):
    T, alpha = (torch.tensor([[[v]]]) if stacked else v for v in (2.0, 0.6))
    logits = torch.tensor(Z[None] if stacked else Z)
    criterion = DistillationCriterion(T, alpha, loss)
    expected = criterion.at_logits(logits, TARGETS)
    weighed = criterion.weigh(TARGETS)
    # Only one student's divergence can be weighed beforehand.
    assert (weighed is TARGETS) == (stacked or loss != "kl")
    with criterion.gradients_off():
        # Only where there is a formula can autograd stay out of it.
        assert torch.is_inference_mode_enabled() == (loss == "kl")
        torch.testing.assert_close(criterion.at_logits(logits, weighed), expected)


def test_batches_add_up():
    criterion = DistillationCriterion(3.0, 0.6)
    whole, _ = criterion.at_logits(torch.tensor(Z), TARGETS)
    weighed = criterion.weigh(TARGETS)
    for targets in (TARGETS, weighed):
        parts = [
            criterion.at_logits(torch.tensor(Z[rows]), targets.take(torch.tensor(rows)))[0]
            for rows in ([0, 2, 4, 6], [1, 3, 5])
        ]
        torch.testing.assert_close(sum(p.soft for p in parts), whole.soft)
        torch.testing.assert_close(sum(p.hard for p in parts), whole.hard)


def test_the_soft_gradient_keeps_its_size_when_the_temperature_grows():
    # T² undoes what dividing by T takes from the gradient: its limit is finite and not zero.
    targets = TARGETS._replace(proba=torch.tensor(softmax(Z[::-1], axis=1)))
    hot, hotter = (
        DistillationCriterion(T, 1.0).at_logits(torch.tensor(Z), targets)[1] for T in (1e4, 1e5)
    )
    assert hot.abs().max() > 0.01
    torch.testing.assert_close(hot, hotter, rtol=1e-2, atol=1e-3)
