"""Rows that outgrow one machine's patience: labelled by a cluster, then streamed into a student.

    python benchmarks/scale.py --rows 10_000_000 --workers 2
    python benchmarks/scale.py --rows 10_000_000 --folder /data/scale --json scale.json
    python benchmarks/scale.py --rows 1_000_000 --seeds 3
    python benchmarks/scale.py --quick

Makes seeded rows of 20 numbers in Parquet files, fits four cheap teachers on a sample, labels every
row with `label_parquet` on a cluster of worker processes, and trains a student with `fit_stream`.
Reports rows per second by the clock, and of processor time, which other work on the machine hardly
changes: that is the rate of a core. Beside them stand the peak memory of each process that trains,
log-loss and accuracy on held-out rows beside those of a student trained in memory on a sample of
the same rows, and what a billion rows would cost at these rates. The stream is trained twice, as it
is and with calibration=None. Files of rows that are there already are not made again.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistilledClassifier, StudentClassifier
from skdistill.distributed import LabelledParquet, TeacherBundle, label_parquet

N_FEATURES = 20
COLUMNS = [f"x{j}" for j in range(N_FEATURES)]
TEACHER_ROWS, TEST_ROWS = 20_000, 50_000
# How the students of the comparison are trained.
KINDS = {
    "stream": {},
    "uncalibrated_stream": {"calibration": None},
    "memory": {},
}
BILLION = 1e9


def make_rows(n: int, seed: int) -> pd.DataFrame:
    """Return rows whose label depends on steps, products and a line, with noise."""
    rng = np.random.default_rng([seed, n])
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    score = X[:, 0] + X[:, 1] * X[:, 2] + 1.5 * (X[:, 3] > 0.5) - (X[:, 4] < -0.3) * X[:, 5]
    score = score + 0.5 * np.sin(2 * X[:, 6]) + rng.logistic(scale=0.5, size=n)
    return pd.DataFrame(X, columns=COLUMNS).assign(y=(score > 0.3).astype(np.int8))


def write_rows(folder: Path, n_rows: int, n_files: int) -> None:
    """Write the files that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(np.array_split(np.arange(n_rows), n_files)):
        path = folder / f"rows-{i:05d}.parquet"
        if not path.exists():
            make_rows(len(part), seed=i).to_parquet(path)


def fit_teachers() -> list[Any]:
    """Fit four cheap teachers on rows that are in no file."""
    rows = make_rows(TEACHER_ROWS, seed=-1 % 2**32)
    trees = {"n_estimators": 30, "min_samples_leaf": 5, "random_state": 0}
    teachers = [
        make_pipeline(StandardScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=60, random_state=0),
        RandomForestClassifier(**trees),
        ExtraTreesClassifier(**trees),
    ]
    return [teacher.fit(rows[COLUMNS], rows["y"]) for teacher in teachers]


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds a call takes, by the clock and of this process's processor time."""
    start, start_of_process = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - start_of_process


def label(folder: Path, bundle: TeacherBundle, n_rows: int, n_workers: int) -> dict[str, float]:
    """Label every file on a cluster; then a few in this process, for the rate of one core."""
    # Answers of an earlier run would be skipped, and the rate too good.
    shutil.rmtree(folder / "soft", ignore_errors=True)
    settings = {"distributed.deploy.lost-worker-timeout": "120s"}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        seconds, _ = timed(
            lambda: label_parquet(folder / "rows", bundle, folder / "soft", client=client)
        )
    few = sorted((folder / "rows").glob("*.parquet"))[:2]
    n_few = sum(len(pd.read_parquet(path, columns=["y"])) for path in few)
    with tempfile.TemporaryDirectory() as place:
        _, alone = timed(lambda: label_parquet(few, bundle, place))
    return {
        "label_seconds": seconds,
        "label_rows_per_second": n_rows / seconds,
        "label_rows_per_second_and_core": n_few / alone,
    }


