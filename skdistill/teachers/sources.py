"""Where soft targets come from: chosen once, asked for the rows of `fit`, and for further ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill.tables.frames import n_rows
from skdistill.tables.rows import Rows, warn_user
from skdistill.teachers.asking import Teacher, as_teacher
from skdistill.teachers.ensemble import (
    Ensemble,
    SoftTargets,
    ask_each,
    check_teacher_weights,
    pool,
    resolve_averaging,
    weights_without_labels,
)
from skdistill.teachers.hidden import HiddenAnswers, answers_of_folds, check_layer, stack_answers
from skdistill.teachers.hints import ActiveHint, Hint, active_hints
from skdistill.teachers.naming import Named, is_frozen
from skdistill.teachers.progress import stage
from skdistill.teachers.transfer import TransferRows


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


class Prefit(TargetSource):
    """Teachers that are fitted already and answer as they are."""

    makes_synthetic_rows = True

    @property
    def can_label_further(self) -> bool:
        """Whether there are teachers; they need not have labelled any row before."""
        return bool(self.named)

    @property
    def as_they_are(self) -> list[str]:
        """The labels of the teachers that may have seen the rows."""
        return [n.label for n in self.named]

    def label_further(self, X: Any) -> np.ndarray:
        """Return the probabilities of rows that `fit` did not name."""
        if self.ensemble is None and self.named:
            self.gather()
        return super().label_further(X)

    def gather(self) -> None:
        """Make the teachers ready to label rows without a label."""
        weights = weights_without_labels(self.spec.teacher_weights, len(self.named))
        teachers = [as_teacher(n, self.classes) for n in self.named]
        self.ensemble = Ensemble(teachers, weights, self._averaging, self.spec.memory)

    def _label(
        self, rows: Rows, rng: np.random.RandomState, weights: np.ndarray | str
    ) -> SoftTargets:
        """Ask the teachers, and look whether their answers can teach anything."""
        averaging, memory = self._averaging, self.spec.memory
        teachers = [as_teacher(n, rows.classes, rows.X) for n in self.named]
        with stage("asking the teachers"):
            if isinstance(weights, str):
                assert rows.code is not None
                answers = ask_each(teachers, rows.X, averaging, memory)
                targets = pool(answers, weights, averaging, rows.code, rows.weight)
                assert targets.weights is not None
                self.ensemble = Ensemble(teachers, targets.weights, averaging, memory)
            else:
                self.ensemble = Ensemble(teachers, weights, averaging, memory)
                proba = self.ensemble.predict_proba(rows.X)
                targets = SoftTargets(proba, np.ones(len(proba), dtype=bool), weights)
        _warn_if_hard(targets.proba)
        _warn_if_uninformed(targets.proba, rows)
        targets.known[:] = True
        targets.fitted = [n.estimator for n in self.named]
        return targets


class Given(TargetSource):
    """Soft targets obtained elsewhere; the teachers they replace are asked about further rows."""

    def __init__(self, replaced: TargetSource) -> None:
        super().__init__(replaced.spec, replaced.named, replaced.classes)
        self.replaced = replaced
        self.makes_synthetic_rows = replaced.makes_synthetic_rows

    @property
    def can_label_further(self) -> bool:
        """Whether the teachers are fitted: beside given targets none is."""
        return self.replaced.can_label_further

    @property
    def as_they_are(self) -> list[str]:
        """The labels of the teachers that may have seen the rows."""
        return self.replaced.as_they_are

    def label_further(self, X: Any) -> np.ndarray:
        """Return the probabilities of rows that `fit` did not name."""
        return self.replaced.label_further(X)

    def _label(
        self, rows: Rows, rng: np.random.RandomState, weights: np.ndarray | str
    ) -> SoftTargets:
        """Return the targets that were given, and check the teachers that label further rows."""
        self.replaced.classes = rows.classes
        fitted = []
        if isinstance(self.replaced, Prefit):
            self.replaced.gather()
            fitted = [n.estimator for n in self.named]
        return SoftTargets(rows.teacher_proba, np.ones(len(rows.weight), dtype=bool), fitted=fitted)

    def _check_rule(self, rule: str, rows: Rows) -> None:
        """Raise where a rule would compare answers that no teacher gives."""
        if rule == "validation" and rows.code is not None:
            raise ValueError(
                "teacher_weights='validation' compares each teacher's own answers with y, and "
                "teacher_proba stands in their place. Pass numbers, or leave teacher_proba out."
            )
        super()._check_rule(rule, rows)

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise where no teacher is fitted that could be asked for a layer."""
        self.replaced.check_hint(asked)
        frozen = is_frozen(self.named[asked.teacher].estimator)
        if not frozen and not isinstance(self.replaced, Prefit):
            raise ValueError(
                "Hints need teachers that are asked, and with teacher_proba none is fitted. Pass "
                "fitted teachers with cv='prefit', or leave teacher_proba out."
            )


class SelfTaught(TargetSource):
    """The student itself: the targets are the labels until it has an answer."""

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Return the labels as probabilities."""
        assert rows.code is not None
        assert rows.classes is not None
        proba = np.eye(len(rows.classes))[rows.code]
        return SoftTargets(proba, np.ones(len(proba), dtype=bool))


class Continued(TargetSource):
    """Teachers that labelled earlier rows, and label a later batch as further rows."""

    def __init__(self, spec: TeacherSpec, source: TargetSource | None, classes: np.ndarray) -> None:
        super().__init__(spec, [], classes)
        self.source = source

    @property
    def can_label_further(self) -> bool:
        """Whether a teacher was kept."""
        return self.source is not None and self.source.can_label_further

    def label_further(self, X: Any) -> np.ndarray:
        """Return the probabilities of rows that `fit` did not name."""
        if self.source is None:
            return super().label_further(X)
        return self.source.label_further(X)

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Return the targets that were given, or the answers of the teachers as they are."""
        known = np.ones(len(rows.weight), dtype=bool)
        if rows.teacher_proba is not None:
            return SoftTargets(rows.teacher_proba, known)
        proba = self.label_further(rows.X)
        assert self.source is not None
        return SoftTargets(proba, known, temperature=self.source.temperature)


def _warn_if_hard(proba: np.ndarray) -> None:
    """Warn when most soft targets are exactly one-hot: no temperature softens them."""
    share = float((proba.max(axis=1) == 1).mean())
    if share > 0.5:
        warn_user(
            f"{share:.0%} of the teachers' answers are exactly 0 or 1, which no temperature "
            "softens: the student learns little more than labels. Pass cv=5 to have the teachers "
            "answer rows they did not see, or teachers that memorise less."
        )


def _warn_if_uninformed(proba: np.ndarray, rows: Rows) -> None:
    """Warn when prefit teachers agree with y no better than always naming the largest class."""
    if rows.code is None or rows.code.min() == rows.code.max():
        return
    weight = rows.weight / rows.weight.sum()
    agreement = float(weight @ (proba.argmax(axis=1) == rows.code))
    majority = float(np.bincount(rows.code, weights=weight).max())
    if agreement <= majority + 1e-9:
        warn_user(
            f"The teachers agree with y on {agreement:.1%} of the rows; always naming the largest "
            f"class agrees on {majority:.1%}. Were the teachers fitted on X as it arrives here? A "
            "scaler in front of DistilledClassifier changes what they see: put it into the "
            "teachers' own Pipelines, and let DistilledClassifier scale for the student."
        )
