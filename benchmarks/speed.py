"""How fast students answer and train, beside what people would use instead, in the same run.

    python benchmarks/speed.py --json speed.json
    python benchmarks/speed.py predict fit --processes 7
    python benchmarks/speed.py --quick

predict: time a call of one row (median and p99) and rows per second, float32 and float64.
fit: the same epochs, batches and optimiser on the same rows, with the held-out log-loss beside.
sweep: temperatures × alphas × folds with a forest cross-fitted as teacher; scores are compared.
scaling: time and memory against rows, features, classes and candidates, with log-log slopes.

Every figure is the median over fresh processes, with the lowest and highest behind it. All
contenders of a table run in turn within each process, so that other work on the machine hits all
alike, and a ratio is taken within a process before the median is taken over processes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _naive import (
    FITS,
    BareRow,
    Lesson,
    NaiveDistiller,
    Network,
    as_module,
    as_onnx,
    bare_rows,
    matmul_only,
    onnx_call,
    sklearn_network,
    skorch_around,
    torch_call,
)
from _peers import classic_recipe
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skdistill import DistilledClassifier, DistilledClassifierCV

Task = dict[str, Any]
# What is called, and the inputs it is called on in turn.
Turns = dict[str, tuple[Callable[..., Any], Sequence[Any]]]
HIDDEN = (64, 32)
N_FEATURES = 20
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OURS, OURS_EMBEDDED = "DistilledClassifier", "DistilledClassifier, embedding"
COMPILED, MATMUL_ONLY = "student_.compile()", "matrix products only"
QUICK_BUDGET = 0.01


def make_rows(n: int, seed: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of two classes that overlap."""
    X, y = make_classification(
        n, N_FEATURES, n_informative=10, flip_y=0.05, class_sep=0.8, random_state=seed
    )
    return X.astype(dtype), y


