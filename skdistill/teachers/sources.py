"""Where soft targets come from: asked once for the rows of `fit`, and for further ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill.tables import Rows, n_rows, warn_user
from skdistill.tables.synthetic import AUGMENTERS
from skdistill.teachers.asking import Ensemble, Teacher, resolve_averaging
from skdistill.teachers.hidden import HintAnswers, answers_of_folds, check_layer
from skdistill.teachers.hints import ActiveHint, Hint, active_hints
from skdistill.teachers.naming import Entry, is_shared
from skdistill.teachers.pooling import (
    SoftTargets,
    check_teacher_weights,
    pool,
    weights_without_labels,
)
from skdistill.teachers.progress import stage, track

# n_synthetic="auto"
_ROWS_PER_ROW, _MOST_SYNTHETIC = 5, 100_000


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

    def count_synthetic(self, n: int) -> int:
        """Return how many synthetic rows are made for n rows."""
        if not isinstance(self.n_synthetic, str):
            return int(self.n_synthetic)
        return min(_ROWS_PER_ROW * n, max(n, _MOST_SYNTHETIC))


@dataclass
class TransferRows:
    """Raw rows that only the teachers label, and the soft targets that they gave them.

    ``shapes_inputs`` tells whether the student's preparation of columns is learned from them too.
    """

    X: Any
    proba: np.ndarray
    shapes_inputs: bool


class TargetSource:
    """Labels rows with soft targets; made by `choose_source`.

    Attributes
    ----------
    spec : TeacherSpec
        What the parameters say.
    named : list of Entry
        The teachers.
    classes : array of shape (k,) or None
        The student's classes, in whose order the columns stand; known when rows are labelled.
    ensemble : Ensemble or None
        The fitted teachers, which label further rows.
    prefit : bool
        Whether the teachers are fitted already: they label any rows, and ``augment="auto"`` has
        some made.
    """

    prefit = False

    def __init__(self, spec: TeacherSpec, named: Sequence[Entry]) -> None:
        self.spec, self.named = spec, list(named)
        self.classes: np.ndarray | None = None
        self.ensemble: Ensemble | None = None

    @property
    def hints(self) -> list[ActiveHint]:
        """The hints that have a weight."""
        return active_hints(self.spec.hints or (), [n.name for n in self.named])

    @property
    def averaging(self) -> str:
        """The space in which the teachers are averaged."""
        return resolve_averaging(self.spec.averaging, self.named)

    @property
    def as_they_are(self) -> list[str]:
        """The labels of the teachers that may have seen the rows."""
        return [n.label for n in self.named if self.prefit or is_shared(n.estimator)]

    @property
    def can_label_further(self) -> bool:
        """Whether rows that `fit` did not name can be labelled."""
        return bool(self.named) if self.prefit else self.ensemble is not None

    def labeller(self) -> Ensemble:
        """Return what labels rows that `fit` did not name."""
        if self.ensemble is None and self.prefit:
            weights = weights_without_labels(self.spec.teacher_weights, len(self.named))
            teachers = [Teacher(n, self.classes) for n in self.named]
            self.ensemble = Ensemble(teachers, weights, self.averaging, self.spec.memory)
        if self.ensemble is None:
            raise ValueError(
                "There is no teacher that could label this batch: none was kept when the student "
                "was trained. Pass teacher_proba, or prefit teachers, or alpha=0."
            )
        return self.ensemble

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Return the soft target of every row of `fit`."""
        raise NotImplementedError

    def check(self, rows: Rows) -> np.ndarray | str:
        """Check weights and hints before any teacher is asked; return the weights, or a rule."""
        weights = check_teacher_weights(self.spec.teacher_weights, len(self.named))
        if isinstance(weights, str):
            self.check_rule(weights, labelled=rows.code is not None)
        for hint in self.hints:
            teacher = self.named[hint.teacher]
            check_layer(teacher.estimator, teacher.label, hint)
            self.check_hint(hint)
        self.classes = rows.classes
        return weights

    def check_rule(self, rule: str, *, labelled: bool) -> None:
        """Raise where a rule has nothing to compare; warn where teachers may have seen the rows."""
        if not labelled:
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

    def transfer_rows(
        self, rows: Rows, held: np.ndarray, rng: np.random.RandomState
    ) -> list[TransferRows]:
        """Label a transfer set and synthetic rows; rows that are held out shape none of these."""
        transfer = []
        if rows.X_unlabeled is not None:
            if not self.can_label_further:
                raise ValueError(
                    "X_unlabeled needs teachers that label it: teacher_proba covers the rows of X "
                    "only. Pass teachers=[...] with cv='prefit'."
                )
            with stage("asking about unlabelled rows"):
                proba = self.labeller().predict_proba(rows.X_unlabeled)
            transfer.append(TransferRows(rows.X_unlabeled, proba, shapes_inputs=True))
        augmenter = self.augmenter()
        if augmenter is not None:
            train = rows.take(np.flatnonzero((rows.weight > 0) & ~held))
            n = self.spec.count_synthetic(len(train.weight))
            with stage("making synthetic rows"):
                X = augmenter(train.X, n, sample_weight=train.weight, random_state=rng)
            with stage("asking about synthetic rows"):
                proba = self.labeller().predict_proba(X)
            transfer.append(TransferRows(X, proba, shapes_inputs=False))
        return transfer

    def augmenter(self) -> Callable[..., Any] | None:
        """Return what makes synthetic rows, if any are wanted."""
        augment = self.spec.augment
        if augment is None or self.spec.n_synthetic == 0:
            return None
        if augment == "auto":
            return AUGMENTERS["munge"] if self.prefit else None
        if not self.can_label_further:
            raise ValueError(
                f"augment={augment!r} needs teachers that label synthetic rows. Pass "
                "teachers=[...] with cv='prefit', or augment=None."
            )
        return AUGMENTERS[augment] if isinstance(augment, str) else augment

    def hidden(self, rows: Rows, transfer: Sequence[TransferRows]) -> list[HintAnswers]:
        """Return the layers that the hints name, for the rows of `fit` and the transfer rows."""
        found = []
        for asked in self.hints:
            teachers, fold = self.teachers_of(asked, rows)
            # The folds' clones share the transfer rows among them.
            tables = [(t.X, np.arange(n_rows(t.X)) % len(teachers)) for t in transfer]
            tables = [(rows.X, fold), *tables]
            found.append(
                HintAnswers.stack([answers_of_folds(teachers, f, asked, X) for X, f in tables])
            )
        return found

    def teachers_of(self, asked: ActiveHint, rows: Rows) -> tuple[list[Teacher], np.ndarray]:
        """Return the teachers that answer a hint, and which of them answers each row."""
        teacher = Teacher(self.named[asked.teacher], rows.classes)
        return [teacher], np.zeros(len(rows.weight), dtype=int)


