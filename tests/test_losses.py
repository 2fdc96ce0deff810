"""Laws of the distillation losses: NumPy references, gradients, limits."""

import numpy as np
import pytest
import torch

from skdistill import losses

TEMPERATURES = [0.5, 1.0, 3.0, 20.0]


def make_rows(n=7, k=4, *, seed=0, zeros=True):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n, k))
    target = rng.dirichlet(np.ones(k), size=n)
    if zeros:
        target[0] = np.eye(k)[1]
        target[1, 0] = 0.0
        target[1] /= target[1].sum()
    return logits, target, rng.integers(k, size=n)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def temper(proba, temperature):
    power = proba ** (1 / temperature)
    return power / power.sum(axis=-1, keepdims=True)


def kl(q, p):
    ratio = np.log(np.where(q > 0, q, 1.0)) - np.log(p)
    return np.where(q > 0, q * ratio, 0.0).sum(axis=-1)


def tensors(*arrays):
    return tuple(torch.as_tensor(array) for array in arrays)


def gradient(function, logits):
    leaf = torch.as_tensor(logits).clone().requires_grad_()
    function(leaf).sum().backward()
    return leaf.grad.numpy()


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_temper_is_the_power_and_keeps_zeros(temperature):
    _, target, _ = make_rows()
    ours = losses.temper(torch.as_tensor(target), temperature).numpy()
    np.testing.assert_allclose(ours, temper(target, temperature), rtol=1e-12)
    assert np.array_equal(ours == 0, target == 0)


