"""Laws of the synthetic rows."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.utils import check_random_state

from skdistill.augment import AUGMENTERS, munge
from skdistill.tables.synthetic import _draw_base


def correlated(n_rows, n_columns, seed=0):
    rng = np.random.default_rng(seed)
    rank = min(n_columns, 4)
    latent = rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, n_columns))
    return latent + 0.3 * rng.normal(size=(n_rows, n_columns))


def mixed_frame(n_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    gaps = rng.random(n_rows) < 0.3
    frame = pd.DataFrame(
        {
            "float": rng.normal(size=n_rows),
            "float32": rng.normal(size=n_rows).astype(np.float32),
            "gappy": np.where(gaps, np.nan, rng.normal(5, 2, n_rows)),
            "whole": rng.integers(0, 500, n_rows).astype(float),
            "binary": rng.integers(0, 2, n_rows).astype(float),
            "int": rng.integers(-300, 300, n_rows),
            "uint8": rng.integers(0, 200, n_rows).astype(np.uint8),
            "identifier": rng.integers(2**60, 2**62, n_rows),
            "bool": rng.random(n_rows) < 0.2,
            "nullable": pd.array(rng.integers(-90, 90, n_rows), dtype="Int64"),
            "small": pd.array(rng.integers(-90, 90, n_rows), dtype="Int8"),
            "float_nullable": pd.array(rng.normal(size=n_rows), dtype="Float32"),
            "boolean": pd.array(rng.random(n_rows) < 0.5, dtype="boolean"),
            "category": pd.Categorical(
                rng.choice(list("abc"), n_rows), categories=list("dcba"), ordered=True
            ),
            "string": pd.array(rng.choice([f"s{i}" for i in range(60)], n_rows), dtype="string"),
            "object": pd.Series(rng.choice(["x", "y"], n_rows), dtype=object),
            "numbers": pd.Series(rng.integers(0, 99, n_rows).tolist(), dtype=object),
            "date": pd.date_range("2020-01-01", periods=n_rows, freq="h"),
            "zoned": pd.date_range("2020-01-01", periods=n_rows, freq="h", tz="UTC"),
        },
        index=np.arange(n_rows)[::-1],
    )
    for name in ("nullable", "boolean", "category", "string", "object", "numbers", "date"):
        frame.loc[rng.random(n_rows) < 0.25, name] = None
    frame.columns.name = "features"
    return frame


def copies(synthetic, X):
    """Count the synthetic rows that equal a row of X."""
    known = {row.tobytes() for row in np.ascontiguousarray(X)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(synthetic))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8", "u2", "u8", "?", "U3", "O"])
def test_arrays_keep_dtype_and_shape(dtype):
    X = (np.abs(correlated(60, 3)) * 20).astype(dtype)
    synthetic = munge(X, 130, random_state=0)
    assert type(synthetic) is np.ndarray
    assert synthetic.dtype == X.dtype
    assert synthetic.shape == (130, 3)


def test_frames_keep_columns_dtypes_and_categories():
    X = mixed_frame()
    synthetic = munge(X, 900, random_state=0)
    pd.testing.assert_series_equal(synthetic.dtypes, X.dtypes)
    pd.testing.assert_index_equal(synthetic.columns, X.columns)
    pd.testing.assert_index_equal(synthetic.index, pd.RangeIndex(900), exact=True)


def test_frame_values_hold_bounds_wholeness_and_membership():
    X = mixed_frame()
    synthetic = munge(X, 900, random_state=0)
    quantities = ["float", "float32", "gappy", "whole", "int", "uint8", "nullable", "small"]
    for name in [*quantities, "float_nullable", "numbers"]:
        assert synthetic[name].min() >= X[name].min()
        assert synthetic[name].max() <= X[name].max()
    for name in ("whole", "nullable", "numbers"):
        present = synthetic[name].dropna().to_numpy(dtype=float)
        assert (present == np.rint(present)).all()
    assert {type(value) for value in synthetic["numbers"].dropna()} == {int}
    swapped = ["binary", "identifier", "bool", "boolean", "category", "string", "object", "date"]
    for name in [*swapped, "zoned"]:
        assert set(synthetic[name].dropna()) <= set(X[name].dropna())
    for name in ("float", "gappy", "float_nullable"):
        assert not synthetic[name].dropna().isin(X[name]).all()


def test_missing_rates_hold():
    X = mixed_frame(2000)
    synthetic = munge(X, 6000, random_state=0)
    np.testing.assert_allclose(synthetic.isna().mean(), X.isna().mean(), atol=0.05)
    assert not synthetic.columns[synthetic.isna().any()].difference(X.columns[X.isna().any()]).size


def test_a_column_of_nothing_but_missing_values_stays_so():
    X = pd.DataFrame({"none": np.full(30, np.nan), "some": np.arange(30.0)})
    assert munge(X, 50, random_state=0)["none"].isna().all()


def test_frames_with_equal_column_names_or_none_but_numbers():
    X = pd.DataFrame(correlated(40, 3), columns=["a", "a", 7])
    assert list(munge(X, 20, random_state=0).columns) == ["a", "a", 7]


def test_frames_and_arrays_of_the_same_numbers_agree():
    X = correlated(80, 4)
    frame = munge(pd.DataFrame(X), 200, random_state=3)
    np.testing.assert_array_equal(frame.to_numpy(), munge(X, 200, random_state=3))


def test_object_arrays_of_mixed_types():
    X = mixed_frame()[["float", "int", "category", "string", "bool", "numbers"]].to_numpy(object)
    synthetic = munge(X, 500, random_state=0)
    assert synthetic.dtype == object
    assert {type(v) for v in synthetic[:, 1]} <= {int}
    for j in (2, 3, 4):
        assert set(synthetic[:, j]) <= set(X[:, j])


def test_unhashable_cells_are_a_type_error_that_names_the_column():
    X = np.array([[1.0, {"a": 1}], [2.0, {}], [3.0, {}]], dtype=object)
    with pytest.raises(TypeError, match="column 1: unhashable"):
        munge(X, 2)


def test_x_is_not_changed():
    frame, array = mixed_frame(), correlated(50, 3)
    array.flags.writeable = False
    before = frame.copy(deep=True)
    munge(frame, 300, random_state=0)
    munge(array, 300, random_state=0)
    pd.testing.assert_frame_equal(frame, before)


def test_seeds_reproduce_and_differ():
    X = mixed_frame()
    first = munge(X, 200, random_state=5)
    pd.testing.assert_frame_equal(first, munge(X, 200, random_state=5))
    again = munge(X, 200, random_state=np.random.RandomState(5))
    pd.testing.assert_frame_equal(first, again)
    assert not first["float"].equals(munge(X, 200, random_state=6)["float"])


def test_the_global_generator_is_left_alone():
    shared = check_random_state(None)
    before = shared.get_state()
    munge(mixed_frame(), 100, random_state=0)
    np.testing.assert_equal(shared.get_state(), before)


def test_zero_weight_rows_act_as_absent():
    X, weight = mixed_frame(), np.random.default_rng(0).integers(0, 3, 400)
    some = munge(X, 700, sample_weight=weight, random_state=0)
    fewer = munge(X[weight > 0], 700, sample_weight=weight[weight > 0], random_state=0)
    pd.testing.assert_frame_equal(some, fewer)


def test_zero_weight_rows_leave_no_trace():
    X = np.vstack([correlated(100, 5), correlated(100, 5) + 1000])
    weight = np.repeat([1.0, 0.0], 100)
    assert munge(X, 900, sample_weight=weight, random_state=0).max() < 500


def test_base_rows_follow_the_weights():
    # Two constant groups far apart: a row's group is its base row's.
    X = np.repeat([[0.0, 0.0], [50.0, 50.0]], 50, axis=0) + correlated(100, 2)
    weight = np.repeat([1.0, 3.0], 50)
    synthetic = munge(X, 1000, sample_weight=weight, random_state=0)
    assert (synthetic[:, 0] > 25).sum() == pytest.approx(750, abs=1)


@pytest.mark.parametrize("weight", [np.ones(7), np.full(7, 1e-300), np.full(7, 1e300)])
def test_equal_weights_are_no_weights(weight):
    X = correlated(7, 2)
    expected = munge(X, 24, random_state=0)
    np.testing.assert_array_equal(munge(X, 24, sample_weight=weight, random_state=0), expected)


@pytest.mark.parametrize("n_rows", [0, 1, 6, 7, 8, 24, 70])
def test_without_weights_rows_are_used_equally_often(n_rows):
    rng = np.random.default_rng(0)
    counts = np.bincount(_draw_base(np.ones(7), n_rows, rng), minlength=7)
    assert counts.sum() == n_rows
    assert counts.max() - counts.min() <= 1


def test_rows_left_over_are_drawn_in_proportion():
    rng = np.random.default_rng(0)
    weight = np.array([0.1, 0.2, 0.3, 0.4, 1.5])
    counts = np.zeros(5)
    for _ in range(4000):
        np.add.at(counts, _draw_base(weight, 3, rng), 1)
    np.testing.assert_allclose(counts / 4000, 3 * weight / weight.sum(), atol=0.03)


@pytest.mark.parametrize("n_columns", [1, 2, 5, 8, 9, 12])
def test_no_synthetic_row_is_its_base_row(n_columns):
    X = correlated(300, n_columns)
    synthetic = munge(X, 300, random_state=0)  # every row is base once, in order
    assert (synthetic != X).any(axis=1).all()
    assert copies(synthetic, X) < 0.1 * 300


@pytest.mark.parametrize("dtype", ["i8", "f2"])
def test_rounding_does_not_lead_back_to_the_base_row(dtype):
    X = np.arange(200).astype(dtype)[:, None]
    assert (munge(X, 200, random_state=0) != X).all()


def test_at_least_one_column_changes_at_any_probability():
    X = correlated(200, 4)
    assert ((munge(X, 200, swap_probability=0.0, random_state=0) != X).sum(axis=1) == 1).all()
    assert (munge(X, 200, swap_probability=1.0, random_state=0) != X).all()


def test_the_share_of_swapped_cells_is_the_probability():
    X = correlated(2000, 12)
    changed = munge(X, 2000, swap_probability=0.3, random_state=0) != X
    assert changed.mean() == pytest.approx(0.3, abs=0.02)


def test_numeric_values_scatter_around_the_neighbour_by_the_difference():
    # Two rows in the middle of a wide range, their neighbours each other.
    X = np.array([[-1.1], [1.1], [-100.0], [100.0], [-101.0], [101.0]])
    weight = [1, 1, 1e-9, 1e-9, 1e-9, 1e-9]
    draw = munge(X, 20_000, sample_weight=weight, local_variance=4.0, random_state=0)[:, 0]
    upper = draw[:10_000]  # base -1.1, neighbour 1.1
    assert upper.mean() == pytest.approx(1.1, abs=0.02)
    assert upper.std() == pytest.approx(2.2 / 4.0, abs=0.02)


def test_copied_rows_do_not_count_as_neighbours():
    X = np.repeat(correlated(50, 3), 4, axis=0)
    assert (munge(X, 200, random_state=0) != X).any(axis=1).all()


def test_marginal_moments_stay_close():
    X = correlated(5000, 10)
    synthetic = munge(X, 20_000, random_state=0)
    np.testing.assert_allclose(synthetic.mean(axis=0), X.mean(axis=0), atol=0.06 * X.std())
    np.testing.assert_allclose(synthetic.std(axis=0), X.std(axis=0), rtol=0.1)
    off = np.corrcoef(synthetic.T) - np.corrcoef(X.T)
    assert np.abs(off).max() < 0.15


def test_one_row_gives_copies():
    X = pd.DataFrame({"a": [1.5], "b": ["x"], "c": pd.array([None], dtype="Int64")})
    expected = pd.concat([X] * 4, ignore_index=True)
    pd.testing.assert_frame_equal(munge(X, 4, random_state=0), expected)


def test_one_distinct_row_gives_copies():
    np.testing.assert_array_equal(munge(np.full((9, 2), 3), 20, random_state=0), 3)


def test_two_rows_stay_between_each_other():
    X = np.array([[0.0, 10.0], [1.0, 20.0]])
    synthetic = munge(X, 50, random_state=0)
    assert (synthetic >= X[0]).all()
    assert (synthetic <= X[1]).all()


@pytest.mark.parametrize("X", [np.eye(3), mixed_frame(20)], ids=["array", "frame"])
def test_no_rows_asked_for(X):
    synthetic = munge(X, 0, random_state=0)
    assert type(synthetic) is type(X)
    assert synthetic.shape == (0, X.shape[1])


def test_values_at_the_ends_of_their_types():
    floats = np.array([[-1e308], [1e308], [1e307], [0.0]])
    assert np.isfinite(munge(floats, 40, random_state=0)).all()
    whole = np.array([[-(2**63)], [2**63 - 1], [0], [5]])
    assert set(munge(whole, 40, random_state=0).ravel()) <= set(whole.ravel())
    small = np.arange(256, dtype=np.uint8)[:, None]
    assert munge(small, 2000, local_variance=0.01, random_state=0).max() == 255


@pytest.mark.parametrize("categorical", [[1], [-1], [False, True], ["code"], "code"])
def test_categorical_columns_are_swapped_without_noise(categorical):
    X = pd.DataFrame(correlated(100, 2), columns=["amount", "code"])
    synthetic = munge(X, 300, categorical=categorical, random_state=0)
    assert synthetic["code"].isin(X["code"]).all()
    assert not synthetic["amount"].isin(X["amount"]).all()


def test_few_repeated_numbers_are_codes():
    X = np.random.default_rng(0).choice([0.0, 0.5, 7.25], size=(200, 3))
    assert set(munge(X, 500, random_state=0).ravel()) <= {0.0, 0.5, 7.25}


def test_the_table_names_functions_of_one_signature():
    X = correlated(20, 2)
    for function in AUGMENTERS.values():
        assert function(X, 5, sample_weight=np.ones(20), random_state=0).shape == (5, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_rows": -1}, ValueError, "n_rows must be at least 0, got -1"),
        ({"n_rows": 2.5}, TypeError, "n_rows must be an integer, got 2.5"),
        ({"n_rows": True}, TypeError, "n_rows must be an integer"),
        ({"swap_probability": 1.5}, ValueError, r"swap_probability must be in \[0, 1\], got 1.5"),
        ({"swap_probability": np.nan}, ValueError, "swap_probability must be in"),
        ({"swap_probability": "half"}, TypeError, "swap_probability must be a number, got 'half'"),
        ({"local_variance": 0}, ValueError, "local_variance must be above 0"),
        ({"local_variance": np.inf}, ValueError, "local_variance must be above 0 and finite"),
        ({"categorical": [3]}, ValueError, "names column 3, X has 3 columns"),
        ({"categorical": ["a"]}, ValueError, "'a', which X does not have; X is an array"),
        ({"categorical": [0.5]}, TypeError, "positions, names or only booleans, got 0.5"),
        ({"categorical": [True]}, ValueError, "mask of 1, X has 3 columns"),
        ({"X": csr_array(np.eye(3))}, TypeError, "dense X, got a sparse matrix"),
        ({"X": [[1, 2]]}, TypeError, "NumPy array or a pandas DataFrame, got list"),
        ({"X": np.ones(3)}, ValueError, "2 dimensions, got 1"),
        ({"X": np.ones((0, 3))}, ValueError, "at least one row and one column"),
        ({"X": np.ones((3, 0))}, ValueError, "at least one row and one column"),
        ({"X": np.array([[1.0], [np.inf]])}, ValueError, "infinity in column 0"),
        ({"X": pd.DataFrame({"a": [1.0, -np.inf]})}, ValueError, "infinity in column 'a'"),
        (
            {"X": pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])})},
            TypeError,
            "column 'a' is sparse",
        ),
        (
            {"X": pd.DataFrame({"a": [1.0, 2.0]}), "categorical": ["b"]},
            ValueError,
            r"'b', which X does not have; the columns are \['a'\]",
        ),
    ],
)
def test_errors_say_what_is_allowed(arguments, error, words):
    arguments = {"X": np.eye(3), "n_rows": 4, **arguments}
    with pytest.raises(error, match=words):
        munge(**arguments)
