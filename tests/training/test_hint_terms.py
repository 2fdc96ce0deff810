"""Hints as terms of the objective: their scale, their weights, what cannot be compared."""

import numpy as np
import pytest
import torch
from training_zoo import targets_of, training_set

from skdistill import Hint
from skdistill.teachers.hints import ActiveHint
from skdistill.training.data import HintTargets
from skdistill.training.hint_terms import HintBatch, HintTerm

RNG = np.random.default_rng(0)
KINDS = ("mse", "cosine", "attention", "relation")


def made_layer(hint, values, weight=None, space=None):
    weight = np.ones(len(values)) if weight is None else weight
    return HintTargets(ActiveHint(hint, 0, "hints[0]"), values.astype(np.float32), weight, space)


def test_rows_are_taken_with_what_the_hints_say_of_them():
    values, space = torch.tensor(RNG.normal(size=(12, 4))), torch.arange(12) % 3
    columns = HintBatch(values, torch.tensor(RNG.random(12)), space)
    targets = targets_of(training_set(12), hidden=[columns])
    (taken,) = targets.take(np.array([7, 2, 2])).hidden
    for have, want in zip(taken, columns, strict=True):
        torch.testing.assert_close(have, want[[7, 2, 2]])


def test_mse_is_in_units_of_the_variance_of_the_teachers_layer():
    values = RNG.normal(size=(50, 4)) * [1, 2, 3, 4] + 5
    term = HintTerm(made_layer(Hint(layer=0), values), {0: (4,)}, 0)
    mean = np.tile(values.mean(axis=0), (50, 1))
    columns = HintBatch(torch.tensor(values), torch.ones(50), None)
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
            columns = HintBatch(torch.tensor(factor * values), torch.ones(40), None)
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
        columns = HintBatch(
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
