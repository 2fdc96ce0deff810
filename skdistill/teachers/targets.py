"""Soft targets: ask prefit teachers, cross-fit, take the out-of-bag votes."""

import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
from joblib import delayed
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_memory

from skdistill.tables.frames import n_rows, take_rows
from skdistill.teachers.adapters import TorchTeacher
from skdistill.teachers.asking import Teacher, as_teacher, fit_teacher
from skdistill.teachers.calibration import temper
from skdistill.teachers.naming import Named, is_frozen, split_steps
from skdistill.teachers.pooling import pool, to_proba
from skdistill.teachers.progress import Stage, run_counted, stage, track

__all__ = [
    "Ensemble",
    "SoftTargets",
    "ask_each",
    "cross_fit",
    "out_of_bag",
    "resolve_averaging",
]

# Teachers are asked in blocks of rows, so that memory does not grow with teachers times rows.
BATCH_ROWS = 65_536


@dataclass
class SoftTargets:
    """Soft targets of the rows of `fit`, and the teachers that can label further rows.

    Attributes
    ----------
    proba : float array of shape (n, k)
        The ensemble's probabilities.
    known : bool array of shape (n,)
        Rows that have a soft target; the others carry the hard term only.
    ensemble : Ensemble or None
        Labels rows that `fit` did not name; None where nothing can.
    fitted : list
        For ``teachers_``: each teacher, or the list of its fold clones.
    weights : float array of shape (n_teachers,) or None
        For ``teacher_weights_``: the teachers' weights on rows without a label.
    temperature : float
        By what the targets were calibrated.
    members : list of list of Teacher
        The adapters of the fold clones of each teacher, where teachers were cross-fitted.
    fold : int array of shape (n,) or None
        The fold whose clones did not see the row; -1 where there is none.
    """

    proba: np.ndarray
    known: np.ndarray
    ensemble: "Ensemble | None"
    fitted: list[Any] = field(default_factory=list)
    weights: np.ndarray | None = None
    temperature: float = 1.0
    members: list[list[Teacher]] = field(default_factory=list)
    fold: np.ndarray | None = None

    def tempered(self, temperature: float) -> "SoftTargets":
        """Return the targets at a temperature, those of further rows included."""
        ensemble = self.ensemble
        if ensemble is not None:
            ensemble = copy(ensemble)
            ensemble.temperature = temperature
        proba = temper(self.proba, temperature)
        return replace(self, proba=proba, ensemble=ensemble, temperature=temperature)


def resolve_averaging(averaging: str, named: Sequence[Named]) -> str:
    """Return the space in which teachers are averaged; logits only where every teacher has them."""
    if averaging != "auto":
        return averaging
    last_steps = [split_steps(n.estimator)[1] for n in named]
    native = all(isinstance(t, TorchTeacher) and t.output == "logits" for t in last_steps)
    return "logits" if native else "proba"


class Ensemble:
    """Fitted teachers that answer as one: the weighted mean of their probabilities or logits.

    The answer is given at ``temperature``, which calibration sets.
    """

    def __init__(self, teachers: Sequence[Teacher], weights: np.ndarray, averaging: str) -> None:
        self.teachers = [t for t, w in zip(teachers, weights, strict=True) if w > 0]
        self.weights = weights[weights > 0]
        self.averaging = averaging
        self.temperature = 1.0

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the ensemble's probabilities for raw rows."""
        return self.to_proba(self.mean(X))

    def to_proba(self, mean: np.ndarray) -> np.ndarray:
        """Return the probabilities that a mean answer stands for."""
        return temper(to_proba(mean, self.averaging), self.temperature)

    def mean(self, X: Any) -> np.ndarray:
        """Return the weighted mean in the space of `averaging`, asking in blocks of rows."""
        n = n_rows(X)
        if n <= BATCH_ROWS and len(self.teachers) == 1:
            return self._mean_of_block(X, 0)
        starts = range(0, max(n, 1), BATCH_ROWS)
        with stage("answer", len(starts) * len(self.teachers)) as shown:
            if n <= BATCH_ROWS:
                return self._mean_of_block(X, 0, shown)
            answer: Any = None
            for start in starts:
                rows = np.arange(start, min(start + BATCH_ROWS, n))
                block = self._mean_of_block(take_rows(X, rows), start, shown)
                if answer is None:
                    answer = np.empty((n, block.shape[1]), dtype=block.dtype)
                answer[rows] = block
            return answer

    def _mean_of_block(self, X: Any, first_row: int, shown: Stage | None = None) -> np.ndarray:
        """Return the running weighted mean over the teachers for one block of rows."""
        mean: Any = 0.0
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            mean = mean + weight * teacher.ask(X, self.averaging, first_row=first_row)
            if shown is not None:
                shown.done()
        return mean


