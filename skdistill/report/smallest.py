"""smallest_student: the least network that is nearly as good as the best one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from joblib import delayed
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.estimators.parameters import RULES
from skdistill.estimators.search import cut_arguments, fit_arguments, seeded, warn_about_prefit
from skdistill.report.metrics import log_loss_by_row
from skdistill.report.plotting import BLACK, BLUE, ORANGE, as_frame, find_axes
from skdistill.tables.frames import as_table, take_rows
from skdistill.tables.rows import read_rows
from skdistill.teachers.progress import live_line, run_counted

__all__ = ["SizeRow", "SmallestStudent", "smallest_student"]

# From the widest layer down; the empty one is a student without hidden layers.
_LADDER: tuple[tuple[int, ...], ...] = ((64,), (32,), (16,), (8,), (4,), ())


@dataclass(frozen=True)
class SizeRow:
    """What cross-validation said of one size.

    Attributes
    ----------
    hidden_layer_sizes : tuple of int or "auto"
        The size, as it was tried.
    n_parameters : int
        Weights and biases of the student, the largest number over the folds; 0 if every training
        diverged.
    log_loss : float
        Mean over the rows that were held out; NaN if the training of a fold diverged.
    difference : float
        `log_loss` less that of the best size, 0 for that one.
    standard_error : float
        Of the difference, paired row by row.
    """

    hidden_layer_sizes: Any
    n_parameters: int
    log_loss: float
    difference: float
    standard_error: float


@dataclass(frozen=True, repr=False)
class SmallestStudent:
    """What :func:`smallest_student` found.

    ``print(found)`` shows the table of sizes.

    Attributes
    ----------
    estimator : DistilledClassifier
        The student of the chosen size, fitted on all rows.
    hidden_layer_sizes : tuple of int or "auto"
        The chosen size.
    rows : tuple of SizeRow
        One for each size that was tried, the most parameters first.
    tolerance : float or "1se"
        What was allowed.

    See Also
    --------
    smallest_student : Makes it.
    """

    estimator: DistilledClassifier
    hidden_layer_sizes: Any
    rows: tuple[SizeRow, ...]
    tolerance: Any

    def within(self, tolerance: Any) -> Any:
        """Return the size that another tolerance would have chosen.

        Parameters
        ----------
        tolerance : float or "1se"
            As in :func:`smallest_student`.

        Returns
        -------
        hidden_layer_sizes : tuple of int or "auto"
            The least one within the tolerance.

        Raises
        ------
        ValueError
            If `tolerance` is not allowed.
        """
        return _choose(self.rows, _check_tolerance(tolerance)).hidden_layer_sizes

    def to_frame(self) -> Any:
        """Return the table of sizes.

        Returns
        -------
        frame : pandas.DataFrame
            One row a size, the most parameters first; the columns are the attributes of
            ``rows``, and ``chosen``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        cells = [asdict(row) for row in self.rows]
        columns: dict[str, Any] = {name: [cell[name] for cell in cells] for name in cells[0]}
        columns["chosen"] = [self._is_chosen(row) for row in self.rows]
        return as_frame(columns)

    def _is_chosen(self, row: SizeRow) -> bool:
        return row.hidden_layer_sizes == self.hidden_layer_sizes

    def plot(self, ax: Any = None) -> Any:
        """Draw log-loss against parameters, the chosen size marked.

        The bars are two paired standard errors of the difference from the best size, which has
        none. With a number as tolerance, what it allows is shaded.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        ax : matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = find_axes(f"{type(self).__name__}.plot", ax)
        drawn = [row for row in self.rows if np.isfinite(row.log_loss)]
        n_parameters = [row.n_parameters for row in drawn]
        losses = [row.log_loss for row in drawn]
        errors = [2 * row.standard_error for row in drawn]
        ax.errorbar(
            n_parameters, losses, yerr=errors, fmt="o-", color=BLUE, capsize=3, label="students"
        )
        best = min(losses)
        if not isinstance(self.tolerance, str):
            label = f"within {self.tolerance:g} of the best"
            ax.axhspan(best, best + self.tolerance, color=BLACK, alpha=0.1, label=label)
        (chosen,) = (row for row in drawn if self._is_chosen(row))
        name = f"chosen: {_written(chosen.hidden_layer_sizes)}"
        ax.plot(chosen.n_parameters, chosen.log_loss, "D", color=ORANGE, ms=11, mec=BLACK,
                label=name, zorder=3)  # fmt: skip
        ax.set(xscale="log", xlabel="parameters", ylabel="cross-validated log-loss")
        ax.legend()
        return ax

    def __str__(self) -> str:
        """Return the table as text."""
        lines = [f"{'hidden layers':16}{'parameters':>11}{'log-loss':>10}{'over the best':>22}"]
        for row in self.rows:
            over = f"{row.difference:+.4f} +- {row.standard_error:.4f}"
            mark = "  chosen" if self._is_chosen(row) else ""
            lines.append(
                f"{_written(row.hidden_layer_sizes):16}{row.n_parameters:>11,}{row.log_loss:>10.4f}"
                f"{over:>22}{mark}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the table as text, so that a session shows it."""
        return str(self)


