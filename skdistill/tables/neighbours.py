"""Nearest neighbours among the rows of a mixed table, at a cost that grows with their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

# Beyond this many levels one-hot columns would dominate the cost of the neighbour search.
_ONE_HOT_LEVELS = 32
_HASHED_DIMENSIONS = 16
# Up to here a KD-tree beats matrix products; above, its pruning fails.
_TREE_DIMENSIONS = 8


def encode_numbers(keys: NDArray[np.float64]) -> NDArray[np.float64]:
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


def encode_codes(codes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
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


def neighbours(
    points: NDArray[np.float32], base: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return, for every base row, the row of the nearest point that is not the same point."""
    first, group = _distinct(points, rng)
    if len(first) == 1 or not len(base):
        return base
    asked = np.zeros(len(first), dtype=bool)
    asked[group[base]] = True
    return first[_nearest(points[first], asked, rng)[group[base]]]


def _distinct(
    points: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first row of every distinct point, and the number of each row's point."""
    # A random linear hash modulo 2**64 of the bit patterns: sorting one integer a row is far
    # cheaper than sorting rows. Adding 0 makes the two zeros one.
    bits = (points + np.float32(0)).view(np.uint32)
    factors = np.asarray(rng.integers(2**64, size=points.shape[1], dtype=np.uint64))
    hashes = np.zeros(len(points), dtype=np.uint64)
    for j in range(points.shape[1]):
        hashes += bits[:, j].astype(np.uint64) * (factors[j] | np.uint64(1))
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    return first, group


def _nearest(
    points: NDArray[np.float32], asked: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the nearest other point of each point asked for; the rest is arbitrary."""
    nearest = np.zeros(len(points), dtype=np.intp)
    n_dimensions = points.shape[1]
    if n_dimensions <= _TREE_DIMENSIONS:
        wanted = np.flatnonzero(asked)
        found = cKDTree(points).query(points[wanted], k=2)[1]
        nearest[wanted] = np.where(found[:, 0] == wanted, found[:, 1], found[:, 0])
        return nearest
    for rows in _leaves(points, 20_000 if n_dimensions <= 64 else 5_000, rng):
        queries = np.flatnonzero(asked[rows])
        nearest[rows[queries]] = rows[_nearest_by_products(points[rows], queries)]
    return nearest


def _leaves(
    points: NDArray[np.float32], max_rows: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
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


def _nearest_by_products(
    points: NDArray[np.float32], queries: NDArray[np.intp], chunk: int = 128
) -> NDArray[np.intp]:
    """Return the nearest other point of each query by matrix products, a chunk at a time."""
    half_norms = np.einsum("ij,ij->i", points, points) / 2
    nearest = np.empty(len(queries), dtype=np.intp)
    for start in range(0, len(queries), chunk):
        rows = queries[start : start + chunk]
        # Half the squared distance, less the query's own norm, which changes no ranking.
        distances = points[rows] @ points.T
        np.subtract(half_norms, distances, out=distances)
        distances[np.arange(len(rows)), rows] = np.inf
        nearest[start : start + chunk] = distances.argmin(axis=1)
    return nearest
