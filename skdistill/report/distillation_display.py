"""DistillationDisplay: what a student costs and how good it is, beside its teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skdistill.report.compared import Classifier
from skdistill.report.plotting import BLACK, BLUE, GREEN, ORANGE, Display, as_frame
from skdistill.report.report import distillation_report
from skdistill.report.view import BYTES, DistillationReport, write

METRICS = {
    "accuracy": "accuracy (higher is better)",
    "log_loss": "log-loss (lower is better)",
    "roc_auc": "ROC AUC (higher is better)",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error (lower is better)",
}
# How each role is drawn.
_STYLES = {
    "teacher": {"color": BLUE, "marker": "s", "label": "teacher"},
    "ensemble": {"color": BLACK, "marker": "D", "label": "ensemble"},
    "plain": {"color": ORANGE, "marker": "^", "label": "plain student"},
    "distilled": {"color": GREEN, "marker": "o", "label": "distilled student"},
}
# More teachers than this are not named one by one.
_MOST_NAMED = 4
# Area of a marker in points², for the smallest model and for each power of ten beyond it.
_AREA, _AREA_PER_DECADE = 90.0, 50.0
# In points: from a marker to its label, and the room of a letter and of a line.
_BESIDE, _LETTER, _LINE = 11, 6, 13


@dataclass(kw_only=True, eq=False, repr=False)
class DistillationDisplay(Display):
    """Quality against the time for one row, for teachers, ensemble, plain and distilled student.

    Good and fast is up (or, for a loss, down) and left. The area of a marker grows with the
    logarithm of the bytes on disk, which stand beside it.

    It is recommended to use :meth:`from_report` or :meth:`from_estimator`.

    Parameters
    ----------
    names : sequence of str of shape (n_models,)
        The models.
    roles : sequence of {"teacher", "ensemble", "plain", "distilled"} of shape (n_models,)
        What each is.
    quality : array-like of shape (n_models,)
        A score of each.
    latency : array-like of shape (n_models,)
        Seconds that one row takes.
    n_bytes : sequence of int or None of shape (n_models,)
        Bytes on disk; None where unknown.
    metric : {"accuracy", "log_loss", "roc_auc", "brier", "ece"}, default="log_loss"
        Which score `quality` is.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes.
    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    distillation_report : The numbers.

    Examples
    --------
    >>> from skdistill import DistillationDisplay
    >>> display = DistillationDisplay(
    ...     names=["forest", "distilled student"],
    ...     roles=["teacher", "distilled"],
    ...     quality=[0.28, 0.27],
    ...     latency=[2.8e-2, 9.7e-6],
    ...     n_bytes=[8_320_000, 79_600],
    ... )
    >>> display.plot().ax_.get_xscale()
    'log'
    """

    names: Sequence[str]
    roles: Sequence[str]
    quality: ArrayLike
    latency: ArrayLike
    n_bytes: Sequence[int | None]
    metric: str = "log_loss"

    @classmethod
    def from_report(
        cls, report: DistillationReport, *, metric: str = "log_loss", ax: Any = None
    ) -> Self:
        """Draw a report.

        Parameters
        ----------
        report : DistillationReport
            What :func:`distillation_report` returned.
        metric : {"accuracy", "log_loss", "roc_auc", "brier", "ece"}, default="log_loss"
            The score to draw.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : DistillationDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the metric is none of these.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistillationDisplay, DistilledClassifier, distillation_report
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
        >>> student = DistilledClassifier([teacher], random_state=0).fit(X[::2], y[::2])
        >>> report = distillation_report(student, X[1::2], y[1::2])
        >>> display = DistillationDisplay.from_report(report)
        >>> display.frame().shape
        (3, 5)
        """
        cls._check_matplotlib("from_report")
        _check_metric(metric)
        # The calibrated ensemble is no other model, and would stand above the ensemble itself.
        rows = [row for row in report.rows if row.role != "calibrated"]
        return cls(
            names=[row.name for row in rows],
            roles=[row.role for row in rows],
            quality=np.array([getattr(row, metric) for row in rows]),
            latency=np.array([row.latency_p50 for row in rows]),
            n_bytes=[row.n_bytes for row in rows],
            metric=metric,
        ).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        student: Classifier,
        X: Any,
        y: ArrayLike,
        *,
        X_train: Any = None,
        y_train: ArrayLike | None = None,
        baseline: Classifier | None = None,
        teachers: Sequence[Any] | None = None,
        random_state: Any = None,
        metric: str = "log_loss",
        ax: Any = None,
    ) -> Self:
        """Measure a student on held-out rows and draw it.

        Parameters
        ----------
        student : estimator
            A fitted student.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Held-out rows.
        y : array-like of shape (n_samples,)
            Their labels.
        X_train, y_train, baseline, teachers, random_state
            As :func:`distillation_report` takes them.
        metric : {"accuracy", "log_loss", "roc_auc", "brier", "ece"}, default="log_loss"
            The score to draw.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : DistillationDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the metric is none of these, or an argument of the report cannot be used.
        """
        cls._check_matplotlib("from_estimator")
        _check_metric(metric)
        report = distillation_report(
            student,
            X,
            y,
            X_train=X_train,
            y_train=y_train,
            baseline=baseline,
            teachers=teachers,
            random_state=random_state,
        )
        return cls.from_report(report, metric=metric, ax=ax)

    def frame(self) -> Any:
        """Return the numbers that are drawn.

        Returns
        -------
        frame : pandas.DataFrame
            One row a model: name, role, the score, latency in seconds, bytes.
        """
        return as_frame(
            {
                "name": list(self.names),
                "role": list(self.roles),
                self.metric: np.asarray(self.quality),
                "latency": np.asarray(self.latency),
                "n_bytes": list(self.n_bytes),
            }
        )

    def _draw(self) -> None:
        """Draw the models."""
        # A model of unknown size counts as the smallest.
        smallest = min((n for n in self.n_bytes if n), default=1)
        decades = np.log10([(n or smallest) / smallest for n in self.n_bytes])
        points = np.column_stack([self.latency, self.quality, _AREA + _AREA_PER_DECADE * decades])
        for role, style in _STYLES.items():
            here = np.array([r == role for r in self.roles])
            if here.any():
                self.ax_.scatter(*points[here].T, edgecolors="white", zorder=3, **style)
        from matplotlib.ticker import EngFormatter

        self.ax_.set(xscale="log", xlabel="median time for one row", ylabel=METRICS[self.metric])
        self.ax_.xaxis.set_major_formatter(EngFormatter(unit="s"))
        self.ax_.margins(x=0.15, y=0.15)
        self.ax_.grid(color="0.9", zorder=0)
        self._annotate()

    def _annotate(self) -> None:
        """Name the models and their sizes, but not a crowd of teachers."""
        points = np.column_stack([self.latency, self.quality])
        crowd = list(self.roles).count("teacher") > _MOST_NAMED
        told = [i for i, role in enumerate(self.roles) if not (crowd and role == "teacher")]
        points_per_pixel = 72 / self.figure_.dpi
        x, y = (self.ax_.transData.transform(points[told]) * points_per_pixel).T
        middle = self.ax_.transAxes.transform((0.5, 0.5))[0] * points_per_pixel
        # Text runs towards the middle of the axes, where there is room.
        side = np.where(x < middle, 1, -1)
        sizes = ["" if n is None else f", {write(n, BYTES)}" for n in self.n_bytes]
        texts = [self.names[i] + sizes[i] for i in told]
        far = x + side * (_BESIDE + np.array([_LETTER * len(text) for text in texts]))
        moves = _apart(np.minimum(x, far), np.maximum(x, far), y)
        for i, text, s, dy in zip(told, texts, side, moves, strict=True):
            style = {"va": "center", "ha": "left" if s == 1 else "right"}
            offset = (_BESIDE * s, dy)
            self.ax_.annotate(text, tuple(points[i]), offset, textcoords="offset points", **style)
        if crowd:
            self.ax_.legend()


def _apart(left: np.ndarray, right: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how far each label moves up, so that none lies over one below it."""
    moves = np.zeros(len(y))
    order = np.argsort(y, kind="stable")
    for k, i in enumerate(order):
        lower = [j for j in order[:k] if left[j] < right[i] and left[i] < right[j]]
        floor = max((y[j] + moves[j] + _LINE for j in lower), default=-np.inf)
        moves[i] = max(0.0, floor - y[i])
    return moves


def _check_metric(metric: str) -> None:
    """Raise for a score that is not drawn."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {sorted(METRICS)}, got {metric!r}.")
