"""Teachers fitted inside `fit`: each row is answered by those that did not see it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from joblib import delayed
from sklearn.model_selection import check_cv

from skdistill.tables import Rows, n_rows, take_rows, warn_user
from skdistill.tables.folds import distinct_row_folds
from skdistill.teachers.asking import Ensemble, Teacher, remembered
from skdistill.teachers.fitting import TeacherToFit, seeded
from skdistill.teachers.hidden import reads_units, shows_units
from skdistill.teachers.hints import ActiveHint
from skdistill.teachers.naming import Entry, is_shared
from skdistill.teachers.pooling import SoftTargets, pool, sharpening_temperature, temper
from skdistill.teachers.progress import run_counted, track
from skdistill.teachers.sources import TargetSource, TeacherSpec

_Split = tuple[np.ndarray, np.ndarray]


@dataclass
class _Answered:
    """What a teacher says of the rows, NaN where nothing; who says it; what is shown as fitted."""

    answer: np.ndarray
    members: list[Teacher]
    fitted: Any


class _FittedInside(TargetSource):
    """Teachers whose clones are fitted inside `fit`; frozen ones answer as they are.

    ``members`` are the fitted clones of each teacher, ``weighted`` tells which teachers get the
    sample weights.
    """

    members: list[list[Teacher]]

    def __init__(
        self,
        spec: TeacherSpec,
        named: Sequence[Entry],
        weighted: Sequence[bool] | None = None,
    ) -> None:
        super().__init__(spec, named)
        self.weighted = [True] * len(named) if weighted is None else weighted

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Fit the teachers, and set the confidence of what they say of rows they did not see."""
        weights = self.check(rows)
        assert rows.code is not None
        if self.as_they_are:
            warn_user(
                f"{', '.join(self.as_they_are)} cannot be fitted inside fit and answers as it "
                "is: its soft targets are not out-of-fold."
            )
        answered = self._fit(rows, rng)
        self.members = [one.members for one in answered]
        answers = [one.answer for one in answered]
        targets = pool(answers, weights, self.averaging, rows.code, rows.weight)
        assert targets.weights is not None
        shares = np.repeat(
            [w / len(m) for m, w in zip(self.members, targets.weights, strict=True)],
            [len(m) for m in self.members],
        )
        everyone = [teacher for members in self.members for teacher in members]
        self.ensemble = Ensemble(everyone, shares, self.averaging)
        targets.fitted = [one.fitted for one in answered]
        used = targets.known & (rows.weight > 0)
        if self.spec.calibration is None or self.as_they_are or not used.any():
            return targets
        proba = targets.proba
        T = sharpening_temperature(proba[used], rows.code[used], rows.weight[used])
        self.ensemble.calibration_temperature = T
        return replace(targets, proba=temper(proba, T), calibration_temperature=T)

    def _fit(self, rows: Rows, rng: np.random.RandomState) -> list[_Answered]:
        """Fit the teachers; return what each says of the rows of `fit`."""
        raise NotImplementedError

    def _weighted(self, rows: Rows) -> list[bool]:
        """Tell which teachers get the sample weights: those that should, where weights differ."""
        differ = bool((rows.weight != 1).any())
        return [weighted and differ for weighted in self.weighted]

    def _as_it_is(self, named: Entry, rows: Rows) -> _Answered:
        """Ask a teacher that is not fitted here."""
        teacher = Teacher(named, rows.classes)
        alone = Ensemble([teacher], np.ones(1), self.averaging, self.spec.memory)
        return _Answered(alone.mean(rows.X), [teacher], named.estimator)