def soften(y: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return a made-up teacher's probabilities: mostly right, never sure."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.ones(k), len(y))
    proba = 0.3 * proba + 0.7 * np.eye(k)[y]
    return proba / proba.sum(axis=1, keepdims=True)


# --- predict ---------------------------------------------------------------------------------


def folded(student: Any) -> Network:
    """Return a frozen student's numbers with its scaling multiplied in, in float64."""
    linear = [layer.arrays for layer in student.layers_ if layer.kind == "linear"]
    weights = [weight.astype(np.float64) for weight, _ in linear]
    biases = [bias.astype(np.float64) for _, bias in linear]
    mean, scale = student.preprocessor_.mean_, student.preprocessor_.scale_
    if student.encoding_ is None:
        weights[0] = weights[0] / scale[:, None]
        biases[0] = biases[0] - mean @ weights[0]
        return Network(weights, biases)
    e = student.encoding_
    slope = e.slope_ / scale[e.column_]
    offset = e.offset_ - mean[e.column_] * slope
    return Network(weights, biases, (e.column_, slope, offset, e.lower_, e.upper_))


def _train_student(X: np.ndarray, y: np.ndarray, embedding: str | None) -> DistilledClassifier:
    """Return a briefly trained 20-64-32-2 student: speed does not depend on what it learnt."""
    student = DistilledClassifier(
        hidden_layer_sizes=HIDDEN,
        numerical_embedding=embedding,
        dropout=0.0,
        augment=None,
        max_epochs=3,
        batch_size=64,
        dtype="float32",
        random_state=0,
    )
    return student.fit(X, y, teacher_proba=soften(y, 2, 0))


def _frozen_calls(students: dict[str, DistilledClassifier]) -> dict[str, Callable[..., Any]]:
    """Return the one-row callables that students compile to, where they do."""
    return {
        name.replace(OURS, COMPILED): student.student_.compile()
        for name, student in students.items()
        if hasattr(student.student_, "compile")
    }


class Contenders:
    """The trained students and their peers, as callables for one dtype."""

    def __init__(self, task: Task) -> None:
        self.threads = task["threads"]
        X, y = make_rows(task["fit_rows"], seed=0)
        self.X, self.y = X, y
        self.students = {
            OURS: _train_student(X, y, None),
            OURS_EMBEDDED: _train_student(X, y, "piecewise_linear"),
        }
        self.networks = {name: folded(s.student_) for name, s in self.students.items()}
        self.models = {
            name: s.student_.to_onnx().SerializeToString() for name, s in self.students.items()
        }
        self.forest = RandomForestClassifier(
            task["trees"], n_jobs=self.threads, random_state=0
        ).fit(X, y)

    def for_dtype(self, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what answers rows of shape (n, d), and what answers one row of shape (d,)."""
        network = self.networks[OURS].astype(dtype)
        module = as_module(network)
        X = self.X.astype(dtype)
        with warnings.catch_warnings(action="ignore"):
            sklearn_net = sklearn_network(HIDDEN, 3, 64, 0).fit(X, self.y)
        by_rows: dict[str, Any] = {name: s.predict_proba for name, s in self.students.items()}
        by_rows |= {
            name.replace(OURS, "student_"): s.student_.predict_proba
            for name, s in self.students.items()
        }
        by_rows |= {
            "bare NumPy, chunks": bare_rows(network),
            "MLPClassifier": sklearn_net.predict_proba,
            "skorch": skorch_around(module, X, self.y).predict_proba,
            "torch": torch_call(module),
            "ONNX Runtime, bare graph": onnx_call(as_onnx(network), self.threads),
            "forest (a teacher)": self.forest.predict_proba,
        }
        if dtype == "float32":
            by_rows |= {
                name.replace(OURS, "ONNX Runtime, to_onnx()"): onnx_call(model, self.threads)
                for name, model in self.models.items()
            }
        by_row = {
            name.replace(OURS, "bare NumPy, one row"): BareRow(n.astype(dtype))
            for name, n in self.networks.items()
        }
        return by_rows, by_row | _frozen_calls(self.students)


def check_answers(by_rows: dict[str, Any], by_row: dict[str, Any], X: np.ndarray) -> None:
    """Raise where contenders that hold the same weights answer differently."""
    own_weights = ("MLPClassifier", "forest (a teacher)")
    for name, call in {**by_rows, **by_row}.items():
        if name in own_weights:
            continue
        expected = by_rows[OURS_EMBEDDED if "embedding" in name else OURS](X)[:, 1]
        given = [np.ravel(call(x))[-1] for x in X] if name in by_row else call(X)[:, 1]
        worst = np.abs(np.asarray(given, np.float64) - expected).max()
        if not worst < 1e-4:
            raise AssertionError(f"{name} answers differently: by {worst:.2g}")


def time_calls(contenders: Turns, budget: float) -> dict[str, dict[str, Any]]:
    """Call every contender in turn for about `budget` seconds each; return medians and p99."""
    rounds = 10
    seconds: dict[str, list[float]] = {}
    for name, (call, inputs) in contenders.items():
        call(inputs[0])
        seconds[name] = []
        _time_some(call, inputs, seconds[name], 1)
    calls = {
        name: min(max(int(budget / rounds / spent[0]), 1), 2000) for name, spent in seconds.items()
    }
    for _ in range(rounds):
        for name, (call, inputs) in contenders.items():
            if sum(seconds[name]) < budget:
                _time_some(call, inputs, seconds[name], calls[name])
    return {name: _quantiles(np.array(spent)) for name, spent in seconds.items()}


def _time_some(
    call: Callable[..., Any], inputs: Sequence[Any], seconds: list[float], n: int
) -> None:
    """Time single calls on changing inputs; the first, on caches that a neighbour left, is not."""
    clock = time.perf_counter
    if n > 1:
        call(inputs[-1])
    for i in range(n):
        x = inputs[i % len(inputs)]
        start = clock()
        call(x)
        seconds.append(clock() - start)


def _quantiles(seconds: np.ndarray) -> dict[str, Any]:
    """Return the median and, where there are enough calls to speak of it, the 99th percentile."""
    p99 = float(np.quantile(seconds, 0.99)) if len(seconds) >= 200 else None
    return {"p50": float(np.median(seconds)), "p99": p99, "calls": len(seconds)}


def _floors(network: Network, X: np.ndarray) -> Turns:
    """Return the matrix products alone, in the chunks that are fastest here."""
    timed = {}
    for chunk in (1024, 2048, 4096, 8192, 16384):
        call = matmul_only(network, chunk)
        call(X)
        start = time.perf_counter()
        call(X)
        timed[chunk] = time.perf_counter() - start
    best = min(timed, key=timed.__getitem__)
    return {MATMUL_ONLY: (matmul_only(network, best), [X])}


def run_predict(task: Task) -> dict[str, Any]:
    """Return the times of all contenders for every dtype and number of rows."""
    made = Contenders(task)
    cells = {}
    for dtype in task["dtypes"]:
        by_rows, by_row = made.for_dtype(dtype)
        X = make_rows(max(task["rows"]), seed=1, dtype=dtype)[0]
        check_answers(by_rows, by_row, X[:50])
        for n in task["rows"]:
            inputs = [X[i : i + n] for i in range(0, min(len(X) - n, 64 * n) + 1, n)]
            contenders: Turns = {name: (call, inputs) for name, call in by_rows.items()}
            if n == 1:
                contenders |= {name: (call, list(X[:64])) for name, call in by_row.items()}
            if n == max(task["rows"]):
                contenders |= _floors(made.networks[OURS].astype(dtype), X)
            cells[f"{n} rows, {dtype}"] = time_calls(contenders, task["budget"])
    return cells


def report_predict(runs: list[dict[str, Any]], title: str) -> dict[str, Any]:
    """Print a table for every dtype and number of rows; return its figures."""
    summary: dict[str, Any] = {}
    for cell, first in runs[0].items():
        n = int(cell.split()[0])
        bases = [name for name in (OURS, COMPILED) if name in first]
        figures = {name: _figures([run[cell] for run in runs], name, bases) for name in first}
        summary[cell] = figures
        unit = f"{'us a call':>12}{'p99':>9}" if n == 1 else f"{'M rows/s':>12}{'':9}"
        heads = "".join(f"{'time / ' + base:>30}" for base in bases)
        print(f"\npredict_proba: {cell}, {title}\n  {'':<36}{unit}{heads}")
        for name, row in figures.items():
            p50, p99 = row["seconds"]["median"], row["p99_seconds"]
            late = f"{1e6 * p99['median']:9.1f}" if n == 1 and p99 else f"{'':9}"
            figure = f"{1e6 * p50:12.1f}" if n == 1 else f"{n / p50 / 1e6:12.3f}"
            ratios = "".join(f"{words(row['ratios'][base]):>30}" for base in bases)
            print(f"  {name:<36}{figure}{late}{ratios}")
    return summary


def _figures(cells: list[dict[str, Any]], name: str, bases: list[str]) -> dict[str, Any]:
    """Return one contender's times over the processes, and their ratios to others' times."""
    late = [cell[name]["p99"] for cell in cells if cell[name]["p99"] is not None]
    return {
        "seconds": spread(cell[name]["p50"] for cell in cells),
        "p99_seconds": spread(late) if late else None,
        "ratios": {
            base: spread(cell[name]["p50"] / cell[base]["p50"] for cell in cells) for base in bases
        },
    }


# --- fit -------------------------------------------------------------------------------------


def _fit_ours(lesson: Lesson, **settings: Any) -> Callable[..., Any]:
    """Train our student on the given targets, so that no teacher is asked."""
    student = DistilledClassifier(
        temperature=lesson.temperature,
        alpha=lesson.alpha,
        hidden_layer_sizes=lesson.hidden,
        numerical_embedding=settings.pop("numerical_embedding", None),
        dropout=0.0,
        augment=None,
        max_epochs=lesson.epochs,
        batch_size=lesson.batch_size,
        dtype="float32",
        random_state=lesson.seed,
        **settings,
    )
    return student.fit(lesson.X, lesson.y, teacher_proba=lesson.teacher_proba).predict_proba


def _fit_by_autograd(lesson: Lesson) -> Callable[..., Any]:
    """Train a network of the user's own, which takes autograd."""

    def build(n_features: int, n_classes: int) -> torch.nn.Module:
        sizes = (n_features, *lesson.hidden, n_classes)
        empty = [np.zeros(shape, np.float32) for shape in pairwise(sizes)]
        module = as_module(Network(empty, [np.zeros(w.shape[1], np.float32) for w in empty]))
        for layer in module:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
        return module

    return _fit_ours(lesson, student_module=build)


def _fit_dataloader(lesson: Lesson) -> Callable[..., Any]:
    """Train by the reference experiment's DataLoader loop."""

    # The recipe trains and answers in one call; answering is a thousandth of it.
    result = classic_recipe(
        lesson.X,
        lesson.y,
        lesson.teacher_proba,
        _held_out()[0],
        hidden=lesson.hidden,
        temperature=lesson.temperature,
        alpha=lesson.alpha,
        epochs=lesson.epochs,
        seed=lesson.seed,
    )
    return lambda X: result.proba


def _held_out() -> tuple[np.ndarray, np.ndarray]:
    """Return rows that no contender trains on."""
    X, y = make_rows(6000, seed=0)
    return X[4000:], y[4000:]


TRAININGS: dict[str, Callable[[Lesson], Callable[..., Any]]] = {
    OURS: _fit_ours,
    OURS_EMBEDDED: lambda lesson: _fit_ours(lesson, numerical_embedding="piecewise_linear"),
    "DistilledClassifier, student_module": _fit_by_autograd,
    "torch, DataLoader loop": _fit_dataloader,
    **FITS,
}


def run_fit(task: Task) -> dict[str, Any]:
    """Train every contender once, after one epoch of each to load what is loaded lazily."""
    X, y = make_rows(6000, seed=0)
    X, y = X[: task["fit_rows"]], y[: task["fit_rows"]]
    X_test, y_test = _held_out()
    whole = Lesson(X, y, soften(y, 2, 0), HIDDEN, task["epochs"], 64, 3.0, 0.7, task["seed"])
    figures = {}
    with warnings.catch_warnings(action="ignore"):
        for train in TRAININGS.values():
            train(whole._replace(epochs=1))
        names = list(TRAININGS)
        turn = task["seed"] % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            answer = TRAININGS[name](whole)
            seconds = time.perf_counter() - start
            figures[name] = {"seconds": seconds, "log_loss": log_loss(y_test, answer(X_test))}
    return figures


def report_fit(runs: list[dict[str, Any]], title: str) -> dict[str, Any]:
    """Print the times of training and the held-out log-loss; return the figures."""
    print(f"\nfit, {title}\n  {'':<36}{'seconds':>18}{'log-loss':>9}{'time / ours':>30}")
    print("  skorch as it comes trains on 80 % of the rows and scores the others.")
    print("  skorch and MLPClassifier learn from labels alone, the others from soft targets too.")
    summary = {}
    for name in TRAININGS:
        row = {
            "seconds": spread([run[name]["seconds"] for run in runs]),
            "log_loss": spread([run[name]["log_loss"] for run in runs]),
            "ratio": spread([run[name]["seconds"] / run[OURS]["seconds"] for run in runs]),
        }
        summary[name] = row
        loss = row["log_loss"]["median"]
        print(f"  {name:<36}{row['seconds']['median']:18.3f}{loss:9.4f}{words(row['ratio']):>30}")
    return summary


# --- sweep -----------------------------------------------------------------------------------


class RowScorer:
    """Score by log-loss and keep its rows, so that two searches can be compared row by row."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def __call__(self, estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
        """Return the mean log-likelihood."""
        proba = estimator.predict_proba(X).astype(np.float64)
        rows = np.log(np.maximum(proba[np.arange(len(y)), y], 1e-300))
        self.rows.append(rows)
        return float(rows.mean())


class Sweep:
    """One grid, one split into folds, and the recipe that is searched."""

    def __init__(self, task: Task, dtype: str = "float32") -> None:
        self.X, self.y = make_rows(task["sweep_rows"], seed=task["seed"])
        self.temperatures, self.alphas = task["temperatures"], task["alphas"]
        self.epochs = task["epochs"]
        self.dtype = dtype
        self.forest = RandomForestClassifier(task["trees"], random_state=0)
        splitter = StratifiedKFold(task["folds"], shuffle=True, random_state=task["seed"])
        self.splits = list(splitter.split(self.X, self.y))

    def distilled(self, **settings: Any) -> DistilledClassifier:
        """Return our estimator, its teacher cross-fitted inside `fit`."""
        return DistilledClassifier(
            [("forest", self.forest)],
            cv=5,
            hidden_layer_sizes=HIDDEN,
            numerical_embedding=None,
            dropout=0.0,
            augment=None,
            max_epochs=self.epochs,
            batch_size=64,
            dtype=self.dtype,
            random_state=0,
            **settings,
        )

    def naive(self) -> NaiveDistiller:
        """Return the same recipe written with skorch."""
        return NaiveDistiller(self.forest, hidden=HIDDEN, epochs=self.epochs, batch_size=64)

    def search(self, scoring: Any, *, refit: bool = True) -> DistilledClassifierCV:
        """Run our search over the whole grid."""
        search = DistilledClassifierCV(
            self.distilled(),
            temperatures=self.temperatures,
            alphas=self.alphas,
            cv=self.splits,
            scoring=scoring,
            refit=refit,
        )
        return search.fit(self.X, self.y)

    def grid(self, estimator: Any, scoring: Any, candidates: dict[str, Any]) -> GridSearchCV:
        """Run GridSearchCV over some candidates, without a refit."""
        search = GridSearchCV(
            estimator,
            candidates,
            cv=self.splits,
            scoring=scoring,
            refit=False,
            error_score="raise",
        )
        return search.fit(self.X, self.y)

    def whole_grid(self) -> dict[str, Any]:
        """Return the grid in the words of GridSearchCV."""
        return {"alpha": self.alphas, "temperature": self.temperatures}

    def one_candidate(self, seed: int) -> dict[str, Any]:
        """Return a grid of one candidate, another one in each process."""
        temperature, alpha = (v[seed % len(v)] for v in (self.temperatures, self.alphas))
        return {"alpha": [alpha], "temperature": [temperature]}


def _timed(call: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run_sweep(task: Task) -> dict[str, Any]:
    """Time our search whole, and of the others one candidate on all folds and the refit."""
    sweep = Sweep(task)
    # What is loaded lazily is loaded before the clock runs.
    _fit_ours(Lesson(sweep.X, sweep.y, soften(sweep.y, 2, 0), HIDDEN, 1, 64, 3.0, 0.7, 0))
    n = len(sweep.temperatures) * len(sweep.alphas)
    figures: dict[str, Any] = {"search": _timed(lambda: sweep.search("neg_log_loss"))}
    one = sweep.one_candidate(task["seed"])
    for name, estimator in (("grid", sweep.distilled()), ("naive", sweep.naive())):
        folds = _timed(partial(sweep.grid, estimator, "neg_log_loss", one))
        refit = _timed(partial(estimator.fit, sweep.X, sweep.y))
        figures[name] = {"one_candidate": folds, "refit": refit, "whole": n * folds + refit}
    figures["forest"] = _timed(
        lambda: [sweep.forest.fit(sweep.X[train], sweep.y[train]) for train, _ in sweep.splits]
    ) / len(sweep.splits)
    if task["check"]:
        figures["check"] = check_scores(task)
    return figures


def check_scores(task: Task) -> dict[str, Any]:
    """Compare our search with GridSearchCV over the same estimator: in float64, and in float32."""
    # Small enough to repeat without a teachers' memory: equal numbers need no large sample.
    most = {"sweep_rows": 450, "trees": 20, "epochs": 10}
    small = {**task, **{name: min(task[name], value) for name, value in most.items()}}
    sweep = Sweep(small, dtype="float64")
    ours = sweep.search("neg_log_loss", refit=False).cv_results_["mean_test_score"]
    theirs = sweep.grid(sweep.distilled(), "neg_log_loss", sweep.whole_grid()).cv_results_
    report: dict[str, Any] = {"float64": float(np.abs(ours - theirs["mean_test_score"]).max())}
    sweep, scorers = Sweep(task), (RowScorer(), RowScorer())
    sweep.search(scorers[0], refit=False)
    with tempfile.TemporaryDirectory() as folder:
        # The teachers' answers are kept, which changes the time and not the scores.
        start = time.perf_counter()
        sweep.grid(sweep.distilled(memory=folder), scorers[1], sweep.whole_grid())
        report["grid_with_memory_seconds"] = time.perf_counter() - start
    return report | _paired(scorers[0].rows, scorers[1].rows, len(sweep.splits))


def _paired(
    by_fold: list[np.ndarray], by_candidate: list[np.ndarray], n_folds: int
) -> dict[str, Any]:
    """Return how many candidates lie within one standard error of the paired difference."""
    n = len(by_candidate) // n_folds
    differences, errors = np.empty(n), np.empty(n)
    for c in range(n):
        ours = np.concatenate([by_fold[f * n + c] for f in range(n_folds)])
        theirs = np.concatenate([by_candidate[c * n_folds + f] for f in range(n_folds)])
        paired = ours - theirs
        differences[c], errors[c] = paired.mean(), paired.std(ddof=1) / np.sqrt(len(paired))
    # Below a millionth a difference is rounding, however small its standard error.
    within = np.abs(differences) <= np.maximum(errors, 1e-6)
    return {
        "candidates": n,
        "within_one_error": int(within.sum()),
        "largest_difference": float(np.abs(differences).max()),
        "largest_in_errors": float((np.abs(differences) / np.maximum(errors, 1e-6)).max()),
    }


def report_sweep(runs: list[dict[str, Any]], title: str) -> dict[str, Any]:
    """Print the times of the searches and whether their scores agree; return the figures."""
    grid = spread([run["grid"]["whole"] for run in runs])
    naive = spread([run["naive"]["whole"] for run in runs])
    summary: dict[str, Any] = {
        "search": spread([run["search"] for run in runs]),
        "grid": grid,
        "naive": naive,
        "forest": spread([run["forest"] for run in runs]),
        "grid_ratio": spread([run["grid"]["whole"] / run["search"] for run in runs]),
        "naive_ratio": spread([run["naive"]["whole"] / run["search"] for run in runs]),
        "checks": [run["check"] for run in runs if "check" in run],
    }
    print(f"\nsweep, {title}\n  {'':<44}{'seconds':>10}{'time / ours':>28}")
    print(f"  {'DistilledClassifierCV':<44}{summary['search']['median']:10.2f}")
    for name, seconds, ratio in (
        ("GridSearchCV over DistilledClassifier *", grid, summary["grid_ratio"]),
        ("GridSearchCV over skorch, teacher in fit *", naive, summary["naive_ratio"]),
    ):
        print(f"  {name:<44}{seconds['median']:10.2f}{words(ratio):>28}")
    print(f"  {'(one fit of the forest on a fold)':<44}{summary['forest']['median']:10.2f}")
    print("  * extrapolated: one candidate on all folds times the number of candidates, plus")
    print("    the refit. Ours ran whole, refit included.")
    for check in summary["checks"]:
        print(
            f"  scores against GridSearchCV: float64 differ by {check['float64']:.1e} at most; "
            f"float32: {check['within_one_error']} of {check['candidates']} within one paired "
            f"error, at most {check['largest_in_errors']:.2f} errors "
            f"({check['largest_difference']:.1e}); that grid, teachers' answers kept by memory=, "
            f"took {check['grid_with_memory_seconds']:.1f} s"
        )
    return summary


# --- scaling ---------------------------------------------------------------------------------


def _memory(field: str) -> float:
    """Return a figure of this process in MiB: VmRSS what it holds, VmHWM the most it held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def measured(call: Callable[[], Any]) -> dict[str, float | None]:
    """Return seconds, and the MiB held at most beyond what was held before (None: not Linux)."""
    try:
        before = _memory("VmRSS")
        # Writing 5 sets the mark of the most memory held back to what is held now.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return {"seconds": _timed(call), "mib": None}
    seconds = _timed(call)
    return {"seconds": seconds, "mib": _memory("VmHWM") - before}


def run_scaling(task: Task) -> dict[str, Any]:
    """Return time and memory of one point of a curve."""
    rng = np.random.default_rng(task["seed"])
    n, d, k = task["n_rows"], task["n_features"], task["n_classes"]
    X = rng.standard_normal((n, d), dtype=np.float32)
    y = (X[:, : min(d, 10)] @ rng.standard_normal((min(d, 10), k), dtype=np.float32)).argmax(axis=1)
    # Every class is there, however rare.
    y[:k] = np.arange(k)
    proba = soften(y, k, 0)
    student = DistilledClassifier(
        hidden_layer_sizes=HIDDEN,
        numerical_embedding=task["embedding"],
        dropout=0.0,
        augment=None,
        max_epochs=1,
        dtype="float32",
        random_state=0,
    )
    few = np.unique(np.r_[:200, np.unique(y, return_index=True)[1]])
    student.fit(X[few], y[few], teacher_proba=proba[few])
    student.predict_proba(X[:2])
    if task["curve"].startswith("candidates"):
        return {"sweep": _measured_sweep(student, X, y, proba, task["n_candidates"])}
    fit = measured(lambda: student.fit(X, y, teacher_proba=proba))
    return {"fit": fit, "predict": measured(lambda: student.predict_proba(X))}


def _measured_sweep(
    student: DistilledClassifier, X: np.ndarray, y: np.ndarray, proba: np.ndarray, n: int
) -> dict[str, float | None]:
    """Return time and memory of a search over n candidates."""
    search = DistilledClassifierCV(
        student, temperatures=np.linspace(1, 8, n).tolist(), alphas=[0.7], cv=3, refit=False
    )
    return measured(lambda: search.fit(X, y, teacher_proba=proba))


def scaling_tasks(quick: bool) -> list[Task]:
    """Return the points of all curves."""
    point = {"n_rows": 10_000, "n_features": 20, "n_classes": 2, "embedding": None}
    sizes: dict[str, tuple[str, list[int], Task]] = {
        "rows": ("n_rows", [1_000, 10_000, 100_000, 1_000_000], {}),
        "rows, embedding": (
            "n_rows",
            [1_000, 10_000, 100_000, 1_000_000],
            {"embedding": "piecewise_linear"},
        ),
        "features": ("n_features", [10, 30, 100, 300, 1_000], {}),
        "classes": ("n_classes", [2, 10, 30, 100], {}),
        "candidates": ("n_candidates", [1, 5, 25, 100], {}),
    }
    tasks = []
    for curve, (axis, values, other) in sizes.items():
        if quick and curve not in ("rows", "candidates"):
            continue
        for value in values[:2] if quick else values:
            tasks.append({**point, **other, axis: value, "curve": curve, "axis": axis})
    return tasks


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the exponent of y ~ x^a by least squares of logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def report_scaling(points: list[tuple[Task, list[dict[str, Any]]]], title: str) -> dict[str, Any]:
    """Print every curve with its slopes; return the figures."""
    summary: dict[str, Any] = {}
    print(f"\nscaling, {title}; MiB: the most held beyond what was held before the call")
    for curve in dict.fromkeys(task["curve"] for task, _ in points):
        of_curve = [(task[task["axis"]], runs) for task, runs in points if task["curve"] == curve]
        for verb in of_curve[0][1][0]:
            x = [value for value, _ in of_curve]
            seconds = [spread([r[verb]["seconds"] for r in runs]) for _, runs in of_curve]
            memory = [[r[verb]["mib"] for r in runs] for _, runs in of_curve]
            mib = [None if None in held else spread(held) for held in memory]
            medians = [s["median"] for s in seconds]
            slopes = {"slope": slope(x, medians), "last_slope": slope(x[-2:], medians[-2:])}
            summary[f"{verb}: {curve}"] = {"x": x, "seconds": seconds, "mib": mib, **slopes}
            print(f"  {verb} against {curve}")
            for value, s, m in zip(x, seconds, mib, strict=True):
                held = "" if m is None else f"{m['median']:10.1f} MiB"
                print(
                    f"    {value:>9}{s['median']:10.4f} s ({s['low']:.4f}..{s['high']:.4f}){held}"
                )
            print(
                f"    log-log slope {slopes['slope']:.2f}, between the last two points "
                f"{slopes['last_slope']:.2f}"
            )
    return summary


# --- processes -------------------------------------------------------------------------------


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the median, the lowest and the highest."""
    values = [float(v) for v in values]
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def words(ratio: dict[str, float]) -> str:
    """Return a ratio with its spread."""
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}..{ratio['high']:.2f})"


WORKERS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "predict": run_predict,
    "fit": run_fit,
    "sweep": run_sweep,
    "scaling": run_scaling,
}


def in_new_process(task: Task) -> dict[str, Any]:
    """Run a task in a fresh interpreter whose libraries start with the wanted threads."""
    environment = {**os.environ, **{name: str(task["threads"]) for name in THREAD_VARIABLES}}
    command = [sys.executable, __file__, "--worker", json.dumps(task)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(task: Task) -> None:
    """Run a task in this process and print its figures as the last line."""
    torch.set_num_threads(task["threads"])
    print(json.dumps(WORKERS[task["part"]](task)))


def repeat(task: Task, processes: int) -> list[dict[str, Any]]:
    """Run a task in several fresh processes, each with a seed of its own."""
    return [in_new_process({**task, "seed": seed}) for seed in range(processes)]


def task_of(part: str, quick: bool) -> Task:
    """Return what a part measures."""
    if part == "predict":
        rows = [1, 1_000] if quick else [1, 32, 1_000, 100_000]
        return {
            "rows": rows,
            "dtypes": ["float32"] if quick else ["float32", "float64"],
            "budget": QUICK_BUDGET if quick else 0.25,
            "fit_rows": 500 if quick else 4_000,
            "trees": 20 if quick else 300,
        }
    if part == "fit":
        return {"fit_rows": 500 if quick else 4_000, "epochs": 2 if quick else 50}
    return {
        "sweep_rows": 300 if quick else 4_000,
        "temperatures": [1.0, 2.0, 4.0, 8.0, 16.0],
        "alphas": [0.5, 1.0] if quick else [0.3, 0.5, 0.7, 0.9, 1.0],
        "folds": 3,
        "trees": 5 if quick else 300,
        "epochs": 2 if quick else 50,
    }


def run_part(part: str, threads: int, processes: int, quick: bool) -> dict[str, Any]:
    """Measure one part with so many threads, print its tables and return all figures."""
    title = f"{threads} thread{'s' if threads > 1 else ''}, {processes} processes"
    if part == "scaling":
        tasks = [{"part": part, "threads": threads, **task} for task in scaling_tasks(quick)]
        points = [(task, repeat(task, processes)) for task in tasks]
        raw = [{"task": task, "runs": runs} for task, runs in points]
        return {"summary": report_scaling(points, title), "raw": raw}
    task = {"part": part, "threads": threads, **task_of(part, quick)}
    if part == "sweep":
        # The scores are compared once: that run takes longer than all else.
        first = in_new_process({**task, "seed": 0, "check": True})
        others = [in_new_process({**task, "seed": s, "check": False}) for s in range(1, processes)]
        runs = [first, *others]
    else:
        runs = repeat(task, processes)
    reports = {"predict": report_predict, "fit": report_fit, "sweep": report_sweep}
    return {"summary": reports[part](runs, title), "raw": runs}


def environment() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    packages = ("skdistill", "numpy", "scikit-learn", "torch", "skorch", "onnxruntime", "onnx")
    return {
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": available_cpus(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in packages},
    }


def available_cpus() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    """Return a package's version, also where it runs from its source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "source tree"


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {list(WORKERS)}; default: all"
    )
    parser.add_argument("--processes", type=int, help="fresh processes a figure; default: 5")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=int,
        help="default: 1 and all for predict and fit, 1 for the rest",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: one process, tiny sizes")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--worker", metavar="TASK", help=argparse.SUPPRESS)
    return parser


def _threads_of(part: str, arguments: argparse.Namespace) -> list[int]:
    """Return the numbers of threads that a part is measured with."""
    if arguments.threads:
        return arguments.threads
    if arguments.quick or part in ("sweep", "scaling"):
        return [1]
    return sorted({1, available_cpus()})


def main() -> None:
    """Run the benchmark from the command line."""
    arguments = _parser().parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    parts = arguments.parts or list(WORKERS)
    if unknown := set(parts) - set(WORKERS):
        raise SystemExit(f"No part {sorted(unknown)}; there are {list(WORKERS)}.")
    processes = arguments.processes or (1 if arguments.quick else 5)
    report: dict[str, Any] = {"environment": environment()}
    print(json.dumps(report["environment"], indent=1), flush=True)
    for part in parts:
        for threads in _threads_of(part, arguments):
            figures = run_part(part, threads, processes, arguments.quick)
            report[f"{part}, threads={threads}"] = figures
            sys.stdout.flush()
            if arguments.json:
                Path(arguments.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
