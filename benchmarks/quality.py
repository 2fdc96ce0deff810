"""How much of the gap between a plain small network and its teachers a distilled student closes.

    python benchmarks/quality.py --data DIR --seeds 0 1 2 --json quality.json
    python benchmarks/quality.py --bundled --teachers mlps --sets reference --seeds 0 1 2 3 4

Every set and seed gives these rows: the ensemble; the plain student, which is the student's own
network trained by skdistill on labels alone and a plain-torch network of the same hidden layers,
both early-stopped, of which the better one counts, for each metric by itself; the classic recipe;
and one row for each configuration. A standard error is one of paired differences over test rows;
a row that several seeds tested is one observation. Shares of a gap are given where it exceeds two
of them. Times stand beside the classic recipe's as ratios of processor time, which other work on
the machine disturbs less than the clock; the teachers' share of `fit` is left out.
"""

import argparse
import copy
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from _data import DataSource, Split, add_data_arguments
from _peers import KINDS, Taught, classic_recipe, default_cache, dump_whole, fair_plain, taught
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from skdistill import DistilledClassifier
from skdistill.metrics import log_loss_by_row, paired_difference

REFERENCE_HIDDEN = (64, 32)


def network_within(n_parameters: int, n_bins: int) -> Callable[[Any], dict[str, Any]]:
    """Return a rule that picks hidden layers (2h, h) with about so many parameters."""

    def rule(X: Any) -> dict[str, Any]:
        width = sum(
            min(n_bins, X_j.nunique()) if pd.api.types.is_numeric_dtype(X_j) else X_j.nunique()
            for _, X_j in pd.DataFrame(X).items()
        )
        # width·2h + 2h·h + h·k, k small: the positive root of 2h² + (2·width + 8)h = n.
        half = width + 4
        h = int((np.sqrt(half**2 + 2 * n_parameters) - half) / 2)
        return {"hidden_layer_sizes": (max(2 * h, 4), max(h, 2)), "n_bins": n_bins}

    return rule


# A configuration is a dict of DistilledClassifier's parameters, or a function of the training rows
# that returns one.
CONFIGS: dict[str, dict[str, Any] | Callable[[Any], dict[str, Any]]] = {
    "defaults": {},
    "10k parameters": network_within(10_000, n_bins=8),
    "64-32": {"hidden_layer_sizes": REFERENCE_HIDDEN},
}

# --- one student -----------------------------------------------------------------------------


class Stopwatch:
    """Seconds spent in the teachers, calls inside calls counted once."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._depth = 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time added to this stopwatch."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.perf_counter(), time.process_time()
            self._depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - start
                    self.cpu_seconds += time.process_time() - cpu

        return call

    def watch(self, teacher: Any) -> Any:
        """Return a shallow copy of a teacher that is timed, and so are its clones."""
        kind = type(teacher)
        names = [n for n in ("fit", "predict_proba", "logits", "forward") if hasattr(teacher, n)]
        methods = {name: self.timed(_method(kind, name)) for name in names}
        timed = copy.copy(teacher)
        # A subclass of the same name, since instance attributes would be lost in a clone.
        timed.__class__ = type(kind.__name__, (kind,), methods)
        return timed


def _method(kind: type, name: str) -> Callable[..., Any]:
    """Return a function that calls the class's own method, conditional ones too."""

    @wraps(getattr(kind, name))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(type(self), self), name)(*args, **kwargs)

    return method


