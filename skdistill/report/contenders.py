"""Who is compared: each teacher, their ensemble, the plain student, the distilled student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.student.classifier import StudentClassifier
from skdistill.student.torch_student import TorchStudent
from skdistill.teachers.asking import Teacher, as_teacher
from skdistill.teachers.ensemble import Ensemble, resolve_averaging
from skdistill.teachers.fitting import learns_codes
from skdistill.teachers.left_behind import TeachersLeftBehind
from skdistill.teachers.naming import Named, check_fitted, is_frozen, is_self, name_teachers
from skdistill.teachers.pooling import check_teacher_weights, temper, to_proba

__all__ = ["Contender", "Distilled", "Faculty", "find_distilled", "find_faculty", "plain_student"]

_DEFAULT_TEACHER = "default teacher"


@dataclass(frozen=True)
class Contender:
    """One model, ready to be compared.

    Attributes
    ----------
    name : str
        How tables call it.
    role : {"teacher", "ensemble", "calibrated", "plain", "distilled"}
        What it is.
    proba : ndarray of shape (n, n_classes)
        Its answer to the held-out rows, columns in the order of the student's classes.
    X : table of shape (n, n_features)
        Those rows as they reach it.
    predict_proba : callable
        What is timed on them.
    parts : sequence of estimators
        What lies on disk.
    """

    name: str
    role: str
    proba: np.ndarray
    X: Any
    predict_proba: Callable[[Any], Any]
    parts: Sequence[Any]


@dataclass(frozen=True)
class Distilled:
    """The distilled classifier within what the user passed.

    Attributes
    ----------
    model : DistilledClassifier, StudentClassifier or TorchStudent
        The classifier itself.
    before : list of transformers
        What rows pass through on their way to it.
    """

    model: Any
    before: list[Any]

    def prepare(self, X: Any) -> Any:
        """Return the rows as they reach the classifier, and reached its teachers in `fit`."""
        for step in self.before:
            X = step.transform(X)
        return X

    @property
    def is_bare(self) -> bool:
        """Whether it is a frozen student, which knows neither teachers nor settings."""
        return not hasattr(self.model, "student_")

    def contender(self, X: Any) -> Contender:
        """Ask the student about prepared rows."""
        proba = np.asarray(self.model.predict_proba(X), dtype=np.float64)
        call = self.model.predict_proba
        return Contender("distilled student", "distilled", proba, X, call, [self.model])


def find_distilled(student: Any) -> Distilled:
    """Look through Pipelines, searches and FrozenEstimators for the distilled classifier.

    Parameters
    ----------
    student : estimator
        What the user passed.

    Returns
    -------
    distilled : Distilled

    Raises
    ------
    NotFittedError
        If it is not fitted.
    TypeError
        If there is no distilled classifier in it.
    """
    before, model = [], student
    while True:
        if isinstance(model, Pipeline):
            if len(model.steps) > 1:
                before.append(model[:-1])
            model = model.steps[-1][1]
        elif isinstance(model, FrozenEstimator):
            model = model.estimator
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            break
    if hasattr(model, "student_") or isinstance(model, StudentClassifier | TorchStudent):
        return Distilled(model, before)
    if hasattr(model, "fit"):
        check_is_fitted(model)
    raise TypeError(
        "student must be a fitted DistilledClassifier, a Pipeline that ends in one, a search over "
        "one with refit=True, or a StudentClassifier with teachers=[...]; got a "
        f"{type(model).__name__}."
    )


class Faculty:
    """The teachers of a student: each by itself, and all as one.

    Parameters
    ----------
    members : list of (name, list of Teacher)
        Each teacher, or its fold clones.
    weights : ndarray of shape (n_teachers,)
        Their weights, which sum to 1.
    averaging : {"logits", "proba"}
        The space in which they are averaged.

    Attributes
    ----------
    in_sample : list of str
        The names of those whose soft targets may come from rows they were fitted on.
    temperature : float
        By what `fit` calibrated their answers before the student learned from them.
    """

    def __init__(
        self,
        members: list[tuple[str, list[Teacher]]],
        weights: np.ndarray,
        averaging: str,
        in_sample: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> None:
        self.temperature = temperature
        self.members, self.weights, self.averaging = members, weights, averaging
        self.in_sample = list(in_sample)
        everyone = [(t, w / len(f)) for (_, f), w in zip(members, weights, strict=True) for t in f]
        teachers, shares = zip(*everyone, strict=True)
        self.ensemble = Ensemble(teachers, np.array(shares), averaging)

    def contenders(self, X: Any) -> list[Contender]:
        """Ask each teacher about prepared rows once, and put the ensemble together.

        Parameters
        ----------
        X : table of shape (n, n_features)
            Prepared rows.

        Returns
        -------
        contenders : list of Contender
            The teachers, in order, and the ensemble.
        """
        found, mean = [], np.zeros(1)
        for (name, folds), weight in zip(self.members, self.weights, strict=True):
            native = all(t.native == "logits" for t in folds)
            alone = Ensemble(folds, np.full(len(folds), 1 / len(folds)), self._space(native))
            answer = alone.mean(X)
            proba = to_proba(answer, alone.averaging)
            if alone.averaging != self.averaging:
                answer = Ensemble(folds, alone.weights, self.averaging).mean(X)
            mean = mean + weight * answer
            parts = [t.estimator for t in folds]
            found.append(Contender(name, "teacher", proba, X, _call(folds, alone), parts))
        proba = to_proba(mean, self.averaging)
        if len(found) == 1:
            return [*found, replace(found[0], name="ensemble", role="ensemble", proba=proba)]
        parts = [t.estimator for t in self.ensemble.teachers]
        call = self.ensemble.predict_proba
        return [*found, Contender("ensemble", "ensemble", proba, X, call, parts)]

    def calibrated(self, ensemble: Contender) -> Contender | None:
        """Return the ensemble with the confidence that the student learned, if it is another."""
        if self.temperature == 1:
            return None
        proba = temper(ensemble.proba, self.temperature)
        return replace(ensemble, name="calibrated ensemble", role="calibrated", proba=proba)

    def _space(self, native_logits: bool) -> str:
        """Return where the folds of one teacher are averaged: its own probabilities stay as are."""
        return self.averaging if native_logits else "proba"


def _call(folds: list[Teacher], ensemble: Ensemble) -> Callable[[Any], Any]:
    """Return what is timed: a single teacher's own predict_proba, without our checks."""
    if len(folds) == 1 and not learns_codes(folds[0].estimator):
        return folds[0].estimator.predict_proba
    return ensemble.predict_proba


