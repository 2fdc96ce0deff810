"""What distillation offers beyond soft targets, each way beside the plain one it must beat.

    python benchmarks/beyond.py --data DIR --sets magic phoneme satimage --seeds 0 1 2 3 4

Parts: ``hints`` (hidden layers matched), ``assistants`` (students of students), ``born_again``
(students of their own size, repeated), ``multi`` (rules for the weights of several teachers),
``domains`` (unlabelled rows of another domain), ``smallest`` (the least network within a
tolerance). A seed is a split, its teachers and its students. Of the training rows ``--rows`` are
drawn, so that all parts take minutes; the network of ``hints`` learns from all. Differences are
those of a row from its reference on the same split; the interval is Student's, over the seeds, at
95 %. Cost is processor time of ``fit``, of all fits that a way needs; answers of teachers that a
fit finds remembered are not paid twice.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _data import DataSource, Split, add_data_arguments
from _peers import plain_inputs
from quality import environment
from scipy.stats import norm, t
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skdistill import DistilledClassifier, Hint, smallest_student
from skdistill.metrics import log_loss_by_row

FOLDS = 3
WIDTH = (32,)


@dataclass(frozen=True)
class Outcome:
    """What one row of a table came to on the test rows of one split."""

    log_loss: float
    accuracy: float
    cpu_seconds: float
    n_parameters: int | None = None


Rows = dict[str, Outcome]


# --- pieces ----------------------------------------------------------------------------------


def light_teachers(X: Any, seed: int) -> dict[str, Any]:
    """Return unfitted teachers that take about a second: boosted trees and a forest."""
    boosting = HistGradientBoostingClassifier(max_iter=60, min_samples_leaf=5, random_state=seed)
    forest = RandomForestClassifier(100, min_samples_leaf=2, random_state=seed)
    return {"boosting": _for_table(boosting, X), "forest": _for_table(forest, X)}


def _for_table(classifier: Any, X: Any) -> Any:
    """Return the classifier, behind one-hot categories where the rows are a mixed frame."""
    return make_pipeline(plain_inputs(), classifier) if isinstance(X, pd.DataFrame) else classifier


def fitted(teachers: dict[str, Any], X: Any, y: np.ndarray) -> list[Any]:
    """Return fitted clones."""
    return [clone(teacher).fit(X, y) for teacher in teachers.values()]


def cut(split: Split, n_rows: int) -> Split:
    """Return the split with at most so many training rows, classes in their shares."""
    if len(split.y_train) <= n_rows:
        return split
    rows, _ = train_test_split(
        np.arange(len(split.y_train)),
        train_size=n_rows,
        stratify=split.y_train,
        random_state=split.seed,
    )
    return replace(
        split,
        X_train=take(split.X_train, rows),
        y_train=split.y_train[rows],
        train_index=split.train_index[rows],
    )


def take(X: Any, rows: np.ndarray) -> Any:
    """Take rows of an array or a frame."""
    return X.iloc[rows].reset_index(drop=True) if isinstance(X, pd.DataFrame) else X[rows]


def distil(
    teachers: Any, X: Any, y: np.ndarray, extra: Any = None, **params: Any
) -> tuple[DistilledClassifier, float]:
    """Return a fitted student and the processor time of its fit."""
    start = time.process_time()
    student = DistilledClassifier(teachers, **params).fit(X, y, X_unlabeled=extra)
    return student, time.process_time() - start


def score(classes: np.ndarray, proba: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return log-loss and accuracy."""
    return {
        "log_loss": float(log_loss_by_row(y, proba, labels=classes).mean()),
        "accuracy": float(np.mean(classes[proba.argmax(axis=1)] == y)),
    }


def outcome(model: DistilledClassifier, cpu_seconds: float, X: Any, y: np.ndarray) -> Outcome:
    """Test a student."""
    scores = score(model.classes_, model.predict_proba(X), y)
    return Outcome(**scores, cpu_seconds=cpu_seconds, n_parameters=model.student_.n_parameters_)


