"""Laws of the piecewise-linear encoding."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import get_tags

from skdistill.tables import PiecewiseLinearEncoding

# Rounded, so that ties are common and bins are never too narrow to tell apart.
cells = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-1e6, 1e6).map(lambda value: round(value, 4))
)
columns = hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(1)), elements=cells)
few_bins = st.integers(1, 9)


def reference(Z, edges):
    """Encode by the definition, bin by bin, and behind the bins number by number."""
    bins, numbers = [], []
    for z, e in zip(Z.T, edges, strict=True):
        for low, high in pairwise(e):
            bins.append(np.clip((z - low) / (high - low), 0, 1))
        if len(e) > 2:
            mean, deviation = moments(e)
            numbers.append(np.clip((z - mean) / deviation, -5, 5))
    return np.array(bins + numbers).T


def moments(edges):
    """Return mean and deviation of points spread evenly over each bin, by the midpoint rule."""
    inside = (np.arange(2000) + 0.5) / 2000
    points = edges[:-1, None] + np.diff(edges)[:, None] * inside
    return points.mean(), points.std()


def n_bins_of(encoding):
    return sum(len(edges) - 1 for edges in encoding.edges_)


def test_the_formula_is_the_definition():
    rng = np.random.default_rng(0)
    Z = np.column_stack([rng.normal(size=200), rng.integers(0, 2, 200), rng.lognormal(size=200)])
    encoding = PiecewiseLinearEncoding(n_bins=8).fit(Z)
    further = 3 * rng.normal(size=(100, 3))
    V, expected = encoding.encode(further), reference(further, encoding.edges_)
    assert_allclose(V[:, :17], expected[:, :17], atol=1e-12)
    assert_allclose(V[:, 17:], expected[:, 17:], atol=1e-5)
    by_formula = further[:, encoding.column_] * encoding.slope_ + encoding.offset_
    assert_array_equal(V, np.clip(by_formula, encoding.lower_, encoding.upper_))
    # The binary column is a number already.
    assert_array_equal(encoding.column_, [0] * 8 + [1] + [2] * 8 + [0, 2])
    assert_array_equal(encoding.lower_, [0] * 17 + [-5] * 2)
    assert_array_equal(encoding.upper_, [1] * 17 + [5] * 2)
    assert encoding.n_features_out_ == 19


@pytest.mark.parametrize("weighted", [False, True])
def test_edges_of_a_plain_column_are_inverted_cdf_quantiles(weighted):
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=997), rng.integers(1, 4, 997) if weighted else None
    edges = PiecewiseLinearEncoding(n_bins=7).fit(z[:, None], weight).edges_[0]
    shares = np.linspace(0, 1, 8)[1:-1]
    rows = z if weight is None else np.repeat(z, weight)
    expected = np.quantile(rows, shares, method="inverted_cdf")
    assert_array_equal(edges, [z.min(), *expected, z.max()])


def test_a_zero_heavy_column_spends_one_edge_on_zero():
    positive = np.random.default_rng(0).random(100)
    z = np.append(np.zeros(900), positive)
    edges = PiecewiseLinearEncoding(n_bins=8).fit(z[:, None]).edges_[0]
    expected = np.quantile(positive, np.arange(1, 8) / 8, method="inverted_cdf")
    assert_array_equal(edges, [0.0, *expected, positive.max()])


def test_frequent_values_inside_the_range_are_edges():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=300), np.full(200, 0.25), np.full(100, -0.5)])
    edges = PiecewiseLinearEncoding(n_bins=6).fit(z[:, None]).edges_[0]
    assert np.isin([0.25, -0.5, z.min(), z.max()], edges).all()
    assert len(edges) == 7


def test_few_valued_columns_have_their_values_as_edges():
    Z = np.array([[0.0, 1, 5], [1, 2, 5], [0, 3, 5], [1, 4, 5]])
    encoding = PiecewiseLinearEncoding(n_bins=3).fit(Z)
    assert [edges.tolist() for edges in encoding.edges_] == [[0, 1], [1, 2, 3, 4], [5]]
    # A 0/1 column is encoded as itself.
    assert_array_equal(encoding.encode(Z)[:, 0], Z[:, 0])


def test_constant_columns_alone_leave_one_dead_input():
    encoding = PiecewiseLinearEncoding().fit(np.full((5, 3), 7.0))
    assert encoding.n_features_out_ == 1
    assert_array_equal(encoding.encode(np.array([[7.0, 7, 7], [1e300, -1, 0]])), np.zeros((2, 1)))


@given(Z=columns, n_bins=few_bins)
def test_edges_increase_from_least_to_greatest_and_keep_the_budget(Z, n_bins):
    edges = PiecewiseLinearEncoding(n_bins).fit(Z).edges_[0]
    assert (np.diff(edges) > 0).all()
    assert edges[0] == Z.min()
    assert edges[-1] == Z.max()
    assert np.isin(edges, Z).all()
    assert len(edges) <= n_bins + 1
    if len(np.unique(Z)) <= n_bins + 1:
        assert_array_equal(edges, np.unique(Z))


@given(Z=columns, n_bins=few_bins)
def test_values_that_fill_a_bin_are_edges(Z, n_bins):
    values, counts = np.unique(Z, return_counts=True)
    edges = PiecewiseLinearEncoding(n_bins).fit(Z).edges_[0]
    assert np.isin(values[counts * n_bins >= len(Z)], edges).all()


@given(Z=columns, n_bins=few_bins)
def test_no_output_is_dead_and_none_depends_on_the_others(Z, n_bins):
    encoding = PiecewiseLinearEncoding(n_bins).fit(Z)
    # Between the edges the number is a sum of the bins.
    V = encoding.encode(Z)[:, : n_bins_of(encoding)]
    if Z.min() < Z.max():
        assert (V.min(axis=0) == 0).all()
        assert_allclose(V.max(axis=0), 1, rtol=1e-8)
        with_intercept = np.column_stack([np.ones(len(V)), V])
        assert np.linalg.matrix_rank(with_intercept) == with_intercept.shape[1]


@given(Z=columns, new=columns, n_bins=few_bins)
def test_values_lie_between_their_ends_and_never_decrease(Z, new, n_bins):
    encoding = PiecewiseLinearEncoding(n_bins).fit(Z)
    for dtype in (np.float32, np.float64):
        V = encoding.encode(np.sort(new, axis=0).astype(dtype))
        assert V.dtype == dtype
        assert (encoding.lower_ <= V).all()
        assert (encoding.upper_ >= V).all()
        assert (np.diff(V, axis=0) >= 0).all()


@given(Z=columns, n_bins=few_bins)
def test_a_number_has_the_moments_that_the_edges_imply(Z, n_bins):
    encoding = PiecewiseLinearEncoding(n_bins).fit(Z)
    edges, bins = encoding.edges_[0], n_bins_of(encoding)
    assert encoding.n_features_out_ == max(bins, 1) + (bins > 1)
    if bins > 1:
        mean, deviation = moments(edges)
        slope, offset = encoding.slope_[-1], encoding.offset_[-1]
        assert_allclose(1 / slope, deviation, rtol=1e-5)
        assert_allclose(-offset / slope, mean, rtol=1e-9, atol=1e-9 * deviation)


def test_a_number_is_the_standardised_column_where_it_is_uniform():
    Z = np.random.default_rng(0).uniform(3, 7, size=(4000, 1))
    number = PiecewiseLinearEncoding().fit(Z).encode(Z)[:, -1]
    assert_allclose(number, (Z[:, 0] - Z.mean()) / Z.std(), atol=0.03)


@given(Z=columns, new=columns, n_bins=few_bins)
def test_the_encoding_gives_the_clipped_column_back(Z, new, n_bins):
    encoding = PiecewiseLinearEncoding(n_bins).fit(Z)
    edges = encoding.edges_[0]
    if len(edges) > 1:
        back = encoding.encode(new)[:, : len(edges) - 1] @ np.diff(edges) + edges[0]
        assert_allclose(back, np.clip(new[:, 0], edges[0], edges[-1]), rtol=1e-9, atol=1e-6)


@given(Z=columns, n_bins=few_bins, data=st.data())
def test_weights_act_exactly_as_repeated_and_absent_rows(Z, n_bins, data):
    counts = st.lists(st.integers(0, 4), min_size=len(Z), max_size=len(Z)).filter(any)
    weight = np.array(data.draw(counts))
    weighted = PiecewiseLinearEncoding(n_bins).fit(Z, weight)
    repeated = PiecewiseLinearEncoding(n_bins).fit(np.repeat(Z, weight, axis=0))
    scaled = PiecewiseLinearEncoding(n_bins).fit(Z, 0.1 * weight)
    assert_array_equal(weighted.edges_[0], repeated.edges_[0])
    assert_array_equal(weighted.edges_[0], scaled.edges_[0])
    for array in ("slope_", "offset_"):
        assert_array_equal(getattr(weighted, array), getattr(repeated, array))
        assert_array_equal(getattr(weighted, array), getattr(scaled, array))


@given(Z=columns, n_bins=few_bins, data=st.data())
def test_the_order_of_rows_does_not_matter(Z, n_bins, data):
    order = data.draw(st.permutations(range(len(Z))))
    first, second = (PiecewiseLinearEncoding(n_bins).fit(part) for part in (Z, Z[order]))
    assert_array_equal(first.edges_[0], second.edges_[0])


@given(
    Z=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 30), st.just(1)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    n_bins=few_bins,
)
def test_any_finite_column_gives_finite_increasing_arrays(Z, n_bins):
    encoding = PiecewiseLinearEncoding(n_bins).fit(Z)
    assert np.isfinite(encoding.slope_.astype(np.float32)).all()
    assert np.isfinite(encoding.offset_.astype(np.float32)).all()
    assert np.isfinite(encoding.encode(Z)).all()
    assert all((np.diff(edges / 4) > 0).all() for edges in encoding.edges_)


@pytest.mark.parametrize(
    "z",
    [
        [-1.7e308, 0.0, 1.7e308],
        [1.7e308, 1.71e308, 1.75e308],
        [-1e-5, 0.0, 1e300],
        [0.0, 2e-30, 4e-30],
        [1.0, 1 + 3e-9, 1 + 6e-9],
        [1e7, 1e7 + 1, 1e7 + 5],
    ],
    ids=str,
)
def test_extreme_ranges_leave_a_number_that_is_useful(z):
    Z = np.array(z)[:, None]
    encoding = PiecewiseLinearEncoding().fit(Z)
    assert encoding.n_features_out_ == 3
    assert np.isfinite(encoding.slope_.astype(np.float32)).all()
    assert np.isfinite(encoding.offset_.astype(np.float32)).all()
    number = encoding.encode(Z)[:, 2]
    assert (np.diff(number) >= 0).all()
    assert -3 < number[0] < -0.4
    assert 1 < number[2] < 3


def test_edges_too_close_to_tell_apart_are_merged():
    z = np.array([0.0, 1.0, 1.0 + 1e-12, 2.0, 2.0 + 1e-12])
    edges = PiecewiseLinearEncoding(n_bins=4).fit(z[:, None]).edges_[0]
    assert_array_equal(edges, [0.0, 1.0, 2.0 + 1e-12])
    assert len(PiecewiseLinearEncoding().fit([[1.0], [1.0 + 1e-12]]).edges_[0]) == 1


def test_an_outlier_does_not_merge_the_bins_of_the_rest():
    z = np.array([-1e-3, 0.0, 1e-3, 1e-3 + 1e-16, 1e12])
    edges = PiecewiseLinearEncoding(n_bins=4).fit(z[:, None]).edges_[0]
    assert_array_equal(edges, [-1e-3, 0.0, 1e-3, 1e12])


def test_equal_weights_never_outnumber_the_bins():
    # Two ends that take all but a sliver, and inside as many equal values as there are steps.
    z, weight = np.arange(6.0), np.array([100, 0.1, 0.1, 0.1, 0.1, 100])
    edges = PiecewiseLinearEncoding(n_bins=4).fit(z[:, None], weight).edges_[0]
    assert len(edges) == 5


def test_frequent_values_may_take_every_edge():
    z = np.repeat(np.arange(6.0), [1, 50, 1, 50, 1, 1])
    edges = PiecewiseLinearEncoding(n_bins=3).fit(z[:, None]).edges_[0]
    assert_array_equal(edges, [0, 1, 3, 5])


def test_other_dtypes_are_encoded_in_float64():
    Z = np.array([[0], [1], [3]])
    encoding = PiecewiseLinearEncoding().fit(Z)
    assert encoding.encode(Z).dtype == np.float64
    assert_array_equal(encoding.encode(Z)[:, :2], [[0, 0], [1, 0], [1, 1]])
    assert_array_equal(Z, [[0], [1], [3]])


@pytest.mark.parametrize("n_bins", [0, -1, 2.5, "8", None])
def test_bad_numbers_of_bins_are_refused(n_bins):
    with pytest.raises(ValueError, match="n_bins must be an integer of at least 1"):
        PiecewiseLinearEncoding(n_bins).fit([[0.0], [1.0]])


def test_rows_must_be_finite():
    with pytest.raises(ValueError, match="Z contains NaN"):
        PiecewiseLinearEncoding().fit([[np.nan], [1.0]])


def test_it_is_cloned_and_pickled_whole():
    Z = np.random.default_rng(0).normal(size=(50, 2))
    encoding = PiecewiseLinearEncoding(n_bins=5).fit(Z)
    assert_array_equal(pickle.loads(pickle.dumps(encoding)).encode(Z), encoding.encode(Z))
    assert clone(encoding).n_bins == 5
    assert not hasattr(clone(encoding), "edges_")
    assert get_tags(encoding) is not None
