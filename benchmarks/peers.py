"""AutoGluon's own distilled students beside a skdistill student of the very same predictor.

AutoGluon asks for older pandas than constraints.txt, so this runs in an environment of its own:

    python3 -m venv ag-venv
    ag-venv/bin/python -m pip install "torch==2.13.0" "autogluon.tabular[lightgbm]" -e .
    ag-venv/bin/python benchmarks/peers.py --data DIR --seeds 0 1 2 --json peers.json

Every set and seed runs in a fresh process. A `TabularPredictor` of LightGBM, a random forest,
extra-trees and AutoGluon's network (no bagging, metric log-loss) is fitted with a tenth of the
training rows as its tuning data; its weighted ensemble is the teacher. AutoGluon's plain students
are the predictor's own models, its distilled ones come from `distill` with its documented defaults
(soft labels, spunge), one kind a call, on the same two parts. The skdistill students get the rows
of both parts: the plain one holds a tenth of them out to stop early, the distilled one holds none
out. "fitting rows only" is the distilled one without the tuning rows. Shares of a gap and standard
errors are those of quality.py. One-row times are of models held in memory, called in turns.

For two classes AutoGluon's distilled students are regressions, and LightGBM's answers leave the
range from 0 to 1. Such a student has two rows: "as answered" is cut off at 0 and 1, the row
without these words is mapped into the range in a way that is kind to its log-loss.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from _data import DataSource, Split, add_data_arguments
from quality import METRICS, Answer, Job, compare, over_seeds
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skdistill import CallableTeacher, DistilledClassifier
from skdistill.metrics import paired_difference

LABEL = "target"
TEACHER = "ensemble"
OURS, OURS_PLAIN, OURS_FEWER = "skdistill", "plain skdistill", "skdistill, fitting rows only"
COMPILED = "skdistill, compile()"
TUNING_SHARE = 0.1
# AutoGluon's names for the kinds of students that distill knows and that need no other package.
KINDS = {"NN_TORCH": "NeuralNetTorch", "GBM": "LightGBM", "RF": "RandomForest"}
METHODS = ("spunge", "munge", "none")
# AutoGluon writes into its default of this argument, so each call gets its own copy.
AUGMENT_ARGS = {"size_factor": 5, "max_size": 100_000}
# distill smooths the labels of two classes to 0.01 and 0.99.
SMOOTHING = 0.01
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """One set and seed, and how to run it."""

    source: DataSource
    name: str
    seed: int
    kinds: tuple[str, ...]
    methods: tuple[str, ...]
    time_limit: float
    calls: int

    def run(self) -> "PeerJob":
        """Train and time every row with one thread."""
        torch.set_num_threads(1)
        with (
            threadpool_limits(1),
            tempfile.TemporaryDirectory() as folder,
            warnings.catch_warnings(action="ignore"),
        ):
            return _run(self, Path(folder))


@dataclass
class Cost:
    """What a row takes up; None where it was not measured."""

    one_row_us: float | None = None
    one_row_p99_us: float | None = None
    file_bytes: dict[str, int] = field(default_factory=dict)


@dataclass
class PeerJob(Job):
    """The answers of one set and seed with their costs, and what failed with which error."""

    costs: dict[str, Cost] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


# --- rows ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """A split as the frames that AutoGluon takes: both get equal columns and equal rows."""

    fitting: pd.DataFrame
    tuning: pd.DataFrame
    X_test: pd.DataFrame

    @classmethod
    def of(cls, split: Split) -> "Tables":
        """Cut the tuning rows off the training rows."""
        train = _named(split.X_train).assign(**{LABEL: split.y_train})
        fitting, tuning = train_test_split(
            train, test_size=TUNING_SHARE, stratify=split.y_train, random_state=split.seed
        )
        return cls(fitting, tuning, _named(split.X_test))

    def rows(self, *, tuning: bool) -> tuple[pd.DataFrame, np.ndarray]:
        """Return features and labels of the fitting rows, and of the tuning rows if asked."""
        table = pd.concat([self.fitting, self.tuning]) if tuning else self.fitting
        return table.drop(columns=LABEL), table[LABEL].to_numpy()


def _named(X: Any) -> pd.DataFrame:
    """Return a frame whose columns have string names."""
    return X if isinstance(X, pd.DataFrame) else pd.DataFrame(X).rename(columns="f{}".format)


# --- costs -----------------------------------------------------------------------------------


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Yield a dict that holds clock and processor seconds at the end."""
    spent: dict[str, float] = {}
    start, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent.update(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu)


