"""AgreementDisplay: where a student differs from its teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skdistill.report.compared import Classifier, ask_student, find_student, find_teachers
from skdistill.report.metrics import check_labelled, check_n_bins, check_pair
from skdistill.report.plotting import BLUE, GREEN, GREY, Display, as_frame
from skdistill.tables import as_table

# The bars: where the two differ, or with labels who is right there.
_STYLES = {
    "n_differ": {"color": BLUE},
    "ensemble_right": {"label": "ensemble is right", "color": BLUE, "hatch": "//"},
    "student_right": {"label": "student is right", "color": GREEN},
    "neither_right": {"label": "neither is right", "color": GREY, "hatch": ".."},
}


@dataclass(kw_only=True, eq=False, repr=False)
class AgreementDisplay(Display):
    """How often student and ensemble name different classes, by the ensemble's confidence.

    With labels, the bars say who is right where they differ.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    edges : array-like of shape (n_bins + 1,)
        Edges of the bins of the ensemble's largest probability.
    n_rows : array-like of shape (n_bins,)
        Rows in each bin.
    n_differ : array-like of shape (n_bins,)
        Rows of each bin on which student and ensemble name different classes.
    n_right : dict of array-like of shape (n_bins,), default=None
        Of these rows, those on which who is right: "ensemble_right", "student_right",
        "neither_right". None without labels.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes.
    figure_ : matplotlib.figure.Figure
        Their figure.

    See Also
    --------
    skdistill.metrics.agreement_score : The share of rows on which they agree.

    Examples
    --------
    >>> from skdistill import AgreementDisplay
    >>> display = AgreementDisplay.from_predictions(
    ...     [[0.9, 0.1], [0.6, 0.4], [0.45, 0.55]], [[0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], n_bins=2
    ... )
    >>> display.frame()["n_differ"].tolist()
    [1, 0]
    """

    edges: ArrayLike
    n_rows: ArrayLike
    n_differ: ArrayLike
    n_right: dict[str, Any] | None = None

    @classmethod
    def from_estimator(
        cls,
        student: Classifier,
        X: Any,
        y: ArrayLike | None = None,
        *,
        teachers: Sequence[Any] | None = None,
        n_bins: int = 10,
        ax: Any = None,
    ) -> Self:
        """Ask student and teachers about rows and draw where they differ.

        Parameters
        ----------
        student : estimator
            A fitted :class:`DistilledClassifier`, a Pipeline or search that holds one, or a
            :class:`StudentClassifier` together with `teachers`.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Rows, better such that neither saw.
        y : array-like of shape (n_samples,), default=None
            Labels. None: who is right stays unsaid.
        teachers : list of teachers or of (name, teacher), default=None
            Fitted teachers. None: those that the student kept from `fit`.
        n_bins : int, default=10
            Bins of equal width, from the least possible confidence to 1.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : AgreementDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the student or a teacher is not fitted.
        ValueError
            If there are no teachers, or y holds labels that the student does not know.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import AgreementDisplay, DistilledClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
        >>> student = DistilledClassifier([teacher], random_state=0).fit(X[::2], y[::2])
        >>> display = AgreementDisplay.from_estimator(student, X[1::2], y[1::2])
        >>> int(display.n_rows.sum())
        75
        """
        cls._check_matplotlib("from_estimator")
        found = find_student(student)
        X = found.prepare(as_table(X))
        *_, ensemble = find_teachers(found, X, teachers).ask(X)
        proba, labels = ask_student("distilled", found.model, X).proba, found.model.classes_
        return cls.from_predictions(ensemble.proba, proba, y, labels=labels, n_bins=n_bins, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        ensemble_proba: ArrayLike,
        student_proba: ArrayLike,
        y: ArrayLike | None = None,
        *,
        labels: ArrayLike | None = None,
        n_bins: int = 10,
        ax: Any = None,
    ) -> Self:
        """Draw where two sets of probabilities differ.

        Parameters
        ----------
        ensemble_proba, student_proba : array-like of shape (n_samples, n_classes)
            Probabilities of the same rows, columns in the same order.
        y : array-like of shape (n_samples,), default=None
            Labels. None: who is right stays unsaid.
        labels : array-like of shape (n_classes,), default=None
            The label of each column; None: the sorted labels of y.
        n_bins : int, default=10
            Bins of equal width, from the least possible confidence to 1.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : AgreementDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If shapes or labels do not match, or `n_bins` is below 1.
        """
        cls._check_matplotlib("from_predictions")
        check_n_bins(n_bins)
        teacher, student = check_pair(ensemble_proba, student_proba)
        edges = np.linspace(1 / teacher.shape[1], 1, n_bins + 1)
        place = np.searchsorted(edges[1:-1], teacher.max(axis=1), side="left")

        def count(rows: Any) -> np.ndarray:
            return np.bincount(place[rows], minlength=n_bins)

        named, answered = teacher.argmax(axis=1), student.argmax(axis=1)
        differ = named != answered
        n_right = None
        if y is not None:
            _, code = check_labelled(y, teacher, labels)
            taught, learned = differ & (named == code), differ & (answered == code)
            n_right = {
                "ensemble_right": count(taught),
                "student_right": count(learned),
                "neither_right": count(differ & ~taught & ~learned),
            }
        n_rows, n_differ = count(slice(None)), count(differ)
        return cls(edges=edges, n_rows=n_rows, n_differ=n_differ, n_right=n_right).plot(ax=ax)

    def frame(self) -> Any:
        """Return the numbers that are drawn.

        Returns
        -------
        frame : pandas.DataFrame
            One row a bin: its edges, its rows, those on which the two differ, and with labels
            those of them on which each is right.
        """
        edges = np.asarray(self.edges)
        counts = {"n_rows": self.n_rows, "n_differ": self.n_differ, **(self.n_right or {})}
        columns = {name: np.asarray(values) for name, values in counts.items()}
        return as_frame({"low": edges[:-1], "high": edges[1:], **columns})

    def _draw(self) -> None:
        """Draw the bars."""
        edges, n_rows = np.asarray(self.edges), np.asarray(self.n_rows)
        counts = {"n_differ": self.n_differ} if self.n_right is None else self.n_right
        top = np.zeros(len(n_rows))
        for name in (name for name in _STYLES if name in counts):
            share = np.divide(counts[name], n_rows, out=np.zeros(len(n_rows)), where=n_rows > 0)
            if share.any() or self.n_right is None:
                style = {"align": "edge", "edgecolor": "white", **_STYLES[name]}
                self.ax_.bar(edges[:-1], share, np.diff(edges), bottom=top, **style)
                top += share
        # A share of few rows says little.
        for x, y, n in zip((edges[:-1] + edges[1:]) / 2, top, n_rows, strict=True):
            offset = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
            self.ax_.annotate(f"{n}", (x, y), (0, 2), **offset)
        if self.n_right is not None and top.any():
            self.ax_.legend(title="numbers: rows in the bin")
        else:
            self.ax_.set_title("numbers: rows in the bin", fontsize="small")
        self.ax_.set(
            xlabel="confidence of the ensemble (its largest probability)",
            ylabel="share of rows on which they differ",
            xlim=(edges[0], edges[-1]),
            ylim=(0, max(1.12 * top.max(), 0.01)),
        )
