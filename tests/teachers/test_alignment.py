"""Laws of the alignment of a teacher's columns."""

import re
import warnings

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from skdistill.teachers.answers import check_finite, check_proba, check_shape, columns_by_label
from skdistill.teachers.asking import align_columns, take_columns


@pytest.mark.parametrize(
    ("own", "classes", "columns"),
    [
        ([0, 1, 2], [0, 1, 2], [0, 1, 2]),
        (["b", "a"], ["a", "b"], [1, 0]),
        ([1, 2], [1, 2], [0, 1]),
        ([-1, 1], [-1, 1], [0, 1]),
        ([0, 1, 2], [0, 2], [0, 2]),
        ([0, 1], [0.0, 1.0], [0, 1]),
        ([0, 1], [False, True], [0, 1]),
        ([False, True], [0, 1], [0, 1]),
        (np.array(["a", "b"], dtype=object), ["a", "b"], [0, 1]),
        ([np.str_("a"), np.str_("b")], np.array(["a", "b"], dtype=object), [0, 1]),
    ],
)
def test_by_value(own, classes, columns):
    assert align_columns(own, classes, "t").tolist() == columns


@pytest.mark.parametrize(
    ("own", "columns"),
    [
        (["a", "b"], [0, 1]),
        (["0", "1"], [0, 1]),
        ([1, 2], [0, 1]),
        ([-1, 1], [0, 1]),
        ([1.5, 2.5], [0, 1]),
        # Encoders number the sorted labels, whatever the order of the teacher's columns.
        (["b", "a"], [1, 0]),
    ],
)
def test_encoded_labels_by_position(own, columns):
    assert align_columns(own, np.array([0, 1]), "t").tolist() == columns


@pytest.mark.parametrize(
    ("own", "classes"),
    [
        (["a", "b"], ["a", "c"]),
        (["a", "b"], [0, 1, 2]),
        (["a", "b", "c"], [0, 1]),
        ([1, 2], [2, 3]),
        ([0, 1], ["0", "1"]),
        ([0, 1], ["a", "b"]),
        (["a", "b"], [0.0, 1.0]),
        (["a", "b"], [False, True]),
    ],
)
def test_no_match_lists_both_label_sets(own, classes):
    with pytest.raises(ValueError, match=r"t 0 .*do not match.*teacher knows \[.*classes are \["):
        align_columns(own, np.array(classes), "t 0")


def test_error_names_the_way_out_and_cuts_long_lists():
    with pytest.raises(
        ValueError, match=r"and 80 more.* name the columns of .*, classes=\.\.\.\)\.$"
    ):
        align_columns(np.arange(100), np.array(["a", "b"]), "t")


@pytest.mark.parametrize(("n", "words"), [(20, r"19\], the"), (21, r"19\] and 1 more, the")])
def test_labels_are_cut_beyond_twenty(n, words):
    with pytest.raises(ValueError, match=words):
        align_columns(np.arange(n), np.array(["a", "b"]), "t")


def test_strings_against_numbers_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="do not match"):
            align_columns(np.array(["1", "2"]), np.array([1, 2]), "t")


def test_repeated_classes_and_several_outputs_are_refused():
    with pytest.raises(ValueError, match="t has the same class twice"):
        align_columns([0, 0], [0, 1], "t")
    with pytest.raises(ValueError, match="t predicts 2 outputs"):
        align_columns([np.array([0, 1]), np.array([0, 1, 2])], [0, 1], "t")


def test_a_class_may_be_missing_only_where_allowed():
    columns = align_columns(["a", "c"], np.array(["a", "b", "c"]), "t", allow_missing=True)
    assert columns.tolist() == [0, -1, 1]
    with pytest.raises(ValueError, match="do not match"):
        align_columns(["a", "c"], np.array(["a", "b", "c"]), "t")


def test_missing_class_is_never_taken_by_position():
    columns = align_columns([1, 2], np.array([0, 1]), "t", allow_missing=True)
    assert columns.tolist() == [-1, 0]


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_permuted_columns_give_the_same_answer(order, seed):
    proba = np.random.default_rng(seed).dirichlet(np.ones(5), size=7)
    labels = np.array(list("abcde"))
    columns = align_columns(labels[order], labels, "t")
    np.testing.assert_allclose(take_columns(proba[:, order], columns), proba, atol=1e-15)


