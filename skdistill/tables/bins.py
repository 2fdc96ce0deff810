"""Piecewise-linear encoding of numerical columns."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from skdistill.tables.rows import check_sample_weight

FloatArray = npt.NDArray[np.float64]

# Quantile ties are decided within this share of the weight, so that weights 0.1 act as weights 1.
_WEIGHT_TOLERANCE = 1e-9
# Bins narrower than this, relative to their edges or in all, are merged: beyond it the rounding
# of `z * slope + offset` shows, and the slope overflows in float32.
_RELATIVE_WIDTH, _ABSOLUTE_WIDTH = 1e-9, 1e-30
# How many standard deviations a number may go.
_FAR = 5.0
# From this many rows on, encoding is faster with the rows last.
_MANY = 64


class Lines(NamedTuple):
    """One entry an output: ``clip(Z[:, column] * slope + offset, lower, upper)``.

    It is all that a forward pass in another library needs.
    """

    column: npt.NDArray[np.intp]
    slope: FloatArray
    offset: FloatArray
    lower: FloatArray
    upper: FloatArray


def encode_lines(
    h: npt.NDArray[Any], column: npt.NDArray[np.intp], *lines: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Encode a matrix of rows, or one row as a vector, in its dtype; without slopes they are 1."""
    slope, offset, lower, upper = lines
    # Many rows go through with the rows last: then copying a column is copying memory.
    rows_last = h.ndim == 2 and len(h) >= _MANY
    if rows_last:
        out = h.T.take(column, axis=0)
        slope, offset, lower, upper = (line[:, None] for line in lines)
    else:
        out = h.take(column, axis=-1)
    if slope.size:
        out *= slope
    out += offset
    np.maximum(out, lower, out=out)
    np.minimum(out, upper, out=out)
    return out.T if rows_last else out