def train(kind: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Train one student and say what it took; runs in a process of its own."""
    bundle = TeacherBundle.load(folder / "teachers")
    targets = LabelledParquet(folder / "rows", folder / "soft", bundle=bundle)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    student = DistilledClassifier(random_state=arguments.seed, n_synthetic=0, **KINDS[kind])
    if kind != "memory":
        epochs = arguments.epochs
        seconds, of_core = timed(lambda: student.fit_stream(targets, max_epochs=epochs, label="y"))
        n_seen = student.n_iter_ * sum(pq.read_metadata(path).num_rows for path in targets.sources)
    else:
        X, y, proba = in_memory(targets.with_label("y"), arguments.sample)
        seconds, of_core = timed(lambda: student.fit(X, y, teacher_proba=proba))
        n_seen = student.n_iter_ * len(X)
    student.student_.save(folder / f"{kind}-{arguments.seed}.safetensors")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        f"{kind}_seconds": seconds,
        f"{kind}_rows_per_second": n_seen / seconds,
        f"{kind}_rows_per_second_and_core": n_seen / of_core,
        f"{kind}_peak_mb": peak / 1024,
        f"{kind}_peak_over_imports_mb": (peak - before) / 1024,
    }


def in_memory(targets: LabelledParquet, n_sample: int) -> tuple[Any, Any, Any]:
    """Return an equal share of every shard's first rows; rows of a file are in random order."""
    share = -(-n_sample // len(targets))
    parts = [tuple(column[:share] for column in targets[i]) for i in range(len(targets))]
    X, proba, y = zip(*parts, strict=True)
    return pd.concat(X), np.concatenate(y).astype(int), np.concatenate(proba)


def quality(folder: Path, bundle: TeacherBundle, seed: int) -> list[tuple[str, float, ...]]:
    """Return log-loss and accuracy of teachers and students on rows that nobody saw.

    The last numbers are the difference in log-loss from the student in memory, row by row, and its
    standard error.
    """
    rows = make_rows(TEST_ROWS, seed=2**31)
    proba = np.exp(bundle.labeller().log_proba(rows).astype(float))
    answers = {"ensemble": proba / proba.sum(axis=1, keepdims=True)}
    for kind in KINDS:
        student = StudentClassifier.load(folder / f"{kind}-{seed}.safetensors")
        answers[kind] = student.predict_proba(rows[COLUMNS])
    y = rows["y"].to_numpy()
    losses = {name: -np.log(proba[np.arange(len(y)), y]) for name, proba in answers.items()}
    return [
        (
            name,
            losses[name].mean(),
            accuracy_score(y, proba.argmax(axis=1)),
            (losses[name] - losses["memory"]).mean(),
            (losses[name] - losses["memory"]).std() / np.sqrt(len(y)),
        )
        for name, proba in answers.items()
    ]


def in_own_process(
    kind: str, arguments: argparse.Namespace, folder: Path, seed: int
) -> dict[str, float]:
    """Train in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, __file__, "--train", kind, "--folder", str(folder)]
    command += ["--seed", str(seed)]
    command += ["--epochs", str(arguments.epochs), "--sample", str(arguments.sample)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(figures: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print what was measured, and what a billion rows cost at these rates."""
    print(f"\n{arguments.rows:,} rows, {arguments.files} files, {os.cpu_count()} cores")
    for name, value in figures.items():
        if name != "quality":
            print(f"{name:40s} {value:14,.1f}")
    print(f"\n{'':20s} {'log-loss':>9s} {'accuracy':>9s} {'loss - memory':>14s} {'error':>7s}")
    for name, loss, accuracy, difference, error in figures["quality"]:
        print(f"{name:20s} {loss:9.4f} {accuracy:9.4f} {difference:+14.4f} {error:7.4f}")
    labelling = BILLION / figures["label_rows_per_second_and_core"] / 3600
    training = BILLION / figures["stream_rows_per_second_and_core"] / 3600
    print(
        f"\n1e9 rows: {labelling:.1f} core-hours to label, {training:.1f} hours an epoch to train"
    )


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=None, help="default: 200,000 rows a file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--sample", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=1, help="students of each kind")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--quick", action="store_true", help="40,000 rows, to see that it runs")
    parser.add_argument("--train", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.sample, arguments.files = 40_000, 10_000, 4
    if arguments.files is None:
        arguments.files = max(2, arguments.rows // 200_000)
    return arguments


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Make, label, train, compare."""
    seconds, _ = timed(lambda: write_rows(folder / "rows", arguments.rows, arguments.files))
    print(f"made the rows in {seconds:.0f} s", flush=True)
    bundle = TeacherBundle.save(
        fit_teachers(), folder / "teachers", classes=[0, 1], feature_names=COLUMNS
    )
    figures: dict[str, Any] = label(folder, bundle, arguments.rows, arguments.workers)
    figures["quality"] = []
    for seed in range(arguments.seeds):
        for kind in KINDS:
            figures |= in_own_process(kind, arguments, folder, seed)
        figures["quality"] += quality(folder, bundle, seed)
    report(figures, arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures | {"rows": arguments.rows}, indent=1))


def main() -> None:
    """Run the whole, or train one student for it."""
    arguments = parsed()
    if arguments.train is not None:
        figures = train(arguments.train, arguments.folder, arguments)
        print(json.dumps(figures))
    elif arguments.folder is not None:
        run(arguments, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(arguments, Path(folder))


if __name__ == "__main__":
    main()
