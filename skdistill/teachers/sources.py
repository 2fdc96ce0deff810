"""Labelling: how the rows of `fit` and further ones get their soft targets."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skdistill.tables.folds import distinct_row_folds
from skdistill.tables.frames import n_rows, take_rows
from skdistill.tables.rows import Rows
from skdistill.tables.synthetic import AUGMENTERS
from skdistill.teachers.asking import Teacher, as_teacher
from skdistill.teachers.calibration import sharpening_temperature
from skdistill.teachers.hidden import (
    HiddenAnswers,
    answers_of_folds,
    check_layer,
    hidden_answers,
    shows_units,
    stack_answers,
)
from skdistill.teachers.hints import ActiveHint
from skdistill.teachers.naming import Named, is_frozen
from skdistill.teachers.pooling import check_teacher_weights, pool, weights_without_labels
from skdistill.teachers.progress import stage
from skdistill.teachers.targets import (
    Ensemble,
    SoftTargets,
    answer_cache,
    ask_each,
    cross_fit,
    out_of_bag,
    resolve_averaging,
)
from skdistill.training.data import ExtraRows

__all__ = ["Labeller"]

# n_synthetic="auto"
_ROWS_PER_ROW, _MOST_SYNTHETIC = 5, 100_000


@dataclass(frozen=True)
class Labeller:
    """The teachers of a classifier, and what its parameters say about asking them.

    Attributes
    ----------
    named : list of Named
        The teachers; none where the student is its own.
    prefit : bool
        Whether they are asked as they are.
    default : bool
        Whether they are the default teacher, which is cross-fitted in any case.
    weighted : list of bool
        Which of them get the sample weights when they are fitted.
    cv, averaging, teacher_weights, calibration, augment, n_synthetic, n_jobs, memory
        The parameters of the classifier.
    hints : list of ActiveHint
        The hints that have a weight.
    """

    named: list[Named]
    prefit: bool
    default: bool
    weighted: list[bool]
    cv: Any
    averaging: str
    teacher_weights: Any
    calibration: str | None
    augment: Any
    n_synthetic: Any
    n_jobs: Any
    memory: Any
    hints: Sequence[ActiveHint] = ()

    def soft_targets(self, rows: Rows, rng: np.random.RandomState) -> SoftTargets:
        """Ask the teachers for the soft target of every row, in the way that `cv` says.

        Where the student is its own teacher, the targets are the labels until it has an answer.
        """
        if not self.named:
            assert rows.code is not None
            assert rows.classes is not None
            proba = np.eye(len(rows.classes))[rows.code]
            return SoftTargets(proba, np.ones(len(proba), dtype=bool), None)
        weights = check_teacher_weights(self.teacher_weights, len(self.named))
        if isinstance(weights, str):
            self._check_rule(weights, rows)
        for hint in self.hints:
            teacher = self.named[hint.teacher]
            check_layer(teacher.estimator, teacher.label, hint)
            self._check_kind(hint, rows)
        averaging = resolve_averaging(self.averaging, self.named)
        if rows.teacher_proba is not None:
            known = np.ones(len(rows.weight), dtype=bool)
            ensemble = self._given_ensemble(rows, weights, averaging)
            asked = [] if ensemble is None else [n.estimator for n in self.named]
            return SoftTargets(rows.teacher_proba, known, ensemble, asked)
        if self.prefit and not self.default:
            return self._ask_prefit(rows, weights, averaging)
        assert rows.code is not None
        assert rows.classes is not None
        _warn_about_frozen(self.named)
        settings: dict[str, Any] = {"classes": rows.classes, "code": rows.code}
        settings |= {"averaging": averaging, "weights": weights, "weighted": self.weighted}
        settings["rng"] = rng
        y = rows.classes[rows.code]
        weight = None if (rows.weight == 1).all() else rows.weight
        by_name = isinstance(self.cv, str) and self.cv in ("prefit", "oob")
        if by_name and not self.default:
            return self._calibrated(out_of_bag(self.named, rows.X, y, weight, **settings), rows)
        settings |= {"n_jobs": self.n_jobs, "memory": self.memory}
        # The default teacher needs folds nobody chose: such that weights act as repeated rows.
        folds = distinct_row_folds(rows.X, rows.code, rows.weight) if by_name else self.cv
        settings["cv"] = folds
        return self._calibrated(cross_fit(self.named, rows.X, y, weight, **settings), rows)

    def prefit_ensemble(self, classes: np.ndarray) -> Ensemble | None:
        """Return the teachers as they are, able to label rows; None where `fit` would fit them."""
        if self.default or not self.prefit:
            return None
        weights = weights_without_labels(self.teacher_weights, len(self.named))
        averaging = resolve_averaging(self.averaging, self.named)
        return Ensemble([as_teacher(n, classes) for n in self.named], weights, averaging)

    def _calibrated(self, targets: SoftTargets, rows: Rows) -> SoftTargets:
        """Set the confidence of targets right that come from teachers that did not see the row."""
        used = targets.known & (rows.weight > 0)
        seen = any(is_frozen(n.estimator) for n in self.named)
        if self.calibration is None or seen or not used.any():
            return targets
        assert rows.code is not None
        temperature = sharpening_temperature(
            targets.proba[used], rows.code[used], rows.weight[used]
        )
        return targets.tempered(temperature)

    def _check_rule(self, rule: str, rows: Rows) -> None:
        """Raise where a rule has no labels or no answers to compare; warn where one is fooled."""
        if rows.code is None:
            raise ValueError(
                f"teacher_weights={rule!r} compares the teachers with y, and y is None. Pass y, "
                "or numbers."
            )
        if rule == "validation" and rows.teacher_proba is not None:
            raise ValueError(
                "teacher_weights='validation' compares each teacher's own answers with y, and "
                "teacher_proba stands in their place. Pass numbers, or leave teacher_proba out."
            )
        fitted = [n.label for n in self.named if self.prefit or is_frozen(n.estimator)]
        if rule == "validation" and fitted and not self.default:
            warnings.warn(
                f"{', '.join(fitted)} answer as they are: teacher_weights='validation' assumes "
                "that they did not see X, otherwise the one that memorised most gets the weight. "
                "Pass unfitted teachers and cv=5 to weigh them on rows they did not see.",
                UserWarning,
                stacklevel=6,
            )

    def _given_ensemble(
        self, rows: Rows, weights: np.ndarray | str, averaging: str
    ) -> Ensemble | None:
        """Return the prefit teachers that can label extra rows beside given soft targets."""
        if self.default or not self.prefit:
            return None
        if isinstance(weights, str):
            weights = weights_without_labels(weights, len(self.named))
        return Ensemble([as_teacher(n, rows.classes) for n in self.named], weights, averaging)

    def _ask_prefit(self, rows: Rows, weights: np.ndarray | str, averaging: str) -> SoftTargets:
        """Ask the teachers as they are, and look whether their answers can teach anything."""
        teachers = [as_teacher(n, rows.classes, rows.X) for n in self.named]
        with stage("asking the teachers"):
            if isinstance(weights, str):
                assert rows.code is not None
                answers = ask_each(teachers, rows.X, averaging)
                pooled = pool(answers, weights, averaging, rows.code, rows.weight)
                proba, weights = pooled.proba, pooled.weights
                ensemble = Ensemble(teachers, weights, averaging)
            else:
                ensemble = Ensemble(teachers, weights, averaging)
                proba = answer_cache.predict_proba(ensemble, rows.X)
        _warn_if_hard(proba)
        _warn_if_uninformed(proba, rows)
        known = np.ones(len(proba), dtype=bool)
        asked = [n.estimator for n in self.named]
        return SoftTargets(proba, known, ensemble, asked, weights)

    def extra_rows(
        self, rows: Rows, targets: SoftTargets, held: np.ndarray, rng: np.random.RandomState
    ) -> list[ExtraRows]:
        """Label the rows of a transfer set and the synthetic rows."""
        extra = []
        if rows.X_unlabeled is not None:
            if targets.ensemble is None:
                raise ValueError(
                    "X_unlabeled needs teachers that label it: teacher_proba covers the rows of X "
                    "only. Pass teachers=[...] with cv='prefit'."
                )
            with stage("asking about unlabelled rows"):
                proba = answer_cache.predict_proba(targets.ensemble, rows.X_unlabeled)
            extra.append(ExtraRows(rows.X_unlabeled, proba, shapes_inputs=True))
        augmenter = self.augmenter(targets)
        if augmenter is not None:
            assert targets.ensemble is not None
            train = rows.take(np.flatnonzero((rows.weight > 0) & ~held))
            n = self.count_synthetic(len(train.weight))
            with stage("making synthetic rows"):
                X = augmenter(train.X, n, sample_weight=train.weight, random_state=rng)
            with stage("asking about synthetic rows"):
                proba = answer_cache.predict_proba(targets.ensemble, X)
            extra.append(ExtraRows(X, proba, shapes_inputs=False))
        return extra

    def _check_kind(self, asked: ActiveHint, rows: Rows) -> None:
        """Raise where the folds' teachers would mix what cannot be compared."""
        if self.prefit and not self.default:
            return
        if isinstance(self.cv, str) and self.cv == "oob":
            raise ValueError(
                "Hints are not offered with cv='oob': a layer of a teacher that saw the row is no "
                "out-of-bag answer. Pass cv=5, or fitted teachers."
            )
        estimator = self.named[asked.teacher].estimator
        if is_frozen(estimator):
            return
        units = ("mse", "cosine", "attention") if shows_units(estimator) else ("mse", "cosine")
        if asked.hint.kind in units:
            raise ValueError(self._one_teacher_needed(asked))
        if rows.teacher_proba is not None:
            raise ValueError(
                "Hints need teachers that are asked, and with teacher_proba none is fitted. Pass "
                "fitted teachers with cv='prefit', or leave teacher_proba out."
            )

    def hidden(
        self, rows: Rows, targets: SoftTargets, extra: Sequence[ExtraRows]
    ) -> list[HiddenAnswers]:
        """Ask for the layers that the hints name, for the rows of `fit` and the extra ones."""
        return [self._hidden(asked, rows, targets, extra) for asked in self.hints]

    def _one_teacher_needed(self, asked: ActiveHint) -> str:
        """Say why the clones of the folds cannot give this hint."""
        return (
            f"{asked.where} of kind={asked.hint.kind!r} needs one teacher for all rows, and "
            f"cv={self.cv!r} fits one a fold, each with hidden units of its own. Use "
            "kind='relation', or fitted teachers with cv='prefit'."
        )

    def _hidden(
        self,
        asked: ActiveHint,
        rows: Rows,
        targets: SoftTargets,
        extra: Sequence[ExtraRows],
    ) -> HiddenAnswers:
        """Ask one teacher, or each fold's clone about its rows and a share of the extra ones."""
        named = self.named[asked.teacher]
        if targets.fold is None or is_frozen(named.estimator):
            teachers = [as_teacher(named, rows.classes)]
            fold = np.zeros(len(rows.weight), dtype=int)
        else:
            teachers, fold = targets.members[asked.teacher], targets.fold
            if asked.hint.kind == "attention":
                self._refuse_units(teachers[0], asked, rows)
        answers = [answers_of_folds(teachers, fold, asked, rows.X)]
        for e in extra:
            fold = np.arange(n_rows(e.X)) % len(teachers)
            answers.append(answers_of_folds(teachers, fold, asked, e.X))
        return stack_answers(answers)

    def _refuse_units(self, teacher: Teacher, asked: ActiveHint, rows: Rows) -> None:
        """Raise where an attention map is one of units, of which each clone has its own."""
        whole = asked._replace(hint=replace(asked.hint, kind="relation"))
        if hidden_answers(teacher, whole, take_rows(rows.X, np.array([0]))).ndim == 2:
            raise ValueError(self._one_teacher_needed(asked))

    def augmenter(self, targets: SoftTargets) -> Callable[..., Any] | None:
        """Return what makes synthetic rows, if any are wanted."""
        if self.augment is None or self.n_synthetic == 0:
            return None
        if self.augment == "auto":
            wanted = self.prefit and not self.default
            return AUGMENTERS["munge"] if wanted and targets.ensemble is not None else None
        if targets.ensemble is None:
            raise ValueError(
                f"augment={self.augment!r} needs teachers that label synthetic rows. Pass "
                "teachers=[...] with cv='prefit', or augment=None."
            )
        return AUGMENTERS[self.augment] if isinstance(self.augment, str) else self.augment

    def count_synthetic(self, n: int) -> int:
        """Return how many synthetic rows are made for n rows."""
        if not isinstance(self.n_synthetic, str):
            return int(self.n_synthetic)
        return min(_ROWS_PER_ROW * n, max(n, _MOST_SYNTHETIC))