class Prefit(TargetSource):
    """Teachers that are fitted already and answer as they are."""

    prefit = True

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Ask the teachers, and look whether their answers can teach anything."""
        weights = self.check(rows)
        averaging, memory = self.averaging, self.spec.memory
        teachers = [Teacher(n, rows.classes, rows.X) for n in self.named]
        with stage("asking the teachers"):
            if isinstance(weights, str):
                assert rows.code is not None
                alone = [Ensemble([t], np.ones(1), averaging, memory) for t in teachers]
                answers = [one.mean(rows.X) for one in track("teacher", alone, len(alone))]
                targets = pool(answers, weights, averaging, rows.code, rows.weight)
                assert targets.weights is not None
                self.ensemble = Ensemble(teachers, targets.weights, averaging, memory)
            else:
                self.ensemble = Ensemble(teachers, weights, averaging, memory)
                proba = self.ensemble.predict_proba(rows.X)
                targets = SoftTargets(proba, np.ones(len(proba), dtype=bool), weights)
        _warn_if_hard(targets.proba)
        _warn_if_uninformed(targets.proba, rows)
        targets.fitted = [n.estimator for n in self.named]
        return targets


class Given(TargetSource):
    """Targets obtained elsewhere; fitted teachers label further rows beside them."""

    def __init__(self, spec: TeacherSpec, named: Sequence[Entry], *, prefit: bool = False) -> None:
        super().__init__(spec, named)
        self.prefit = prefit

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Return the targets that were given."""
        if self.named:  # a batch after the first names no teacher that could be checked
            self.check(rows)
        fitted = []
        if self.prefit:
            self.labeller()
            fitted = [n.estimator for n in self.named]
        return SoftTargets(rows.teacher_proba, np.ones(len(rows.weight), dtype=bool), fitted=fitted)

    def check_rule(self, rule: str, *, labelled: bool) -> None:
        """Raise where a rule needs answers in whose place the targets stand."""
        if rule == "validation":
            raise ValueError(
                "teacher_weights='validation' compares each teacher's own answers with y, and "
                "teacher_proba stands in their place. Pass numbers, or leave teacher_proba out."
            )
        super().check_rule(rule, labelled=labelled)

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise where the teacher is not fitted and will not be."""
        if not self.prefit and not is_shared(self.named[asked.teacher].estimator):
            raise ValueError(
                "Hints need teachers that are asked, and with teacher_proba none is fitted. "
                "Pass fitted teachers with cv='prefit', or leave teacher_proba out."
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

    def __init__(self, spec: TeacherSpec, source: TargetSource | None) -> None:
        super().__init__(spec, [])
        self.source = source

    @property
    def can_label_further(self) -> bool:
        """Whether a teacher was kept."""
        return self.source is not None and self.source.can_label_further

    def labeller(self) -> Ensemble:
        """Return what labels rows that `fit` did not name."""
        return super().labeller() if self.source is None else self.source.labeller()

    def label(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Return the answers of the teachers as they are."""
        ensemble = self.labeller()
        proba, known = ensemble.predict_proba(rows.X), np.ones(len(rows.weight), dtype=bool)
        return SoftTargets(proba, known, calibration_temperature=ensemble.calibration_temperature)


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
