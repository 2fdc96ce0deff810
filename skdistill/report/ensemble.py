"""The teachers of a student: each by itself, and all as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.report.compared import ComparedModel, FoundStudent
from skdistill.teachers.asking import Teacher, as_teacher
from skdistill.teachers.ensemble import Ensemble, resolve_averaging
from skdistill.teachers.fitting import learns_codes
from skdistill.teachers.left_behind import TeachersLeftBehind
from skdistill.teachers.naming import Named, check_fitted, is_frozen, is_self, name_teachers
from skdistill.teachers.pooling import check_teacher_weights, temper, to_proba

__all__ = ["TeacherEnsemble", "find_teachers"]


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
        named = name_teachers(teachers)
        for teacher in named:
            check_fitted(teacher)
        members = [(n.name, [as_teacher(n, classes, X)]) for n in named]
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


def _in_sample(student: DistilledClassifier, named: Sequence[Named]) -> list[str]:
    """Name the teachers that answered as they were: all prefit ones, else the frozen ones."""
    if student.teachers is None or is_self(student.teachers):
        return []
    prefit = isinstance(student.cv, str) and student.cv == "prefit"
    return [n.name for n in named if prefit or is_frozen(n.estimator)]