def _warn_about_frozen(named: list[Named]) -> None:
    """Warn that frozen teachers may have seen the rows whose targets should be out-of-fold."""
    frozen = [n.label for n in named if is_frozen(n.estimator)]
    if frozen:
        warnings.warn(
            f"{', '.join(frozen)} cannot be fitted inside fit and answers as it is: its soft "
            "targets are not out-of-fold.",
            UserWarning,
            stacklevel=5,
        )


def _warn_if_hard(proba: np.ndarray) -> None:
    """Warn when most soft targets are exactly one-hot: no temperature softens them."""
    share = float((proba.max(axis=1) == 1).mean())
    if share > 0.5:
        warnings.warn(
            f"{share:.0%} of the teachers' answers are exactly 0 or 1, which no temperature "
            "softens: the student learns little more than labels. Pass cv=5 to have the teachers "
            "answer rows they did not see, or teachers that memorise less.",
            UserWarning,
            stacklevel=6,
        )


def _warn_if_uninformed(proba: np.ndarray, rows: Rows) -> None:
    """Warn when prefit teachers agree with y no better than always naming the largest class."""
    if rows.code is None or rows.code.min() == rows.code.max():
        return
    weight = rows.weight / rows.weight.sum()
    agreement = float(weight @ (proba.argmax(axis=1) == rows.code))
    majority = float(np.bincount(rows.code, weights=weight).max())
    if agreement <= majority + 1e-9:
        warnings.warn(
            f"The teachers agree with y on {agreement:.1%} of the rows; always naming the largest "
            f"class agrees on {majority:.1%}. Were the teachers fitted on X as it arrives here? A "
            "scaler in front of DistilledClassifier changes what they see: put it into the "
            "teachers' own Pipelines, and let DistilledClassifier scale for the student.",
            UserWarning,
            stacklevel=6,
        )
