"""The models that are compared, and how the student's side of them is found and trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.student import StudentClassifier, TorchStudent
from skdistill.teachers.asking import as_teacher
from skdistill.teachers.naming import Named

__all__ = ["Classifier", "ComparedModel", "FoundStudent", "find_student", "plain_student"]


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
    proba = as_teacher(Named("baseline", baseline, label), classes, X).ask(X)
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
