"""Sources that fit clones of the teachers: cross-fitted, the default teacher, out of bag."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skdistill.tables.folds import distinct_row_folds
from skdistill.tables.rows import Rows
from skdistill.tables.warn import warn_user
from skdistill.teachers.asking import Teacher
from skdistill.teachers.calibration import sharpening_temperature
from skdistill.teachers.cross_fitting import cross_fit, out_of_bag
from skdistill.teachers.ensemble import Ensemble
from skdistill.teachers.hidden import reads_units, shows_units
from skdistill.teachers.hints import ActiveHint
from skdistill.teachers.naming import Named, is_frozen
from skdistill.teachers.pooling import SoftTargets, temper
from skdistill.teachers.target_source import TargetSource, TeacherSpec

__all__ = ["CrossFitted", "DefaultTeacher", "FittedInside", "OutOfBag"]


class FittedInside(TargetSource):
    """Teachers whose clones are fitted inside `fit`; some may have to answer as they are."""

    def __init__(
        self,
        spec: TeacherSpec,
        named: Sequence[Named],
        classes: np.ndarray | None = None,
        weighted: Sequence[bool] | None = None,
    ) -> None:
        super().__init__(spec, named, classes)
        self.weighted = [True] * len(named) if weighted is None else weighted

    def _warn_about_frozen(self) -> None:
        """Warn that frozen teachers may have seen the rows whose targets should be out-of-fold."""
        if self.as_they_are:
            warn_user(
                f"{', '.join(self.as_they_are)} cannot be fitted inside fit and answers as it "
                "is: its soft targets are not out-of-fold."
            )

    def _calibrated(self, targets: SoftTargets, rows: Rows) -> SoftTargets:
        """Set the confidence right, where no teacher saw the rows, for further rows too."""
        used = targets.known & (rows.weight > 0)
        if self.spec.calibration is None or self.as_they_are or not used.any():
            return targets
        assert rows.code is not None
        assert self.ensemble is not None
        proba = targets.proba
        temperature = sharpening_temperature(proba[used], rows.code[used], rows.weight[used])
        self.ensemble.temperature = temperature
        return replace(targets, proba=temper(proba, temperature), temperature=temperature)


class CrossFitted(FittedInside):
    """Clones fitted on folds; the mean of all fold clones labels further rows.

    Attributes
    ----------
    members : list of list of Teacher
        The fold clones of each teacher; a frozen teacher alone.
    """

    members: list[list[Teacher]]

    def _folds(self, rows: Rows) -> Any:
        """Return the folds."""
        return self.spec.cv

    def _label(
        self, rows: Rows, rng: np.random.RandomState, weights: np.ndarray | str
    ) -> SoftTargets:
        """Give each row the answer of teachers that never saw it."""
        self._warn_about_frozen()
        targets, self.members = cross_fit(
            self.named,
            rows,
            cv=self._folds(rows),
            averaging=self._averaging,
            weights=weights,
            weighted=self.weighted,
            rng=rng,
            n_jobs=self.spec.n_jobs,
            memory=self.spec.memory,
        )
        assert targets.weights is not None
        shares = zip(self.members, targets.weights, strict=True)
        self.ensemble = Ensemble(
            [teacher for folds in self.members for teacher in folds],
            np.concatenate([np.full(len(folds), weight / len(folds)) for folds, weight in shares]),
            self._averaging,
        )
        return self._calibrated(targets, rows)

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise where the hidden units of the folds' clones would be compared."""
        estimator = self.named[asked.teacher].estimator
        units = ("mse", "cosine", "attention") if shows_units(estimator) else ("mse", "cosine")
        if asked.hint.kind in units and not is_frozen(estimator):
            raise ValueError(self._one_teacher_needed(asked))

    def _one_teacher_needed(self, asked: ActiveHint) -> str:
        """Say why the clones of the folds cannot give this hint."""
        return (
            f"{asked.where} of kind={asked.hint.kind!r} needs one teacher for all rows, and "
            f"cv={self.spec.cv!r} fits one a fold, each with hidden units of its own. Use "
            "kind='relation', or fitted teachers with cv='prefit'."
        )

    def _teachers_of(
        self, asked: ActiveHint, rows: Rows, targets: SoftTargets
    ) -> tuple[list[Teacher], np.ndarray]:
        """Return the fold clones, each for the rows it did not see."""
        if is_frozen(self.named[asked.teacher].estimator):
            return super()._teachers_of(asked, rows, targets)
        assert targets.fold is not None
        teachers = self.members[asked.teacher]
        if asked.hint.kind == "attention" and reads_units(teachers[0], asked, rows.X):
            raise ValueError(self._one_teacher_needed(asked))
        return teachers, targets.fold


class DefaultTeacher(CrossFitted):
    """The teacher of ``teachers=None``: cross-fitted, where `cv` is a word on folds of its own."""

    def _folds(self, rows: Rows) -> Any:
        """Return the folds; where `cv` names none, such that weights act as repeated rows."""
        if isinstance(self.spec.cv, str) and self.spec.cv in ("prefit", "oob"):
            assert rows.code is not None
            return distinct_row_folds(rows.X, rows.code, rows.weight)
        return super()._folds(rows)


class OutOfBag(FittedInside):
    """Bagged clones fitted once; their out-of-bag votes are the targets."""

    def _label(
        self, rows: Rows, rng: np.random.RandomState, weights: np.ndarray | str
    ) -> SoftTargets:
        """Give each row the vote of the members that did not see it."""
        self._warn_about_frozen()
        targets, teachers = out_of_bag(
            self.named,
            rows,
            averaging=self._averaging,
            weights=weights,
            weighted=self.weighted,
            rng=rng,
        )
        assert targets.weights is not None
        self.ensemble = Ensemble(teachers, targets.weights, self._averaging)
        return self._calibrated(targets, rows)

    def check_hint(self, asked: ActiveHint) -> None:
        """Raise: votes have no layers."""
        raise ValueError(
            "Hints are not offered with cv='oob': a layer of a teacher that saw the row is no "
            "out-of-bag answer. Pass cv=5, or fitted teachers."
        )
