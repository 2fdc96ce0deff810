"""Whether distilling was worth it: paired differences over rows, their intervals, and words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skdistill.report.compared import ComparedModel, FoundStudent, TeacherEnsemble
from skdistill.report.cost import Speed
from skdistill.report.metrics import gap_recovered, paired_difference

# Resamples are drawn in parts, so that memory does not grow with rows times resamples.
_CELLS = 2**22
_LEVELS = (2.5, 97.5)


@dataclass(frozen=True)
class Difference:
    """A mean difference over rows; positive is better.

    Attributes
    ----------
    value : float
        The mean difference.
    standard_error : float
        Its paired standard error.
    low, high : float
        The 95 % bootstrap interval over rows.
    """

    value: float
    standard_error: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves zero out, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def is_clear(self) -> bool:
        """Whether it is beyond two standard errors and its interval leaves zero out."""
        return self.sign != 0 and abs(self.value) > 2 * self.standard_error


@dataclass(frozen=True)
class Comparison:
    """The distilled student beside the ensemble and the plain student, by one score.

    Attributes
    ----------
    over_ensemble : Difference
        Student over ensemble.
    over_plain : Difference or None
        Student over plain student; None without one.
    gap : Difference or None
        Ensemble over plain student: what distilling could gain; None without a plain student.
    share : float or None
        The share of the gap that was recovered: 0 is the plain student, 1 the ensemble. None
        unless the gap is positive, beyond two paired standard errors, and its interval leaves
        zero out.
    share_low, share_high : float or None
        The 95 % bootstrap interval of the share.
    """

    over_ensemble: Difference
    over_plain: Difference | None = None
    gap: Difference | None = None
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None

    @property
    def recovered(self) -> str:
        """The share with its interval in words, or why there is none."""
        if self.gap is None:
            return "not known: there is no plain student to compare with"
        gap = _say(self.gap)
        if self.share is None:
            reason = "is not clear of zero" if self.gap.sign >= 0 else "is negative"
            return f"no share: ensemble over plain student, {gap}, {reason}"
        interval = f"[{self.share_low:z.0%}, {self.share_high:z.0%}]"
        return f"{self.share:z.0%} {interval} of a gap of {gap}"

    @property
    def verdict(self) -> tuple[str, ...]:
        """What was shown, each sentence with the interval that carries it."""
        said = []
        if self.over_plain is not None:
            words = {1: "better than", 0: "no difference shown from", -1: "worse than"}
            said.append(f"{words[self.over_plain.sign]} the plain student, {_say(self.over_plain)}")
        words = {1: "better than", 0: "within noise of", -1: "worse than"}
        said.append(f"{words[self.over_ensemble.sign]} the ensemble, {_say(self.over_ensemble)}")
        if self.over_plain is not None and self.gap is not None and self.share is None:
            fact, so = "no better", ": distilling it cannot help"
            if self.gap.sign >= 0:
                fact, so = "not shown to be better", ""
            elif self.over_plain.sign > 0:
                so = ": what the student gained is not the teacher's own quality"
            said.append(f"the teacher is {fact} than the plain student, {_say(self.gap)}{so}")
        return tuple(said)


def _say(difference: Difference) -> str:
    """Write a difference with its interval."""
    return f"{difference.value:+z.4f} [{difference.low:+z.4f}, {difference.high:+z.4f}]"


def compare(*models: np.ndarray, n_bootstrap: int, rng: np.random.RandomState) -> Comparison:
    """Compare student, ensemble and plain student, if there is one, by gains on the same rows."""
    means = _resampled_means(np.column_stack(models), n_bootstrap, rng)

    def difference(a: int, b: int) -> Difference:
        value, error = paired_difference(models[a], models[b])
        low, high = np.percentile(means[:, a] - means[:, b], _LEVELS)
        return Difference(value, error, float(low), float(high))

    if len(models) == 2:
        return Comparison(difference(0, 1))
    gap = difference(1, 2)
    share: tuple[float, ...] = ()
    if gap.is_clear and gap.value > 0:
        interval = _share_interval(means[:, 0] - means[:, 2], means[:, 1] - means[:, 2])
        share = (gap_recovered(models[0], models[2], models[1]), *interval)
    return Comparison(difference(0, 1), difference(0, 2), gap, *share)


def _share_interval(gains: np.ndarray, gaps: np.ndarray) -> tuple[float, float]:
    """Return the interval of the share, which holds 0 or 1 where that of the difference holds 0."""
    # The few resamples without a gap count at the end that the student's gain points to. The gap's
    # own interval leaves zero out, so there are too few of them to reach a percentile.
    shares = np.divide(gains, gaps, out=np.where(gains > 0, np.inf, -np.inf), where=gaps > 0)
    low = np.percentile(shares, _LEVELS[0], method="higher")
    return float(low), float(np.percentile(shares, _LEVELS[1], method="lower"))


def _resampled_means(rows: np.ndarray, n_bootstrap: int, rng: np.random.RandomState) -> np.ndarray:
    """Return the column means of resamples of the rows, (n_bootstrap, n_columns)."""
    n = len(rows)
    part = max(1, _CELLS // n)
    means = []
    for start in range(0, n_bootstrap, part):
        size = min(part, n_bootstrap - start)
        drawn = rng.randint(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append(counts @ rows / n)
    return np.concatenate(means)


# Of the time of single rows, the share of waiting above which times are not the model's own.
_MUCH_WAITING = 1 / 3
# Notes name so many models one by one.
_MOST_LISTED = 5


def notes_on(
    found: FoundStudent,
    teachers: TeacherEnsemble,
    on_plain: str,
    timed: Sequence[tuple[ComparedModel, Speed]],
) -> tuple[str, ...]:
    """Say what a reader must know about the numbers."""
    notes = [on_plain]
    if teachers.in_sample:
        notes.append(
            f"Used as they were: {_listed(teachers.in_sample)}. The soft targets of rows they "
            "were fitted on were not out-of-fold; the held-out rows must be new to them too."
        )
    calibration_temperature = getattr(found.model, "calibration_temperature_", 1.0)
    if calibration_temperature != 1:
        notes.append(_on_calibration(calibration_temperature, teachers))
    if found.before:
        notes.append("The steps before the student in its Pipeline are in no row's size or time.")
    notes.append("Intervals cover the choice of held-out rows, not that of seeds.")
    waiting = [model.name for model, speed in timed if speed.waited > _MUCH_WAITING]
    if waiting:
        notes.append(
            f"Much of the time of {_listed(waiting)} went into waiting, for a busy processor or "
            "for something remote. A busy machine delays long calls more than short ones, which "
            "makes the student's speed-up look larger: measure again on a quiet one."
        )
    return tuple(notes)


def _on_calibration(calibration_temperature: float, teachers: TeacherEnsemble) -> str:
    """Say whose confidence `fit` set right, and what that means for the comparison."""
    what = "distilled student" if teachers.in_sample else "targets it was trained on"
    others = "teachers, ensemble and plain student are as they are."
    if teachers.calibration_temperature != 1:
        others = (
            '"calibrated ensemble" is the ensemble at that temperature. All comparisons are '
            "with the ensemble as it answers, so what a student gains on it in log-loss may be "
            "calibration."
        )
    return (
        f"The confidence of the {what} was calibrated by fit, at a temperature of "
        f"{calibration_temperature:.2f}; {others}"
    )


def _listed(names: Sequence[str]) -> str:
    """Name some, and count the others where there are many."""
    if len(names) <= _MOST_LISTED:
        return ", ".join(names)
    shown = names[: _MOST_LISTED - 1]
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"
