"""SmallestStudent: what was found of the sizes that were tried, and which of them is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np

from skdistill.estimators import DistilledClassifier
from skdistill.report.metrics import mean_and_error
from skdistill.report.plotting import BLACK, BLUE, ORANGE, as_frame, find_axes

# A value of hidden_layer_sizes.
Size = tuple[int, ...] | str


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

    hidden_layer_sizes: Size
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
    hidden_layer_sizes: Size
    rows: tuple[SizeRow, ...]
    tolerance: float | str

    def within(self, tolerance: float | str) -> Size:
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
        return choose_size(self.rows, check_tolerance(tolerance)).hidden_layer_sizes

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
        return as_frame([{**asdict(row), "chosen": self._is_chosen(row)} for row in self.rows])

    def _is_chosen(self, row: SizeRow) -> bool:
        """Tell whether a row is that of the chosen size."""
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
        points = [(row.n_parameters, row.log_loss, 2 * row.standard_error) for row in drawn]
        ax.errorbar(*zip(*points, strict=True), fmt="o-", color=BLUE, capsize=3, label="students")
        best = min(row.log_loss for row in drawn)
        if not isinstance(self.tolerance, str):
            label = f"within {self.tolerance:g} of the best"
            ax.axhspan(best, best + self.tolerance, color=BLACK, alpha=0.1, label=label)
        (chosen,) = (row for row in drawn if self._is_chosen(row))
        style = {"color": ORANGE, "ms": 11, "mec": BLACK, "zorder": 3}
        label = f"chosen: {chosen.hidden_layer_sizes}"
        ax.plot(chosen.n_parameters, chosen.log_loss, "D", label=label, **style)
        ax.set(xscale="log", xlabel="parameters", ylabel="cross-validated log-loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        """Return the table as text, so that a session shows it."""
        lines = [f"{'hidden layers':16}{'parameters':>11}{'log-loss':>10}{'over the best':>22}"]
        for row in self.rows:
            over = f"{row.difference:+.4f} +- {row.standard_error:.4f}"
            mark = "  chosen" if self._is_chosen(row) else ""
            lines.append(
                f"{row.hidden_layer_sizes!s:16}{row.n_parameters:>11,}{row.log_loss:>10.4f}"
                f"{over:>22}{mark}"
            )
        return "\n".join(lines)


def check_tolerance(tolerance: Any) -> float | str:
    """Return the tolerance, or raise with what is allowed."""
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if tolerance == "1se" or (number and 0 <= float(tolerance) < np.inf):
        return tolerance
    raise ValueError(
        "The 'tolerance' parameter of smallest_student must be a finite number >= 0, in nats of "
        f"log-loss, or '1se'; got {tolerance!r}."
    )


def choose_size(rows: Sequence[SizeRow], tolerance: float | str) -> SizeRow:
    """Return the least size within the tolerance; of equally large ones the better."""

    def is_close(row: SizeRow) -> bool:
        return row.difference <= (row.standard_error if isinstance(tolerance, str) else tolerance)

    return min(filter(is_close, rows), key=lambda row: (row.n_parameters, row.log_loss))


def compare_sizes(
    sizes: Sequence[Size],
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    weight: np.ndarray,
) -> tuple[SizeRow, ...]:
    """Return the table, the most parameters first; a row held out twice counts with its mean."""
    count = np.zeros(len(weight))
    losses = np.zeros((len(sizes), len(weight)))
    for (_, test), (held_out, _) in zip(splits, folds, strict=True):
        np.add.at(count, test, 1)
        np.add.at(losses.T, test, held_out.T)
    used = (count > 0) & (weight > 0)
    if not used.any():
        raise ValueError("The splits of cv hold out no row with a positive weight.")
    losses, weight = losses[:, used] / count[used], weight[used]
    means = losses @ weight / weight.sum()
    if np.isnan(means).all():
        raise ValueError(
            "No size could be trained: every training diverged. Lower learning_rate_init."
        )
    over_best = [mean_and_error(row, weight) for row in losses - losses[np.nanargmin(means)]]
    n_parameters = np.max([n for _, n in folds], axis=0).tolist()
    found = zip(sizes, n_parameters, means.tolist(), over_best, strict=True)
    table = [SizeRow(size, n, mean, *over) for size, n, mean, over in found]
    return tuple(sorted(table, key=lambda row: -row.n_parameters))