def outcome_of_teachers(teachers: Sequence[Any], X: Any, y: np.ndarray) -> Outcome:
    """Test the mean of teachers."""
    proba = np.mean([teacher.predict_proba(X) for teacher in teachers], axis=0)
    return Outcome(**score(teachers[0].classes_, proba, y), cpu_seconds=0.0)


def network_teacher(X: Any, seed: int) -> Any:
    """Return an unfitted network of two hidden layers, the last as wide as the students' own."""
    net = MLPClassifier((64, *WIDTH), early_stopping=True, max_iter=200, random_state=seed)
    return make_pipeline(plain_inputs() if isinstance(X, pd.DataFrame) else StandardScaler(), net)


# --- parts -----------------------------------------------------------------------------------


_LAST = {"layer": -1, "student_layer": -1}
NETWORK_HINTS = {
    "mse, weight 0.1": Hint(**_LAST, kind="mse", weight=0.1),
    "mse": Hint(**_LAST, kind="mse"),
    "mse of the wider layer": Hint(layer=0, student_layer=-1, kind="mse"),
    "cosine": Hint(**_LAST, kind="cosine"),
    "attention": Hint(**_LAST, kind="attention"),
    "relation": Hint(**_LAST, kind="relation"),
}
FOREST_HINTS = {
    "relation, weight 0.1": Hint(kind="relation", weight=0.1),
    "relation": Hint(kind="relation"),
}


def hints(split: Split, n_rows: int) -> Rows:
    """Let the student match a layer of a network, or the leaves of a forest.

    The network has learned from all training rows, as one that is worth matching would have.
    """
    few, seed = cut(split, n_rows), split.seed
    X, y = few.X_train, few.y_train
    test = split.X_test, split.y_test
    network = network_teacher(split.X_train, seed).fit(split.X_train, split.y_train)
    forest = light_teachers(X, seed)["forest"].fit(X, y)
    faculties = {"network": (network, NETWORK_HINTS), "forest": (forest, FOREST_HINTS)}
    rows = {}
    for who, (teacher, asked) in faculties.items():
        teachers = [teacher]
        rows[f"{who} itself"] = outcome_of_teachers(teachers, *test)
        for name, hint in {"no hint": None, **asked}.items():
            student, seconds = distil(
                teachers,
                X,
                y,
                hints=None if hint is None else [hint],
                hidden_layer_sizes=WIDTH,
                random_state=seed,
            )
            rows[f"{who}, {name}"] = outcome(student, seconds, *test)
    return rows


def assistants(split: Split) -> Rows:
    """Teach small students directly, over one assistant, over two, and by teachers and one."""
    X, y, seed = split.X_train, split.y_train, split.seed
    test = split.X_test, split.y_test
    teachers = fitted(light_teachers(X, seed), X, y)
    # Generations with one seed would start from the same weights and see the same rows.
    large, t_large = distil(teachers, X, y, random_state=seed + 1000)
    middle, t_middle = distil([large], X, y, hidden_layer_sizes=WIDTH, random_state=seed + 2000)
    rows = {
        "teachers": outcome_of_teachers(teachers, *test),
        "the assistant itself": outcome(large, t_large, *test),
    }
    ways = {
        "direct": (teachers, 0.0),
        "one assistant": ([large], t_large),
        "two assistants": ([middle], t_large + t_middle),
        "teachers and assistant": ([*teachers, large], t_large),
    }
    for width in (4, 16):
        for name, (who, before) in ways.items():
            student, seconds = distil(who, X, y, hidden_layer_sizes=(width,), random_state=seed)
            rows[f"{name}, {width} units"] = outcome(student, before + seconds, *test)
    return rows