def run_one(
    X_train: Any,
    y_train: np.ndarray,
    X_test: Any,
    y_test: np.ndarray,
    teachers: Sequence[Any],
    config: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Distil one student and test it.

    Parameters
    ----------
    X_train, y_train, X_test, y_test
        Raw rows and labels.
    teachers : list
        Fitted teachers.
    config : dict
        Parameters of DistilledClassifier; ``random_state`` is `seed` unless given.
    seed : int
        The student's seed.

    Returns
    -------
    dict
        ``proba`` (n_test, k), ``seconds`` and ``cpu_seconds`` of `fit` without the teachers' work,
        which took ``teacher_seconds``, ``n_parameters``, ``n_iter``, ``accuracy``, ``log_loss``,
        ``warnings``.
    """
    watch = Stopwatch()
    watched = [watch.watch(teacher) for teacher in teachers]
    student = DistilledClassifier(watched, **{"random_state": seed, **config})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start, cpu = time.perf_counter(), time.process_time()
        student.fit(X_train, y_train)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    proba = student.predict_proba(X_test)
    return {
        "proba": proba,
        "seconds": seconds - watch.seconds,
        "cpu_seconds": cpu_seconds - watch.cpu_seconds,
        "teacher_seconds": watch.seconds,
        "n_parameters": student.student_.n_parameters_,
        "n_iter": student.n_iter_,
        "accuracy": float(np.mean(student.classes_[proba.argmax(axis=1)] == y_test)),
        "log_loss": float(log_loss_by_row(y_test, proba, labels=student.classes_).mean()),
        "warnings": sorted({str(one.message) for one in caught}),
    }


# --- all rows of one set and seed --------------------------------------------------------------


@dataclass
class Answer:
    """What one row of the table answered on the test rows of one split, and what it cost."""

    proba: np.ndarray
    seconds: float
    cpu_seconds: float = 0.0
    n_parameters: int | None = None
    teacher_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


@dataclass
class Job:
    """The answers of one set and seed; for each configuration the names of its plain rows."""

    split: Split
    classes: np.ndarray
    answers: dict[str, Answer]
    configs: dict[str, dict[str, Any]]
    plain_rows: dict[str, list[str]]


def _student(split: Split, teachers: Sequence[Any], config: dict[str, Any]) -> Answer:
    """Return the answer of a skdistill student."""
    rows = (split.X_train, split.y_train, split.X_test, split.y_test)
    result = run_one(*rows, teachers, config, split.seed)
    names = ("proba", "seconds", "cpu_seconds", "n_parameters", "teacher_seconds", "warnings")
    return Answer(**{name: result[name] for name in names})


class Peers:
    """The plain-torch rows of one split, kept beside the teachers."""

    def __init__(self, split: Split, lesson: Taught, *, fresh: bool) -> None:
        self.split, self.lesson, self.fresh = split, lesson, fresh
        self._path = Path(lesson.path).with_suffix(f".seed{split.seed}.peers")

    def _kept(self, name: str, train: Callable[[], Any]) -> Answer:
        """Return a stored answer, or train and store it."""
        token = joblib.hash((self.lesson.proba_train, self.split.y_train, self.split.test_index))
        path = self._path.with_name(f"{self._path.name}.{name}.{token[:8]}.joblib")
        if path.exists() and not self.fresh:
            return joblib.load(path)
        result = train()
        answer = Answer(result.proba, result.seconds, result.cpu_seconds, result.n_parameters)
        dump_whole(answer, path)
        return answer

    def classic(self) -> Answer:
        """Return the classic recipe's answer."""
        s = self.split
        return self._kept(
            "classic",
            lambda: classic_recipe(
                s.X_train, s.y_train, self.lesson.proba_train, s.X_test, seed=s.seed
            ),
        )

    def plain(self, hidden: tuple[int, ...]) -> Answer:
        """Return the answer of an early-stopped network on labels alone."""
        s = self.split
        return self._kept(
            "plain" + "-".join(map(str, hidden)),
            lambda: fair_plain(s.X_train, s.y_train, s.X_test, hidden=hidden, seed=s.seed),
        )


def _hidden(config: dict[str, Any]) -> tuple[int, ...]:
    """Return a configuration's hidden layers, the reference's where it names none."""
    sizes = DistilledClassifier(**config).get_params(deep=False)["hidden_layer_sizes"]
    named = isinstance(sizes, Sequence) and not isinstance(sizes, str)
    return tuple(sizes) if named else REFERENCE_HIDDEN


# What a plain student shares with a distilled one: the network and what it sees. Its epochs are so
# many that early stopping ends it, so that a short configuration gets no weak baseline.
_PLAIN = {"alpha": 0.0, "early_stopping": True, "max_epochs": 200}
_SHAPE = (
    "hidden_layer_sizes",
    "activation",
    "dropout",
    "numerical_embedding",
    "n_bins",
    "student_module",
    "preprocessor",
)


def run_job(split: Split, lesson: Taught, names: Iterable[str], *, fresh: bool) -> Job:
    """Train every row of one set and seed."""
    teachers, peers = lesson.teachers(), Peers(split, lesson, fresh=fresh)
    answers = {
        "ensemble": Answer(lesson.proba_test, lesson.fit_seconds),
        "classic recipe": peers.classic(),
        _torch_row(REFERENCE_HIDDEN): peers.plain(REFERENCE_HIDDEN),
    }
    configs, plain_rows, plain_by_shape = {}, {}, {}
    for name in names:
        rule = CONFIGS[name]
        config = rule(split.X_train) if callable(rule) else dict(rule)
        answers[name] = _student(split, teachers, config)
        own = {word: config[word] for word in _SHAPE if word in config}
        shape = repr(DistilledClassifier(**own))
        if shape not in plain_by_shape:
            plain_by_shape[shape] = f"plain ({name})"
            answers[f"plain ({name})"] = _student(split, teachers, {**own, **_PLAIN})
        hidden = _hidden(config)
        answers.setdefault(_torch_row(hidden), peers.plain(hidden))
        configs[name], plain_rows[name] = config, [plain_by_shape[shape], _torch_row(hidden)]
    plain_rows["classic recipe"] = [_torch_row(REFERENCE_HIDDEN)]
    return Job(split, lesson.classes, answers, configs, plain_rows)


def _torch_row(hidden: Sequence[int]) -> str:
    """Return the name of a plain-torch row; sizes that follow the set share one name."""
    return f"plain torch {'-'.join(map(str, hidden))}"


# --- statistics ------------------------------------------------------------------------------


def _auc_by_row(codes: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Return one value a row whose mean is the one-against-rest AUC (DeLong's components)."""
    n, k = proba.shape
    columns = range(1, 2) if k == 2 else range(k)
    total = np.zeros(n)
    for column in columns:
        positive, score = codes == column, proba[:, column]
        ranks, value = rankdata(score), np.zeros(n)
        for side in (positive, ~positive):
            value[side] = (ranks[side] - rankdata(score[side])) / (n - side.sum())
        value[~positive] = 1 - value[~positive]
        auc = value[positive].mean()
        for side in (positive, ~positive):
            total[side] += auc + (value[side] - auc) * n / side.sum()
    return total / len(columns)


def _score_rows(metric: str, classes: np.ndarray, y: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Return one value a row, larger is better, whose mean is the metric."""
    proba = np.asarray(proba, dtype=np.float64)
    if metric == "log_loss":
        return -log_loss_by_row(y, proba, labels=classes)
    codes = np.searchsorted(classes, y)
    if metric == "accuracy":
        return (proba.argmax(axis=1) == codes).astype(np.float64)
    return _auc_by_row(codes, proba)


METRICS = ("log_loss", "roc_auc", "accuracy")


def over_seeds(jobs: Sequence[Job], metric: str, row: str) -> np.ndarray:
    """Return a row's values on the test rows of all seeds."""
    return np.concatenate(
        [_score_rows(metric, job.classes, job.split.y_test, job.answers[row].proba) for job in jobs]
    )


def _plain_over_seeds(jobs: Sequence[Job], metric: str, config: str) -> np.ndarray:
    """Return the values of the better plain row of a configuration."""
    candidates = [
        np.concatenate(
            [
                _score_rows(
                    metric, j.classes, j.split.y_test, j.answers[j.plain_rows[config][i]].proba
                )
                for j in jobs
            ]
        )
        for i in range(len(jobs[0].plain_rows[config]))
    ]
    return max(candidates, key=np.mean)


def compare(jobs: Sequence[Job], config: str, metric: str) -> dict[str, float | bool | None]:
    """Compare a configuration with its plain student and the ensemble on one set.

    Differences are oriented so that more is better.
    """
    groups = np.concatenate([job.split.test_index for job in jobs])
    student, ensemble = (over_seeds(jobs, metric, row) for row in (config, "ensemble"))
    plain = _plain_over_seeds(jobs, metric, config)
    gap, gap_error = paired_difference(ensemble, plain, groups=groups)
    gain, gain_error = paired_difference(student, plain, groups=groups)
    over, over_error = paired_difference(student, ensemble, groups=groups)
    shown = gap > 2 * gap_error
    return {
        "plain": float(plain.mean()),
        "gap": gap,
        "gap_error": gap_error,
        "gain": gain,
        "gain_error": gain_error,
        "over_ensemble": over,
        "over_ensemble_error": over_error,
        "gap_shown": shown,
        "share": gain / gap if shown else None,
    }


def summarise(results: dict[str, dict[str, Any]], config: str, metric: str) -> dict[str, Any]:
    """Return medians, pooled shares, wins and losses of one configuration over the sets."""
    rows = {name: result["comparisons"][config][metric] for name, result in results.items()}
    shown = [row for row in rows.values() if row["gap_shown"]]
    shares = [row["share"] for row in shown]
    gaps = sum(row["gap"] for row in shown)
    gains_of_all, gaps_of_all = (
        sum(row[part] for row in rows.values()) for part in ("gain", "gap")
    )
    return {
        "sets_with_gap": len(shown),
        "median_share": float(np.median(shares)) if shown else None,
        "lowest_share": min(shares) if shown else None,
        "pooled_share": sum(row["gain"] for row in shown) / gaps if shown else None,
        "pooled_share_of_all_sets": gains_of_all / gaps_of_all if gaps_of_all > 0 else None,
        "wins": [name for name, row in rows.items() if row["gain"] > row["gain_error"]],
        "losses": [name for name, row in rows.items() if row["gain"] < -row["gain_error"]],
        "at_or_above_ensemble": [name for name, row in rows.items() if row["over_ensemble"] >= 0],
        "within_noise_of_ensemble": [
            name
            for name, row in rows.items()
            if row["over_ensemble"] >= -2 * row["over_ensemble_error"]
        ],
    }


def _costs(results: dict[str, dict[str, Any]], config: str) -> dict[str, Any]:
    """Return parameters and fit time against the classic recipe over the sets."""
    rows = [result["rows"] for result in results.values()]
    ratios = [row[config]["cpu_seconds"] / row["classic recipe"]["cpu_seconds"] for row in rows]
    return {
        "median_time_ratio": float(np.median(ratios)),
        "largest_time_ratio": max(ratios),
        "largest_n_parameters": max(row[config]["n_parameters"] for row in rows),
    }


def summarise_set(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return means over seeds for every row of one set, and all comparisons."""
    rows = {}
    for row in jobs[0].answers:
        if not all(row in job.answers for job in jobs):
            continue
        answers = [job.answers[row] for job in jobs]
        scores = {metric: float(over_seeds(jobs, metric, row).mean()) for metric in METRICS}
        rows[row] = {
            **scores,
            "log_loss": -scores["log_loss"],
            "n_parameters": answers[0].n_parameters,
            "seconds": float(np.mean([answer.seconds for answer in answers])),
            "cpu_seconds": float(np.mean([answer.cpu_seconds for answer in answers])),
            "teacher_seconds": float(np.mean([answer.teacher_seconds for answer in answers])),
            "warnings": sorted({text for answer in answers for text in answer.warnings}),
        }
    compared = ["classic recipe", *jobs[0].configs]
    return {
        "rows": rows,
        "configs": {name: repr(config) for name, config in jobs[0].configs.items()},
        "comparisons": {
            name: {metric: compare(jobs, name, metric) for metric in METRICS} for name in compared
        },
    }


# --- report ----------------------------------------------------------------------------------


def _share(value: float | None) -> str:
    """Return a share in per cent."""
    return "-" if value is None else f"{100 * value:.0f}"


def print_set(name: str, result: dict[str, Any]) -> None:
    """Print the rows of one set."""
    print(f"\n{name}")
    print(
        f"  {'row':<28}{'accuracy':>9}{'log-loss':>10}{'AUC':>8}{'params':>9}{'fit s':>8}"
        f"{'x classic':>10}  share %: log-loss/AUC/accuracy"
    )
    classic = result["rows"]["classic recipe"]["cpu_seconds"]
    for row, value in result["rows"].items():
        shares = ""
        if row in result["comparisons"]:
            compared = result["comparisons"][row]
            shares = " / ".join(_share(compared[metric]["share"]) for metric in METRICS)
        ratio = "" if row == "ensemble" else f"{value['cpu_seconds'] / classic:.2f}"
        print(
            f"  {row:<28}{value['accuracy']:>9.4f}{value['log_loss']:>10.4f}"
            f"{value['roc_auc']:>8.4f}{value['n_parameters'] or '':>9}{value['seconds']:>8.2f}"
            f"{ratio:>10}  {shares}",
            flush=True,
        )


def print_summary(summary: dict[str, Any], n_sets: int) -> None:
    """Print the figures over all sets."""
    print(f"\nOver {n_sets} sets (shares in % of the gap plain student -> ensemble)")
    for config, parts in summary.items():
        cost = parts["cost"]
        print(
            f"{config}: fit time x classic median {cost['median_time_ratio']:.2f}, largest "
            f"{cost['largest_time_ratio']:.2f}; at most {cost['largest_n_parameters']} parameters"
        )
        for metric in METRICS:
            part = parts[metric]
            print(
                f"  {metric:<9} median {_share(part['median_share']):>4}  pooled "
                f"{_share(part['pooled_share']):>4} (all sets "
                f"{_share(part['pooled_share_of_all_sets'])})  "
                f"lowest {_share(part['lowest_share']):>4}  "
                f"on {part['sets_with_gap']} sets with a gap; wins {len(part['wins'])}, losses "
                f"{len(part['losses'])} {part['losses'] or ''}, at or above the ensemble "
                f"{len(part['at_or_above_ensemble'])}, within two errors of it "
                f"{len(part['within_noise_of_ensemble'])}"
            )


def environment(threads: int) -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    packages = ("skdistill", "scikit-learn", "torch", "skorch", "numpy", "scipy", "pandas")
    return {
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": threads,
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    """Return a package's version, also where it runs from its source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "source tree"


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_data_arguments(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--teachers", choices=sorted(KINDS), default="trees")
    parser.add_argument("--configs", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument(
        "--try",
        dest="extra",
        metavar="JSON",
        help='more configurations, \'{"name": {"alpha": 0.5}}\'',
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", metavar="DIR", default=str(default_cache()))
    parser.add_argument(
        "--fresh", action="store_true", help="time the plain-torch students again, not from cache"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    return parser


def _chosen_configs(arguments: argparse.Namespace) -> list[str]:
    """Return the configurations to run, those of the command line added to the table."""
    extra = json.loads(arguments.extra) if arguments.extra else {}
    CONFIGS.update(extra)
    names = arguments.configs or list(CONFIGS)
    unknown = set(names) - set(CONFIGS)
    if unknown:
        raise SystemExit(f"No configuration {sorted(unknown)}; there are {list(CONFIGS)}.")
    return names


def main() -> None:
    """Run the benchmark from the command line."""
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    source, names = DataSource.from_arguments(arguments), _chosen_configs(arguments)
    results = {}
    with threadpool_limits(arguments.threads):
        for name in source.names:
            jobs = []
            for seed in arguments.seeds:
                split = source.split(name, seed)
                lesson = taught(split, arguments.teachers, arguments.cache)
                jobs.append(run_job(split, lesson, names, fresh=arguments.fresh))
            results[name] = summarise_set(jobs)
            print_set(name, results[name])
    summary = {
        config: {
            "cost": _costs(results, config),
            **{metric: summarise(results, config, metric) for metric in METRICS},
        }
        for config in ("classic recipe", *names)
    }
    print_summary(summary, len(results))
    if arguments.json:
        report = {
            **environment(arguments.threads),
            "teachers": arguments.teachers,
            "seeds": arguments.seeds,
            "summary": summary,
            "sets": results,
        }
        Path(arguments.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
