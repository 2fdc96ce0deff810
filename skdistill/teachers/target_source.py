"""What every source of soft targets does: check what is asked of it, label rows, show layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill.tables.frames import n_rows
from skdistill.tables.rows import Rows
from skdistill.tables.warn import warn_user
from skdistill.teachers.asking import Teacher, as_teacher
from skdistill.teachers.ensemble import Ensemble, resolve_averaging
from skdistill.teachers.hidden import HiddenAnswers, answers_of_folds, check_layer, stack_answers
from skdistill.teachers.hints import ActiveHint, Hint, active_hints
from skdistill.teachers.naming import Named, is_frozen
from skdistill.teachers.pooling import SoftTargets, check_teacher_weights
from skdistill.teachers.transfer import TransferRows

__all__ = ["TargetSource", "TeacherSpec"]


@dataclass(frozen=True)
class TeacherSpec:
    """What the parameters of a distilled estimator say about its teachers."""

    teachers: Any = None
    cv: Any = "prefit"
    averaging: str = "auto"
    teacher_weights: Any = None
    calibration: str | None = "auto"
    augment: Any = "auto"
    n_synthetic: int | str = "auto"
    hints: Sequence[Hint] | None = None
    n_jobs: int | None = None
    memory: Any = None


class TargetSource:
    """Labels rows with soft targets; made by `choose_source`.

    Attributes
    ----------
    spec : TeacherSpec
        What the parameters say.
    named : list of Named
        The teachers.
    classes : array of shape (k,) or None
        The student's classes, in whose order the columns stand; known when rows are labelled.
    ensemble : Ensemble or None
        The fitted teachers, which label further rows.
    makes_synthetic_rows : bool
        What ``augment="auto"`` means.
    """

    makes_synthetic_rows = False

    def __init__(
        self, spec: TeacherSpec, named: Sequence[Named], classes: np.ndarray | None = None
    ) -> None:
        self.spec, self.named, self.classes = spec, list(named), classes
        self.ensemble: Ensemble | None = None

    @property
    def hints(self) -> list[ActiveHint]:
        """The hints that have a weight."""
        if not self.spec.hints:
            return []
        return active_hints(self.spec.hints, [n.name for n in self.named])

    @property
    def can_label_further(self) -> bool:
        """Whether rows that `fit` did not name can be labelled."""
        return self.ensemble is not None

    @property
    def temperature(self) -> float:
        """By what the answers to further rows are calibrated."""
        return 1.0 if self.ensemble is None else self.ensemble.temperature

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Return the soft target of every row of `fit`."""
        weights = check_teacher_weights(self.spec.teacher_weights, len(self.named))
        if isinstance(weights, str):
            self._check_rule(weights, rows)
        for hint in self.hints:
            teacher = self.named[hint.teacher]
            check_layer(teacher.estimator, teacher.label, hint)
            self.check_hint(hint)
        self.classes = rows.classes
        return self._label(rows, rng, weights)

    def label_further(self, X: Any) -> np.ndarray:
        """Return the probabilities of rows that `fit` did not name."""
        if self.ensemble is None:
            raise ValueError(
                "There is no teacher that could label this batch: none was kept when the student "
                "was trained. Pass teacher_proba, or prefit teachers, or alpha=0."
            )
        return self.ensemble.predict_proba(X)

    def hidden(
        self, rows: Rows, targets: SoftTargets, transfer: Sequence[TransferRows]
    ) -> list[HiddenAnswers]:
        """Return the layers that the hints name, for the rows of `fit` and the transfer rows."""
        return [self._hidden(asked, rows, targets, transfer) for asked in self.hints]

    def _label(
        self, rows: Rows, rng: np.random.RandomState, weights: np.ndarray | str
    ) -> SoftTargets:
        """Return the soft targets, after the checks."""
        raise NotImplementedError

    @property
    def _averaging(self) -> str:
        return resolve_averaging(self.spec.averaging, self.named)

    @property
    def as_they_are(self) -> list[str]:
        """The labels of the teachers that may have seen the rows."""
        return [n.label for n in self.named if is_frozen(n.estimator)]

    def _check_rule(self, rule: str, rows: Rows) -> None:
        """Raise where a rule has no labels to go by; warn where teachers may have seen them."""
        if rows.code is None:
            raise ValueError(
                f"teacher_weights={rule!r} compares the teachers with y, and y is None. Pass y, "
                "or numbers."
            )
        if rule == "validation" and self.as_they_are:
            warn_user(
                f"{', '.join(self.as_they_are)} answer as they are: teacher_weights='validation' "
                "assumes that they did not see X, otherwise the one that memorised most gets the "
                "weight. Pass unfitted teachers and cv=5 to weigh them on rows they did not see."
            )

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise where the teachers cannot give this hint."""

    def _hidden(
        self,
        asked: ActiveHint,
        rows: Rows,
        targets: SoftTargets,
        transfer: Sequence[TransferRows],
    ) -> HiddenAnswers:
        """Ask one teacher, or each fold's clone about its rows and a share of the further ones."""
        teachers, fold = self._teachers_of(asked, rows, targets)
        answers = [answers_of_folds(teachers, fold, asked, rows.X)]
        for further in transfer:
            fold = np.arange(n_rows(further.X)) % len(teachers)
            answers.append(answers_of_folds(teachers, fold, asked, further.X))
        return stack_answers(answers)

    def _teachers_of(
        self, asked: ActiveHint, rows: Rows, targets: SoftTargets
    ) -> tuple[list[Teacher], np.ndarray]:
        """Return the teachers that answer a hint, and which of them answers each row."""
        teacher = as_teacher(self.named[asked.teacher], rows.classes)
        return [teacher], np.zeros(len(rows.weight), dtype=int)