def born_again(split: Split) -> Rows:
    """Teach three generations of one size, from teachers and from labels alone."""
    X, y, seed = split.X_train, split.y_train, split.seed
    test = split.X_test, split.y_test
    teachers = fitted(light_teachers(X, seed), X, y)
    rows = {"teachers": outcome_of_teachers(teachers, *test)}
    shape = {"hidden_layer_sizes": WIDTH}
    starts = {
        "from teachers": distil(teachers, X, y, random_state=seed, **shape),
        "from labels": distil(
            teachers, X, y, alpha=0, early_stopping=True, random_state=seed, **shape
        ),
    }
    for name, (student, seconds) in starts.items():
        rows[f"{name}, first"] = outcome(student, seconds, *test)
        for generation in (1, 2, 3):
            student, more = distil([student], X, y, random_state=seed + 1000 * generation, **shape)
            seconds += more
            rows[f"{name}, again {generation}"] = outcome(student, seconds, *test)
    return rows


def multi(split: Split) -> Rows:
    """Weigh three cross-fitted teachers, of which one is weak, and keep only the best one."""
    X, y, seed = split.X_train, split.y_train, split.seed
    test = split.X_test, split.y_test
    weak = make_pipeline(
        plain_inputs() if isinstance(X, pd.DataFrame) else StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    teachers = {**light_teachers(X, seed), "linear": weak}
    rows = {
        f"teacher: {name}": outcome_of_teachers(fitted({name: teacher}, X, y), *test)
        for name, teacher in teachers.items()
    }
    losses = []
    for teacher in teachers.values():
        proba = cross_val_predict(teacher, X, y, cv=FOLDS, method="predict_proba")
        losses.append(log_loss_by_row(y, proba, labels=np.unique(y)).mean())
    rules = {
        "equal": None,
        "validation": "validation",
        "confidence": "confidence",
        "best single": np.eye(len(teachers))[np.argmin(losses)],
    }
    with tempfile.TemporaryDirectory() as memory:
        params: dict[str, Any] = {"cv": FOLDS, "memory": memory, "hidden_layer_sizes": WIDTH}
        params["random_state"] = seed
        # The fold teachers are the same for all rules: they are fitted here, once.
        distil(list(teachers.items()), X, y, max_epochs=1, **params)
        for name, rule in rules.items():
            student, seconds = distil(list(teachers.items()), X, y, teacher_weights=rule, **params)
            rows[name] = outcome(student, seconds, *test)
    return rows


def domains(split: Split, n_rows: int) -> Rows:
    """Serve a shifted domain with labels from the other, and unlabelled rows of either.

    The domains are the lower and the upper half along the first principal component, with noise:
    they overlap.
    """
    source, target = _two_domains(split.X_train, split.seed)
    _, tested = _two_domains(split.X_test, split.seed, like=split.X_train)
    labelled, spare = source[::2][:n_rows], source[1::2][:n_rows]
    known, new = target[::2][:n_rows], target[1::2][:n_rows]
    X, y = take(split.X_train, labelled), split.y_train[labelled]
    test = take(split.X_test, tested), split.y_test[tested]
    wide = np.concatenate([labelled, known])
    faculties = {
        "teachers of the source": fitted(light_teachers(X, split.seed), X, y),
        "teachers of both": fitted(
            light_teachers(X, split.seed), take(split.X_train, wide), split.y_train[wide]
        ),
    }
    extras = {"no more rows": None, "source rows": spare, "target rows": new}
    rows = {}
    for who, teachers in faculties.items():
        rows[f"{who}: themselves"] = outcome_of_teachers(teachers, *test)
        for name, extra in extras.items():
            more = None if extra is None else take(split.X_train, extra)
            student, seconds = distil(
                teachers, X, y, more, hidden_layer_sizes=WIDTH, random_state=split.seed
            )
            rows[f"{who}: {name}"] = outcome(student, seconds, *test)
    return rows


def _two_domains(X: Any, seed: int, like: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the source and of the target, in random order."""
    rng = np.random.default_rng(seed + (like is not None))
    axis = make_pipeline(plain_inputs(), PCA(1, random_state=0), StandardScaler())
    axis.fit(pd.DataFrame(X if like is None else like))
    place = axis.transform(pd.DataFrame(X)).ravel()
    upper = rng.random(len(place)) < norm.cdf(place / 0.5)
    order = rng.permutation(len(place))
    return order[~upper[order]], order[upper[order]]


def smallest(split: Split) -> Rows:
    """Search the least network, and test the choices of several tolerances."""
    X, y, seed = split.X_train, split.y_train, split.seed
    teachers = list(light_teachers(X, seed).items())
    estimator = DistilledClassifier(teachers, cv=FOLDS, random_state=seed)
    start = time.process_time()
    curve = smallest_student(estimator, X, y, tolerance=0.01, cv=FOLDS)
    searched = time.process_time() - start
    choices = {"best": 0.0, "within one error": "1se", "within 0.01": 0.01, "within 0.03": 0.03}
    rows, students = {}, {curve.hidden_layer_sizes: (curve.estimator, 0.0)}
    for name, tolerance in {"auto": None, **choices}.items():
        sizes = "auto" if tolerance is None else curve.within(tolerance)
        if sizes not in students:
            shape = {"cv": FOLDS, "hidden_layer_sizes": sizes, "random_state": seed}
            students[sizes] = distil(teachers, X, y, **shape)
        student, _ = students[sizes]
        seconds = 0.0 if tolerance is None else searched
        rows[name] = outcome(student, seconds, split.X_test, split.y_test)
    return rows


# --- tables ----------------------------------------------------------------------------------

_FACULTIES = ("teachers of the source", "teachers of both")
# For each part the pairs (row, reference) whose difference answers its question.
PAIRS: dict[str, list[tuple[str, str]]] = {
    "hints": [
        (f"{who}, {name}", f"{who}, no hint")
        for who, asked in (("network", NETWORK_HINTS), ("forest", FOREST_HINTS))
        for name in asked
    ],
    "assistants": [
        (f"{way}, {width} units", f"direct, {width} units")
        for width in (4, 16)
        for way in ("one assistant", "two assistants", "teachers and assistant")
    ],
    "born_again": [
        (f"{start}, again {generation}", f"{start}, first")
        for start in ("from teachers", "from labels")
        for generation in (1, 2, 3)
    ],
    "multi": [
        *[(rule, "equal") for rule in ("validation", "confidence", "best single")],
        *[(rule, "best single") for rule in ("validation", "confidence")],
    ],
    "domains": [
        pair
        for who in _FACULTIES
        for pair in (
            (f"{who}: source rows", f"{who}: no more rows"),
            (f"{who}: target rows", f"{who}: no more rows"),
            (f"{who}: target rows", f"{who}: source rows"),
        )
    ],
    "smallest": [
        (choice, "best") for choice in ("within one error", "within 0.01", "within 0.03", "auto")
    ],
}


def difference(rows: Sequence[Rows], pair: tuple[str, str], metric: str) -> dict[str, float]:
    """Return the mean difference over seeds and the half-width of its 95 % interval."""
    values = np.array([getattr(r[pair[0]], metric) - getattr(r[pair[1]], metric) for r in rows])
    n = len(values)
    half = float("nan")
    if n > 1:
        half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return {"mean": float(values.mean()), "half": half}


def summarise(part: str, rows: Sequence[Rows]) -> dict[str, Any]:
    """Return the means of all rows of one set, and the differences of all pairs."""
    means = {
        row: {
            metric: float(np.mean([getattr(r[row], metric) for r in rows]))
            for metric in ("log_loss", "accuracy", "cpu_seconds")
        }
        | {"n_parameters": _mean_size([r[row].n_parameters for r in rows])}
        for row in rows[0]
    }
    differences = {
        f"{row} - {reference}": {
            metric: difference(rows, (row, reference), metric)
            for metric in ("log_loss", "accuracy")
        }
        for row, reference in PAIRS[part]
    }
    return {"rows": means, "differences": differences}


def _mean_size(sizes: Sequence[int | None]) -> float | None:
    """Return the mean number of parameters; None for teachers."""
    known = [size for size in sizes if size is not None]
    return float(np.mean(known)) if known else None


def verdict(summary: dict[str, Any], pair: str) -> dict[str, Any]:
    """Return on how many sets a difference in log-loss is shown either way, and its mean."""
    parts = [one["differences"][pair]["log_loss"] for one in summary.values()]
    return {
        "better": sum(p["mean"] + p["half"] < 0 for p in parts),
        "worse": sum(p["mean"] - p["half"] > 0 for p in parts),
        "mean": float(np.mean([p["mean"] for p in parts])),
    }


def print_set(name: str, one: dict[str, Any]) -> None:
    """Print the tables of one set."""
    print(f"\n{name}\n  {'':40}{'log-loss':>9}{'accuracy':>10}{'fit s':>8}{'params':>9}")
    for row, mean in one["rows"].items():
        size = "" if mean["n_parameters"] is None else f"{mean['n_parameters']:,.0f}"
        print(
            f"  {row:40}{mean['log_loss']:9.4f}{mean['accuracy']:10.4f}"
            f"{mean['cpu_seconds']:8.1f}{size:>9}"
        )
    for pair, parts in one["differences"].items():
        print(f"  {pair:74}{_signed(parts['log_loss'])}   accuracy {_signed(parts['accuracy'])}")
    print(flush=True)


def print_verdicts(summary: dict[str, Any], seconds: float) -> None:
    """Print what holds over the sets."""
    print(f"log-loss over {len(summary)} sets: on how many less / more is shown, mean")
    for pair in next(iter(summary.values()))["differences"]:
        found = verdict(summary, pair)
        print(f"  {pair:74}{found['better']} / {found['worse']}   {found['mean']:+.4f}")
    print(f"{seconds:.0f} s of processor time", flush=True)


def _signed(part: dict[str, float]) -> str:
    """Return a difference with its interval."""
    return f"{part['mean']:+.4f} +- {part['half']:.4f}"


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_arguments(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--part", nargs="+", choices=sorted(PAIRS), default=list(PAIRS))
    parser.add_argument("--rows", type=int, default=1000, help="training rows of a set at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    return parser


def main() -> None:
    """Run the parts from the command line."""
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    source = DataSource.from_arguments(arguments)
    parts: dict[str, Callable[[Split], Rows]] = {
        "hints": lambda split: hints(split, arguments.rows),
        "assistants": lambda split: assistants(cut(split, arguments.rows)),
        "born_again": lambda split: born_again(cut(split, arguments.rows)),
        "multi": lambda split: multi(cut(split, arguments.rows)),
        "domains": lambda split: domains(split, arguments.rows),
        "smallest": lambda split: smallest(cut(split, arguments.rows)),
    }
    report: dict[str, Any] = {**environment(arguments.threads), "rows": arguments.rows}
    with threadpool_limits(arguments.threads), warnings.catch_warnings():
        # Weak teachers are part of the question here; what they do to students is in the table.
        warnings.filterwarnings("ignore", "The teachers are worse than a plain student")
        for part in arguments.part:
            print(f"\n=== {part}")
            start, summary, runs = time.process_time(), {}, {}
            for name in source.names:
                rows = [parts[part](source.split(name, seed)) for seed in arguments.seeds]
                summary[name] = summarise(part, rows)
                print_set(name, summary[name])
                runs[name] = [{row: asdict(o) for row, o in r.items()} for r in rows]
                report[part] = {"summary": summary, "runs": runs}
                if arguments.json:
                    Path(arguments.json).write_text(json.dumps(report, indent=1))
            print_verdicts(summary, time.process_time() - start)


if __name__ == "__main__":
    main()
