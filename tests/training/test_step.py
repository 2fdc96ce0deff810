"""The step on the CPU: gradients are autograd's, updates Adam's."""

import copy
import math

import numpy as np
import pytest
import torch
from training_zoo import (
    ACTIVATIONS,
    ENCODING,
    make_mlp,
    stacked_objective,
    targets_of,
    training_set,
)

from skdistill import losses
from skdistill.teachers.hints import ActiveHint, Hint
from skdistill.training import step as _step
from skdistill.training.data import HintTargets
from skdistill.training.hint_terms import HintBatch, HintTerm
from skdistill.training.objective import Objective
from skdistill.training.step import Adam, CpuStep, take_moments

RNG = np.random.default_rng(0)


def squared(student_logits, target_proba, y, *, temperature):
    return (student_logits - target_proba).square().sum(-1)


SOFT = {
    "kl": lambda z, q, y, T: losses.kl_divergence(z, q, temperature=T),
    "mse": lambda z, q, y, T: losses.logit_mse(z, q),
    "dkd": lambda z, q, y, T: losses.decoupled_kl(z, q, y, temperature=T),
    squared: lambda z, q, y, T: squared(z, q, y, temperature=T),
}


def by_autograd(module, objective, X, targets):
    """Return the gradient of theta, and those of the projections, from the public losses."""
    proba, label, soft, hard = map(torch.tensor, targets[:4])
    T, alpha = (torch.tensor(v) for v in (objective.temperature, objective.alpha))
    logits, hidden = module.with_hidden(X)
    at_T = T.view(-1, 1, 1) if T.ndim else float(T)
    soft_rows = SOFT[objective.loss](logits, proba, label, at_T)
    hard_rows = -logits.log_softmax(-1)[..., torch.arange(len(X)), label]
    total = (alpha * (soft * soft_rows).sum(-1) + (1 - alpha) * (hard * hard_rows).sum(-1)).sum()
    for term, columns in zip(objective.hints, targets.hidden, strict=True):
        layer = hidden[term.student_layer]
        total = total + term(layer[0] if layer.ndim == 3 else layer, columns)
    return torch.autograd.grad(total / len(X), [module.theta, *objective.parameters()])


def hints_on(widths, kind, n):
    """Return terms that compare both layers of the network, and what the rows carry for them."""
    layers, columns = [], []
    for i, width in enumerate(widths):
        values = RNG.normal(size=(n, width if kind == "attention" else 4)) + 1
        hint = Hint(layer=0, student_layer=i, kind=kind, weight=0.7)
        layers.append(HintTargets(ActiveHint(hint, 0, "hints[0]"), values, np.ones(n), None))
        columns.append(HintBatch(torch.tensor(values), torch.tensor(RNG.random(n)), None))
    shapes = dict(enumerate((w,) for w in widths))
    return [HintTerm(layer, shapes, 5 + i) for i, layer in enumerate(layers)], columns


SHAPES = {"plain": {}, "dropout and embedding": {"dropout": 0.4, "encoding": ENCODING}}