def smallest_student(
    estimator: DistilledClassifier,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    tolerance: float | str,
    sizes: Sequence[Any] | None = None,
    cv: Any = None,
    groups: Any = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
    **params: Any,
) -> SmallestStudent:
    """Find the least network whose cross-validated log-loss is within a tolerance of the best.

    Students of several sizes are cross-validated on the same folds. The one with the fewest
    parameters among those that are good enough is fitted on all rows. Teachers that `fit` would
    fit are fitted once a fold and serve all sizes; fitted ones are asked once a fold.

    Parameters
    ----------
    estimator : DistilledClassifier
        The student with its teachers and every setting but its size. Where a Pipeline is wanted,
        put the found student into it.
    X : array-like or DataFrame of shape (n_samples, n_features)
        Raw rows.
    y : array-like of shape (n_samples,)
        Labels: sizes are compared on them.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights, for the students, the teachers and the log-loss.
    tolerance : float or "1se"
        How much worse than the best size the chosen one may be.

        - a number >= 0: in mean log-loss, in nats. 0 takes the best size. 0.01 is little where
          the log-loss is 0.5, and much where it is 0.05: look at the table.
        - "1se": one standard error of the difference from the best size, paired row by row.
    sizes : sequence of hidden_layer_sizes, default=None
        What is tried: each a sequence of widths, or "auto". None: the estimator's own size, then
        64, 32, 16, 8 and 4 units, as far as they are narrower, and ``()``, a linear student.
        With `hints` each needs the layers that these name.
    cv : int, splitter, iterable or None, default=None
        How the rows are split, as in GridSearchCV.
    groups : array-like of shape (n_samples,), default=None
        Groups for a splitter that takes them.
    n_jobs : int or None, default=None
        Folds that run at once.
    random_state : int, RandomState instance or None, default=None
        Seed of the estimator where its own `random_state` is None.
    verbose : int, default=0
        With 1, one live line counts the folds. The estimator's own `verbose` is for the last fit.
    **params : dict
        Passed on to the estimator's `fit`: ``teacher_proba`` is cut by the folds,
        ``X_unlabeled`` never is. With metadata routing the estimator gets, of these and of the
        weights, what it requests.

    Returns
    -------
    found : SmallestStudent
        The fitted student, its size, and the table of all sizes.

    Raises
    ------
    TypeError
        If the estimator is not a DistilledClassifier, or its `fit` does not take an argument.
    ValueError
        If `tolerance` or a size is not allowed, y is None, the estimator has a `student_module`,
        or every training diverged.

    Warns
    -----
    UserWarning
        If the teachers are fitted already: the log-losses assume that they did not see X.

    See Also
    --------
    DistilledClassifierCV : Searches temperature and alpha.

    Notes
    -----
    The best log-loss is the least of several, so it is a little too low, and what is chosen for
    being within a tolerance of it a little too large. A network of half the size needs a
    temperature and an alpha of its own at times: search them afterwards. With ``cv="oob"`` in the
    estimator the teachers are fitted for each size.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skdistill import DistilledClassifier, smallest_student
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(20, min_samples_leaf=2, random_state=0)
    >>> student = DistilledClassifier([forest], cv=3, max_epochs=100, random_state=0)
    >>> found = smallest_student(student, X, y, tolerance=0.05, sizes=[(32,), (8,), (2,)], cv=3)
    >>> len(found.rows)
    3
    >>> found.estimator.score(X, y) > 0.9
    True
    """
    _check_estimator(estimator)
    allowed = _check_tolerance(tolerance)
    ladder = _check_sizes(_ladder(estimator) if sizes is None else sizes)
    _check_layers(estimator, ladder)
    if y is None:
        raise ValueError(
            "smallest_student requires y to be passed, but the target y is None: sizes are "
            "compared on labels."
        )
    X = as_table(X)
    rows = read_rows(X, y, sample_weight)
    assert rows.code is not None
    assert rows.classes is not None
    labels = rows.classes[rows.code]
    router = MetadataRouter(owner="smallest_student").add(
        estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit")
    )
    weight = None if sample_weight is None else rows.weight
    given = fit_arguments("smallest_student()", router, sample_weight=weight, **params)
    if estimator.alpha > 0:
        warn_about_prefit(estimator, stacklevel=3)
    estimator = seeded(estimator, random_state)
    splits = list(check_cv(cv, labels, classifier=True).split(X, labels, groups))
    runs = [
        delayed(_run_fold)(estimator, X, labels, rows.classes, given, split, ladder)
        for split in splits
    ]
    with live_line("smallest_student", verbose):
        folds = run_counted("fold", runs, n_jobs)
    table = _compare(ladder, splits, folds, rows.weight)
    chosen = _choose(table, allowed).hidden_layer_sizes
    student = estimator.set_params(hidden_layer_sizes=chosen).fit(X, labels, **given)
    return SmallestStudent(student, chosen, table, tolerance)


