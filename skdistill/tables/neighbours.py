"""Nearest neighbours among the rows of a mixed table, at a cost that grows with their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

# Beyond this many levels one-hot columns would dominate the cost of the neighbour search.
_ONE_HOT_LEVELS = 32
_HASHED_DIMENSIONS = 16
# Up to here a KD-tree beats matrix products; above, its pruning fails.
_TREE_DIMENSIONS = 8
# Queries that are compared with all points at a time.
_CHUNK = 128

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Points = NDArray[np.float32]


class Column(NamedTuple):
    """A column's stored values, and keys that are equal exactly where the values are.

    The keys of a numeric column are its values as float64, inf where missing; those of any
    other column number its distinct values from 0.
    """

    stored: Any
    keys: NDArray[Any]
    numeric: bool


def encode_numbers(keys: Floats) -> Floats:
    """Standardise; where a key is inf, missing, stand the mean and an indicator column."""
    missing = np.isinf(keys)
    present = keys[~missing]
    parts = [missing] if missing.any() else []
    if present.min() < present.max():
        # Divided first, so that squares of huge values do not overflow.
        values = np.where(missing, 0.0, keys) / np.abs(present).max()
        mean = values[~missing].mean()
        values = np.where(missing, 0.0, values - mean)
        parts.append(values / (values[~missing].std() or 1.0))
    return np.column_stack(parts) if parts else np.empty((len(missing), 0))


def encode_codes(codes: Ints, rng: Generator) -> Floats:
    """Place every category one unit from every other, or nearly so where they are many."""
    n_levels = int(codes.max()) + 1
    if n_levels <= 2:
        # One column does what two would; a constant needs none.
        return np.arange(n_levels, dtype=float)[codes, None][:, : n_levels - 1]
    if n_levels <= _ONE_HOT_LEVELS:
        table = np.eye(n_levels)
    else:
        table = rng.standard_normal((n_levels, _HASHED_DIMENSIONS))
        table /= np.linalg.norm(table, axis=1, keepdims=True)
    return (table / np.sqrt(2))[codes]


def neighbours(columns: list[Column], base: Ints, rng: Generator) -> Ints:
    """Return, for every base row, the row of the nearest point that is not the same point."""
    parts = [
        encode_numbers(column.keys) if column.numeric else encode_codes(column.keys, rng)
        for column in columns
    ]
    points = np.hstack([part.astype(np.float32) for part in parts])
    # A random linear hash modulo 2**64 of the bit patterns: sorting one integer a row is far
    # cheaper than sorting rows. Adding 0 makes the two zeros one.
    bits = (points + np.float32(0)).view(np.uint32)
    factors = rng.integers(2**64, size=points.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.einsum("ij,j->i", bits, factors, dtype=np.uint64)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if len(first) == 1 or not len(base):
        return base
    points, group = points[first], group[base]
    nearest, wanted = np.zeros(len(points), dtype=np.intp), np.unique(group)
    n_dimensions = points.shape[1]
    if n_dimensions <= _TREE_DIMENSIONS:
        found = cKDTree(points).query(points[wanted], k=2)[1]
        nearest[wanted] = np.where(found[:, 0] == wanted, found[:, 1], found[:, 0])
    else:
        for rows in _leaves(points, 20_000 if n_dimensions <= 64 else 5_000, rng):
            queries = np.flatnonzero(np.isin(rows, wanted))
            nearest[rows[queries]] = rows[_nearest_by_products(points[rows], queries)]
    return first[nearest[group]]


def _leaves(points: Points, max_rows: int, rng: Generator) -> Iterator[Ints]:
    """Halve the points along random differences of two until each part is small enough.

    Near points mostly stay together, which a random partition does not offer at the same cost.
    """
    pending = [np.arange(len(points))]
    while pending:
        rows = pending.pop()
        if len(rows) <= max_rows:
            yield rows
            continue
        one, other = points[rng.choice(rows, 2, replace=False)]
        half = len(rows) // 2
        order = np.argpartition(points[rows] @ (one - other), half)
        pending += [rows[order[:half]], rows[order[half:]]]


def _nearest_by_products(points: Points, queries: Ints) -> Ints:
    """Return the nearest other point of each query by matrix products, a chunk at a time."""
    half_norms = np.einsum("ij,ij->i", points, points) / 2
    nearest = np.empty(len(queries), dtype=np.intp)
    for start in range(0, len(queries), _CHUNK):
        rows = queries[start : start + _CHUNK]
        # Half the squared distance, less the query's own norm, which changes no ranking.
        distances = points[rows] @ points.T
        np.subtract(half_norms, distances, out=distances)
        distances[np.arange(len(rows)), rows] = np.inf
        nearest[start : start + _CHUNK] = distances.argmin(axis=1)
    return nearest