def folder_bytes(path: str | Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def one_row_times(
    contenders: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]], n_calls: int
) -> dict[str, tuple[float, float]]:
    """Return median and 99th percentile in µs of calls of one row, made in turns.

    Each contender is a callable and its inputs; twenty of its calls follow one another, so that
    none finds its memory cold, then comes the next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for start in range(0, n_calls, 20):
        for name, (call, inputs) in contenders.items():
            call(inputs[start % len(inputs)])
            for i in range(start, min(start + 20, n_calls)):
                row = inputs[i % len(inputs)]
                before = time.perf_counter()
                call(row)
                seconds[name].append(time.perf_counter() - before)
    return {
        name: (1e6 * float(np.median(times)), 1e6 * float(np.quantile(times, 0.99)))
        for name, times in seconds.items()
    }


# --- AutoGluon -------------------------------------------------------------------------------


class AutoGluon:
    """A fitted predictor, the students it distils, and clones of it for deployment."""

    def __init__(self, tables: Tables, folder: Path, time_limit: float) -> None:
        from autogluon.tabular import TabularPredictor

        self.tables, self.folder, self.time_limit = tables, folder, time_limit
        self.models: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        self._clones: list[Any] = []
        predictor = TabularPredictor(
            LABEL, eval_metric="log_loss", path=str(folder / "predictor"), verbosity=0
        )
        with _timed() as spent:
            self.predictor = predictor.fit(
                tables.fitting,
                tuning_data=tables.tuning,
                hyperparameters={"GBM": {}, "RF": {}, "XT": {}, "NN_TORCH": {}},
                time_limit=time_limit,
                num_cpus=1,
                num_gpus=0,
            )
        self.classes = np.asarray(self.predictor.class_labels)
        # Later students must not become the teacher of those after them.
        self.predictor.set_model_best(self.predictor.model_best, save_trainer=True)
        self._answer(TEACHER, self.predictor.model_best, **spent)

    def proba(self, X: pd.DataFrame, model: str) -> np.ndarray:
        """Return a model's probabilities in the order of the classes."""
        return self.predictor.predict_proba(X, model=model)[list(self.classes)].to_numpy()

    def teach(self, X: pd.DataFrame) -> np.ndarray:
        """Return the teacher's probabilities, for a CallableTeacher."""
        return self.proba(X, self.models[TEACHER])

    def _answer(self, row: str, model: str, **spent: float) -> None:
        """Keep a model's answer under a row's name."""
        self.models[row] = model
        self.answers[row] = Answer(self.proba(self.tables.X_test, model), **spent)

    def add_plain(self, kind: str) -> None:
        """Keep the answer of the predictor's own model of a kind."""
        board = self.predictor.leaderboard().set_index("model")
        self._answer(f"plain {kind}", KINDS[kind], seconds=float(board.fit_time[KINDS[kind]]))

    def distil(self, kind: str, method: str) -> None:
        """Distil one kind of student."""
        with _timed() as spent:
            names = self.predictor.distill(
                hyperparameters={kind: {"ag_args_fit": {"num_cpus": 1, "num_gpus": 0}}},
                augment_method=None if method == "none" else method,
                augment_args=dict(AUGMENT_ARGS),
                models_name_suffix=f"{kind}_{method}",
                time_limit=self.time_limit,
            )
        row = distilled_row(kind, method)
        self._answer(row, next(name for name in names if name.startswith(KINDS[kind])), **spent)
        given = self.answers[row].proba
        if given.min() < 0 or given.max() > 1:
            self.answers[f"{row}, as answered"] = Answer(given.clip(0, 1), **spent)
            self.answers[row] = Answer(_into_range(given), **spent)

    def deployed(self, row: str) -> tuple[Callable[[pd.DataFrame], Any], dict[str, int]]:
        """Return the one-row callable of a model on its own, and what it takes on disk."""
        model, path = self.models[row], self.folder / f"clone{len(self._clones)}"
        clone = self.predictor.clone_for_deployment(str(path), model=model, return_clone=True)
        clone.persist([model], max_memory=None)
        self._clones.append(clone)
        few = self.tables.X_test[:50]
        given = clone.predict_proba(few, model=model)[list(self.classes)].to_numpy()
        if not np.allclose(given, self.proba(few, model), atol=1e-5):
            raise AssertionError(f"the clone of {row} answers differently")
        sizes = {"deployment": folder_bytes(path)}
        if row != TEACHER:
            sizes["model"] = folder_bytes(path / "models" / model)
        return lambda X: clone.predict_proba(X, model=model), sizes


