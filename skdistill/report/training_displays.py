"""How training went, and how the search around it: TrainingCurveDisplay and SweepDisplay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skdistill.report.compared import Classifier, find_student
from skdistill.report.plotting import BLACK, BLUE, GREEN, ORANGE, Display, as_frame

# How what stands in history_ is drawn.
_CURVES: dict[str, dict[str, Any]] = {
    "train_loss": {"label": "total, trained on", "color": BLACK, "ls": "-"},
    "train_soft_loss": {"label": "soft term (teachers)", "color": BLUE, "ls": "--"},
    "train_hard_loss": {"label": "hard term (labels)", "color": ORANGE, "ls": "-."},
    "valid_loss": {"label": "log-loss, held out", "color": GREEN, "ls": (0, (1, 1))},
}
# Cells beyond this are too small to hold a number.
_MOST_WRITTEN = 80


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


@dataclass(kw_only=True, eq=False, repr=False)
class SweepDisplay(Display):
    """Mean test score of each temperature and alpha as a heat map, the best one framed.

    It is recommended to use :meth:`from_estimator` or :meth:`from_cv_results`.

    Parameters
    ----------
    temperatures : array-like of shape (n_temperatures,)
        Temperatures, from left to right.
    alphas : array-like of shape (n_alphas,)
        Weights of the soft term, from bottom to top.
    scores : array-like of shape (n_alphas, n_temperatures)
        Mean test scores, more is better; NaN where nothing was tried.
    score_name : str, default="score"
        What the scores are.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes.
    figure_ : matplotlib.figure.Figure
        Their figure.
    image_ : matplotlib.image.AxesImage
        The cells.

    See Also
    --------
    DistilledClassifierCV : The search.

    Examples
    --------
    >>> from skdistill import SweepDisplay
    >>> display = SweepDisplay(
    ...     temperatures=[1, 4], alphas=[0.5, 1.0], scores=[[0.8, 0.9], [0.7, 0.6]]
    ... )
    >>> display.best
    {'temperature': 4, 'alpha': 0.5}
    """

    temperatures: ArrayLike
    alphas: ArrayLike
    scores: ArrayLike
    score_name: str = "score"

    @property
    def best(self) -> dict[str, Any]:
        """The temperature and alpha of the best score; of equal ones the first."""
        row, column = self._best_cell()
        temperatures, alphas = np.asarray(self.temperatures), np.asarray(self.alphas)
        return {"temperature": temperatures[column].item(), "alpha": alphas[row].item()}

    def _best_cell(self) -> Any:
        """Return row and column of the best score."""
        scores = np.asarray(self.scores, dtype=np.float64)
        return np.unravel_index(np.nanargmax(scores), scores.shape)

    @classmethod
    def from_estimator(
        cls, search: Any, *, score: str = "score", cmap: str = "cividis", ax: Any = None
    ) -> Self:
        """Draw a fitted search.

        Parameters
        ----------
        search : estimator
            A fitted :class:`DistilledClassifierCV`, ``GridSearchCV`` or another search with
            ``cv_results_``, over temperature and alpha.
        score : str, default="score"
            Which score, where the search has several: a key of its ``scoring``.
        cmap : str or matplotlib.colors.Colormap, default="cividis"
            Colours.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : SweepDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the search is not fitted.
        ValueError
            If temperature or alpha was not searched, or there is no such score.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistilledClassifier, DistilledClassifierCV, SweepDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000)
        >>> student = DistilledClassifier([teacher], cv=3, max_epochs=50, random_state=0)
        >>> search = DistilledClassifierCV(student, temperatures=[1, 4], alphas=[0.5, 1], cv=3)
        >>> display = SweepDisplay.from_estimator(search.fit(X, y))
        >>> display.frame().shape
        (4, 3)
        """
        cls._check_matplotlib("from_estimator")
        check_is_fitted(search)
        if not hasattr(search, "cv_results_"):
            raise TypeError(
                "search must be a fitted DistilledClassifierCV or GridSearchCV, something with "
                f"cv_results_; got a {type(search).__name__}."
            )
        return cls.from_cv_results(search.cv_results_, score=score, cmap=cmap, ax=ax)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        *,
        score: str = "score",
        cmap: str = "cividis",
        ax: Any = None,
    ) -> Self:
        """Draw the table of a search.

        Where other parameters were searched too, a cell holds the best of their scores.

        Parameters
        ----------
        cv_results : dict of array-like
            ``cv_results_`` of a search. The parameters may be those of a step or a nested
            estimator, such as ``param_distilledclassifier__alpha``.
        score : str, default="score"
            Which score, where the search has several.
        cmap : str or matplotlib.colors.Colormap, default="cividis"
            Colours.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        display : SweepDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If temperature or alpha was not searched, or there is no such score.
        """
        cls._check_matplotlib("from_cv_results")
        key = f"mean_test_{score}"
        if key not in cv_results:
            scores = [name for name in cv_results if name.startswith("mean_test_")]
            raise ValueError(f"cv_results has no {key!r}; score must name one of {scores}.")
        temperatures, column = np.unique(_searched(cv_results, "temperature"), return_inverse=True)
        alphas, row = np.unique(_searched(cv_results, "alpha"), return_inverse=True)
        cells = np.full((len(alphas), len(temperatures)), -np.inf)
        values = np.asarray(cv_results[key], dtype=np.float64)
        if np.isnan(values).all():
            raise ValueError(f"Every value of {key!r} is NaN: there is nothing to draw.")
        np.maximum.at(cells, (row, column), np.where(np.isnan(values), -np.inf, values))
        cells[cells == -np.inf] = np.nan
        display = cls(
            temperatures=temperatures, alphas=alphas, scores=cells, score_name=f"mean test {score}"
        )
        return display.plot(ax=ax, cmap=cmap)

    def frame(self) -> Any:
        """Return the numbers that are drawn.

        Returns
        -------
        frame : pandas.DataFrame
            One row a cell: temperature, alpha, score.
        """
        alphas, temperatures = np.meshgrid(self.alphas, self.temperatures, indexing="ij")
        columns = {"temperature": temperatures, "alpha": alphas, "score": self.scores}
        return as_frame({name: np.ravel(values) for name, values in columns.items()})

    def plot(self, ax: Any = None, *, cmap: str = "cividis") -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.
        cmap : str or matplotlib.colors.Colormap, default="cividis"
            Colours.

        Returns
        -------
        self : SweepDisplay
        """
        return self._plot(ax, cmap=cmap)

    def _draw(self, cmap: Any = "cividis") -> None:
        """Draw the cells."""
        scores = np.asarray(self.scores, dtype=np.float64)
        self.image_ = self.ax_.imshow(scores, cmap=cmap, origin="lower", aspect="auto")
        self.figure_.colorbar(self.image_, ax=self.ax_, label=f"{self.score_name} (more is better)")
        axes = self.ax_.xaxis, self.ax_.yaxis
        for axis, values in zip(axes, (self.temperatures, self.alphas), strict=True):
            labels = [f"{value:g}" for value in np.asarray(values)]
            axis.set_ticks(range(len(labels)), labels)
        self.ax_.set(xlabel="temperature", ylabel="alpha (weight of the soft term)")
        if scores.size <= _MOST_WRITTEN:
            for row, column in np.argwhere(~np.isnan(scores)):
                value = scores[row, column]
                # Dark on light and light on dark.
                red, green, blue, _ = self.image_.cmap(self.image_.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                style = {"color": "white" if dark else BLACK, "ha": "center", "va": "center"}
                self.ax_.text(column, row, f"{value:.3f}", **style)
        # The best cell in white within black, which shows on any colour.
        from matplotlib.patches import Rectangle

        row, column = self._best_cell()
        corner = column - 0.46, row - 0.46
        for colour, width in ((BLACK, 5), ("white", 2)):
            self.ax_.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, ec=colour, lw=width))
        self.ax_.set_title("best: temperature {temperature:g}, alpha {alpha:g}".format(**self.best))


def _searched(cv_results: Mapping[str, Any], name: str) -> np.ndarray:
    """Return the values of a parameter that was searched, whatever it is nested in."""
    keys = [k for k in cv_results if k.startswith("param_")]
    own = [k for k in keys if k.removeprefix("param_").rpartition("__")[2] == name]
    if len(own) != 1:
        raise ValueError(
            f"cv_results must hold one parameter {name!r}, as a search over temperature and alpha "
            f"does; it holds {[k.removeprefix('param_') for k in keys]}."
        )
    return np.ma.getdata(cv_results[own[0]]).astype(np.float64)