class PiecewiseLinearEncoding(BaseEstimator):
    r"""Encode each column by how far it has got through each of its bins.

    Column :math:`z` with edges :math:`e_0 < \dots < e_m` becomes the ``m`` values
    :math:`v_t = \mathrm{clip}((z - e_{t-1}) / (e_t - e_{t-1}), 0, 1)`, as in [1]_. All columns
    share the one formula ``clip(Z[:, column_] * slope_ + offset_, lower_, upper_)``. Behind the
    bins stands each column of two bins or more once again as a number, standardised and clipped:
    bins follow steps, the number follows slopes, and a network needs both.

    Edges are values of the training rows. A column of at most ``n_bins + 1`` distinct values has
    these as edges: one bin for a binary column, none for a constant one. Otherwise the edges are
    the least and the greatest value, the values so frequent that a quantile bin would be empty
    (the zeros of a zero-heavy column), and weighted quantiles of the rest.

    Parameters
    ----------
    n_bins : int, default=16
        Largest number of bins for a column, at least 1.

    Attributes
    ----------
    edges_ : list of ndarray of float64
        Increasing edges of each column; a constant column has one.
    column_ : ndarray of int of shape (n_features_out_,)
        The column that each output encodes.
    slope_, offset_ : ndarray of float64 of shape (n_features_out_,)
        For a bin one over its width, and minus its lower edge over the width; for a number one
        over its standard deviation, and minus its mean over it, as the edges imply them.
    lower_, upper_ : ndarray of float64 of shape (n_features_out_,)
        The ends: 0 and 1 for a bin, -5 and 5 for a number.
    n_features_out_ : int
        Number of outputs. If every column is constant there is one, always 0, so that a network
        has an input.

    Notes
    -----
    ``SplineTransformer(degree=1)`` spans the same functions. Its quantile knots coincide on
    binary, few-valued and zero-heavy columns, which gives columns that are the same on every
    row, and they are interpolated between rows, so that a row of weight 2 is not that row twice.
    Quantiles of the inverted-CDF kind over distinct values have neither fault.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev, A. Babenko, "On Embeddings for Numerical Features in
       Tabular Deep Learning", NeurIPS 2022, arXiv:2203.05556.
    """

    edges_: list[FloatArray]

    def __init__(self, n_bins: int = 16) -> None:
        self.n_bins = n_bins

    def fit(self, Z: Any, sample_weight: Any = None) -> PiecewiseLinearEncoding:
        """Learn the edges; a row of weight 0 counts as absent, one of weight 2 as two."""
        if not isinstance(self.n_bins, numbers.Integral) or self.n_bins < 1:
            raise ValueError(f"n_bins must be an integer of at least 1, got {self.n_bins!r}.")
        Z = check_array(Z, dtype=np.float64, input_name="Z")
        weight = None if sample_weight is None else check_sample_weight(sample_weight, len(Z))
        if weight is not None and not weight.all():
            Z, weight = Z[weight > 0], weight[weight > 0]
        self.edges_ = [_edges(*_distinct(column, weight), int(self.n_bins)) for column in Z.T]
        self._set_arrays()
        return self

    @classmethod
    def from_edges(cls, n_bins: int, edges: Iterable[FloatArray]) -> PiecewiseLinearEncoding:
        """Return a fitted encoding with these edges."""
        encoding = cls(n_bins)
        encoding.edges_ = list(edges)
        encoding._set_arrays()
        return encoding

    def encode(self, Z: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Encode finite rows, which are not checked again: float32 for float32, else float64."""
        dtype = np.float32 if Z.dtype == np.float32 else np.float64
        column, *rest = self.lines
        # Far outside the edges a product may overflow; clipped it is right.
        with np.errstate(over="ignore"):
            lines = (line.astype(dtype, copy=False) for line in rest)
            return np.ascontiguousarray(encode_lines(Z.astype(dtype, copy=False), column, *lines))

    @property
    def lines(self) -> Lines:
        """The arrays of the one formula."""
        return Lines(self.column_, self.slope_, self.offset_, self.lower_, self.upper_)

    @property
    def n_features_out_(self) -> int:
        """Number of outputs."""
        return int(self.column_.size)

    def _set_arrays(self) -> None:
        """Write the edges as one column, slope, offset, lower and upper end for each output."""
        widths = [_widths(edges) for edges in self.edges_]
        binned = np.repeat(np.arange(len(widths)), [width.size for width in widths])
        if not binned.size:
            self.column_, self.slope_, self.offset_ = np.zeros(1, int), np.zeros(1), np.zeros(1)
            self.lower_, self.upper_ = np.zeros(1), np.ones(1)
            return
        wide = np.array([j for j, width in enumerate(widths) if width.size > 1], dtype=int)
        moments = np.array([_implied_moments(self.edges_[j]) for j in wide]).reshape(-1, 2)
        self.column_ = np.concatenate([binned, wide])
        slope = 1.0 / np.concatenate(widths)
        starts = np.concatenate([edges[:-1] for edges in self.edges_])
        self.slope_ = np.concatenate([slope, 1.0 / moments[:, 1]])
        self.offset_ = np.concatenate([-starts * slope, -moments[:, 0] / moments[:, 1]])
        n = len(wide)
        self.lower_ = np.concatenate([np.zeros(len(binned)), np.full(n, -_FAR)])
        self.upper_ = np.concatenate([np.ones(len(binned)), np.full(n, _FAR)])


def _implied_moments(edges: FloatArray) -> tuple[float, float]:
    """Return mean and standard deviation of a variable spread evenly over the bins."""
    # Halved, lest the range overflow, and as shares of the range, lest a square do or vanish.
    half_range = edges[-1] / 2 - edges[0] / 2
    shares = (edges / 2 - edges[0] / 2) / half_range
    middles, widths = (shares[1:] + shares[:-1]) / 2, np.diff(shares)
    mean = middles.mean()
    variance = np.mean((middles - mean) ** 2 + widths**2 / 12)
    return 2 * float(edges[0] / 2 + half_range * mean), 2 * float(half_range * np.sqrt(variance))


def _distinct(column: FloatArray, weight: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Return the distinct values in order and the weight that each carries."""
    if weight is None:
        values, counts = np.unique(column, return_counts=True)
        return values, counts.astype(np.float64)
    order = np.argsort(column, kind="stable")
    values, starts = np.unique(column[order], return_index=True)
    return values, np.add.reduceat(weight[order], starts)


def _edges(values: FloatArray, weight: FloatArray, n_bins: int) -> FloatArray:
    """Choose at most `n_bins + 1` of the distinct values as edges."""
    if values.size <= n_bins + 1:
        return _spread(values)
    is_edge = np.zeros(values.size, dtype=bool)
    is_edge[[0, -1]] = True
    rest = np.ones(values.size, dtype=bool)
    while True:
        n_left = n_bins + 1 - int(is_edge.sum())
        step = weight[rest].sum() / (n_left + 1)
        # A value heavier than a step would be two quantiles at once. At most `n_left` values can
        # be that heavy, so the edges keep to their number and some value is left over.
        heavy = rest & (weight > step * (1 + _WEIGHT_TOLERANCE))
        if not heavy.any():
            break
        is_edge |= heavy
        rest &= ~heavy
    is_edge[_quantiles(np.flatnonzero(rest), weight[rest], n_left)] = True
    return _spread(values[is_edge])


def _quantiles(
    positions: npt.NDArray[np.intp], weight: FloatArray, n_quantiles: int
) -> npt.NDArray[np.intp]:
    """Return the positions of evenly spaced inverted-CDF quantiles, both ends left out."""
    cumulated = np.cumsum(weight)
    shares = np.arange(1, n_quantiles + 1) / (n_quantiles + 1)
    return positions[np.searchsorted(cumulated, (shares - _WEIGHT_TOLERANCE) * cumulated[-1])]


def _spread(values: FloatArray) -> FloatArray:
    """Drop edges too close to tell apart; the first stays, and the last unless it is that close."""
    first, last = values[0], values[-1]
    if _apart(values[:-1], values[1:]).all():
        return values
    kept = [first]
    for value in values[1:-1]:
        if _apart(kept[-1], value) and _apart(value, last):
            kept.append(value)
    return np.array([*kept, last] if _apart(first, last) else kept)


def _apart(low: Any, high: Any) -> Any:
    """Tell whether a bin between two values is wide enough, halving lest the width overflow."""
    narrowest = np.maximum(_RELATIVE_WIDTH * np.maximum(abs(low), abs(high)), _ABSOLUTE_WIDTH)
    return high / 2 - low / 2 > narrowest / 2


def _widths(edges: FloatArray) -> FloatArray:
    """Return the widths of the bins, the greatest float where they exceed it."""
    with np.errstate(over="ignore"):
        return np.minimum(np.diff(edges), np.finfo(np.float64).max)