def _into_range(proba: np.ndarray) -> np.ndarray:
    """Map what leaves 0 to 1 by AutoGluon's own remapping, which keeps the order of the rows.

    It is called with the bound of the smoothed labels, which log-loss forgives; AutoGluon's own
    default, 1e-7, makes each sure error as costly as cutting the answers off.
    """
    from autogluon.core.utils.utils import normalize_pred_probas

    if proba.shape[1] > 2:
        return normalize_pred_probas(proba, "multiclass", eps=SMOOTHING)
    second = normalize_pred_probas(proba[:, 1], "binary", eps=SMOOTHING)
    return np.column_stack([1 - second, second])


def distilled_row(kind: str, method: str) -> str:
    """Return the name of the row of one of AutoGluon's distilled students."""
    return f"distilled {kind}" if method == "spunge" else f"distilled {kind}, {method}"


# --- one set and seed ------------------------------------------------------------------------


def _fit_ours(tables: Tables, *, tuning: bool, **parameters: Any) -> tuple[Any, Answer]:
    """Return a skdistill student and its answer."""
    X, y = tables.rows(tuning=tuning)
    with _timed() as spent:
        student = DistilledClassifier(**parameters).fit(X, y)
    return student, Answer(student.predict_proba(tables.X_test), **spent)


def _our_students(task: Task, tables: Tables, peer: AutoGluon) -> dict[str, tuple[Any, Answer]]:
    """Train the plain student and the two distilled ones."""
    teacher = CallableTeacher(peer.teach, peer.classes)
    common: dict[str, Any] = {"teachers": [teacher], "random_state": task.seed}
    return {
        OURS_PLAIN: _fit_ours(tables, tuning=True, alpha=0.0, early_stopping=True, **common),
        OURS: _fit_ours(tables, tuning=True, **common),
        OURS_FEWER: _fit_ours(tables, tuning=False, **common),
    }


def _our_bytes(student: DistilledClassifier, path: Path) -> dict[str, int]:
    """Return the sizes of both ways to store a student."""
    student.student_.save(path)
    return {"safetensors": path.stat().st_size, "pickle": len(pickle.dumps(student))}