@pytest.mark.parametrize("n_students", [None, 4], ids=["single", "stack"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("loss", SOFT)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_steps_are_those_of_autograd_and_adam(activation, loss, shape, n_students):
    shape = {"activation": activation, "n_students": n_students, **shape}
    ours, theirs = make_mlp(**shape), make_mlp(**shape)
    objective = stacked_objective(loss) if n_students else Objective(3.0, 0.7, loss)
    training = training_set()
    X, targets = torch.tensor(training.X), targets_of(training)
    settings = {"lr": 0.01, "weight_decay": 0.1}
    step = CpuStep(ours, objective, Adam(ours.parameters(), **settings))
    step.load(X, targets)
    adam = torch.optim.Adam(theirs.parameters(), **settings)
    for rows in (None, np.arange(5, 40), None):
        chosen = np.arange(50) if rows is None else rows
        with torch.inference_mode():
            step(rows)
        adam.zero_grad()
        (gradient,) = by_autograd(theirs, objective, X[chosen], targets.take(chosen))
        theirs.theta.grad = gradient
        adam.step()
        torch.testing.assert_close(ours.theta.grad, gradient, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.theta, theirs.theta, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["mse", "cosine", "attention", "relation"])
@pytest.mark.parametrize(("activation", "n_students"), [("relu", None), ("tanh", 1)])
def test_hints_add_their_gradient_at_the_layers(activation, n_students, kind, dropout):
    shape = {"activation": activation, "dropout": dropout, "n_students": n_students}
    module, twin = make_mlp(**shape), make_mlp(**shape)
    terms, columns = hints_on((7, 5), kind, 50)
    one = (2.0, 0.6) if n_students is None else ([2.0], [0.6])
    objective = Objective(*one, "mse", terms).double()
    training = training_set()
    X, targets = torch.tensor(training.X), targets_of(training, hidden=columns)
    parameters = [*module.parameters(), *objective.parameters()]
    step = CpuStep(module, objective, Adam(parameters, lr=0.0))
    step.load(X, targets)
    for rows in (None, np.arange(5, 40)):
        chosen = np.arange(50) if rows is None else rows
        with torch.inference_mode():
            step(rows)
        expected = by_autograd(twin, objective, X[chosen], targets.take(chosen))
        assert len(parameters) == (5 if kind in ("mse", "cosine") else 1)
        for parameter, theirs in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad, theirs, rtol=0, atol=1e-12)
    assert step.sums().hidden > 0


def test_a_network_without_hidden_layers_is_a_linear_model():
    training = training_set()
    module = make_mlp(hidden_layer_sizes=())
    X, targets = torch.tensor(training.X), targets_of(training)
    ((weight, bias),) = module.pairs(module.theta)
    torch.testing.assert_close(module(X), X @ weight + bias)
    before = module.theta.detach().clone()
    step = CpuStep(module, Objective(1.0, 0.5), Adam(module.parameters()))
    step.load(X, targets)
    step(None)
    assert not torch.equal(module.theta, before)


@pytest.mark.parametrize("loss", SOFT)
def test_other_rows_are_loaded_and_summed_by_themselves(loss):
    training = training_set()
    module, objective = make_mlp(), Objective(3.0, 0.7, loss)
    X, targets = torch.tensor(training.X), targets_of(training)
    step = CpuStep(module, objective, Adam(module.parameters(), lr=0.0))
    pairs = [(X[rows], targets.take(rows)) for rows in np.split(np.arange(50), [20])]
    for part in [*pairs, pairs[-1]]:
        step.load(*part)
        with torch.inference_mode():
            step(None)
        logits = module(part[0]).detach().numpy()[None]
        np.testing.assert_allclose(step.sums(), objective.sums(logits, part[1])[0], rtol=1e-12)


def parameter(values):
    return torch.nn.Parameter(torch.tensor(values))


def move(adam, gradient):
    for p in adam.param_groups[0]["params"]:
        if p.grad is None:
            p.grad = torch.empty_like(p)
        p.grad[:] = torch.tensor(gradient)
    adam.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_makes_the_steps_of_torch(weight_decay, monkeypatch):
    monkeypatch.setattr(_step, "_PART", 7)
    first = RNG.normal(size=(3, 5))
    ours, theirs = parameter(first), parameter(first)
    adams = (
        Adam([ours], weight_decay=weight_decay),
        torch.optim.Adam([theirs], weight_decay=weight_decay),
    )
    for count in range(20):
        gradient = RNG.normal(size=(3, 5))
        for adam in adams:
            adam.param_groups[0]["lr"] = 0.1 / (1 + count)
            move(adam, gradient)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_goes_the_same_way_wherever_it_stands(dtype, monkeypatch):
    monkeypatch.setattr(_step, "_PART", 11)
    alone, stack = parameter(np.ones(13, dtype)), parameter(np.ones((5, 13), dtype))
    adams = [Adam([p], lr=0.1, weight_decay=0.01) for p in (alone, stack)]
    for _ in range(50):
        gradient = RNG.normal(size=13).astype(dtype)
        for adam in adams:
            move(adam, gradient)
    assert (stack == alone).all()


@pytest.mark.parametrize("kind", [Adam, torch.optim.Adam])
def test_training_goes_on_from_the_moments_of_another(kind):
    whole, first, second = parameter(np.ones(13)), parameter(np.ones(13)), parameter(np.ones(13))
    once, part = (kind([p], lr=0.1, weight_decay=0.01) for p in (whole, first))
    gradients = RNG.normal(size=(10, 13))
    for gradient in gradients[:4]:
        move(once, gradient)
        move(part, gradient)
    second.data.copy_(first.data)
    further = kind([second], lr=0.1, weight_decay=0.01)
    take_moments(further, part)
    for gradient in gradients[4:]:
        move(once, gradient)
        move(further, gradient)
    assert torch.equal(second, whole)
    # Those of the other are left as they are.
    again = kind([first], lr=0.1, weight_decay=0.01)
    take_moments(again, part)
    for gradient in gradients[4:]:
        move(again, gradient)
    assert torch.equal(first, whole)


def test_copies_share_no_memory():
    one = Adam([parameter(np.ones(3))], lr=0.1)
    move(one, np.ones(3))
    other = copy.deepcopy(one)
    before = one.param_groups[0]["params"][0].clone()
    move(other, np.ones(3))
    assert torch.equal(one.param_groups[0]["params"][0], before)
    assert not torch.equal(other.param_groups[0]["params"][0], before)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_buffers_and_parts_change_no_bit(dtype, weight_decay, monkeypatch):
    monkeypatch.setattr(_step, "_PART", 5)
    theta = parameter(RNG.normal(size=13).astype(dtype))
    adam = Adam([theta], lr=0.1, weight_decay=weight_decay)
    expected = theta.detach().numpy().copy()
    mean, square = np.zeros(13, dtype), np.zeros(13, dtype)
    for count in range(1, 6):
        gradient = RNG.normal(size=13).astype(dtype)
        move(adam, gradient)
        second = math.sqrt((1 - 0.999**count) / (1 - 0.999))
        slope = gradient + expected * weight_decay if weight_decay else gradient
        mean, square = mean * 0.9 + slope, square * 0.999 + slope * slope
        step = mean / (np.sqrt(square) + 1e-8 * second)
        expected = expected - step * (0.1 * second * (1 - 0.9) / (1 - 0.9**count))
        np.testing.assert_array_equal(theta.detach().numpy(), expected)
    assert expected.dtype == dtype
