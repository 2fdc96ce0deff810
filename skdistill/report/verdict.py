"""Whether distilling was worth it: paired differences over rows, their intervals, and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skdistill.report.metrics import gap_recovered, paired_difference

__all__ = ["Comparison", "Difference", "compare"]

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
        gap = f"{self.gap.value:+z.4f} {_interval(self.gap.low, self.gap.high)}"
        if self.share is None:
            reason = "is not clear of zero" if self.gap.sign >= 0 else "is negative"
            return f"no share: ensemble over plain student, {gap}, {reason}"
        assert self.share_low is not None
        assert self.share_high is not None
        return (
            f"{self.share:z.0%} [{self.share_low:z.0%}, {self.share_high:z.0%}] of a gap of {gap}"
        )

    @property
    def verdict(self) -> tuple[str, ...]:
        """What was shown, each sentence with the interval that carries it."""
        said = []
        if self.over_plain is not None:
            words = {1: "better than", 0: "no difference shown from", -1: "worse than"}
            said.append(f"{words[self.over_plain.sign]} the plain student, {_say(self.over_plain)}")
        words = {1: "better than", 0: "within noise of", -1: "worse than"}
        said.append(f"{words[self.over_ensemble.sign]} the ensemble, {_say(self.over_ensemble)}")
        if self.gap is not None and self.share is None:
            said.append(self._doubtful_teacher(self.gap))
        return tuple(said)

    def _doubtful_teacher(self, gap: Difference) -> str:
        """Say what follows where the ensemble was not shown to beat the plain student."""
        shown = _say(gap)
        if gap.sign >= 0:
            return f"the teacher is not shown to be better than the plain student, {shown}"
        fact = f"the teacher is no better than the plain student, {shown}"
        if self.over_plain is not None and self.over_plain.sign > 0:
            return f"{fact}: what the student gained is not the teacher's own quality"
        return f"{fact}: distilling it cannot help"


def _say(difference: Difference) -> str:
    """Write a difference with its interval."""
    return f"{difference.value:+z.4f} {_interval(difference.low, difference.high)}"


def _interval(low: float, high: float) -> str:
    """Write an interval."""
    return f"[{low:+z.4f}, {high:+z.4f}]"


def compare(
    student: np.ndarray,
    ensemble: np.ndarray,
    plain: np.ndarray | None,
    *,
    n_bootstrap: int,
    rng: np.random.RandomState,
) -> Comparison:
    """Compare one value a row of each model, where more is better, on the same rows."""
    models = [student, ensemble] if plain is None else [student, ensemble, plain]
    means = _resampled_means(np.column_stack(models), n_bootstrap, rng)

    def difference(a: int, b: int) -> Difference:
        value, error = paired_difference(models[a], models[b])
        low, high = np.percentile(means[:, a] - means[:, b], _LEVELS)
        return Difference(value, error, float(low), float(high))

    if plain is None:
        return Comparison(difference(0, 1))
    gap = difference(1, 2)
    share: tuple[float, ...] = ()
    if gap.is_clear and gap.value > 0:
        interval = _share_interval(means[:, 0] - means[:, 2], means[:, 1] - means[:, 2])
        share = (gap_recovered(student, plain, ensemble), *interval)
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
