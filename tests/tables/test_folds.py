"""Laws of the folds that keep equal rows together."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdistill.tables.folds import distinct_row_folds

# Few distinct rows, most of them once or twice, in any order, some of weight zero.
_TRIPLES = st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 3))
ROWS = st.lists(_TRIPLES, min_size=4, max_size=60).filter(lambda rows: not mostly_copies(rows))


def mostly_copies(rows):
    """Tell whether the distinct rows with weight are one, or carry more than four each."""
    distinct = {value for value, _, weight in rows if weight}
    return len(distinct) < 2 or sum(w for *_, w in rows) > 4 * len(distinct)


def tables(values):
    """Return the same rows in every container."""
    values = np.asarray(values)
    numbers = np.column_stack([values * 0.5, -values])
    frame = pd.DataFrame({"a": numbers[:, 0], "b": [f"v{v}" for v in values]})
    return {
        "float": numbers,
        "float32": numbers.astype(np.float32),
        "int": np.column_stack([values, values**2]),
        "bool": np.array([[v & 1, v & 2, v & 4] for v in values.tolist()], dtype=bool),
        "strings": frame.to_numpy().astype(str),
        "object": frame.to_numpy(dtype=object),
        "frame": frame,
        "categories": frame.astype({"b": "category"}),
    }


def take(X, rows):
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def fold_of(X, code, weight=None, n_splits=5):
    """Return the number of folds, and for each row the fold that tests it, or -1."""
    weight = np.ones(len(code)) if weight is None else np.asarray(weight, dtype=float)
    folds = distinct_row_folds(X, np.asarray(code), weight, n_splits)
    fold = np.full(len(code), -1)
    for f, (_, test) in enumerate(folds):
        assert (fold[test] == -1).all()
        fold[test] = f
    return len(folds), fold


@given(ROWS)
def test_folds_are_a_partition_of_the_rows_with_weight(rows):
    value, code, weight = np.array(rows).T
    everything = np.flatnonzero(weight > 0)
    folds = distinct_row_folds(tables(value)["float"], code, weight)
    tests = np.concatenate([test for _, test in folds])
    np.testing.assert_array_equal(np.sort(tests), everything)
    for train, test in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), everything)
        assert np.intersect1d(train, test).size == 0


@given(ROWS)
def test_equal_rows_share_a_fold(rows):
    value, code, weight = np.array(rows).T
    _, fold = fold_of(tables(value)["float"], code, weight)
    for v in np.unique(value[weight > 0]):
        assert len(np.unique(fold[(value == v) & (weight > 0)])) == 1


@given(ROWS, st.randoms(use_true_random=False))
def test_order_changes_nothing(rows, random):
    value, code, weight = np.array(rows).T
    order = np.array(random.sample(range(len(rows)), len(rows)))
    X = tables(value)["float"]
    _, fold = fold_of(X, code, weight)
    _, shuffled = fold_of(X[order], code[order], weight[order])
    np.testing.assert_array_equal(shuffled, fold[order])


@given(ROWS)
def test_weights_act_as_repeated_and_absent_rows(rows):
    value, code, weight = np.array(rows).T
    X = tables(value)["float"]
    n_weighted, weighted = fold_of(X, code, weight)
    copies = np.repeat(np.arange(len(rows)), weight)
    n_repeated, repeated = fold_of(X[copies], code[copies])
    assert n_weighted == n_repeated
    np.testing.assert_array_equal(repeated, weighted[copies])
    n_scaled, scaled = fold_of(X, code, weight * 0.1)
    assert n_scaled == n_weighted
    np.testing.assert_array_equal(scaled, weighted)


@pytest.mark.parametrize("kind", tables([0]))
def test_every_container(kind):
    rng = np.random.default_rng(0)
    value, code = rng.permutation(np.arange(24) % 8), rng.integers(0, 2, size=24)
    X = tables(value)[kind]
    n, fold = fold_of(X, code)
    assert n == 5
    for v in range(8):
        assert len(np.unique(fold[value == v])) == 1
    order = rng.permutation(24)
    np.testing.assert_array_equal(fold_of(take(X, order), code[order])[1], fold[order])


def test_the_index_of_a_frame_and_the_layout_of_an_array_do_not_matter():
    X = np.random.default_rng(0).normal(size=(30, 3))
    code = np.arange(30) % 2
    _, fold = fold_of(X, code)
    for same in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.astype(">f8")):
        np.testing.assert_array_equal(fold_of(same, code)[1], fold)
    frame = pd.DataFrame(X)
    _, fold = fold_of(frame, code)
    np.testing.assert_array_equal(fold_of(frame.set_index(frame.index[::-1]), code)[1], fold)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_distinct_rows_are_stratified_and_spread_evenly(n_classes):
    X = np.random.default_rng(0).normal(size=(203, 4))
    code = np.arange(203) % n_classes
    n, fold = fold_of(X, code)
    assert n == 5
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 1
    for c in range(n_classes):
        counts = np.bincount(fold[code == c], minlength=5)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("n_distinct", "n_splits", "expected"), [(2, 5, 2), (3, 5, 3), (9, 5, 5), (9, 3, 3), (9, 1, 2)]
)
def test_number_of_folds(n_distinct, n_splits, expected):
    value = np.repeat(np.arange(n_distinct), 3)
    n, fold = fold_of(value[:, None].astype(float), np.arange(len(value)) % 2, n_splits=n_splits)
    assert n == expected
    assert set(fold) == set(range(n))


def test_rows_without_weight_are_in_no_fold():
    X = np.arange(20.0)[:, None]
    weight = np.ones(20)
    weight[6:] = 0
    n, fold = fold_of(X, np.arange(20) % 2, weight, n_splits=9)
    assert n == 6
    assert (fold[6:] == -1).all()


@pytest.mark.parametrize(("n_distinct", "n"), [(1, 3), (1, 4), (1, 40), (3, 60)])
def test_copies_of_a_few_rows_are_spread_over_stratified_folds(n_distinct, n):
    X = (np.arange(n) % n_distinct)[:, None].astype(float)
    code = np.random.default_rng(0).permutation(np.arange(n) % 2)
    n_folds, fold = fold_of(X, code)
    assert n_folds == min(5, n)
    for c in (0, 1):
        counts = np.bincount(fold[code == c], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    for train, test in distinct_row_folds(X, code, np.ones(n)):
        assert len(train)
        assert len(test)


def test_each_class_is_dealt_in_its_order_and_goes_on_where_the_last_one_stopped():
    code = np.random.default_rng(0).integers(0, 3, size=300)
    _, fold = fold_of(np.zeros((300, 1)), code)
    dealt = np.concatenate([fold[code == c] for c in range(3)])
    np.testing.assert_array_equal(dealt, np.arange(300) % 5)


@pytest.mark.parametrize("dtype", [float, np.float32, int, bool])
def test_numbers_fall_into_the_same_folds_in_a_frame_and_in_an_array(dtype):
    X = (4 * np.random.default_rng(0).normal(size=(60, 3))).astype(dtype)
    _, fold = fold_of(X, np.arange(60) % 2)
    np.testing.assert_array_equal(fold_of(pd.DataFrame(X), np.arange(60) % 2)[1], fold)
    np.testing.assert_array_equal(fold_of(X.astype(float), np.arange(60) % 2)[1], fold)
    mixed = pd.DataFrame(X).assign(more=np.arange(60) % 7 > 3)
    _, fold = fold_of(mixed, np.arange(60) % 2)
    np.testing.assert_array_equal(fold_of(mixed.to_numpy(float), np.arange(60) % 2)[1], fold)


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean"])
def test_missing_values_of_nullable_columns_are_nan(dtype):
    values = np.tile([1.0, 0.0, np.nan], 20)
    floats = pd.DataFrame({"a": values, "b": np.arange(60.0) // 3})
    _, fold = fold_of(floats, np.arange(60) % 2)
    nullable = floats.assign(a=pd.array(values, dtype="Float64").astype(dtype))
    np.testing.assert_array_equal(fold_of(nullable, np.arange(60) % 2)[1], fold)


def test_the_two_zeros_are_one_value():
    for dtype in (np.float64, np.float32):
        zeros = np.array([[0.0], [-0.0]] * 10, dtype=dtype)
        X = np.concatenate([zeros, np.arange(1, 11, dtype=dtype)[:, None]])
        code = np.concatenate([np.zeros(20, dtype=int), np.ones(10, dtype=int)])
        _, fold = fold_of(X, code)
        assert len(np.unique(fold[:20])) == 1


def test_missing_values_are_equal():
    rows = np.tile([[np.nan, 1.0], [2.0, np.nan], [3.0, 4.0]], (4, 1))
    code = np.zeros(12, dtype=int)
    code[:3] = 1
    for X in (rows, pd.DataFrame(rows), rows.astype(object)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, fold = fold_of(X, code)
        for i in range(3):
            assert len(np.unique(fold[3 + i :: 3])) == 1


def test_distinct_rows_get_distinct_folds_in_wide_and_structured_tables():
    grids = {
        "one-hot": np.eye(50),
        "swapped columns": np.array([[i, j] for i in range(8) for j in range(8)], dtype=float),
        "tiny differences": 1 + np.arange(50)[:, None] * np.finfo(float).eps,
        "huge": np.arange(50)[:, None] * 1e300 / 50,
    }
    for name, X in grids.items():
        n, fold = fold_of(X, np.zeros(len(X), dtype=int))
        assert n == 5
        sizes = np.bincount(fold)
        assert sizes.max() - sizes.min() <= 1, name