def find_faculty(distilled: Distilled, X: Any, teachers: Any = None) -> Faculty:
    """Gather the teachers of a student.

    Parameters
    ----------
    distilled : Distilled
        The student.
    X : table of shape (n, n_features)
        Prepared rows, which every teacher must take.
    teachers : list of teachers or of (name, teacher), default=None
        Fitted teachers in place of those that the student kept.

    Returns
    -------
    faculty : Faculty

    Raises
    ------
    ValueError
        If there are none, or their labels or columns do not match.
    NotFittedError
        If one that was passed is not fitted.
    """
    model = distilled.model
    classes = model.classes_
    if teachers is not None:
        named = name_teachers(teachers)
        for teacher in named:
            check_fitted(teacher)
        members = [(n.name, [as_teacher(n, classes, X)]) for n in named]
    else:
        named = _kept(distilled)
        members = [
            (n.name, _adapters(n, fitted, classes, X))
            for n, fitted in zip(named, model.teachers_, strict=True)
        ]
    weights = _weights_of(model, len(named))
    averaging = resolve_averaging(getattr(model, "averaging", "auto"), named)
    in_sample = _in_sample(distilled, named)
    temperature = 1.0
    if teachers is None and not in_sample:
        temperature = model.calibration_temperature_
    return Faculty(members, weights, averaging, in_sample, temperature)


def _weights_of(model: Any, n_teachers: int) -> np.ndarray:
    """Return the weights that `fit` settled on; for other teachers those of the parameter."""
    learnt = getattr(model, "teacher_weights_", None)
    if learnt is not None and len(learnt) == n_teachers:
        return learnt
    weights = check_teacher_weights(getattr(model, "teacher_weights", None), n_teachers)
    # A rule has no labels to go by here.
    return np.full(n_teachers, 1 / n_teachers) if isinstance(weights, str) else weights


def _kept(distilled: Distilled) -> list[Named]:
    """Return the teachers that the student kept, named, or say why there are none."""
    model = distilled.model
    way_out = "Pass teachers=[...]: the fitted teachers, as DistilledClassifier takes them."
    if distilled.is_bare:
        raise ValueError(f"A {type(model).__name__} holds no teachers. {way_out}")
    if not hasattr(model, "teachers_"):
        left = model.teachers if isinstance(model.teachers, TeachersLeftBehind) else None
        which = f": {', '.join(left.descriptions)}" if left else ""
        raise ValueError(
            f"The student's teachers were left behind when it was pickled{which}. {way_out}"
        )
    if not model.teachers_:
        raise ValueError(
            "No teacher was asked when this student was fitted: it had alpha=0, teachers='self', "
            f"or teacher_proba and no teachers. {way_out}"
        )
    if model.teachers is not None:
        return name_teachers(model.teachers)
    first = model.teachers_[0][0]
    return [Named(_DEFAULT_TEACHER, first, f"the default teacher ({type(first).__name__})")]