def _costs(
    task: Task, tables: Tables, peer: AutoGluon, student: DistilledClassifier
) -> dict[str, Cost]:
    """Measure bytes and one-row times of everything that can be deployed."""
    frames = [tables.X_test.iloc[[i]] for i in range(50)]
    contenders: dict[str, Any] = {OURS: (student.predict_proba, frames)}
    sizes = {OURS: _our_bytes(student, peer.folder / "student.safetensors")}
    for row in peer.models:
        call, sizes[row] = peer.deployed(row)
        contenders[row] = (call, frames)
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in tables.X_test.dtypes):
        rows = tables.X_test.to_numpy(dtype=np.float64)[:50]
        contenders[COMPILED] = (student.student_.compile(), rows)
    times = one_row_times(contenders, task.calls)
    return {name: Cost(*times[name], sizes.get(name, {})) for name in contenders}


def _run(task: Task, folder: Path) -> PeerJob:
    """Train and time every row of one set and seed."""
    split = task.source.split(task.name, task.seed)
    tables = Tables.of(split)
    peer = AutoGluon(tables, folder, task.time_limit)
    plain_rows, failures = {OURS: [OURS_PLAIN], OURS_FEWER: [OURS_PLAIN]}, {}
    ours = _our_students(task, tables, peer)
    for kind in task.kinds:
        peer.add_plain(kind)
        for method in task.methods:
            row = distilled_row(kind, method)
            try:
                peer.distil(kind, method)
            except Exception as error:
                failures[row] = f"{type(error).__name__}: {error}"
            else:
                plain_rows[row] = [f"plain {kind}"]
    answers = peer.answers | {name: answer for name, (_, answer) in ours.items()}
    costs = _costs(task, tables, peer, ours[OURS][0])
    return PeerJob(split, peer.classes, answers, {}, plain_rows, costs, failures)


# --- over seeds ------------------------------------------------------------------------------


def _mean_cost(costs: Sequence[Cost]) -> dict[str, Any]:
    """Return the medians of times and the mean bytes over seeds."""
    names = costs[0].file_bytes
    return {
        "one_row_us": float(np.median([cost.one_row_us for cost in costs])),
        "one_row_p99_us": float(np.median([cost.one_row_p99_us for cost in costs])),
        "file_bytes": {n: round(float(np.mean([c.file_bytes[n] for c in costs]))) for n in names},
    }


def against(jobs: Sequence[PeerJob], row: str, other: str) -> dict[str, dict[str, float]]:
    """Return by how much a row is better than another in each metric, with paired errors."""
    groups = np.concatenate([job.split.test_index for job in jobs])
    result = {}
    for metric in METRICS:
        pair = (over_seeds(jobs, metric, name) for name in (row, other))
        difference, error = paired_difference(*pair, groups=groups)
        result[metric] = {"difference": difference, "error": error}
    return result


def summarise_peers(jobs: Sequence[PeerJob]) -> dict[str, Any]:
    """Return means over seeds for every row of one set, its share of the gap, and our lead.

    A row that failed under some seed is left out; `failures` holds the errors.
    """
    rows = {}
    for row in jobs[0].answers:
        if not all(row in job.answers for job in jobs):
            continue
        answers = [job.answers[row] for job in jobs]
        scores = {metric: float(over_seeds(jobs, metric, row).mean()) for metric in METRICS}
        rows[row] = {
            **scores,
            "log_loss": -scores["log_loss"],
            "seconds": float(np.mean([answer.seconds for answer in answers])),
            "cpu_seconds": float(np.mean([answer.cpu_seconds for answer in answers])),
        }
    for row in jobs[0].costs:
        if all(row in job.costs for job in jobs):
            rows.setdefault(row, {}).update(_mean_cost([job.costs[row] for job in jobs]))
    distilled = [row for row in jobs[0].plain_rows if row in rows]
    return {
        "rows": rows,
        "comparisons": {
            row: {metric: compare(jobs, row, metric) for metric in METRICS} for row in distilled
        },
        "skdistill_against": {
            row: against(jobs, OURS, row) for row in distilled if row not in (OURS, OURS_FEWER)
        },
        "failures": [{"seed": job.split.seed, **job.failures} for job in jobs if job.failures],
    }


