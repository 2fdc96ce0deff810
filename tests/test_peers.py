"""The comparison with AutoGluon: its statistics everywhere, a run of it where AutoGluon is."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CLASSES = np.array(["no", "yes"])


@pytest.fixture(scope="module")
def peers():
    """Import the script as Python does that runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("peers")


def split_of(peers, seed, n_train=200, n_test=60):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_train + n_test, 3))
    y = CLASSES[(X[:, 0] > 0).astype(int)]
    train, test = np.arange(n_train), np.arange(n_train, n_train + n_test)
    return peers.Split("made", seed, seed, X[train], X[test], y[train], y[test], train, test)


def answering(peers, split, sureness):
    """Return an answer that gives the true label this probability, now and then its opposite."""
    wrong = np.arange(len(split.y_test)) % 5 == 0
    right = np.where(wrong, 1 - sureness, sureness)
    second = np.where(split.y_test == "yes", right, 1 - right)
    return peers.Answer(np.column_stack([1 - second, second]), seconds=2.0, cpu_seconds=1.0)


def job_of(peers, seed, *, failed=False):
    split = split_of(peers, seed)
    sureness = {
        "ensemble": 0.8,
        "plain GBM": 0.55,
        "distilled GBM": 0.6,
        peers.OURS_PLAIN: 0.52,
        peers.OURS: 0.7,
        peers.OURS_FEWER: 0.65,
    }
    plain_rows = {
        peers.OURS: [peers.OURS_PLAIN],
        peers.OURS_FEWER: [peers.OURS_PLAIN],
        "distilled GBM": ["plain GBM"],
    }
    failures = {}
    if failed:
        del sureness["distilled GBM"], plain_rows["distilled GBM"]
        failures = {"distilled GBM": "TypeError: no"}
    answers = {row: answering(peers, split, value) for row, value in sureness.items()}
    costs = {peers.OURS: peers.Cost(10.0 + seed, 20.0, {"pickle": 100 + seed})}
    return peers.PeerJob(split, CLASSES, answers, {}, plain_rows, costs, failures)


def test_both_sides_get_the_rows_of_the_split(peers):
    split = split_of(peers, 0)
    tables = peers.Tables.of(split)
    assert len(tables.tuning) == 20
    X, y = tables.rows(tuning=True)
    order = np.argsort(X.index)
    assert (X.to_numpy()[order] == split.X_train).all()
    assert (y[order] == split.y_train).all()
    fewer, labels = tables.rows(tuning=False)
    assert set(fewer.index) == set(X.index) - set(tables.tuning.index)
    assert len(labels) == 180
    assert list(fewer.columns) == list(tables.X_test.columns) == ["f0", "f1", "f2"]


def test_frames_keep_their_names(peers):
    frame = pd.DataFrame({"colour": ["red", "blue"]})
    assert peers._named(frame) is frame


def test_shares_are_of_the_gap_between_the_own_plain_row_and_the_teacher(peers):
    jobs = [job_of(peers, 0), job_of(peers, 1)]
    result = peers.summarise_peers(jobs)

    def loss(row):
        y = np.concatenate([job.split.y_test for job in jobs])
        return log_loss(y, np.concatenate([job.answers[row].proba for job in jobs]))

    for row, plain in (("distilled GBM", "plain GBM"), (peers.OURS, peers.OURS_PLAIN)):
        share = (loss(plain) - loss(row)) / (loss(plain) - loss("ensemble"))
        assert result["comparisons"][row]["log_loss"]["share"] == pytest.approx(share)
        assert result["rows"][row]["log_loss"] == pytest.approx(loss(row))
        assert result["rows"][row]["accuracy"] == pytest.approx(0.8)
    lead = result["skdistill_against"]["distilled GBM"]["log_loss"]["difference"]
    assert lead == pytest.approx(loss("distilled GBM") - loss(peers.OURS))


def test_a_lead_is_the_other_sides_lag(peers):
    jobs = [job_of(peers, 0), job_of(peers, 1)]
    there = peers.against(jobs, peers.OURS, "distilled GBM")
    back = peers.against(jobs, "distilled GBM", peers.OURS)
    for metric in peers.METRICS:
        assert there[metric]["difference"] == pytest.approx(-back[metric]["difference"])
        assert there[metric]["error"] == pytest.approx(back[metric]["error"])


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_a_row_that_failed_once_is_left_out_and_named(peers, order, capsys):
    jobs = [job_of(peers, seed, failed=failed) for seed, failed in enumerate(order)]
    result = peers.summarise_peers(jobs)
    assert "distilled GBM" not in result["rows"] | result["comparisons"]
    assert result["failures"] == [{"seed": order.index(True), "distilled GBM": "TypeError: no"}]
    peers.print_set("made", result)
    assert "TypeError: no" in capsys.readouterr().out


def test_costs_are_medians_of_times_and_means_of_bytes(peers):
    result = peers.summarise_peers([job_of(peers, seed) for seed in (0, 1, 8)])
    row = result["rows"][peers.OURS]
    assert row["one_row_us"] == 11.0
    assert row["file_bytes"] == {"pickle": 103}
    assert row["seconds"] == 2.0
    json.dumps(result)


def test_contenders_are_called_in_turns_of_twenty(peers):
    called = []
    turns = {name: (lambda row, name=name: called.append(name + row), "xy") for name in "ab"}
    times = peers.one_row_times(turns, 30)
    # Twenty and ten timed calls, each behind one that warms up.
    assert [call[0] for call in called] == ["a"] * 21 + ["b"] * 21 + ["a"] * 11 + ["b"] * 11
    assert set(called) == {"ax", "ay", "bx", "by"}
    assert all(0 < median <= p99 for median, p99 in times.values())


def test_bytes_of_a_folder_are_those_of_all_its_files(peers, tmp_path):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"123")
    (tmp_path / "deep" / "deeper" / "two").write_bytes(b"4567")
    assert peers.folder_bytes(tmp_path) == 7


def test_answers_outside_the_range_keep_their_order(peers):
    pytest.importorskip("autogluon.tabular")
    second = np.array([-0.2, -0.1, 0.3, 0.7, 1.05, 1.2])
    mapped = peers._into_range(np.column_stack([1 - second, second]))
    assert (mapped > 0).all()
    assert (np.diff(mapped[:, 1]) > 0).all()
    assert mapped[2:4, 1] == pytest.approx(second[2:4])
    assert mapped.sum(axis=1) == pytest.approx(np.ones(6))


@pytest.mark.slow
def test_a_small_run(tmp_path):
    pytest.importorskip("autogluon.tabular")
    path = tmp_path / "peers.json"
    command = [sys.executable, BENCHMARKS / "peers.py", "--bundled", "--sets", "breast_cancer"]
    command += ["--seeds", "0", "--kinds", "GBM", "--calls", "20", "--time-limit", "30"]
    command += ["--augment", "spunge", "munge", "--json", path, "--cache", tmp_path / "kept"]
    for _ in range(2):
        process = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=600,
            check=False,
        )
        assert process.returncode == 0, process.stderr
    report = json.loads(path.read_text())
    result = report["sets"]["breast_cancer"]
    for row in ("ensemble", "plain GBM", "distilled GBM", "plain skdistill", "skdistill"):
        assert 0 < result["rows"][row]["log_loss"] < 1
        assert result["rows"][row]["accuracy"] > 0.8
    for row in ("ensemble", "distilled GBM"):
        assert result["rows"][row]["file_bytes"]["deployment"] > 0
    assert "distilled GBM, munge" in result["rows"] or "munge" in str(result["failures"])
    assert len(list((tmp_path / "kept").glob("*.joblib"))) == 1
