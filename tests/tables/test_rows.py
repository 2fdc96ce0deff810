"""What fit is given: checks, encoding, and the words of the refusals."""

import numpy as np
import pandas as pd
import pytest

from skdistill.tables.rows import check_teacher_proba, read_rows

X = np.arange(12.0).reshape(6, 2)
Y = np.array(["b", "a", "b", "a", "b", "a"])
FRAME = pd.DataFrame(X, columns=["u", "v"])


def test_labels_become_codes_of_sorted_classes():
    rows = read_rows(X, Y)
    np.testing.assert_array_equal(rows.classes, ["a", "b"])
    np.testing.assert_array_equal(rows.classes[rows.code], Y)
    np.testing.assert_array_equal(rows.weight, np.ones(6))
    assert rows.X is X


def test_without_labels():
    rows = read_rows(X)
    assert rows.code is None
    assert rows.classes is None


def test_take_keeps_everything_aligned():
    proba = np.full((6, 2), 0.5)
    rows = read_rows(FRAME, Y, np.arange(6.0), FRAME, proba).take(np.array([4, 1]))
    pd.testing.assert_frame_equal(rows.X, FRAME.iloc[[4, 1]])
    np.testing.assert_array_equal(rows.classes[rows.code], ["b", "a"])
    np.testing.assert_array_equal(rows.weight, [4, 1])
    assert rows.teacher_proba.shape == (2, 2)
    assert len(rows.X_unlabeled) == 6


def test_classes_keep_labels_of_weight_zero():
    weight = [1, 1, 1, 1, 1, 0]
    rows = read_rows(X, ["a", "b", "a", "b", "a", "c"], weight)
    np.testing.assert_array_equal(rows.classes, ["a", "b", "c"])


def test_unlabeled_rows_come_in_the_columns_of_x():
    rows = read_rows(FRAME, Y, X_unlabeled=FRAME[["v", "u"]].iloc[:3])
    assert list(rows.X_unlabeled.columns) == ["u", "v"]


@pytest.mark.parametrize(
    ("X", "extra", "words"),
    [
        (X, X[:, :1], r"X_unlabeled has 1 columns, X has 2.*transform_input=\['X_unlabeled'\]"),
        (FRAME, X, "of one kind: both DataFrames or both arrays"),
        (X, FRAME, "of one kind: both DataFrames or both arrays"),
        (FRAME, FRAME.rename(columns={"u": "w"}), r"lacks columns of X: \['u'\]"),
        (X, X[:0], "0 sample"),
    ],
)
def test_unlabeled_rows_that_are_refused(X, extra, words):
    with pytest.raises(ValueError, match=words):
        read_rows(X, Y, X_unlabeled=extra)


def test_ranges_that_do_not_overlap_warn():
    with pytest.warns(UserWarning, match=r"wholly outside their range in X in column\(s\) 1\."):
        read_rows(X, Y, X_unlabeled=X + np.array([0, 100]))
    with pytest.warns(UserWarning, match=r"column\(s\) u, v\."):
        read_rows(FRAME, Y, X_unlabeled=FRAME - 50)
    strings = FRAME.assign(w="a")
    read_rows(strings, Y, X_unlabeled=strings.assign(w="b"))
    read_rows(X, Y, X_unlabeled=np.full((2, 2), np.nan))


def test_given_probabilities():
    classes = np.array(["a", "b"])
    proba = check_teacher_proba([[0.25, 0.7501]] * 6, 6, classes)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("proba", "words"),
    [
        (np.full((5, 2), 0.5), r"must have shape \(6, 2\).*\['a', 'b'\]; got \(5, 2\)"),
        (np.full((6, 3), 1 / 3), r"must have shape \(6, 2\)"),
        (np.full((6, 2), 0.4), "row 0 is .* sums to 0.8"),
        ([[1.2, -0.2]] * 6, "must hold probabilities: row 0"),
        ([[0.5, np.nan]] * 6, "teacher_proba contains NaN"),
        ([[np.inf, -np.inf]] * 6, "teacher_proba contains infinity"),
    ],
)
def test_given_probabilities_that_are_refused(proba, words):
    with pytest.raises(ValueError, match=words):
        check_teacher_proba(proba, 6, np.array(["a", "b"]))
