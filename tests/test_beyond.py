"""Laws of the statistics of benchmarks/beyond.py, and of how it cuts and divides rows."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def beyond():
    """Import the script as Python does that runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("beyond")


def test_the_interval_is_that_of_the_paired_t_test(beyond):
    losses = np.random.default_rng(0).normal(size=(2, 5))
    rows = [
        {"a": beyond.Outcome(a, 0.0, 0.0), "b": beyond.Outcome(b, 0.0, 0.0)} for a, b in losses.T
    ]
    found = beyond.difference(rows, ("a", "b"), "log_loss")
    low, high = ttest_rel(*losses).confidence_interval(0.95)
    assert found["mean"] - found["half"] == pytest.approx(low)
    assert found["mean"] + found["half"] == pytest.approx(high)


def test_a_difference_counts_where_its_interval_excludes_zero(beyond):
    parts = [{"mean": m, "half": 0.1} for m in (-0.2, -0.05, 0.3, 0.31)]
    summary = {str(i): {"differences": {"a - b": {"log_loss": p}}} for i, p in enumerate(parts)}
    assert beyond.verdict(summary, "a - b") == {"better": 1, "worse": 2, "mean": 0.09}


def test_every_part_names_rows_to_compare(beyond):
    parts = {"hints", "assistants", "born_again", "multi", "domains", "smallest"}
    assert set(beyond.PAIRS) == parts


@pytest.mark.parametrize("n_rows", [60, 10_000])
def test_a_cut_keeps_the_shares_of_the_classes(beyond, n_rows):
    split = beyond.DataSource.bundled().split("wine", 0)
    small = beyond.cut(split, n_rows)
    assert len(small.y_train) == min(n_rows, len(split.y_train))
    shares = [np.unique(y, return_counts=True)[1] / len(y) for y in (small.y_train, split.y_train)]
    np.testing.assert_allclose(*shares, atol=0.02)
    np.testing.assert_array_equal(small.X_test, split.X_test)


def test_two_domains_share_no_row_and_overlap(beyond):
    rng = np.random.default_rng(0)
    factor = rng.normal(size=2000)
    source, target = beyond._two_domains(factor[:, None] + 0.5 * rng.normal(size=(2000, 3)), 0)
    assert sorted([*source, *target]) == list(range(2000))
    low, high = sorted([factor[source], factor[target]], key=np.mean)
    assert high.mean() - low.mean() > 1.0
    assert high.min() < low.max()