def test_temper_at_a_huge_temperature_is_uniform_over_the_classes_with_mass():
    target = torch.tensor([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    expected = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(losses.temper(target, 1e9).numpy(), expected, atol=1e-8)


def test_temper_of_a_softmax_is_the_softmax_of_divided_logits():
    logits, _, _ = make_rows()
    proba = torch.softmax(torch.as_tensor(logits), dim=1)
    ours = losses.log_softmax_at(torch.as_tensor(logits), 4.0).exp()
    torch.testing.assert_close(losses.temper(proba, 4.0), ours)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_divergence_matches_numpy(temperature):
    logits, target, _ = make_rows()
    ours = losses.kl_divergence(*tensors(logits, target), temperature=temperature)
    expected = temperature**2 * kl(temper(target, temperature), softmax(logits / temperature))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_what_is_not_said_is_temperature_1_and_beta_2():
    logits, target, y = make_rows()
    rows = tensors(logits, target)
    np.testing.assert_allclose(losses.kl_divergence(*rows), kl(target, softmax(logits)), rtol=1e-9)
    labels = torch.as_tensor(y)
    split, both = (losses.decoupled_kl(*rows, labels, beta=beta) for beta in (0.0, 1.0))
    torch.testing.assert_close(losses.decoupled_kl(*rows, labels), split + 2 * (both - split))


@pytest.mark.parametrize("n_students", [None, 2])
def test_each_row_may_have_its_own_temperature(n_students):
    logits, target, y = tensors(*make_rows())
    steps = torch.arange(1, 8, dtype=torch.float64)[:, None] / 2
    if n_students:
        logits, steps = torch.stack([logits, -logits]), torch.stack([steps, 3 * steps])
    for function in (
        lambda z, q, _, T: losses.kl_divergence(z, q, temperature=T),
        lambda z, q, label, T: losses.decoupled_kl(z, q, label, temperature=T),
    ):
        together = function(logits, target, y, steps)
        assert together.shape == logits.shape[:-1]
        for i in range(len(y)):
            row = slice(i, i + 1)
            for s in range(n_students or 1):
                z, T = (v[s] if n_students else v for v in (logits, steps))
                alone = function(z[row], target[row], y[row], T[i].item())
                value = together[s, row] if n_students else together[row]
                torch.testing.assert_close(value, alone)


def test_kl_divergence_is_zero_exactly_where_student_and_teacher_agree():
    logits, _, _ = make_rows()
    target = torch.softmax(torch.as_tensor(logits), dim=1)
    value = losses.kl_divergence(torch.as_tensor(logits) + 5.0, target, temperature=3.0)
    np.testing.assert_allclose(value.numpy(), 0.0, atol=1e-13)


def test_kl_divergence_sums_over_classes():
    k = 5
    logits, target = torch.zeros(1, k, dtype=torch.float64), torch.eye(k, dtype=torch.float64)[:1]
    value = losses.kl_divergence(logits, target, temperature=1.0)
    np.testing.assert_allclose(value.numpy(), [np.log(k)])


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_kl_gradient_is_closed_form(temperature):
    logits, target, _ = make_rows()
    ours = gradient(
        lambda z: losses.kl_divergence(z, torch.as_tensor(target), temperature=temperature), logits
    )
    difference = softmax(logits / temperature) - temper(target, temperature)
    np.testing.assert_allclose(ours, temperature * difference, atol=1e-12)


def test_the_square_of_the_temperature_keeps_the_gradient_scale():
    logits, target, _ = make_rows(n=200, zeros=False)
    sizes = [
        np.abs(
            gradient(
                lambda z, t=t: losses.kl_divergence(z, torch.as_tensor(target), temperature=t),
                logits,
            )
        ).mean()
        for t in (5.0, 10.0, 100.0, 1000.0)
    ]
    assert max(sizes) / min(sizes) < 1.5


def test_kl_divergence_tends_to_half_the_logit_mse_at_high_temperature():
    logits, target, _ = make_rows(zeros=False)
    rows = tensors(logits, target)
    ours = losses.kl_divergence(*rows, temperature=1e4).numpy()
    np.testing.assert_allclose(ours, losses.logit_mse(*rows).numpy() / 2, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_gradients_stay_finite_with_zeros_in_the_target(dtype, scale):
    logits, target, y = make_rows()
    soft, labels = torch.as_tensor(target, dtype=dtype), torch.as_tensor(y)
    leaf = torch.as_tensor(logits * scale, dtype=dtype)
    for function in (
        lambda z: losses.kl_divergence(z, soft, temperature=2.0),
        lambda z: losses.logit_mse(z, soft),
        lambda z: losses.decoupled_kl(z, soft, labels, temperature=2.0, beta=4.0),
        lambda z: losses.cross_entropy(z, labels),
    ):
        values = function(leaf)
        assert values.dtype == dtype
        assert torch.isfinite(values).all()
        assert np.isfinite(gradient(function, leaf)).all()


def test_autograd_agrees_with_finite_differences():
    logits, target, y = make_rows(n=4)
    soft, labels = tensors(target, y)
    leaf = torch.as_tensor(logits).requires_grad_()
    teacher = torch.as_tensor(make_rows(n=4, seed=1)[0])
    for function in (
        lambda z: losses.kl_divergence(z, soft, temperature=3.0),
        lambda z: losses.logit_mse(z, soft),
        lambda z: losses.decoupled_kl(z, soft, labels, temperature=3.0, beta=2.0),
        lambda z: losses.cross_entropy(z, labels),
        lambda z: losses.distillation_loss(z, teacher, labels, temperature=3.0, alpha=0.7),
    ):
        assert torch.autograd.gradcheck(function, (leaf,))


def test_cross_entropy_matches_numpy():
    logits, _, y = make_rows()
    ours = losses.cross_entropy(*tensors(logits, y)).numpy()
    np.testing.assert_allclose(ours, -np.log(softmax(logits)[np.arange(len(y)), y]))


def test_logit_mse_matches_numpy_and_ignores_a_shift():
    logits, target, _ = make_rows()
    wanted = np.log(np.maximum(target, 1e-7))
    difference = logits - wanted
    expected = ((difference - difference.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
    shifted = losses.logit_mse(*tensors(logits + 7.0, target))
    np.testing.assert_allclose(shifted.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_kl_matches_numpy(beta, temperature):
    logits, target, y = make_rows(zeros=False)
    q, p = temper(target, temperature), softmax(logits / temperature)
    label = np.eye(q.shape[1], dtype=bool)[y]
    binary = [np.column_stack([v[label], 1 - v[label]]) for v in (q, p)]
    rest = [v[~label].reshape(len(v), -1) / (1 - v[label])[:, None] for v in (q, p)]
    expected = temperature**2 * (kl(*binary) + beta * kl(*rest))
    ours = losses.decoupled_kl(*tensors(logits, target, y), temperature=temperature, beta=beta)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9)


def test_decoupled_kl_is_kl_when_beta_is_the_mass_outside_the_label():
    logits, target, _ = make_rows(zeros=False)
    y = np.zeros(len(logits), dtype=np.int64)
    target[:, 0] = 0.6
    target[:, 1:] *= 0.4 / target[:, 1:].sum(axis=1, keepdims=True)
    rows = tensors(logits, target)
    ours = losses.decoupled_kl(*rows, torch.as_tensor(y), temperature=1.0, beta=0.4)
    np.testing.assert_allclose(ours, losses.kl_divergence(*rows, temperature=1.0), rtol=1e-12)


def test_decoupled_kl_has_no_second_term_without_mass_outside_the_label():
    logits, _, y = make_rows()
    target = torch.eye(4, dtype=torch.float64)[torch.as_tensor(y)]
    values = [
        losses.decoupled_kl(*tensors(logits), target, torch.as_tensor(y), beta=beta)
        for beta in (0.0, 8.0)
    ]
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("leading", [(), (2,)])
def test_a_target_that_is_sure_of_the_label_changes_no_other_row(leading):
    logits, target, y = tensors(*make_rows(zeros=False))
    target[2] = torch.eye(4, dtype=torch.float64)[y[2]]
    stack = [v.expand(*leading, *v.shape) for v in (logits, target)]
    together = losses.decoupled_kl(*stack, y)
    rows = [
        losses.decoupled_kl(logits[i : i + 1], target[i : i + 1], y[i : i + 1]) for i in range(7)
    ]
    torch.testing.assert_close(together, torch.cat(rows).expand(*leading, 7))
    assert together.isfinite().all()


def test_decoupled_kl_of_a_row_without_a_label_is_kl():
    rng = np.random.default_rng(5)
    logits, target = rng.normal(size=(6, 4)), rng.dirichlet(np.ones(4), size=6)
    y = torch.tensor([-1, 0, -1, 3, 2, -1])
    rows = tensors(logits, target)
    whole = losses.kl_divergence(*rows, temperature=2.0)
    decoupled = losses.decoupled_kl(*rows, y, temperature=2.0)
    assert torch.equal(decoupled[y < 0], whole[y < 0])
    assert (decoupled[y >= 0] != whole[y >= 0]).all()


def test_decoupled_kl_refuses_two_classes():
    two = torch.full((3, 2), 0.5)
    words = (
        "at least 3 classes, got 2: .* is always 0 and the rest equals loss='kl'. Use loss='kl'.$"
    )
    with pytest.raises(ValueError, match=words):
        losses.decoupled_kl(two, two, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("shared", [True, False])
def test_a_stack_equals_its_students_one_by_one(shared):
    temperatures = [1.0, 2.0, 8.0]
    logits = np.stack([make_rows(seed=seed)[0] for seed in range(3)])
    _, target, y = make_rows()
    stacked = torch.as_tensor(target if shared else np.stack([target] * 3))
    labels, students = tensors(y, logits)
    steps = torch.tensor(temperatures, dtype=torch.float64).view(3, 1, 1)
    together = [
        losses.kl_divergence(students, stacked, temperature=steps),
        losses.decoupled_kl(students, stacked, labels, temperature=steps, beta=2.0),
        losses.logit_mse(students, stacked),
        losses.cross_entropy(students, labels),
    ]
    soft = torch.as_tensor(target)
    for index, temperature in enumerate(temperatures):
        one = students[index]
        alone = [
            losses.kl_divergence(one, soft, temperature=temperature),
            losses.decoupled_kl(one, soft, labels, temperature=temperature, beta=2.0),
            losses.logit_mse(one, soft),
            losses.cross_entropy(one, labels),
        ]
        for stack, single in zip(together, alone, strict=True):
            assert stack.shape == (3, len(y))
            torch.testing.assert_close(stack[index], single)


@pytest.mark.parametrize("T", [0.5, 3.0])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_distillation_loss_is_the_weighted_mean_of_both_terms(alpha, T):
    student, _, y = make_rows()
    teacher = make_rows(seed=1)[0]
    q, p = softmax(teacher / T), softmax(student / T)
    hard = -np.log(softmax(student)[np.arange(len(y)), y])
    ours = losses.distillation_loss(*tensors(student, teacher, y), temperature=T, alpha=alpha)
    assert ours.shape == ()
    np.testing.assert_allclose(ours.item(), np.mean(alpha * T**2 * kl(q, p) + (1 - alpha) * hard))


def test_distillation_loss_follows_torch_batchmean():
    student, teacher = tensors(make_rows()[0], make_rows(seed=1)[0])
    y = torch.zeros(len(student), dtype=torch.int64)
    reference = 4.0 * torch.nn.functional.kl_div(
        torch.log_softmax(student / 2, dim=1),
        torch.softmax(teacher / 2, dim=1),
        reduction="batchmean",
    )
    ours = losses.distillation_loss(student, teacher, y, temperature=2.0, alpha=1.0)
    torch.testing.assert_close(ours, reference)


def test_distillation_loss_sends_no_gradient_to_the_teacher():
    student, teacher = (torch.zeros(2, 3, requires_grad=True) for _ in range(2))
    losses.distillation_loss(
        student, teacher * 2.0, torch.tensor([0, 1]), temperature=3.0, alpha=0.7
    ).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be greater than 0, got 0\.0"),
        ({"temperature": float("nan")}, "temperature must be greater than 0, got nan"),
        ({"alpha": 1.5}, r"alpha must be from 0 to 1, got 1\.5"),
        ({"alpha": -0.1}, r"alpha must be from 0 to 1, got -0\.1"),
    ],
)
def test_distillation_loss_refuses_what_has_no_meaning(words, message):
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=message):
        losses.distillation_loss(
            rows, rows, torch.tensor([0, 1]), **{"temperature": 3.0, "alpha": 0.7, **words}
        )
