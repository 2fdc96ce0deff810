"""The models that are compared, and how the student's side of them is found and trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.student import StudentClassifier, TorchStudent
from skdistill.teachers.asking import Ensemble, Teacher, resolve_averaging
from skdistill.teachers.fitting import learns_codes
from skdistill.teachers.naming import (
    Named,
    TeachersLeftBehind,
    is_frozen,
    is_self,
    name_teachers,
)
from skdistill.teachers.pooling import check_teacher_weights, temper, to_proba


class Classifier(Protocol):
    """What answers rows with probabilities, or holds something that does."""

    def predict_proba(self, X: Any) -> Any:
        """Return one row of probabilities for each row of X."""


@dataclass(frozen=True)
class ComparedModel:
    """One model with its answers, ready to be compared.

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
class FoundStudent:
    """The student within what the user passed.

    Attributes
    ----------
    model : DistilledClassifier, StudentClassifier or TorchStudent
        What answers.
    estimator : DistilledClassifier or None
        The same, if it knows its teachers and settings; None for a student by itself.
    before : list of transformers
        What rows pass through on their way to it.
    """

    model: DistilledClassifier | StudentClassifier | TorchStudent
    estimator: DistilledClassifier | None
    before: list[Any]

    def prepare(self, X: Any) -> Any:
        """Return the rows as they reach the student, and reached its teachers in `fit`."""
        for transformer in self.before:
            X = transformer.transform(X)
        return X

    def ask(self, X: Any) -> ComparedModel:
        """Ask the student about prepared rows."""
        return _asked("distilled", self.model, X)


def _asked(kind: str, student: Classifier, X: Any) -> ComparedModel:
    """Ask a student of a kind about prepared rows."""
    proba = np.asarray(student.predict_proba(X), dtype=np.float64)
    return ComparedModel(f"{kind} student", kind, proba, X, student.predict_proba, [student])


def find_student(student: Classifier) -> FoundStudent:
    """Look through Pipelines, searches and FrozenEstimators for the student."""
    before: list[Any] = []
    model: Any = student
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
    if isinstance(model, StudentClassifier | TorchStudent):
        return FoundStudent(model, None, before)
    if hasattr(model, "fit"):
        check_is_fitted(model)
    if isinstance(model, DistilledClassifier):
        return FoundStudent(model, model, before)
    raise TypeError(
        "student must be a fitted DistilledClassifier, a Pipeline that ends in one, a search over "
        "one with refit=True, or a StudentClassifier with teachers=[...]; got a "
        f"{type(model).__name__}."
    )


def plain_student(
    found: FoundStudent,
    X: Any,
    *,
    baseline: Classifier | None = None,
    train: tuple[Any, Any] | None = None,
    teachers: Sequence[Any] | None = None,
    random_state: Any = None,
) -> ComparedModel | None:
    """Return the baseline, or a plain student trained on `train`, asked about raw rows."""
    if baseline is not None:
        return _baseline(baseline, found.model.classes_, X)
    if train is None:
        return None
    model = _train_plain(found, *train, teachers, random_state)
    return _asked("plain", model, found.prepare(X))


def _baseline(baseline: Classifier, classes: np.ndarray, X: Any) -> ComparedModel:
    """Check the classifier that stands in for the plain student, and ask it."""
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
    proba = Teacher(Named("baseline", baseline, label), classes, X).ask(X)
    call = baseline.predict_proba
    return ComparedModel("plain student", "plain", proba, X, call, [baseline])


def _train_plain(
    found: FoundStudent, X: Any, y: Any, teachers: Sequence[Any] | None, random_state: Any
) -> DistilledClassifier:
    """Train the student's network, by the student's settings, on hard labels alone."""
    if found.estimator is None:
        raise ValueError(
            f"A {type(found.model).__name__} does not hold the settings it was trained with, "
            "so no plain student can be trained like it. Pass the DistilledClassifier, or a "
            "fitted baseline=."
        )
    plain = clone(found.estimator)
    # Without soft targets none of these has a part; their values may have been left behind.
    plain.set_params(alpha=0.0, early_stopping=True, cv=None, loss="kl", augment=None, memory=None)
    plain.set_params(hints=None, self_distillation=0.0)
    # Their kind settles what is "auto".
    if teachers is not None:
        plain.set_params(teachers=teachers)
    if plain.random_state is None:
        plain.set_params(random_state=random_state)
    plain.fit(found.prepare(X), y)
    expected = found.model.classes_.tolist()
    if plain.classes_.tolist() != expected:
        raise ValueError(
            f"y_train holds the labels {plain.classes_.tolist()}, the student knows {expected}. "
            "Pass the rows that the student was trained on."
        )
    return plain


