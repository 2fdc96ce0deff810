"""Laws of the terms that hints add to the loss."""

import copy

import numpy as np
import pytest
import torch

from skdistill import Hint
from skdistill.teachers.hints import ActiveHint
from skdistill.training.data import HiddenLayer
from skdistill.training.hint_terms import HiddenColumns, HintTerm, build_hint_terms
from skdistill.training.network import StudentMLP
from skdistill.training.objective import DistillationCriterion, Targets

RNG = np.random.default_rng(0)
KINDS = ("mse", "cosine", "attention", "relation")


def made_layer(hint, values, weight=None, space=None):
    weight = np.ones(len(values)) if weight is None else weight
    return HiddenLayer(ActiveHint(hint, 0, "hints[0]"), values.astype(np.float32), weight, space)


def random_targets(values, n=12, k=3, space=None):
    soft, hard, weight = RNG.random((3, n))
    columns = HiddenColumns(torch.tensor(values), torch.tensor(weight), space)
    return Targets(
        torch.tensor(RNG.dirichlet(np.ones(k), size=n)),
        torch.tensor(RNG.integers(k, size=n)),
        torch.tensor(soft),
        torch.tensor(hard),
        (columns,),
    )


def test_rows_are_taken_with_what_the_hints_say_of_them():
    values, space = RNG.normal(size=(12, 4)), torch.arange(12) % 3
    targets, rows = random_targets(values, space=space), [7, 2, 2]
    (whole,), (taken,) = targets.hidden, targets.take(torch.tensor(rows)).hidden
    for have, want in zip(taken, whole, strict=True):
        torch.testing.assert_close(have, want[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_one_has_the_gradient_of_its_student(kind):
    values, own = RNG.normal(size=(12, 5)) + 1, torch.tensor(RNG.normal(size=(12, 5)))
    layer = made_layer(Hint(layer=0, student_layer=1, kind=kind), values)
    terms = build_hint_terms([layer], {0: (6,), 1: (5,)}, seed=3)
    criterion, targets = (
        DistillationCriterion(2.0, 0.6, "kl", terms).double(),
        random_targets(values),
    )
    stacked = criterion.at_hidden({1: own[None]}, targets)
    torch.testing.assert_close(stacked, criterion.at_hidden({1: own}, targets))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_the_gradient_by_hand_is_that_of_autograd(kind, dropout, loss):
    width = 5 if kind == "attention" else 4
    values = RNG.normal(size=(12, width)) + 1
    shapes = {0: (6,), 1: (5,)}
    hint = Hint(layer=0, student_layer=1, kind=kind, weight=0.7)
    net = StudentMLP(3, 3, hidden_layer_sizes=(6, 5), activation="tanh", dropout=dropout)
    terms = build_hint_terms([made_layer(hint, values)], shapes, seed=3)
    criterion = DistillationCriterion(2.0, 0.6, loss, terms).double()
    rows, targets = torch.tensor(RNG.normal(size=(12, 3))), random_targets(values)
    net.prepare()
    twin, masks = copy.deepcopy(net), []
    cut = net._masks.cut

    def remember(*args, **kwargs):
        masks.append(cut(*args, **kwargs))
        return masks[-1]

    net._masks.cut = remember
    sums = net.backward_by_hand(rows, targets, criterion)
    by_hand = [net.theta.grad.clone(), *(p.grad for p in criterion.parameters())]

    h, layers = rows, []
    pairs = twin.pairs(twin.theta)
    for i, (weight, bias) in enumerate(pairs[:-1]):
        layers.append(torch.tanh(h @ weight + bias))
        h = layers[-1] * masks[i] if dropout else layers[-1]
    logits = h @ pairs[-1][0] + pairs[-1][1]
    expected = criterion(logits, targets, dict(enumerate(layers)))
    parameters = [twin.theta, *criterion.parameters()]
    gradients = torch.autograd.grad(criterion.total(expected) / 12, parameters)
    for a, b in zip(sums, expected, strict=True):
        torch.testing.assert_close(a, b.detach())
    for a, b in zip(by_hand, gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert len(gradients) == (3 if kind in ("mse", "cosine") else 1)


def test_mse_is_in_units_of_the_variance_of_the_teachers_layer():
    values = RNG.normal(size=(50, 4)) * [1, 2, 3, 4] + 5
    term = HintTerm(made_layer(Hint(layer=0), values), {0: (4,)}, 0)
    mean = np.tile(values.mean(axis=0), (50, 1))
    columns = HiddenColumns(torch.tensor(values), torch.ones(50), None)
    np.testing.assert_allclose(float(term(torch.tensor(mean), columns)) / 50, 1, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.3, 1.0, 1e6])
@pytest.mark.parametrize("n", [5, 300])
def test_a_layer_that_says_nothing_is_refused(constant, n):
    layer = made_layer(Hint(layer=0), np.full((n, 2), constant), RNG.random(n))
    with pytest.raises(ValueError, match=r"hints\[0\]: layer 0 of the teacher is the same for all"):
        HintTerm(layer, {0: (2,)}, 0)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_scale_of_the_teachers_layer_does_not_enter(scale):
    values = RNG.normal(size=(40, 4))
    for kind in KINDS:
        totals = []
        for factor in (1.0, scale):
            hint = Hint(layer=0, kind=kind)
            term = HintTerm(made_layer(hint, factor * values), {0: (4,)}, 0)
            columns = HiddenColumns(torch.tensor(factor * values), torch.ones(40), None)
            own = factor if kind == "mse" else 1.0
            totals.append(float(term(own * torch.tensor(values[::-1].copy()), columns)))
        np.testing.assert_allclose(*totals, rtol=1e-5)


def test_rows_without_an_answer_and_rows_of_other_folds_have_no_part():
    values, space = RNG.normal(size=(10, 4)), np.arange(10) % 3 - 1
    weight = (space >= 0).astype(float)
    own = torch.tensor(RNG.normal(size=(10, 6)))
    layer = made_layer(Hint(layer=0, kind="relation"), values, weight, space)
    term = HintTerm(layer, {0: (6,)}, 0)

    def total(rows):
        columns = HiddenColumns(
            torch.tensor(values[rows]), torch.tensor(weight[rows]), torch.tensor(space[rows])
        )
        return float(term(own[rows], columns))

    parts = [total(np.flatnonzero(space == i)) for i in (0, 1)]
    np.testing.assert_allclose(total(np.arange(10)), sum(parts))


REFUSED = [
    (
        Hint(layer=0, student_layer=2),
        "layer 2; its layers are 0, 1, by number",
    ),
    (Hint(layer=0, student_layer="net"), "layer 'net'"),
    (Hint(layer=0, kind="attention"), "has 5 units, the teacher's 4 units.*relation"),
]


@pytest.mark.parametrize(("hint", "words"), REFUSED)
def test_student_layers_that_do_not_fit_are_refused(hint, words):
    with pytest.raises(ValueError, match=r"hints\[0\].*" + words):
        HintTerm(made_layer(hint, np.ones((3, 4))), {0: (8,), 1: (5,)}, 0)


@pytest.mark.parametrize(
    ("student", "teacher", "axis", "words"),
    [
        ((5,), (4, 4), 1, r"5 units, no places, the teacher's places \(4, 4\)"),
        ((3, 4), (4, 4), 1, "have 1 and 2 axes of places"),
        ((3, 4, 4), (4, 4), 4, "channel_axis=4 is no axis"),
    ],
)
def test_maps_that_have_no_places_in_common_are_refused(student, teacher, axis, words):
    hint = Hint(layer=0, kind="attention", channel_axis=axis)
    with pytest.raises(ValueError, match=words):
        HintTerm(made_layer(hint, np.ones((3, *teacher))), {0: student}, 0)