def _check_estimator(estimator: Any) -> None:
    """Raise where there is no size to search."""
    if not isinstance(estimator, DistilledClassifier):
        raise TypeError(
            "The 'estimator' parameter of smallest_student must be a DistilledClassifier; got a "
            f"{type(estimator).__name__}. Put the student that was found into the Pipeline, not "
            "the Pipeline into the search."
        )
    if estimator.student_module is not None:
        raise ValueError(
            "smallest_student varies hidden_layer_sizes, which a student_module does not have. "
            "Pass student_module=None, or compare factories in GridSearchCV."
        )


def _check_tolerance(tolerance: Any) -> float | str:
    """Return the tolerance, or raise with what is allowed."""
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if tolerance == "1se" or (number and 0 <= float(tolerance) < np.inf):
        return tolerance
    raise ValueError(
        "The 'tolerance' parameter of smallest_student must be a finite number >= 0, in nats of "
        f"log-loss, or '1se'; got {tolerance!r}."
    )


def _ladder(estimator: DistilledClassifier) -> list[Any]:
    """Return the estimator's own size, and the narrower ones that have the layers of its hints."""
    own = estimator.hidden_layer_sizes
    widest = np.inf if isinstance(own, str) else max(own, default=0)
    narrower = [sizes for sizes in _LADDER if max(sizes, default=0) < widest]
    return [own, *(sizes for sizes in narrower if _missing_layer(estimator, sizes) is None)]


def _missing_layer(estimator: DistilledClassifier, sizes: Any) -> Any:
    """Return a layer that a hint names and a student of this size has not, if there is one."""
    n = 2 if isinstance(sizes, str) else len(sizes)
    layers = [h.student_layer for h in estimator.hints or () if h.weight > 0]
    return next((x for x in layers if isinstance(x, str) or not -n <= x < n), None)


def _check_layers(estimator: DistilledClassifier, ladder: list[Any]) -> None:
    """Raise, before a teacher is asked, where a hint names a layer that a size has not."""
    for sizes in ladder:
        missing = _missing_layer(estimator, sizes)
        if missing is not None:
            raise ValueError(
                f"A hint names the student's layer {missing!r}, which hidden_layer_sizes={sizes!r} "
                "has not. Leave that size out of 'sizes', or name another layer."
            )


def _check_sizes(sizes: Any) -> list[Any]:
    """Return the sizes as tuples or "auto", each once, or raise naming the one not allowed."""
    allowed, words = RULES["hidden_layer_sizes"]
    try:
        listed = [] if isinstance(sizes, str) else list(sizes)
    except TypeError:
        listed = []
    if not listed:
        raise ValueError(
            "The 'sizes' parameter of smallest_student must be a non-empty sequence of "
            f"hidden_layer_sizes, such as [(64,), (16,), ()]; got {sizes!r}."
        )
    for size in listed:
        if not allowed(size):
            raise ValueError(
                f"Each of the 'sizes' of smallest_student must be {words}; got {size!r}."
            )
    return list(dict.fromkeys(s if isinstance(s, str) else tuple(map(int, s)) for s in listed))