class CrossFitted(_FittedInside):
    """Clones fitted on folds; the mean of all fold clones labels further rows.

    ``fold``, for hints, is that whose clones did not see a row, -1 where there is none.
    """

    fold: np.ndarray

    def _fit(self, rows: Rows, rng: np.random.RandomState) -> list[_Answered]:
        """Give each row the mean answer of teachers that never saw it.

        The splits are drawn once and shared by the teachers. Splits that overlap (repeated or
        random ones) are averaged; a row that is never held out has no soft target.
        """
        splits = self._draw_splits(rows)
        if self.hints:
            self.fold = np.full(n_rows(rows.X), -1)
            for i, (_, test) in enumerate(splits):
                self.fold[test] = i
        both = zip(self.named, self._weighted(rows), strict=True)
        drawn = [seeded(n, weighted, rng) for n, weighted in both]
        # First those that are ready: where one fails, no others are fitted for hours before.
        ready = iter([self._as_it_is(n, rows) for n in self.named if is_shared(n.estimator)])
        to_fit = [t for t in drawn if not is_shared(t.named.estimator)]
        fitted = iter(self._fit_folds(to_fit, rows, splits) if to_fit else [])
        answered = [next(ready if is_shared(n.estimator) else fitted) for n in self.named]
        never = np.setdiff1d(np.arange(n_rows(rows.X)), np.concatenate([b for _, b in splits]))
        for one in answered:
            one.answer[never] = np.nan
        return answered

    def _fit_folds(
        self, to_fit: list[TeacherToFit], rows: Rows, splits: list[_Split]
    ) -> list[_Answered]:
        """Fit teachers on the folds, or read from memory what came of it."""
        key = (to_fit, replace(rows, X_unlabeled=None), splits, self.averaging)
        ask = partial(_ask_folds, *key, n_jobs=self.spec.n_jobs)
        return [
            # A copy: memory may hand out what cannot be written.
            _Answered(np.array(answer), members, [teacher.estimator for teacher in members])
            for answer, members in remembered(self.spec.memory, key, ask)
        ]

    def _draw_splits(self, rows: Rows) -> list[_Split]:
        """Return the rows to fit on and those held out, fold by fold."""
        assert rows.code is not None
        cv = self.spec.cv
        if self.spec.teachers is None and isinstance(cv, str) and cv in ("prefit", "oob"):
            # The default teacher, and no folds are named: those in which weights are repeated rows.
            folds = distinct_row_folds(rows.X, rows.code, rows.weight)
        else:
            folds = _splits(cv, rows.X, rows.code)
        splits = [(np.asarray(a), np.asarray(b)) for a, b in folds]
        if not splits:
            raise ValueError(f"cv={cv!r} yields no splits, so no teacher could be fitted.")
        return splits

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise where the hidden units of the folds' clones would be compared."""
        estimator = self.named[asked.teacher].estimator
        units = ("mse", "cosine", "attention") if shows_units(estimator) else ("mse", "cosine")
        if asked.hint.kind in units and not is_shared(estimator):
            raise ValueError(self._one_teacher_needed(asked))

    def _one_teacher_needed(self, asked: ActiveHint) -> str:
        """Say why the clones of the folds cannot give this hint."""
        return (
            f"{asked.where} of kind={asked.hint.kind!r} needs one teacher for all rows, and "
            f"cv={self.spec.cv!r} fits one a fold, each with hidden units of its own. Use "
            "kind='relation', or fitted teachers with cv='prefit'."
        )

    def teachers_of(self, asked: ActiveHint, rows: Rows) -> tuple[list[Teacher], np.ndarray]:
        """Return the fold clones, each for the rows it did not see."""
        if is_shared(self.named[asked.teacher].estimator):
            return super().teachers_of(asked, rows)
        teachers = self.members[asked.teacher]
        if asked.hint.kind == "attention" and reads_units(teachers[0], asked, rows.X):
            raise ValueError(self._one_teacher_needed(asked))
        return teachers, self.fold


