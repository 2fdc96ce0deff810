"""What fit is given: checks, encoding, and the words of the refusals; where warnings point."""

import numpy as np
import pandas as pd
import pytest
from quick_students import make_data, quick
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdistill.augment import munge
from skdistill.tables import (
    PiecewiseLinearEncoding,
    TabularEncoder,
    check_teacher_proba,
    encode_among,
    read_rows,
)
from skdistill.tables.rows import check_labels, check_sample_weight

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
        read_rows(X, y)


@pytest.mark.parametrize(
    ("odd", "kinds"), [(None, "NoneType and str"), (pd.NA, "NAType and str"), (5, "int and str")]
)
def test_labels_that_cannot_be_put_in_order_are_named(odd, kinds):
    with pytest.raises(TypeError, match=f"they are {kinds}.*X_unlabeled"):
        check_labels(pd.Series([odd, *Y[1:]], dtype=object), 6)


def test_classes_need_two_labels_with_weight():
    words = "got one class among the rows with a positive sample_weight: .*'b'"
    with pytest.raises(ValueError, match=words):
        read_rows(X, Y, [1, 0, 1, 0, 1, 0])


def test_labels_are_positions_among_given_classes():
    classes = np.array(["a", "b", "c"])
    np.testing.assert_array_equal(encode_among(Y, classes), [1, 0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match=r"not in classes \['a', 'c'\]: \['b'\]"):
        encode_among(Y, np.array(["a", "c"]))


@pytest.mark.parametrize(
    ("cv", "words"), [("prefit", "exactly 0 or 1"), (3, "does not take sample_weight")]
)
def test_warnings_point_at_the_line_of_the_user(cv, words):
    X, y = make_data()
    # joblib stands between the user's line and the fit of a teacher.
    student = quick([KNeighborsClassifier(1).fit(X, y)], cv=cv)
    with pytest.warns(UserWarning, match=words) as caught:
        student.fit(X, y, sample_weight=1 + (y == "no"))
    assert {w.filename for w in caught} == {__file__}


def test_a_warning_inside_of_a_pipeline_points_at_the_line_of_the_user():
    X, y = make_data()
    student = quick([KNeighborsClassifier(1).fit(X, y)])
    with pytest.warns(UserWarning, match="exactly 0 or 1") as caught:
        make_pipeline(FunctionTransformer(), student).fit(X, y)
    assert {w.filename for w in caught} == {__file__}
