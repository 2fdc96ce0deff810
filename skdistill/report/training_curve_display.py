"""TrainingCurveDisplay: losses by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skdistill.report.compared import Classifier, find_student
from skdistill.report.plotting import BLACK, BLUE, GREEN, ORANGE, Display, as_frame

# How what stands in history_ is drawn.
_CURVES: dict[str, dict[str, Any]] = {
    "train_loss": {"label": "total, trained on", "color": BLACK, "ls": "-"},
    "train_soft_loss": {"label": "soft term (teachers)", "color": BLUE, "ls": "--"},
    "train_hard_loss": {"label": "hard term (labels)", "color": ORANGE, "ls": "-."},
    "valid_loss": {"label": "log-loss, held out", "color": GREEN, "ls": (0, (1, 1))},
}


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingCurveDisplay(Display):
    """The losses of a student's training by epoch, and the epoch that was kept.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    history : dict of array-like of shape (n_epochs,)
        ``history_`` of a DistilledClassifier: "train_loss", "train_soft_loss",
        "train_hard_loss", and "valid_loss" with early stopping. A term that is zero throughout
        took no part and is not drawn.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes.
    figure_ : matplotlib.figure.Figure
        Their figure.
    lines_ : dict of matplotlib.lines.Line2D
        The curves that were drawn.

    Examples
    --------
    >>> from skdistill import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay(
    ...     history={"train_loss": [0.6, 0.4, 0.3], "valid_loss": [0.7, 0.5, 0.6]}
    ... )
    >>> display.best_epoch
    2
    """

    history: Mapping[str, ArrayLike]

    @property
    def best_epoch(self) -> int | None:
        """The epoch, counted from 1, with the least held-out loss; None without one."""
        if "valid_loss" not in self.history:
            return None
        return 1 + int(np.nanargmin(np.asarray(self.history["valid_loss"])))

    @classmethod
    def from_estimator(cls, student: Classifier, *, ax: Any = None) -> Self:
        """Draw the training of a student.

        Parameters
        ----------
        student : estimator
            A fitted :class:`DistilledClassifier`, or a Pipeline or search that holds one.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the student is not fitted.
        TypeError
            If it is a frozen student, which has no history.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistilledClassifier, TrainingCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
        >>> student = DistilledClassifier([teacher], early_stopping=True, random_state=0)
        >>> display = TrainingCurveDisplay.from_estimator(student.fit(X, y))
        >>> sorted(display.lines_)
        ['train_hard_loss', 'train_loss', 'train_soft_loss', 'valid_loss']
        """
        cls._check_matplotlib("from_estimator")
        found = find_student(student)
        if found.estimator is None:
            raise TypeError(
                f"A {type(found.model).__name__} holds no history_ of its training. Pass the "
                "DistilledClassifier that made it."
            )
        return cls(history=found.estimator.history_).plot(ax=ax)

    def frame(self) -> Any:
        """Return the numbers that are drawn.

        Returns
        -------
        frame : pandas.DataFrame
            One row an epoch: its number, and a column a loss.
        """
        n_epochs = len(np.asarray(self.history["train_loss"]))
        curves = {name: np.asarray(values) for name, values in self.history.items()}
        return as_frame({"epoch": np.arange(1, n_epochs + 1), **curves})

    def _draw(self) -> None:
        """Draw the curves."""
        self.lines_: dict[str, Any] = {}
        for name, style in _CURVES.items():
            values = np.asarray(self.history.get(name, 0.0))
            if values.any():
                epochs = np.arange(1, len(values) + 1)
                (self.lines_[name],) = self.ax_.plot(epochs, values, **style)
        if self.best_epoch is not None:
            label = f"best epoch: {self.best_epoch}"
            self.ax_.axvline(self.best_epoch, color="0.5", lw=1, zorder=0, label=label)
        self.ax_.set(xlabel="epoch", ylabel="mean loss", yscale="log")
        # Losses as plain numbers, epochs as whole ones.
        from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True))
        self.ax_.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        self.ax_.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        self.ax_.yaxis.set_minor_formatter(NullFormatter())
        self.ax_.legend()