def test_dropped_classes_are_renormalised_and_no_mass_is_uniform():
    proba = np.array([[0.2, 0.6, 0.2], [0.0, 1.0, 0.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(
        take_columns(proba, np.array([0, 2])), [[0.5, 0.5], [0.5, 0.5], [np.nan, np.nan]]
    )


def test_missing_class_gets_no_probability():
    proba = take_columns(np.array([[0.25, 0.75]]), np.array([0, -1, 1]))
    np.testing.assert_array_equal(proba, [[0.25, 0.0, 0.75]])


def test_frame_is_reordered_by_its_column_names():
    frame = pd.DataFrame({"yes": [0.1, 0.7], "no": [0.9, 0.3]})
    np.testing.assert_array_equal(columns_by_label(frame, ["no", "yes"]), [[0.9, 0.1], [0.3, 0.7]])
    for other in (["a", "b"], None):
        np.testing.assert_array_equal(columns_by_label(frame, other), frame.to_numpy())


def test_a_frame_with_other_columns_beside_the_classes_keeps_its_order():
    for names in (["yes", "no", "rest"], ["yes", "no", "no"]):
        frame = pd.DataFrame([[0.1, 0.2, 0.7]], columns=names)
        np.testing.assert_array_equal(columns_by_label(frame, ["no", "yes"]), frame.to_numpy())


def test_an_answer_is_float64_and_not_copied_where_it_is_already():
    single, double = (np.full((2, 2), 0.5, dtype) for dtype in (np.float32, np.float64))
    assert columns_by_label(single, [0, 1]).dtype == np.float64
    assert columns_by_label(double, [0, 1]) is double


def test_complex_answers_are_refused():
    with pytest.raises(ValueError, match=r"^it returned complex numbers; .* real ones\.$"):
        columns_by_label(np.full((2, 2), 0.5 + 0j), ["no", "yes"])


def test_shape_is_checked():
    for shape in ((3,), (3, 1)):
        words = rf"^t returned an array of shape {re.escape(str(shape))}, expected \(3, 2\)\. "
        with pytest.raises(ValueError, match=words + r"For two classes .* \[1 - p, p\]\.$"):
            check_shape(np.ones(shape), 3, 2, "t")
    for shape in ((2, 3), (3, 2), (2, 2, 2)):
        with pytest.raises(ValueError, match=r"expected \(2, 2\)\.$"):
            check_shape(np.ones(shape), 2, 2, "t")


def test_any_number_of_columns_will_do_where_the_classes_are_unknown():
    outputs = np.ones((2, 5))
    assert check_shape(outputs, 2, None, "t") is outputs
    with pytest.raises(ValueError, match=r"expected \(3, n_classes\)\.$"):
        check_shape(outputs, 3, None, "t")


@given(st.integers(0, 2**32 - 1))
def test_rows_sum_to_one_exactly_enough(seed):
    proba = np.random.default_rng(seed).dirichlet(np.ones(4), size=5).astype(np.float32)
    again = check_proba(proba.astype(np.float64), "t")
    np.testing.assert_allclose(again.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    np.testing.assert_allclose(again, proba, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([np.nan, 1.0], "t returned nan in row 11, column 0"),
        ([np.inf, 0.0], "t returned inf in row 11, column 0"),
        ([-0.5, 1.5], r"t returned -0.5 in row 11, column 0; a probability lies in \[0, 1\]"),
        ([0.5, 1.5], "t returned 1.5 in row 11, column 1"),
        ([0.5, 0.6], "t returned probabilities that sum to 1.1 in row 11"),
    ],
)
def test_what_is_no_probability_is_refused(row, words):
    with pytest.raises(ValueError, match=words):
        check_proba(np.array([[0.5, 0.5], row]), "t", first_row=10)


def test_rows_are_numbered_from_zero_and_advice_ends_the_message():
    for row, words in (
        ([np.nan, 1.0], "in row 0, column 0.$"),
        ([-0.5, 1.5], r"row 0, column 0; a probability lies in \[0, 1\].$"),
        ([0.5, 0.6], "row 0; each row must sum to 1.$"),
    ):
        with pytest.raises(ValueError, match=words):
            check_proba(np.array([row]), "t")
    with pytest.raises(ValueError, match="t returned nan in row 0, column 1"):
        check_finite(np.array([[1.0, np.nan]]), "t")
    for row in ([-0.5, 1.5], [0.5, 0.6]):
        with pytest.raises(ValueError, match=r" Look twice\.$"):
            check_proba(np.array([row]), "t", advice=" Look twice.")


def test_rounding_errors_are_forgiven():
    proba = check_proba(np.array([[-1e-7, 1 + 1e-7], [0.5004, 0.5]]), "t")
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-15)
