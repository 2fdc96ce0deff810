"""Laws of reading what other libraries return."""

import re

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from skdistill.teachers.answers import check_finite, check_proba, check_shape, columns_by_label


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