@dataclass(frozen=True)
class TeacherEnsemble:
    """The teachers of a student, asked one by one and together.

    Attributes
    ----------
    members : list of (name, list of Teacher)
        Each teacher, or its fold clones.
    weights : ndarray of shape (n_teachers,)
        Their weights, which sum to 1.
    averaging : {"logits", "proba"}
        The space in which they are averaged.
    in_sample : list of str
        The names of those whose soft targets may come from rows they were fitted on.
    temperature : float
        By what `fit` calibrated their answers before the student learned from them.
    """

    members: list[tuple[str, list[Teacher]]]
    weights: np.ndarray
    averaging: str
    in_sample: list[str]
    temperature: float

    def ask(self, X: Any) -> list[ComparedModel]:
        """Ask each teacher about prepared rows once, and put the ensemble, the last, together."""
        found, mean = [], np.zeros(1)
        for (name, folds), weight in zip(self.members, self.weights, strict=True):
            native = all(t.native == "logits" for t in folds)
            # A teacher of probabilities keeps its own, whatever the ensemble is averaged in.
            alone = _mean_of(folds, self.averaging if native else "proba")
            answer = alone.mean(X)
            proba = to_proba(answer, alone.averaging)
            if alone.averaging != self.averaging:
                answer = _mean_of(folds, self.averaging).mean(X)
            mean = mean + weight * answer
            parts = [t.estimator for t in folds]
            found.append(ComparedModel(name, "teacher", proba, X, _call(folds, alone), parts))
        proba = to_proba(mean, self.averaging)
        if len(found) == 1:
            return [*found, replace(found[0], name="ensemble", role="ensemble", proba=proba)]
        whole = self._whole()
        parts = [t.estimator for t in whole.teachers]
        return [*found, ComparedModel("ensemble", "ensemble", proba, X, whole.predict_proba, parts)]

    def _whole(self) -> Ensemble:
        """Return all of them, or of their folds, as one."""
        pairs = zip(self.members, self.weights, strict=True)
        shares = [(t, weight / len(folds)) for (_, folds), weight in pairs for t in folds]
        return Ensemble([t for t, _ in shares], np.array([w for _, w in shares]), self.averaging)

    def calibrated(self, ensemble: ComparedModel) -> ComparedModel | None:
        """Return the ensemble with the confidence that the student learned, if it is another."""
        if self.temperature == 1:
            return None
        proba = temper(ensemble.proba, self.temperature)
        return replace(ensemble, name="calibrated ensemble", role="calibrated", proba=proba)


def _mean_of(folds: list[Teacher], averaging: str) -> Ensemble:
    """Return the folds of one teacher, which weigh alike."""
    return Ensemble(folds, np.full(len(folds), 1 / len(folds)), averaging)


def _call(folds: list[Teacher], ensemble: Ensemble) -> Callable[[Any], Any]:
    """Return what is timed: a single teacher's own predict_proba, without our checks."""
    if len(folds) == 1 and not learns_codes(folds[0].estimator):
        return folds[0].estimator.predict_proba
    return ensemble.predict_proba


def find_teachers(
    found: FoundStudent, X: Any, teachers: Sequence[Any] | None = None
) -> TeacherEnsemble:
    """Gather the teachers that were passed, or those the student kept; prepared X checks them."""
    student, classes = found.estimator, found.model.classes_
    if teachers is not None:
        named = name_teachers(teachers, fitted=True)
        members = [(n.name, [Teacher(n, classes, X)]) for n in named]
    else:
        student = _with_teachers(found)
        named = _kept(student)
        members = [
            (n.name, _adapters(n, fitted, classes, X))
            for n, fitted in zip(named, student.teachers_, strict=True)
        ]
    in_sample = [] if student is None else _in_sample(student, named)
    calibrated = teachers is None and not in_sample
    return TeacherEnsemble(
        members,
        _weights_of(student, len(named)),
        resolve_averaging("auto" if student is None else student.averaging, named),
        in_sample,
        student.calibration_temperature_ if calibrated and student is not None else 1.0,
    )


def _weights_of(student: DistilledClassifier | None, n_teachers: int) -> np.ndarray:
    """Return the weights that `fit` settled on; for other teachers those of the parameter."""
    learnt = getattr(student, "teacher_weights_", None)
    if learnt is not None and len(learnt) == n_teachers:
        return learnt
    given = None if student is None else student.teacher_weights
    weights = check_teacher_weights(given, n_teachers)
    # A rule has no labels to go by here.
    return np.full(n_teachers, 1 / n_teachers) if isinstance(weights, str) else weights


def _with_teachers(found: FoundStudent) -> DistilledClassifier:
    """Return the student if it kept its teachers, or say why there are none."""
    way_out = "Pass teachers=[...]: the fitted teachers, as DistilledClassifier takes them."
    student = found.estimator
    if student is None:
        raise ValueError(f"A {type(found.model).__name__} holds no teachers. {way_out}")
    if not hasattr(student, "teachers_"):
        left = student.teachers if isinstance(student.teachers, TeachersLeftBehind) else None
        which = f": {', '.join(left.descriptions)}" if left else ""
        raise ValueError(
            f"The student's teachers were left behind when it was pickled{which}. {way_out}"
        )
    if not student.teachers_:
        raise ValueError(
            "No teacher was asked when this student was fitted: it had alpha=0, teachers='self', "
            f"or teacher_proba and no teachers. {way_out}"
        )
    return student


def _kept(student: DistilledClassifier) -> list[Named]:
    """Name the teachers that the student kept."""
    if student.teachers is not None:
        return name_teachers(student.teachers)
    first = student.teachers_[0][0]
    return [Named("default teacher", first, f"the default teacher ({type(first).__name__})")]


def _adapters(named: Named, fitted: Any, classes: np.ndarray, X: Any) -> list[Teacher]:
    """Return the adapter of a teacher, or one for each of its fold clones."""
    if not isinstance(fitted, list):
        return [Teacher(replace(named, estimator=fitted), classes, X)]
    return [
        Teacher(
            replace(named, estimator=clone_, label=f"{named.label}, fold {fold}"),
            classes,
            X,
            own_classes=classes if learns_codes(clone_) else None,
            allow_missing=True,
        )
        for fold, clone_ in enumerate(fitted)
    ]


def _in_sample(student: DistilledClassifier, named: Sequence[Named]) -> list[str]:
    """Name the teachers that answered as they were: all prefit ones, else the frozen ones."""
    if student.teachers is None or is_self(student.teachers):
        return []
    prefit = isinstance(student.cv, str) and student.cv == "prefit"
    return [n.name for n in named if prefit or is_frozen(n.estimator)]