class AnswerCache:
    """Answers of prefit ensembles, so that a search over the student asks them once.

    The key is the identity of the teachers and the content of X. A hit counts only if the teachers
    are still alive and give the same answer on a few rows; the memory is bounded.
    """

    def __init__(self, max_bytes: int = 2**28, n_confirm: int = 32) -> None:
        self.max_bytes, self.n_confirm = max_bytes, n_confirm
        self._lock = threading.Lock()
        self._entries: OrderedDict[Any, tuple[list[weakref.ref[Any]], np.ndarray]] = OrderedDict()

    def predict_proba(self, ensemble: Ensemble, X: Any) -> np.ndarray:
        """Return the ensemble's probabilities, from memory where they are confirmed."""
        return ensemble.to_proba(self.mean(ensemble, X))

    def mean(self, ensemble: Ensemble, X: Any) -> np.ndarray:
        """Return the ensemble's mean answer, from memory where it is confirmed."""
        key, references = self._key(ensemble, X)
        if key is None:
            return ensemble.mean(X)
        with self._lock:
            entry = self._entries.get(key)
        if entry is not None and self._confirmed(entry, ensemble, X):
            return entry[1]
        answer = ensemble.mean(X)
        answer.flags.writeable = False
        self._store(key, references, answer)
        return answer

    def _key(self, ensemble: Ensemble, X: Any) -> tuple[Any, list[weakref.ref[Any]]]:
        """Return the key of a question and weak references to the teachers, or None."""
        identities = [_identity(t) for t in ensemble.teachers]
        try:
            references = [weakref.ref(i) for i in identities]
            content = joblib.hash(X)
        except (TypeError, ValueError, AttributeError):
            return None, []
        details = [
            (id(i), _fingerprint(t.estimator), t.native, tuple(np.asarray(t.classes).tolist()))
            for i, t in zip(identities, ensemble.teachers, strict=True)
        ]
        return (tuple(details), ensemble.weights.tobytes(), ensemble.averaging, content), references

    def _confirmed(
        self, entry: tuple[list[weakref.ref[Any]], np.ndarray], ensemble: Ensemble, X: Any
    ) -> bool:
        """Tell whether the same living teachers still give the remembered answer."""
        references, answer = entry
        for reference, teacher in zip(references, ensemble.teachers, strict=True):
            if reference() is not _identity(teacher):
                return False
        rows = np.unique(np.linspace(0, len(answer) - 1, self.n_confirm).astype(int))
        again = ensemble.mean(take_rows(X, rows))
        return bool(np.allclose(again, answer[rows], rtol=1e-5, atol=1e-5))

    def _store(self, key: Any, references: list[weakref.ref[Any]], answer: np.ndarray) -> None:
        """Remember an answer; forget those of dead teachers, and the oldest beyond the bound."""
        with self._lock:
            self._entries[key] = (references, answer)
            self._entries.move_to_end(key)
            for old in [k for k, e in self._entries.items() if any(r() is None for r in e[0])]:
                del self._entries[old]
            while sum(e[1].nbytes for e in self._entries.values()) > self.max_bytes:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget every answer."""
        with self._lock:
            self._entries.clear()


def _identity(teacher: Teacher) -> Any:
    """Return what makes the teacher what it is: a bare module is wrapped anew each time."""
    estimator = teacher.estimator
    return estimator.module if isinstance(estimator, TorchTeacher) else estimator


def _fingerprint(estimator: Any) -> tuple[Any, ...]:
    """Return what changes when a teacher is fitted again in place: the objects it holds."""
    last = split_steps(estimator)[1]
    if isinstance(last, TorchTeacher):
        return tuple((p.data_ptr(), p._version) for p in last.module.parameters())
    return tuple((name, id(value)) for name, value in sorted(getattr(last, "__dict__", {}).items()))


answer_cache = AnswerCache()


def ask_each(teachers: Sequence[Teacher], X: Any, averaging: str) -> list[np.ndarray]:
    """Return the answer of each teacher by itself, from memory where it is confirmed."""
    shown = track("teacher", teachers, len(teachers))
    return [answer_cache.mean(Ensemble([t], np.ones(1), averaging), X) for t in shown]


def cross_fit(
    named: Sequence[Named],
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    *,
    cv: Any,
    classes: np.ndarray,
    code: np.ndarray,
    averaging: str,
    weights: np.ndarray | str,
    weighted: Sequence[bool],
    rng: np.random.RandomState,
    n_jobs: int | None = None,
    memory: Any = None,
) -> SoftTargets:
    """Give each row the mean answer of teachers that never saw it.

    The splits are drawn once and shared by the teachers. Splits that overlap (repeated or random
    ones) are averaged; a row that is never held out has no soft target. ``weighted`` tells which
    teachers get the sample weights.
    """
    splits = [(np.asarray(a), np.asarray(b)) for a, b in _splits(cv, X, code)]
    if not splits:
        raise ValueError(f"cv={cv!r} yields no splits, so no teacher could be fitted.")
    to_fit = [_seeded(n, w, rng) for n, w in zip(named, weighted, strict=True)]
    answer = check_memory(memory).cache(_ask_folds, ignore=["n_jobs"])
    answers, fold_teachers = answer(
        to_fit, X, y, sample_weight, splits, classes, averaging, n_jobs=n_jobs
    )
    pooled = pool(answers, weights, averaging, code, sample_weight)
    everyone = [t for folds in fold_teachers for t in folds]
    shares = np.concatenate(
        [np.full(len(f), w / len(f)) for f, w in zip(fold_teachers, pooled.weights, strict=True)]
    )
    fitted = [
        n.estimator if is_frozen(n.estimator) else [t.estimator for t in folds]
        for n, folds in zip(named, fold_teachers, strict=True)
    ]
    fold = np.full(n_rows(X), -1)
    for i, (_, test) in enumerate(splits):
        fold[test] = i
    ensemble = Ensemble(everyone, shares, averaging)
    return SoftTargets(
        pooled.proba,
        pooled.known,
        ensemble,
        fitted,
        pooled.weights,
        members=fold_teachers,
        fold=fold,
    )


def _splits(cv: Any, X: Any, code: np.ndarray) -> Any:
    """Return the folds; an integer is lowered to the largest class, but never below 2."""
    if cv is None or isinstance(cv, int | np.integer):
        # As many folds as asked for while any class can fill them; scikit-learn warns of rare ones.
        largest = int(np.bincount(code).max())
        cv = min(5 if cv is None else int(cv), max(2, largest))
    return check_cv(cv, code, classifier=True).split(X, code)


@dataclass(frozen=True)
class _ToFit:
    """A teacher that is to be fitted, its seed, and whether it gets the sample weights."""

    named: Named
    seed: int
    weighted: bool

    def fit(
        self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, classes: np.ndarray
    ) -> tuple[Named, np.ndarray | None]:
        """Return the fitted clone, and the labels of its columns where it learned codes."""
        weight = sample_weight if self.weighted else None
        fitted, own_classes = fit_teacher(self.named, X, y, weight, classes=classes, seed=self.seed)
        return replace(self.named, estimator=fitted), own_classes


def _seeded(named: Named, weighted: bool, rng: np.random.RandomState) -> _ToFit:
    """Set every unset random_state of a clone of the teacher; frozen ones stay as they are."""
    seed = int(rng.randint(np.iinfo(np.int32).max))
    if is_frozen(named.estimator):
        return _ToFit(named, seed, weighted)
    estimator = clone(named.estimator)
    params = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    unset = [
        name
        for name in sorted(params)
        if (name == "random_state" or name.endswith("__random_state")) and params[name] is None
    ]
    if unset:
        estimator.set_params(**{name: int(rng.randint(np.iinfo(np.int32).max)) for name in unset})
    return _ToFit(replace(named, estimator=estimator), seed, weighted)


def _ask_folds(
    to_fit: Sequence[_ToFit],
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    classes: np.ndarray,
    averaging: str,
    n_jobs: int | None = None,
) -> tuple[list[np.ndarray], list[list[Teacher]]]:
    """Fit each teacher on each fold; return its mean answer to each row held out, NaN elsewhere."""
    counts = np.zeros(n_rows(X))
    for _, test in splits:
        counts[test] += 1
    jobs = [
        (i, split)
        for i, t in enumerate(to_fit)
        for split in (splits if not is_frozen(t.named.estimator) else [None])
    ]
    questions = [
        delayed(_fit_and_ask)(to_fit[i], X, y, sample_weight, split, classes, averaging)
        for i, split in jobs
    ]
    results = run_counted("fitted teacher", questions, n_jobs)
    answers = [np.zeros((n_rows(X), len(classes))) for _ in to_fit]
    fold_teachers: list[list[Teacher]] = [[] for _ in to_fit]
    for (i, split), (teacher, answer) in zip(jobs, results, strict=True):
        fold_teachers[i].append(teacher)
        if split is None:
            answers[i] += answer
        else:
            test = split[1]
            np.add.at(answers[i], test, answer / counts[test, None])
    for answer in answers:
        answer[counts == 0] = np.nan
    return answers, fold_teachers


def _fit_and_ask(
    to_fit: _ToFit,
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    split: tuple[np.ndarray, np.ndarray] | None,
    classes: np.ndarray,
    averaging: str,
) -> tuple[Teacher, np.ndarray]:
    """Fit a teacher on one fold and ask it about the rows held out; frozen ones are just asked."""
    if split is None:
        teacher = as_teacher(to_fit.named, classes)
        return teacher, Ensemble([teacher], np.ones(1), averaging).mean(X)
    train, test = split
    if sample_weight is not None:
        train = train[sample_weight[train] > 0]
    weight = None if sample_weight is None else sample_weight[train]
    fitted, own_classes = to_fit.fit(take_rows(X, train), y[train], weight, classes)
    teacher = as_teacher(fitted, classes, own_classes=own_classes, allow_missing=True)
    return teacher, Ensemble([teacher], np.ones(1), averaging).mean(take_rows(X, test))


def out_of_bag(
    named: Sequence[Named],
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    *,
    classes: np.ndarray,
    code: np.ndarray,
    averaging: str,
    weights: np.ndarray | str,
    weighted: Sequence[bool],
    rng: np.random.RandomState,
) -> SoftTargets:
    """Give each row the vote of the members that did not see it, for one fit a teacher.

    Rows that every member saw have no soft target from that teacher; those that no teacher can
    answer carry the hard term only.
    """
    answers, teachers = [], []
    both = zip(named, weighted, strict=True)
    for n, takes in track("out-of-bag teacher", both, len(named)):
        if is_frozen(n.estimator):
            teacher = as_teacher(n, classes)
            answer = teacher.ask(X, averaging)
        else:
            to_fit = _seeded(n, takes, rng)
            teacher, answer = _fit_out_of_bag(to_fit, X, y, sample_weight, classes, averaging)
        teachers.append(teacher)
        answers.append(answer)
    pooled = pool(answers, weights, averaging, code, sample_weight)
    ensemble = Ensemble(teachers, pooled.weights, averaging)
    fitted = [t.estimator for t in teachers]
    return SoftTargets(pooled.proba, pooled.known, ensemble, fitted, pooled.weights)


def _fit_out_of_bag(
    to_fit: _ToFit,
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    classes: np.ndarray,
    averaging: str,
) -> tuple[Teacher, np.ndarray]:
    """Fit a bagged teacher and return it with its out-of-bag answers, NaN where none."""
    estimator, label = to_fit.named.estimator, to_fit.named.label
    if "oob_score" not in estimator.get_params(deep=False):
        raise ValueError(
            f"{label} has no oob_score, which cv='oob' needs. Pass bagged teachers (such as "
            "RandomForestClassifier), or cv=5."
        )
    estimator.set_params(oob_score=True)
    used = np.arange(n_rows(X)) if sample_weight is None else np.flatnonzero(sample_weight > 0)
    try:
        with warnings.catch_warnings():
            # Rows that are never out of bag are what the answer's NaN stands for.
            warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
            weight = None if sample_weight is None else sample_weight[used]
            fitted, own_classes = to_fit.fit(take_rows(X, used), y[used], weight, classes)
    except ValueError as error:
        raise ValueError(
            f"{label} could not be fitted with oob_score=True, as cv='oob' asks: {error}"
        ) from error
    teacher = as_teacher(fitted, classes, own_classes=own_classes)
    votes = np.asarray(fitted.estimator.oob_decision_function_, dtype=np.float64)
    sums = votes.sum(axis=1, keepdims=True)
    votes = np.divide(votes, sums, out=np.full_like(votes, np.nan), where=sums > 0)
    answers = np.full((n_rows(X), len(classes)), np.nan)
    known = np.isfinite(votes).all(axis=1)
    answers[used[known]] = teacher.align(votes[known], averaging)
    return teacher, answers
