"""What self-distillation does to a student's log-loss and accuracy on new rows, and what it costs.

    python benchmarks/self_distillation.py --data DIR --sets phoneme magic --seeds 0 1 2 3 4

Without teachers: PS-KD (``teachers="self"``, alpha=1) against the plain student of the same
settings, in as many epochs as ``"auto"`` makes and in forty ("short"), and against the plain
student with early stopping ("stopped"). Beside teachers (histogram boosting, a random forest and
extra-trees, fitted on the same rows): each weight against none, in the default settings. A
difference is given with two paired standard errors over test rows; a row that several seeds tested
is one observation. Time is processor time of `fit`, as a ratio.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import DataSource, Split, add_data_arguments
from _peers import tree_ensemble
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skdistill import DistilledClassifier
from skdistill.metrics import log_loss_by_row, paired_difference

ALONE = (0.3, 0.6, 0.8)
BESIDE = (0.3, 0.6)
MOST = ALONE[-1]
SHORT = {"max_epochs": 40}
# So many epochs that early stopping ends the training.
STOPPED = {"early_stopping": True, "max_epochs": 200}


def students(teachers: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return the parameters of every student that is compared."""
    plain = {"teachers": "self", "alpha": 0.0}
    own = {f"self {w}": {"teachers": "self", "alpha": 1.0, "self_distillation": w} for w in ALONE}
    return {
        "plain": plain,
        **own,
        "plain, short": {**plain, **SHORT},
        **{f"{name}, short": {**params, **SHORT} for name, params in own.items()},
        "plain, stopped": {**plain, **STOPPED},
        f"self {MOST}, stopped": {**own[f"self {MOST}"], **STOPPED},
        "teachers": {"teachers": teachers},
        **{f"teachers, self {w}": {"teachers": teachers, "self_distillation": w} for w in BESIDE},
    }


# Which student is compared with which.
PAIRS = [
    *[(f"self {w}", "plain") for w in ALONE],
    *[(f"self {w}, short", "plain, short") for w in ALONE],
    (f"self {MOST}, stopped", "plain, stopped"),
    (f"self {MOST}", "plain, stopped"),
    ("plain, short", "plain, stopped"),
    (f"self {MOST}, short", "plain, stopped"),
    *[(f"teachers, self {w}", "teachers") for w in BESIDE],
]


@dataclass
class Answer:
    """What a student says of the test rows, row by row, and what it cost."""

    log_loss: np.ndarray
    accuracy: np.ndarray
    cpu_seconds: float


def run_split(split: Split, n_rows: int) -> dict[str, Answer]:
    """Train every student of one set and seed on at most so many rows."""
    rows = np.arange(len(split.y_train))
    if len(rows) > n_rows:
        y = split.y_train
        rows, _ = train_test_split(rows, train_size=n_rows, stratify=y, random_state=split.seed)
    X = split.X_train.iloc[rows] if hasattr(split.X_train, "iloc") else split.X_train[rows]
    y = split.y_train[rows]
    answers = {}
    for name, parameters in students(tree_ensemble(X, y, split.teacher_seed)).items():
        student = DistilledClassifier(**parameters, random_state=split.seed)
        start = time.process_time()
        student.fit(X, y)
        seconds = time.process_time() - start
        proba = student.predict_proba(split.X_test)
        labels = student.classes_
        answers[name] = Answer(
            log_loss_by_row(split.y_test, proba, labels=labels),
            (labels[proba.argmax(axis=1)] == split.y_test).astype(np.float64),
            seconds,
        )
    return answers


def compare(splits: Sequence[Split], answers: Sequence[dict[str, Answer]]) -> dict[str, Any]:
    """Return means and paired differences over the seeds of one set."""
    groups = np.concatenate([split.test_index for split in splits])

    def rows(name: str, metric: str) -> np.ndarray:
        return np.concatenate([getattr(answer[name], metric) for answer in answers])

    def seconds(name: str) -> float:
        return sum(answer[name].cpu_seconds for answer in answers)

    return {
        "students": {
            name: {
                "log_loss": float(rows(name, "log_loss").mean()),
                "accuracy": float(rows(name, "accuracy").mean()),
                "cpu_seconds": seconds(name) / len(answers),
            }
            for name in answers[0]
        },
        "pairs": {
            f"{name} against {other}": {
                **{
                    metric: paired_difference(
                        rows(name, metric), rows(other, metric), groups=groups
                    )
                    for metric in ("log_loss", "accuracy")
                },
                "time_ratio": seconds(name) / seconds(other),
            }
            for name, other in PAIRS
        },
    }


def print_set(name: str, result: dict[str, Any]) -> None:
    """Print the figures of one set."""
    print(f"\n{name}\n  {'student':<20}{'log-loss':>9}{'accuracy':>10}{'fit s':>8}")
    for student, row in result["students"].items():
        print(
            f"  {student:<20}{row['log_loss']:>9.4f}{row['accuracy']:>10.4f}"
            f"{row['cpu_seconds']:>8.2f}"
        )
    print(f"  {'difference ± two errors':<40}{'log-loss':>18}{'accuracy':>18}{'time x':>8}")
    for pair, row in result["pairs"].items():
        cells = "".join(f"{d:>+9.4f} ± {2 * e:.4f}" for d, e in (row["log_loss"], row["accuracy"]))
        print(f"  {pair:<40}{cells}{row['time_ratio']:>8.2f}", flush=True)


def print_summary(results: dict[str, dict[str, Any]]) -> None:
    """Print on how many sets each student is clearly better or worse than the other."""
    print(f"\nOver {len(results)} sets: better / worse by two errors, mean difference, time")
    for pair in next(iter(results.values()))["pairs"]:
        rows = [result["pairs"][pair] for result in results.values()]
        cells = ""
        for metric, better in (("log_loss", -1), ("accuracy", 1)):
            signs = [better * np.sign(d) * (abs(d) > 2 * e) for d, e in (r[metric] for r in rows)]
            mean = np.mean([r[metric][0] for r in rows])
            cells += f"  {metric} {signs.count(1)} / {signs.count(-1)} {mean:+.4f}"
        print(f"{pair:<40}{cells}  x {np.median([r['time_ratio'] for r in rows]):.2f}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_arguments(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", type=int, default=1000, help="training rows at most")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source, results = DataSource.from_arguments(arguments), {}
    with threadpool_limits(1):
        for name in source.names:
            splits = [source.split(name, seed) for seed in arguments.seeds]
            results[name] = compare(splits, [run_split(s, arguments.rows) for s in splits])
            print_set(name, results[name])
    print_summary(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