# --- report ----------------------------------------------------------------------------------


def _shares(compared: dict[str, Any] | None) -> str:
    """Return the shares of the gaps in per cent."""
    if compared is None:
        return ""
    shares = [compared[metric]["share"] for metric in METRICS]
    return " / ".join("-" if share is None else f"{100 * share:.0f}" for share in shares)


def print_set(name: str, result: dict[str, Any]) -> None:
    """Print the rows of one set."""
    print(f"\n{name}")
    print(
        f"  {'row':<34}{'log-loss':>9}{'AUC':>8}{'accuracy':>9}{'fit s':>8}{'CPU s':>8}"
        f"{'1 row us':>10}{'p99':>9}  {'share %: log-loss/AUC/accuracy':<32}bytes"
    )
    for row, value in result["rows"].items():
        scores = [value.get(metric, float("nan")) for metric in METRICS]
        times = [value.get(word, float("nan")) for word in ("seconds", "cpu_seconds")]
        calls = [value.get(word, float("nan")) for word in ("one_row_us", "one_row_p99_us")]
        print(
            f"  {row:<34}{scores[0]:>9.4f}{scores[1]:>8.4f}{scores[2]:>9.4f}{times[0]:>8.1f}"
            f"{times[1]:>8.1f}{calls[0]:>10.0f}{calls[1]:>9.0f}  "
            f"{_shares(result['comparisons'].get(row)):<32}{value.get('file_bytes', '')}"
        )
    for row, metrics in result["skdistill_against"].items():
        leads = (f"{m} {v['difference']:+.4f} ± {v['error']:.4f}" for m, v in metrics.items())
        print(f"  skdistill better than {row} by: {', '.join(leads)}")
    for failure in result["failures"]:
        print(f"  failed: {failure}")
    sys.stdout.flush()


def _environment() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    packages = ("skdistill", "autogluon.tabular", "lightgbm", "scikit-learn", "torch", "skorch")
    return {
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": 1,
        "versions": {name: version(name) for name in (*packages, "numpy", "scipy", "pandas")},
    }


def _kept(task: Task, folder: str | None) -> PeerJob:
    """Run a task in a fresh process, or read what an earlier run of it stored."""
    path = None
    if folder:
        # A set's figures do not depend on which other sets were asked for.
        options = {**asdict(task), "source": (task.source.kind, task.source.directory)}
        token = joblib.hash((options, version("autogluon.tabular"), version("skdistill")))
        path = Path(folder) / f"{task.name}.seed{task.seed}.{token[:8]}.joblib"
        if path.exists():
            return joblib.load(path)
    # AutoGluon keeps state in a process: loggers, seeds, changed defaults.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        job = pool.submit(task.run).result()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(job, path)
    return job


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_arguments(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--augment",
        nargs="+",
        choices=METHODS,
        default=["spunge"],
        help="augment_method of distill",
    )
    parser.add_argument(
        "--time-limit", type=float, default=300, help="seconds for each fit and distill"
    )
    parser.add_argument("--calls", type=int, default=200, help="calls of one row to time")
    parser.add_argument("--cache", metavar="DIR", help="keep finished sets and seeds here")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    return parser


def main() -> None:
    """Run the benchmark from the command line."""
    arguments = _parser().parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    source = DataSource.from_arguments(arguments)
    results = {}
    for name in source.names:
        jobs = [
            _kept(
                Task(
                    source,
                    name,
                    seed,
                    tuple(arguments.kinds),
                    tuple(arguments.augment),
                    arguments.time_limit,
                    arguments.calls,
                ),
                arguments.cache,
            )
            for seed in arguments.seeds
        ]
        results[name] = summarise_peers(jobs)
        print_set(name, results[name])
    if arguments.json:
        report = {
            **_environment(),
            "seeds": arguments.seeds,
            "time_limit": arguments.time_limit,
            "sets": results,
        }
        Path(arguments.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