class OutOfBag(_FittedInside):
    """Bagged clones fitted once; their out-of-bag votes are the targets."""

    def _fit(self, rows: Rows, rng: np.random.RandomState) -> list[_Answered]:
        """Give each row the vote of the members that did not see it, for one fit a teacher.

        Rows that every member saw have no soft target from that teacher; those that no teacher can
        answer carry the hard term only.
        """
        answered = []
        both = zip(self.named, self._weighted(rows), strict=True)
        for named, weighted in track("out-of-bag teacher", both, len(self.named)):
            if is_shared(named.estimator):
                answered.append(self._as_it_is(named, rows))
                continue
            to_fit = seeded(named, weighted, rng)
            teacher, answer = _fit_out_of_bag(to_fit, rows, self.averaging)
            answered.append(_Answered(answer, [teacher], teacher.estimator))
        return answered

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise: votes have no layers."""
        raise ValueError(
            "Hints are not offered with cv='oob': a layer of a teacher that saw the row is no "
            "out-of-bag answer. Pass cv=5, or fitted teachers."
        )


def _splits(cv: Any, X: Any, code: np.ndarray) -> Any:
    """Return the folds; an integer is lowered to the largest class, but never below 2."""
    if cv is None or isinstance(cv, int | np.integer):
        # As many folds as asked for while any class can fill them; scikit-learn warns of rare ones.
        largest = int(np.bincount(code).max())
        cv = min(5 if cv is None else int(cv), max(2, largest))
    return check_cv(cv, code, classifier=True).split(X, code)


def _ask_folds(
    to_fit: Sequence[TeacherToFit],
    rows: Rows,
    splits: Sequence[_Split],
    averaging: str,
    *,
    n_jobs: int | None,
) -> list[tuple[np.ndarray, list[Teacher]]]:
    """Fit each teacher on each fold; return its mean answer to rows held out, and its clones."""
    assert rows.classes is not None
    counts = np.zeros(n_rows(rows.X))
    for _, test in splits:
        counts[test] += 1
    questions = [
        delayed(_fit_and_ask)(t, rows, split, averaging) for t in to_fit for split in splits
    ]
    results = iter(run_counted("fitted teacher", questions, n_jobs))
    answered = []
    for _ in to_fit:
        mean, members = np.zeros((n_rows(rows.X), len(rows.classes))), []
        for _, test in splits:
            teacher, answer = next(results)
            members.append(teacher)
            np.add.at(mean, test, answer / counts[test, None])
        answered.append((mean, members))
    return answered


def _fit_and_ask(
    to_fit: TeacherToFit, rows: Rows, split: _Split, averaging: str
) -> tuple[Teacher, np.ndarray]:
    """Fit a teacher on one fold and ask it about the rows held out."""
    train, test = split
    fitted, own = to_fit.fit(rows, train[rows.weight[train] > 0])
    teacher = Teacher(fitted, rows.classes, own_classes=own, allow_missing=True)
    return teacher, Ensemble([teacher], np.ones(1), averaging).mean(take_rows(rows.X, test))


def _fit_out_of_bag(to_fit: TeacherToFit, rows: Rows, averaging: str) -> tuple[Teacher, np.ndarray]:
    """Fit a bagged teacher and return it with its out-of-bag answers, NaN where none."""
    estimator, label = to_fit.named.estimator, to_fit.named.label
    if "oob_score" not in estimator.get_params(deep=False):
        raise ValueError(
            f"{label} has no oob_score, which cv='oob' needs. Pass bagged teachers (such as "
            "RandomForestClassifier), or cv=5."
        )
    estimator.set_params(oob_score=True)
    used = np.flatnonzero(rows.weight > 0)
    try:
        with warnings.catch_warnings():
            # Rows that are never out of bag are what the answer's NaN stands for.
            warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
            fitted, own = to_fit.fit(rows, used)
    except ValueError as error:
        raise ValueError(
            f"{label} could not be fitted with oob_score=True, as cv='oob' asks: {error}"
        ) from error
    teacher = Teacher(fitted, rows.classes, own_classes=own)
    votes = np.asarray(teacher.estimator.oob_decision_function_, dtype=np.float64)
    sums = votes.sum(axis=1, keepdims=True)
    votes = np.divide(votes, sums, out=np.full_like(votes, np.nan), where=sums > 0)
    answers = np.full((n_rows(rows.X), len(teacher.classes)), np.nan)
    known = np.isfinite(votes).all(axis=1)
    answers[used[known]] = teacher.align(votes[known], averaging)
    return teacher, answers
