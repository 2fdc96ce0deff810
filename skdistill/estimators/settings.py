"""The parameters of a distilled estimator, checked, and sorted by who uses them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import numpy as np

from skdistill.estimators.parameters import check_parameters
from skdistill.estimators.pickling import TRAINING_ONLY, LeftBehind
from skdistill.teachers.hints import ActiveHint, student_layer
from skdistill.teachers.left_behind import TeachersLeftBehind
from skdistill.teachers.naming import Named, is_prefit, is_self, is_smooth
from skdistill.teachers.sources import TeacherSpec
from skdistill.training.spec import StudentSpec

__all__ = ["Settings"]

Spec = TypeVar("Spec")

# Training that goes on from a network and given soft targets has no use for these.
_FOR_A_START = ("cv", "memory", "student_module")


@dataclass(frozen=True)
class Settings:
    """What the constructor was given: about the teachers, the student, and the rows between them.

    Attributes
    ----------
    owner : str
        The name of the estimator, for errors.
    teachers : TeacherSpec
    student : StudentSpec
    preprocessor, numerical_embedding, n_bins
        What the student reads of X.
    early_stopping, validation_fraction
        Whether rows are held out, and how many.
    """

    owner: str
    teachers: TeacherSpec
    student: StudentSpec
    preprocessor: Any
    numerical_embedding: str | None
    n_bins: int
    early_stopping: bool
    validation_fraction: float

    @classmethod
    def read(cls, owner: str, params: dict[str, Any], *, teachers_needed: bool = True) -> Self:
        """Check the parameters, and that none that is needed was left behind by pickling."""
        skip = () if teachers_needed else _FOR_A_START
        _refuse_left_behind(params, skip, teachers_needed)
        check_parameters(owner, params, skip)
        own = {"owner", "teachers", "student"}
        settings = cls(
            owner=owner,
            teachers=_picked(TeacherSpec, params),
            student=_picked(StudentSpec, params),
            **{f.name: params[f.name] for f in fields(cls) if f.name not in own},
        )
        settings.check_self_taught()
        return settings

    @property
    def self_taught(self) -> bool:
        """Whether the student is its own teacher."""
        return is_self(self.teachers.teachers)

    @property
    def has_hints(self) -> bool:
        """Whether there is a hint with a weight."""
        return any(hint.weight > 0 for hint in self.teachers.hints or ())

    def bins_beside(self, named: Sequence[Named]) -> int | None:
        """Return the bins of a column, or None where the network sees numbers as they are."""
        if self.numerical_embedding is None or self.student.student_module is not None:
            return None
        smooth = bool(named) and all(is_smooth(n.estimator) for n in named)
        return None if smooth and self.numerical_embedding == "auto" else self.n_bins

    def for_batches(self) -> "Settings":
        """Return the settings of a batch, where synthetic rows are made only if asked for."""
        if self.teachers.augment != "auto":
            return self
        return replace(self, teachers=replace(self.teachers, augment=None))

    def refuse_hints(self, method: str) -> None:
        """Raise where rows come piece by piece, and no layer of a teacher with them."""
        if self.has_hints:
            raise ValueError(
                f"{method} does not support hints: the layers of the teachers are not part of "
                "what it is given. Pass hints=None, or use fit."
            )

    def check_hints(self, hints: Sequence[ActiveHint]) -> None:
        """Raise, before a teacher is asked, where a hint names a layer that the network has not."""
        sizes = self.student.hidden_layer_sizes
        if self.student.student_module is None:
            layers = range(2 if isinstance(sizes, str) else len(sizes))
            for asked in hints:
                student_layer(asked, layers)

    def check_self_taught(self, **given: Any) -> None:
        """Raise where a student without teachers has nobody to learn from, or is given theirs."""
        if not self.self_taught:
            return
        if self.student.alpha > 0 and self.student.self_distillation == 0:
            raise ValueError(
                "teachers='self' needs self_distillation > 0: with 0 nobody teaches the student. "
                "Pass self_distillation=0.5, or alpha=0 for a plain student."
            )
        of_teachers = {
            "teacher_weights": self.teachers.teacher_weights,
            "hints": self.teachers.hints if self.has_hints else None,
            **given,
        }
        for name, value in of_teachers.items():
            if value is not None:
                raise ValueError(
                    f"{name} has no place beside teachers='self', where a row's target is its own "
                    f"label and the student's earlier answer. Pass teachers=[...], or {name}=None."
                )

    def check_without_labels(self, teacher_proba: Any) -> None:
        """Raise where nothing but labels could teach."""
        if self.self_taught:
            reason = "teachers='self' takes the labels as its first targets"
        elif self.early_stopping:
            reason = "early_stopping=True compares the epochs on labels"
        elif not is_prefit(self.teachers.cv):
            reason = f"cv={self.teachers.cv!r} fits the teachers inside fit"
        elif self.teachers.teachers is None and teacher_proba is None:
            reason = "only prefit teachers can label rows"
        else:
            return
        raise ValueError(
            f"{self.owner} requires y to be passed, but the target y is None: {reason}. "
            "Pass y, or prefit teachers with early_stopping=False."
        )

    def check_loss(self, labelled: bool, classes: np.ndarray) -> None:
        """Raise where the decoupled loss has nothing to decouple, before any teacher is asked."""
        if self.student.loss != "dkd" or (labelled and len(classes) > 2):
            return
        reason = (
            f"there are {len(classes)} classes, so beside the label's a single one is left"
            if labelled
            else "there is no y"
        )
        raise ValueError(
            f"loss='dkd' splits the divergence by the label's class, and {reason}. Use loss='kl'."
        )


def _picked(kind: type[Spec], params: dict[str, Any]) -> Spec:
    """Make a specification of the parameters that bear the names of its fields."""
    return kind(**{f.name: params[f.name] for f in fields(kind)})  # type: ignore[arg-type]


def _refuse_left_behind(params: dict[str, Any], skip: tuple[str, ...], teachers: bool) -> None:
    """Raise where a value that is needed was left behind by pickling."""
    left = [params[name] for name in TRAINING_ONLY if name not in skip]
    left = [value for value in left if isinstance(value, LeftBehind)]
    if teachers and isinstance(params["teachers"], TeachersLeftBehind):
        also = ", ".join(value.parameter for value in left)
        words = f" Left behind too, and to be set again: {also}." if left else ""
        raise ValueError(params["teachers"].refusal() + words)
    if left:
        raise ValueError(left[0].refusal())
