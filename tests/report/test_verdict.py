"""Laws of the comparison: intervals, shares, and when there is none."""

import numpy as np
import pytest

from skdistill.report.verdict import Comparison, Difference, compare


def draw(n, means, rng, noise=0.3):
    """Return student, ensemble and plain: one value a row around means, with shared noise."""
    shared = rng.normal(size=n)
    return [mean + shared + rng.normal(scale=noise, size=n) for mean in means]


def compared(student, ensemble, plain, n_bootstrap=300, seed=0):
    rng = np.random.RandomState(seed)
    models = [student, ensemble] if plain is None else [student, ensemble, plain]
    return compare(*models, n_bootstrap=n_bootstrap, rng=rng)


def test_differences_are_means_over_rows_with_paired_errors():
    student, ensemble, plain = draw(200, [0.5, 1.0, 0.0], np.random.default_rng(0))
    found = compared(student, ensemble, plain)
    for difference, rows in (
        (found.over_plain, student - plain),
        (found.over_ensemble, student - ensemble),
        (found.gap, ensemble - plain),
    ):
        assert difference.value == pytest.approx(rows.mean())
        assert difference.standard_error == pytest.approx(rows.std(ddof=1) / np.sqrt(200))
        assert difference.low < difference.value < difference.high
        width = difference.high - difference.low
        assert width == pytest.approx(2 * 1.96 * difference.standard_error, rel=0.2)


def test_the_share_is_that_of_the_means():
    student, ensemble, plain = draw(200, [0.5, 1.0, 0.0], np.random.default_rng(0))
    found = compared(student, ensemble, plain)
    expected = (student - plain).mean() / (ensemble - plain).mean()
    assert found.share == pytest.approx(expected)
    assert found.share_low < found.share < found.share_high
    assert f"{found.share:.0%} [" in found.recovered


def test_a_student_equal_to_the_ensemble_recovers_all_of_the_gap():
    _, ensemble, plain = draw(200, [0.5, 1.0, 0.0], np.random.default_rng(0))
    found = compared(ensemble, ensemble, plain)
    assert (found.share_low, found.share, found.share_high) == pytest.approx((1, 1, 1))
    assert found.over_ensemble == Difference(0.0, 0.0, 0.0, 0.0)
    assert found.verdict[1].startswith("within noise of the ensemble, +0.0000")


def test_a_student_equal_to_the_plain_one_recovers_nothing():
    _, ensemble, plain = draw(200, [0.5, 1.0, 0.0], np.random.default_rng(0))
    found = compared(plain, ensemble, plain)
    assert (found.share_low, found.share, found.share_high) == pytest.approx((0, 0, 0))
    assert found.verdict[0].startswith("no difference shown from the plain student")


def test_no_share_of_a_gap_within_noise():
    student, ensemble, plain = draw(50, [0.5, 0.02, 0.0], np.random.default_rng(0))
    found = compared(student, ensemble, plain)
    assert abs(found.gap.value) < 2 * found.gap.standard_error
    assert found.share is found.share_low is found.share_high is None
    assert "is not clear of zero" in found.recovered
    assert "the teacher is not shown to be better than the plain student" in found.verdict[-1]


def test_no_share_where_the_teacher_is_worse_than_the_plain_student():
    rng = np.random.default_rng(0)
    found = compared(*draw(200, [-0.3, -1.0, 0.0], rng))
    assert found.share is None
    assert "is negative" in found.recovered
    assert found.verdict[0].startswith("worse than the plain student, -0.")
    assert found.verdict[1].startswith("better than the ensemble, +0.")
    assert found.verdict[2].startswith("the teacher is no better than the plain student, -")
    assert found.verdict[2].endswith(": distilling it cannot help")


def test_a_student_better_than_both_owes_it_to_something_else():
    found = compared(*draw(200, [1.0, -1.0, 0.0], np.random.default_rng(0)))
    assert found.verdict[0].startswith("better than the plain student")
    assert found.verdict[2].endswith("what the student gained is not the teacher's own quality")


@pytest.mark.parametrize(
    ("interval", "sign", "clear"),
    [((0.1, 0.3), 1, True), ((-0.3, -0.1), -1, True), ((-0.1, 0.3), 0, False)],
)
def test_a_difference_is_clear_if_its_interval_leaves_zero_out(interval, sign, clear):
    difference = Difference(sum(interval) / 2, 0.01, *interval)
    assert (difference.sign, difference.is_clear) == (sign, clear)


def test_two_standard_errors_count_beside_the_interval():
    assert not Difference(0.2, 0.15, 0.01, 0.3).is_clear


def test_the_share_and_the_differences_say_the_same():
    rng = np.random.default_rng(1)
    n_shares = 0
    for trial in range(60):
        found = compared(*draw(60, rng.uniform(0, 0.6, size=3), rng), seed=trial)
        if found.share is None:
            continue
        n_shares += 1
        assert np.isfinite([found.share_low, found.share_high]).all()
        assert found.share_low <= found.share <= found.share_high
        if abs(found.over_plain.low) > 0.01:
            assert (found.share_low > 0) == (found.over_plain.low > 0)
        if abs(found.over_ensemble.high) > 0.01:
            assert (found.share_high < 1) == (found.over_ensemble.high < 0)
    assert n_shares >= 10


def test_without_a_plain_student_there_is_no_gap():
    student, ensemble, _ = draw(100, [0.5, 1.0, 0.0], np.random.default_rng(0))
    found = compared(student, ensemble, None)
    assert found == Comparison(found.over_ensemble)
    assert found.recovered == "not known: there is no plain student to compare with"
    assert len(found.verdict) == 1
    assert found.verdict[0].startswith("worse than the ensemble")


def test_resamples_drawn_in_parts_are_those_drawn_at_once(monkeypatch):
    rows = draw(40, [0.5, 1.0, 0.0], np.random.default_rng(0))
    whole = compared(*rows)
    monkeypatch.setattr("skdistill.report.verdict._CELLS", 40 * 7)
    assert compared(*rows) == whole


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(0)
    truth = {"over_plain": 0.6, "gap": 1.0}
    covered = dict.fromkeys([*truth, "share"], 0)
    n_trials = 200
    for trial in range(n_trials):
        found = compared(*draw(120, [0.6, 1.0, 0.0], rng, noise=1.0), n_bootstrap=200, seed=trial)
        for name, value in truth.items():
            difference = getattr(found, name)
            covered[name] += difference.low <= value <= difference.high
        covered["share"] += found.share_low <= 0.6 <= found.share_high
    assert min(covered.values()) >= 0.9 * n_trials
    assert max(covered.values()) < n_trials
