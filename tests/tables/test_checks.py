"""The checks of sample weights and labels, and the words of their refusals."""

import numpy as np
import pandas as pd
import pytest

from skdistill.augment import munge
from skdistill.tables.bins import PiecewiseLinearEncoding
from skdistill.tables.encoder import TabularEncoder
from skdistill.tables.rows import (
    check_labels,
    check_sample_weight,
    encode_among,
    encode_labels,
    read_rows,
)

X = np.arange(12.0).reshape(6, 2)
Y = np.array(["b", "a", "b", "a", "b", "a"])


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1, 1, 1, 1, 1], r"sample_weight.shape == \(5,\), expected \(6,\)"),
        ([1, 1, 1, 1, 1, -1], "Negative values in data passed to `sample_weight`: row 5"),
        ([1, 1, 1, 1, 1, np.nan], "sample_weight contains NaN"),
        ([1, 1, 1, 1, 1, np.inf], "sample_weight contains infinity"),
        ([1, 1, 1, 1, np.inf, -np.inf], "sample_weight contains infinity"),
        (np.zeros(6), "at least one non-zero number: all are zero"),
        (np.ones((6, 1)), "sample_weight must be 1D array or scalar, got 2D"),
        ("heavy", "heavy"),
    ],
)
@pytest.mark.parametrize(
    "taken_by",
    [
        lambda weight: read_rows(X, Y, weight),
        lambda weight: TabularEncoder().fit(X, sample_weight=weight),
        lambda weight: PiecewiseLinearEncoding().fit(X, weight),
        lambda weight: munge(X, 2, sample_weight=weight),
    ],
    ids=["rows", "encoder", "bins", "munge"],
)
def test_weights_are_refused_everywhere_in_the_same_words(taken_by, weight, words):
    with pytest.raises(ValueError, match=words):
        taken_by(weight)


@pytest.mark.parametrize("exponent", [-1060, -400, 400, 1022])
def test_weights_that_no_sum_can_hold_keep_their_ratios(exponent):
    weight = np.array([1.0, 0.0, 0.5, 1.5, 1.0, 1.25])
    read = check_sample_weight(np.ldexp(weight, exponent), 6)
    np.testing.assert_array_equal(read * (1.5 / read.max()), weight)
    assert 0.5 <= read.max() < 1


def test_no_weight_and_one_weight_are_for_all():
    np.testing.assert_array_equal(check_sample_weight(None, 6), np.ones(6))
    np.testing.assert_array_equal(check_sample_weight(2, 6), np.full(6, 2.0))


def test_column_vectors_are_labels_with_a_warning():
    with pytest.warns(Warning, match="column-vector y"):
        np.testing.assert_array_equal(check_labels(Y[:, None], 6), Y)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a"] * 6, "at least two classes in y; got one class: .*'a'"),
        (Y[:5], "X has 6, y has 5"),
        ([0.5, 1.5, 2.5, 1.0, 2.0, 3.0], "Unknown label type"),
        ([0, 1, np.nan, 0, 1, 0], "Input y contains NaN"),
        (np.eye(6), "y should be a 1d array"),
        ([np.inf, -np.inf, 0, 0, 0, 0], "Input y contains infinity"),
    ],
)
def test_labels_that_are_refused(y, words):
    with pytest.raises(ValueError, match=words):
        encode_labels(y, 6, np.ones(6))


@pytest.mark.parametrize(
    ("odd", "kinds"), [(None, "NoneType and str"), (pd.NA, "NAType and str"), (5, "int and str")]
)
def test_labels_that_cannot_be_put_in_order_are_named(odd, kinds):
    with pytest.raises(TypeError, match=f"they are {kinds}.*X_unlabeled"):
        check_labels(pd.Series([odd, *Y[1:]], dtype=object), 6)


def test_classes_need_two_labels_with_weight():
    words = "got one class among the rows with a positive sample_weight: .*'b'"
    with pytest.raises(ValueError, match=words):
        encode_labels(Y, 6, np.array([1, 0, 1, 0, 1, 0]))


def test_labels_are_positions_among_given_classes():
    classes = np.array(["a", "b", "c"])
    np.testing.assert_array_equal(encode_among(Y, classes), [1, 0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match=r"not in classes \['a', 'c'\]: \['b'\]"):
        encode_among(Y, np.array(["a", "c"]))
