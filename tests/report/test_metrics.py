"""Laws of the numbers that set a student beside its teacher."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from skdistill import metrics
from skdistill.report.metrics import mean_and_error


def make_rows(n=200, k=3, seed=0):
    rng = np.random.default_rng(seed)
    teacher, student = rng.dirichlet(np.ones(k), size=(2, n))
    return teacher, student, rng.integers(k, size=n), rng.uniform(0.5, 2.0, size=n)


def test_agreement_is_the_accuracy_against_the_teachers_class():
    teacher, student, _, weight = make_rows()
    expected = accuracy_score(teacher.argmax(1), student.argmax(1), sample_weight=weight)
    assert metrics.agreement_score(teacher, student, sample_weight=weight) == pytest.approx(
        expected
    )
    assert metrics.agreement_score(teacher, teacher) == 1.0


def test_predictive_kl_matches_numpy():
    teacher, student, _, weight = make_rows()
    expected = np.average((teacher * np.log(teacher / student)).sum(axis=1), weights=weight)
    assert metrics.predictive_kl(teacher, student, sample_weight=weight) == pytest.approx(expected)
    assert metrics.predictive_kl(teacher, teacher) == 0.0


def test_predictive_kl_is_finite_with_zeros_on_either_side():
    certain = np.eye(2)
    assert metrics.predictive_kl(certain, np.full((2, 2), 0.5)) == pytest.approx(np.log(2))
    assert metrics.predictive_kl(certain, certain[::-1]) == pytest.approx(-np.log(2.0**-52))


@pytest.mark.parametrize("score", [metrics.agreement_score, metrics.predictive_kl])
def test_scores_of_two_models_refuse_different_shapes(score):
    with pytest.raises(ValueError, match=r"\(4, 3\) and student_proba \(4, 2\)"):
        score(np.full((4, 3), 1 / 3), np.full((4, 2), 0.5))


def test_scores_refuse_missing_values():
    with pytest.raises(ValueError, match="student_proba contains NaN"):
        metrics.predictive_kl([[0.5, 0.5]], [[np.nan, 0.5]])


def test_log_loss_by_row_has_the_log_loss_as_its_mean():
    proba, _, y, weight = make_rows()
    rows = metrics.log_loss_by_row(y, proba)
    assert rows.shape == (len(y),)
    expected = log_loss(y, proba, sample_weight=weight)
    assert np.average(rows, weights=weight) == pytest.approx(expected)
    assert metrics.log_loss_by_row([0, 1], [[0.0, 1.0], [0.0, 1.0]])[0] == pytest.approx(
        log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]]) * 2
    )


def test_labels_name_the_columns_in_any_order():
    proba, _, y, _ = make_rows()
    names = np.array(["b", "c", "a"])
    rows = metrics.log_loss_by_row(names[y], proba, labels=names)
    np.testing.assert_array_equal(rows, metrics.log_loss_by_row(y, proba, labels=[0, 1, 2]))


def test_labels_and_columns_must_match():
    with pytest.raises(ValueError, match=r"3 columns but there are 2 labels \[0, 1\]"):
        metrics.log_loss_by_row([0, 1], np.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"y_true holds \['z'\], which are not in \['a', 'b'\]"):
        metrics.log_loss_by_row(["a", "z"], np.full((2, 2), 0.5), labels=["a", "b"])


def test_brier_score_is_scikit_learns_for_two_classes():
    proba, _, y, weight = make_rows(k=2)
    expected = brier_score_loss(y, proba[:, 1], sample_weight=weight)
    ours = metrics.multiclass_brier_score(y, proba, sample_weight=weight)
    assert ours == pytest.approx(expected)


def test_brier_score_matches_numpy_for_more_classes():
    proba, _, y, _ = make_rows(k=4)
    expected = ((proba - np.eye(4)[y]) ** 2).sum(axis=1).mean()
    assert metrics.multiclass_brier_score(y, proba) == pytest.approx(expected)
    assert metrics.multiclass_brier_score([0, 1, 2], np.eye(3)) == 0.0
    assert metrics.multiclass_brier_score([0, 1, 2], np.eye(3)[[1, 2, 0]]) == 2.0


@pytest.mark.parametrize("n_bins", [1, 7, 15])
def test_calibration_error_matches_a_loop_over_bins(n_bins):
    proba, _, y, weight = make_rows(n=500)
    confidence, correct = proba.max(axis=1), proba.argmax(axis=1) == y
    expected = 0.0
    for low in np.arange(n_bins) / n_bins:
        here = (confidence > low) & (confidence <= low + 1 / n_bins)
        if here.any():
            share = weight[here].sum() / weight.sum()
            gap = np.average(correct[here] - confidence[here], weights=weight[here])
            expected += share * abs(gap)
    ours = metrics.expected_calibration_error(y, proba, n_bins=n_bins, sample_weight=weight)
    assert ours == pytest.approx(expected)


def test_calibration_error_is_zero_when_certain_and_right_and_one_when_wrong():
    certain = np.eye(3)
    assert metrics.expected_calibration_error([0, 1, 2], certain) == 0.0
    assert metrics.expected_calibration_error([1, 2, 0], certain) == 1.0


def test_calibration_error_needs_a_bin():
    with pytest.raises(ValueError, match="n_bins must be 1 or more, got 0"):
        metrics.expected_calibration_error([0, 1], np.eye(2), n_bins=0)


def test_paired_difference_is_the_mean_and_its_standard_error():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    mean, error = metrics.paired_difference(a, b)
    assert mean == pytest.approx((a - b).mean())
    assert error == pytest.approx((a - b).std(ddof=1) / np.sqrt(50))


def test_copies_of_rows_add_no_evidence_when_they_are_grouped():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    alone = metrics.paired_difference(a, b)
    thrice = metrics.paired_difference(
        np.tile(a, 3), np.tile(b, 3), groups=np.tile(np.arange(50), 3)
    )
    assert thrice == pytest.approx(alone)


def test_weights_of_a_mean_scale_its_error_alike():
    values, weight = np.random.default_rng(0).normal(size=50), np.repeat([1.0, 2.0], 25)
    mean, error = mean_and_error(values, weight)
    assert mean == pytest.approx(np.average(values, weights=weight))
    assert mean_and_error(values, np.ones(50)) == pytest.approx(mean_and_error(values))
    assert mean_and_error(values, 10 * weight) == pytest.approx((mean, error))


def test_paired_difference_needs_two_independent_rows():
    with pytest.raises(ValueError, match="at least 2 independent rows, got 1"):
        metrics.paired_difference([1.0, 2.0], [0.0, 0.0], groups=[0, 0])


@pytest.mark.parametrize(("student", "share"), [(0.2, 1.0), (0.5, 0.0), (0.1, 4 / 3), (0.8, -1.0)])
def test_gap_recovered_counts_from_the_plain_student(student, share):
    assert metrics.gap_recovered(student, 0.5, 0.2) == pytest.approx(share)
    assert metrics.gap_recovered(1 - student, 0.5, 0.8) == pytest.approx(share)


def test_gap_recovered_takes_one_value_a_row():
    rows = np.random.default_rng(0).normal(size=(3, 20))
    expected = metrics.gap_recovered(*rows.mean(axis=1))
    assert metrics.gap_recovered(*rows) == pytest.approx(expected)


def test_gap_recovered_refuses_a_gap_of_zero():
    with pytest.raises(ValueError, match="no gap to recover"):
        metrics.gap_recovered(0.9, 0.9, 0.9)