class _Remembered:
    """A memory for one fold: what the first size had done is done for all, as nothing differs."""

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}

    def cache(self, function: Callable[..., Any], ignore: Any = None) -> Callable[..., Any]:
        """Return the function, run once."""

        def remembered(*args: Any, **kwargs: Any) -> Any:
            if function.__name__ not in self._answers:
                self._answers[function.__name__] = function(*args, **kwargs)
            return self._answers[function.__name__]

        return remembered


def _run_fold(
    estimator: DistilledClassifier,
    X: Any,
    y: np.ndarray,
    classes: np.ndarray,
    params: dict[str, Any],
    split: tuple[np.ndarray, np.ndarray],
    sizes: Sequence[Any],
) -> list[tuple[np.ndarray, int]]:
    """Return for each size the log-loss of every row held out, and the number of parameters."""
    train, test = split
    X_train, X_test = take_rows(X, train), take_rows(X, test)
    arguments = cut_arguments(params, train)
    memory = estimator.memory if estimator.memory is not None else _Remembered()
    found = []
    for size in sizes:
        student = clone(estimator).set_params(hidden_layer_sizes=size, verbose=0)
        student.memory = memory
        try:
            with warnings.catch_warnings():
                # Of the chosen size the last fit says it; of the others the table says enough.
                warnings.filterwarnings("ignore", "The teachers are worse than a plain student")
                student.fit(X_train, y[train], **arguments)
        except FloatingPointError:
            found.append((np.full(len(test), np.nan), 0))
            continue
        # A fold may lack a class that is held out.
        proba = np.zeros((len(test), len(classes)))
        proba[:, np.searchsorted(classes, student.classes_)] = student.predict_proba(X_test)
        losses = log_loss_by_row(y[test], proba, labels=classes)
        found.append((losses, student.student_.n_parameters_))
    return found


def _compare(
    sizes: Sequence[Any],
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    folds: Sequence[list[tuple[np.ndarray, int]]],
    weight: np.ndarray,
) -> tuple[SizeRow, ...]:
    """Return the table, the most parameters first; a row held out twice counts with its mean."""
    count = np.zeros(len(weight))
    losses = np.zeros((len(sizes), len(weight)))
    for (_, test), fold in zip(splits, folds, strict=True):
        np.add.at(count, test, 1)
        for i, (held_out, _) in enumerate(fold):
            np.add.at(losses[i], test, held_out)
    used = (count > 0) & (weight > 0)
    if not used.any():
        raise ValueError("The splits of cv hold out no row with a positive weight.")
    losses, weight = losses[:, used] / count[used], weight[used]
    means = losses @ weight / weight.sum()
    if np.isnan(means).all():
        raise ValueError(
            "No size could be trained: every training diverged. Lower learning_rate_init."
        )
    best = int(np.nanargmin(means))
    table = []
    for i, size in enumerate(sizes):
        difference, error = _weighted_difference(losses[i] - losses[best], weight)
        n_parameters = max(fold[i][1] for fold in folds)
        table.append(SizeRow(size, n_parameters, float(means[i]), difference, error))
    return tuple(sorted(table, key=lambda row: -row.n_parameters))


def _weighted_difference(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Return the weighted mean and its standard error."""
    n, share = len(values), weight / weight.sum()
    mean = float(share @ values)
    variance = np.square(share * (values - mean)).sum() * n / max(n - 1, 1)
    return mean, float(np.sqrt(variance))


def _choose(rows: Sequence[SizeRow], tolerance: float | str) -> SizeRow:
    """Return the least size within the tolerance; of equally large ones the better."""
    close = [
        row
        for row in rows
        if row.difference <= (row.standard_error if isinstance(tolerance, str) else tolerance)
    ]
    return min(close, key=lambda row: (row.n_parameters, row.log_loss))


def _written(sizes: Any) -> str:
    """Write a size."""
    return sizes if isinstance(sizes, str) else str(sizes)
