"""Laws of the losses between hidden layers: NumPy references, bounds, finite gradients."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from skdistill import losses

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(9, 5)), RNG.normal(size=(9, 5))
OTHER = RNG.normal(size=(9, 3))
WEIGHT = RNG.integers(1, 4, size=9).astype(float)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def t(array):
    return torch.tensor(np.asarray(array))


def gradient_at(function, start):
    leaf = torch.tensor(start, requires_grad=True)
    function(leaf).sum().backward()
    return leaf.grad


def test_mse_is_the_mean_over_units():
    expected = np.square(STUDENT - TEACHER).mean(axis=1)
    np.testing.assert_allclose(losses.hidden_mse(t(STUDENT), t(TEACHER)), expected)
    wide = t(STUDENT).view(9, 5, 1), t(TEACHER).view(9, 5, 1)
    np.testing.assert_allclose(losses.hidden_mse(*wide), expected)


def test_cosine_is_one_minus_the_cosine_whatever_the_lengths():
    expected = 1 - (unit(STUDENT) * unit(TEACHER)).sum(axis=1)
    np.testing.assert_allclose(losses.hidden_cosine(t(STUDENT), t(TEACHER)), expected)
    np.testing.assert_allclose(losses.hidden_cosine(t(7 * STUDENT), t(TEACHER)), expected)
    np.testing.assert_allclose(losses.hidden_cosine(t(STUDENT), t(-STUDENT)), 2)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_directions_are_found_where_squares_leave_the_range_of_float32(scale):
    student, teacher = t(STUDENT).float(), t(TEACHER).float()
    expected = losses.hidden_cosine(student, teacher)
    torch.testing.assert_close(losses.hidden_cosine(scale * student, teacher), expected)


def test_attention_of_a_convolution_is_the_mean_square_over_channels():
    hidden = RNG.normal(size=(4, 6, 3, 2))
    maps = losses.attention_map(t(hidden))
    np.testing.assert_allclose(maps, np.square(hidden).mean(axis=1))
    last = losses.attention_map(t(np.moveaxis(hidden, 1, -1)), channel_axis=-1)
    np.testing.assert_allclose(last, maps)
    other = RNG.normal(size=(4, 9, 3, 2))
    flat = [unit(np.square(h).mean(axis=1).reshape(4, -1)) for h in (hidden, other)]
    found = losses.attention_transfer(maps, losses.attention_map(t(other)))
    np.testing.assert_allclose(found, np.square(flat[0] - flat[1]).sum(axis=1))


def test_attention_of_a_vector_is_that_of_its_units():
    found = losses.attention_transfer(*(losses.attention_map(t(h)) for h in (STUDENT, TEACHER)))
    difference = unit(np.square(STUDENT)) - unit(np.square(TEACHER))
    np.testing.assert_allclose(found, np.square(difference).sum(axis=1))


@pytest.mark.parametrize("shape", [(8,), (4, 6), (2, 4, 2)])
def test_maps_of_more_places_are_averaged_to_fewer(shape):
    fine = RNG.random((3, *shape))
    coarse = fine
    for axis in range(1, fine.ndim):
        coarse = (
            np.take(coarse, range(0, coarse.shape[axis], 2), axis)
            + np.take(coarse, range(1, coarse.shape[axis], 2), axis)
        ) / 2
    for pair in ((coarse, fine), (fine, coarse)):
        found = losses.attention_transfer(*map(t, pair))
        np.testing.assert_allclose(found, 0, atol=1e-12)


def test_maps_with_other_axes_are_refused():
    with pytest.raises(ValueError, match="have 1 and 2 axes of places"):
        losses.attention_transfer(torch.ones(2, 3), torch.ones(2, 3, 3))


def relation_by_hand(student, gram, weight):
    def normalised(matrix):
        return matrix / np.sqrt((matrix**2 * weight).sum(axis=1, keepdims=True))

    return ((normalised(student @ student.T) - normalised(gram)) ** 2 * weight).sum(axis=1)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_relation_compares_normalised_gram_matrices(weight):
    gram = OTHER @ OTHER.T
    found = losses.relation(t(STUDENT), t(gram), weight=None if weight is None else t(weight))
    expected = relation_by_hand(STUDENT, gram, np.ones(9) if weight is None else weight)
    np.testing.assert_allclose(found, expected)


def test_relation_sees_neither_scale_nor_rotation():
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    gram = STUDENT @ STUDENT.T
    np.testing.assert_allclose(losses.relation(t(3 * STUDENT @ rotation), t(gram)), 0, atol=1e-12)


def test_weights_act_as_repeated_rows_in_relation():
    rows = np.repeat(np.arange(9), WEIGHT.astype(int))
    gram = OTHER @ OTHER.T
    once = losses.relation(t(STUDENT), t(gram), weight=t(WEIGHT))
    repeated = losses.relation(t(STUDENT[rows]), t(gram[np.ix_(rows, rows)]))
    np.testing.assert_allclose(repeated, once[rows])


def test_rows_of_two_teachers_are_compared_apart():
    space = np.arange(9) % 2
    gram = OTHER @ OTHER.T
    comparable = t(space[:, None] == space)
    together = losses.relation(t(STUDENT), t(gram), comparable=comparable)
    for i in range(2):
        own = np.flatnonzero(space == i)
        alone = losses.relation(t(STUDENT[own]), t(gram[np.ix_(own, own)]))
        np.testing.assert_allclose(together[own], alone)


def test_co_occurrence_counts_the_trees_with_a_common_leaf():
    X, y = RNG.normal(size=(40, 3)), RNG.integers(2, size=40)
    leaves = RandomForestClassifier(7, max_depth=3, random_state=0).fit(X, y).apply(X)
    expected = (leaves[:, None] == leaves[None]).mean(axis=2)
    found = losses.co_occurrence(t(leaves.astype(np.float32)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


GRAM, LAYER, MAP = t(TEACHER @ TEACHER.T), t(TEACHER), t(np.square(TEACHER))
FUNCTIONS = [
    lambda h: losses.hidden_mse(h, LAYER),
    lambda h: losses.hidden_cosine(h, LAYER),
    lambda h: losses.attention_transfer(losses.attention_map(h), MAP),
    lambda h: losses.relation(h, GRAM),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_layer_equal_to_the_teachers_has_no_loss_and_no_gradient(function):
    np.testing.assert_allclose(function(LAYER), 0, atol=1e-15)
    np.testing.assert_allclose(gradient_at(function, TEACHER), 0, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_gradient_is_that_of_the_value(function):
    leaf = torch.tensor(STUDENT, requires_grad=True)
    assert torch.autograd.gradcheck(function, leaf)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e12])
def test_gradients_are_finite_at_dead_and_at_huge_layers(function, scale):
    start = scale * STUDENT
    start[0] = 0
    assert torch.isfinite(function(t(start))).all()
    assert torch.isfinite(gradient_at(function, start)).all()