def _adapters(named: Named, fitted: Any, classes: np.ndarray, X: Any) -> list[Teacher]:
    """Return the adapter of a teacher, or one for each of its fold clones."""
    if not isinstance(fitted, list):
        return [as_teacher(replace(named, estimator=fitted), classes, X)]
    return [
        as_teacher(
            replace(named, estimator=clone_, label=f"{named.label}, fold {fold}"),
            classes,
            X,
            own_classes=classes if learns_codes(clone_) else None,
            allow_missing=True,
        )
        for fold, clone_ in enumerate(fitted)
    ]


def _in_sample(distilled: Distilled, named: Sequence[Named]) -> list[str]:
    """Name the teachers that answered as they were: all prefit ones, else the frozen ones."""
    if distilled.is_bare:
        return []
    prefit = isinstance(distilled.model.cv, str) and distilled.model.cv == "prefit"
    if distilled.model.teachers is None or is_self(distilled.model.teachers):
        return []
    return [n.name for n in named if prefit or is_frozen(n.estimator)]


def plain_student(
    distilled: Distilled,
    X: Any,
    *,
    baseline: Any = None,
    train: tuple[Any, Any] | None = None,
    teachers: Any = None,
    random_state: Any = None,
) -> Contender | None:
    """Return what the distilled student is measured against, if there is anything.

    Parameters
    ----------
    distilled : Distilled
        The student.
    X : table of shape (n, n_features)
        Held-out rows as the user passed them.
    baseline : classifier, default=None
        A fitted one.
    train : pair of X and y, default=None
        Rows on which a plain student is trained: a clone of the distilled one with alpha=0 and
        early stopping.
    teachers : list, default=None
        Teachers in place of those the student kept; their kind settles ``"auto"`` settings.
    random_state : int, RandomState or None, default=None
        Seeds a student whose own `random_state` is None.

    Returns
    -------
    plain : Contender or None
        None with neither `baseline` nor `train`.
    """
    classes = distilled.model.classes_
    if baseline is not None:
        label = f"baseline ({type(baseline).__name__})"
        if not hasattr(baseline, "predict_proba"):
            raise TypeError(f"{label} has no predict_proba; pass a fitted classifier that has it.")
        try:
            check_is_fitted(baseline)
        except NotFittedError as error:
            raise NotFittedError(
                f"{label} is not fitted. Fit it on the rows the student learned from, or pass "
                "X_train and y_train to have a plain student trained."
            ) from error
        proba = as_teacher(Named("baseline", baseline, label), classes, X).ask(X)
        call = baseline.predict_proba
        return Contender("plain student", "plain", proba, X, call, [baseline])
    if train is None:
        return None
    model = _train_plain(distilled, *train, teachers, random_state)
    prepared = distilled.prepare(X)
    proba = np.asarray(model.predict_proba(prepared), dtype=np.float64)
    return Contender("plain student", "plain", proba, prepared, model.predict_proba, [model])


def _train_plain(distilled: Distilled, X: Any, y: Any, teachers: Any, random_state: Any) -> Any:
    """Train the student's network, by the student's settings, on hard labels alone."""
    if distilled.is_bare:
        raise ValueError(
            f"A {type(distilled.model).__name__} does not hold the settings it was trained with, "
            "so no plain student can be trained like it. Pass the DistilledClassifier, or a "
            "fitted baseline=."
        )
    plain = clone(distilled.model)
    # Without soft targets none of these has a part; their values may have been left behind.
    plain.set_params(alpha=0.0, early_stopping=True, cv=None, loss="kl", augment=None, memory=None)
    plain.set_params(hints=None, self_distillation=0.0)
    if teachers is not None:
        plain.set_params(teachers=teachers)
    if plain.random_state is None:
        plain.set_params(random_state=random_state)
    plain.fit(distilled.prepare(X), y)
    expected = distilled.model.classes_.tolist()
    if plain.classes_.tolist() != expected:
        raise ValueError(
            f"y_train holds the labels {plain.classes_.tolist()}, the student knows {expected}. "
            "Pass the rows that the student was trained on."
        )
    return plain
