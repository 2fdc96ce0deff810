"""Laws of the neighbour search behind the synthetic rows."""

import numpy as np
import pytest

from skdistill.tables.neighbours import (
    Column,
    _leaves,
    _nearest_by_products,
    encode_codes,
    neighbours,
)


def correlated(n_rows, n_columns, seed=0):
    rng = np.random.default_rng(seed)
    rank = min(n_columns, 4)
    latent = rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, n_columns))
    return latent + 0.3 * rng.normal(size=(n_rows, n_columns))


@pytest.mark.parametrize("n_columns", [3, 12])
def test_neighbours_are_the_nearest(n_columns):
    points = correlated(250, n_columns)
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    columns = [Column(values, values, numeric=True) for values in points.T]
    found = neighbours(columns, np.arange(250), np.random.default_rng(0))
    np.testing.assert_array_equal(found, distances.argmin(axis=1))


def test_leaves_part_the_points_and_keep_near_ones_together():
    points = correlated(3000, 12).astype(np.float32)
    leaves = list(_leaves(points, 400, np.random.default_rng(0)))
    assert max(map(len, leaves)) <= 400
    np.testing.assert_array_equal(np.sort(np.concatenate(leaves)), np.arange(3000))
    nearest = _nearest_by_products(points, np.arange(3000))
    leaf = np.empty(3000, dtype=int)
    for number, rows in enumerate(leaves):
        leaf[rows] = number
    assert (leaf == leaf[nearest]).mean() > 0.5


@pytest.mark.parametrize("n_levels", [2, 3, 32, 200])
def test_different_categories_lie_about_one_unit_apart(n_levels):
    points = encode_codes(np.arange(n_levels), np.random.default_rng(0))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    off_diagonal = distances[~np.eye(n_levels, dtype=bool)]
    assert off_diagonal.mean() == pytest.approx(1.0, abs=0.02)
    assert off_diagonal.min() > 0.1
