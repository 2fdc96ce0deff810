"""The models that are compared, and how the student's side of them is found and trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skdistill.estimators import DistilledClassifier
from skdistill.student import StudentClassifier, TorchStudent
from skdistill.teachers.asking import Ensemble, Teacher, resolve_averaging
from skdistill.teachers.fitting import learns_codes
from skdistill.teachers.naming import (
    Entry,
    TeachersLeftBehind,
    is_prefit,
    is_self,
    is_shared,
    name_teachers,
    split_steps,
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


def ask_student(kind: str, student: Classifier, X: Any) -> ComparedModel:
    """Ask a student of a kind about prepared rows."""
    proba = np.asarray(student.predict_proba(X), dtype=np.float64)
    return ComparedModel(f"{kind} student", kind, proba, X, student.predict_proba, [student])


def find_student(student: Classifier) -> FoundStudent:
    """Look through Pipelines, searches and FrozenEstimators for the student."""
    before, model = split_steps(student)
    while hasattr(model, "best_estimator_"):
        more, model = split_steps(model.best_estimator_)
        before += more
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
    baseline: Classifier | None,
    X_train: Any,
    y_train: Any,
    teachers: Sequence[Any] | None,
    random_state: Any,
) -> tuple[ComparedModel | None, str]:
    """Ask the baseline, or a plain student trained for it, about raw rows; say what it is."""
    if baseline is not None:
        kind = type(baseline).__name__
        plain = _baseline(baseline, found.model.classes_, X)
        return plain, f"The plain student is the baseline that was passed, a {kind}."
    if X_train is None:
        return None, (
            "There is no plain student to compare with, and so no knowledge recovered: pass "
            "X_train and y_train to have one trained, or a fitted baseline=."
        )
    model = _train_plain(found, X_train, y_train, teachers, random_state)
    return ask_student("plain", model, found.prepare(X)), (
        "The plain student has the settings of the distilled one, hard labels only (alpha=0) and "
        "early stopping."
    )


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
    proba = Teacher(Entry("baseline", baseline, label), classes, X).ask(X)
    return ComparedModel("plain student", "plain", proba, X, baseline.predict_proba, [baseline])


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
    calibration_temperature : float
        By what `fit` calibrated their answers before the student learned from them.
    """

    members: list[tuple[str, list[Teacher]]]
    weights: np.ndarray
    averaging: str
    in_sample: list[str]
    calibration_temperature: float

    def ask(self, X: Any) -> list[ComparedModel]:
        """Ask each teacher about prepared rows once, and put the ensemble, the last, together."""
        found, mean = [], np.zeros(1)
        for (name, folds), weight in zip(self.members, self.weights, strict=True):
            native = all(t.native == "logits" for t in folds)
            # A teacher of probabilities keeps its own, whatever the ensemble is averaged in.
            space = self.averaging if native else "proba"
            equal = np.full(len(folds), 1 / len(folds))
            alone = Ensemble(folds, equal, space)
            answer = alone.mean(X)
            proba = to_proba(answer, space)
            if space != self.averaging:
                answer = Ensemble(folds, equal, self.averaging).mean(X)
            mean = mean + weight * answer
            parts = [t.estimator for t in folds]
            # A single teacher is timed by its own predict_proba, without our checks.
            own = len(parts) == 1 and not learns_codes(parts[0])
            call = parts[0].predict_proba if own else alone.predict_proba
            found.append(ComparedModel(name, "teacher", proba, X, call, parts))
        proba = to_proba(mean, self.averaging)
        if len(found) == 1:
            return [*found, replace(found[0], name="ensemble", role="ensemble", proba=proba)]
        folds = [fold for _, folds in self.members for fold in folds]
        sizes = np.array([len(folds) for _, folds in self.members])
        whole = Ensemble(folds, np.repeat(self.weights / sizes, sizes), self.averaging)
        parts = [t.estimator for t in whole.teachers]
        return [*found, ComparedModel("ensemble", "ensemble", proba, X, whole.predict_proba, parts)]

    def calibrated(self, ensemble: ComparedModel) -> ComparedModel | None:
        """Return the ensemble with the confidence that the student learned, if it is another."""
        if self.calibration_temperature == 1:
            return None
        proba = temper(ensemble.proba, self.calibration_temperature)
        return replace(ensemble, name="calibrated ensemble", role="calibrated", proba=proba)


def find_teachers(found: FoundStudent, X: Any, teachers: Sequence[Any] | None) -> TeacherEnsemble:
    """Gather the teachers that were passed, or those the student kept; prepared X checks them."""
    student, classes = found.estimator, found.model.classes_
    if teachers is None:
        student, named = _kept(found)
        fitted = student.teachers_
    else:
        named = name_teachers(teachers, fitted=True)
        fitted = [n.estimator for n in named]
    pairs = zip(named, fitted, strict=True)
    members = [(n.name, _adapters(n, answering, classes, X)) for n, answering in pairs]
    in_sample = []
    # All prefit teachers answered as they were, of others the frozen ones.
    if student is not None and student.teachers is not None and not is_self(student.teachers):
        in_sample = [n.name for n in named if is_prefit(student.cv) or is_shared(n.estimator)]
    calibrated = teachers is None and not in_sample
    return TeacherEnsemble(
        members,
        _weights_of(student, len(named)),
        resolve_averaging(getattr(student, "averaging", "auto"), named),
        in_sample,
        getattr(student, "calibration_temperature_", 1.0) if calibrated else 1.0,
    )


def _weights_of(student: DistilledClassifier | None, n_teachers: int) -> np.ndarray:
    """Return the weights that `fit` settled on; for other teachers those of the parameter."""
    learnt = getattr(student, "teacher_weights_", None)
    if learnt is not None and len(learnt) == n_teachers:
        return learnt
    weights = check_teacher_weights(getattr(student, "teacher_weights", None), n_teachers)
    # A rule has no labels to go by here.
    return np.full(n_teachers, 1 / n_teachers) if isinstance(weights, str) else weights


def _kept(found: FoundStudent) -> tuple[DistilledClassifier, list[Entry]]:
    """Return the student with the teachers that it kept, or say why there are none."""
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
    if student.teachers is not None:
        return student, name_teachers(student.teachers)
    first = student.teachers_[0][0]
    label = f"the default teacher ({type(first).__name__})"
    return student, [Entry("default teacher", first, label)]


def _adapters(named: Entry, fitted: Any, classes: np.ndarray, X: Any) -> list[Teacher]:
    """Return the adapter of a teacher, or one for each of its fold clones."""
    if not isinstance(fitted, list):
        return [Teacher(replace(named, estimator=fitted), classes, X)]
    adapters = []
    for fold, estimator in enumerate(fitted):
        one = replace(named, estimator=estimator, label=f"{named.label}, fold {fold}")
        own = classes if learns_codes(estimator) else None
        adapters.append(Teacher(one, classes, X, own_classes=own, allow_missing=True))
    return adapters
