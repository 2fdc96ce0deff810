"""Laws of the encoder of mixed tables, and of the check of what any preprocessor returns."""

import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from skdistill.tables import TabularEncoder, prepare


def mixed_frame(n=60, seed=0):
    rng = np.random.default_rng(seed)
    height = rng.normal(170.0, 10.0, n)
    height[::7] = np.nan
    return pd.DataFrame(
        {
            "height": height,
            "count": rng.integers(0, 9, n),
            "nullable": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            "text": rng.choice(["a", "b", "c"], n),
            "object": pd.Series([("x", None, "y")[i] for i in rng.integers(0, 3, n)], dtype=object),
            "category": pd.Categorical(rng.choice(["u", "v"], n), categories=["w", "v", "u"]),
            "code": pd.Categorical(rng.choice([10, 20], n)),
            "flag": rng.random(n) < 0.5,
            "maybe": pd.array([(True, False, None)[i] for i in rng.integers(0, 3, n)], "boolean"),
        }
    )


# prepare ------------------------------------------------------------------------------------------


def test_prepared_rows_become_float64_and_raw_ones_keep_float32():
    for dtype in (np.float32, np.float64, int):
        Z = np.ones((2, 2), dtype)
        assert prepare(Z, FunctionTransformer()).dtype == np.float64
        assert prepare(Z, None).dtype == (np.float32 if dtype is np.float32 else np.float64)


def test_prepared_rows_must_be_dense_and_finite():
    X = np.array([["a"], ["b"]])
    with pytest.raises(TypeError, match=r"preprocessor \(OneHotEncoder\).*sparse_output=False"):
        prepare(X, OneHotEncoder().fit(X))
    with pytest.raises(ValueError, match=r"preprocessor \(FunctionTransformer\).*NaN"):
        prepare(np.array([[np.nan]]), FunctionTransformer())
    with pytest.raises(ValueError, match="Input X contains NaN"):
        prepare(np.array([[np.nan]]))


# TabularEncoder -----------------------------------------------------------------------------------


def test_scikit_learn_checks():
    results = check_estimator(TabularEncoder(), on_skip=None)
    assert {result["status"] for result in results} <= {"passed", "skipped"}


def test_numbers_agree_with_standard_scaler():
    rng = np.random.default_rng(0)
    X, weight = rng.lognormal(size=(50, 4)), rng.random(50)
    for sample_weight in (None, weight):
        encoder = TabularEncoder().fit(X, sample_weight=sample_weight)
        scaler = StandardScaler().fit(X, sample_weight=sample_weight)
        assert_allclose(encoder.mean_, scaler.mean_, rtol=1e-12)
        assert_allclose(encoder.scale_, scaler.scale_, rtol=1e-12)
        assert encoder.is_affine_
        assert_array_equal(encoder.transform(X), (X - encoder.mean_) / encoder.scale_)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "u8", "?", "O", ">f4"])
def test_every_number_dtype_gives_contiguous_float64(dtype):
    X = np.asfortranarray(np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype))
    Z = TabularEncoder().fit(X).transform(X)
    assert Z.dtype == np.float64
    assert Z.flags.c_contiguous
    assert_allclose(Z, StandardScaler().fit_transform(X.astype(float)), rtol=1e-12)


@given(
    X=hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(1, 3)),
        elements=st.floats(-1e300, 1e300, allow_nan=False),
    )
)
def test_no_finite_training_row_overflows(X):
    encoder = TabularEncoder().fit(X)
    Z = encoder.transform(X)
    assert np.isfinite(Z).all()
    assert np.isfinite(encoder.mean_).all()
    assert (encoder.scale_ > 0).all()
    constant = X.min(axis=0) == X.max(axis=0)
    assert_array_equal(Z[:, constant], 0.0)
    assert_array_equal(encoder.scale_[constant], 1.0)


def test_huge_numbers_are_standardised_like_small_ones():
    X = np.random.default_rng(0).normal(size=(30, 1))
    small, huge = (TabularEncoder().fit_transform(X * 2.0**e) for e in (0, 1000))
    assert_array_equal(huge, small)


def test_weights_act_as_repeated_and_zero_weights_as_absent_rows():
    X = mixed_frame()
    weight = np.random.default_rng(1).integers(0, 4, len(X))
    X.loc[weight == 0, "text"] = "only in rows of weight zero"
    X.loc[weight == 0, "count"] = 10**6
    weighted = TabularEncoder().fit(X, sample_weight=weight)
    absent = TabularEncoder().fit(X[weight > 0], sample_weight=weight[weight > 0])
    repeated = TabularEncoder().fit(X.loc[X.index.repeat(weight)])
    assert_array_equal(weighted.transform(X), absent.transform(X))
    assert_allclose(weighted.transform(X), repeated.transform(X), rtol=1e-12, atol=1e-12)


def test_a_missing_value_in_a_row_of_weight_zero_is_not_seen():
    X = np.array([[1.0], [2.0], [np.nan]])
    assert not TabularEncoder().fit(X, sample_weight=[1, 1, 0]).allow_missing_


def test_each_column_of_a_mixed_frame_is_encoded_by_its_kind():
    X = mixed_frame()
    encoder = TabularEncoder().fit(X)
    Z = pd.DataFrame(encoder.transform(X), columns=encoder.get_feature_names_out())
    names = ["height", "count", "nullable", "height_missing"]
    names += ["text_a", "text_b", "text_c", "object_missing", "object_x", "object_y"]
    names += ["category_u", "category_v", "code_10", "code_20", "flag_0", "flag_1"]
    names += ["maybe_0", "maybe_1", "maybe_missing"]
    assert list(Z) == names
    assert encoder.n_features_out_ == len(names)
    assert not encoder.is_affine_
    assert_array_equal(encoder.has_missing_, [True, False, False])
    assert_allclose(Z["height"], ((X.height - X.height.mean()) / X.height.std(ddof=0)).fillna(0))
    assert_array_equal(Z["height_missing"], X.height.isna())
    assert_array_equal(Z["object_missing"], X.object.isna())
    assert_array_equal(Z["code_20"], X.code == 20)
    assert_array_equal(Z["flag_1"], X.flag)
    assert_array_equal(Z["maybe_missing"], X.maybe.isna())


def test_one_hot_columns_agree_with_scikit_learn():
    X = mixed_frame()[["text", "category", "flag"]]
    expected = OneHotEncoder(sparse_output=False).fit_transform(X)
    assert_array_equal(TabularEncoder().fit_transform(X), expected)


def test_rows_are_encoded_one_by_one():
    X = mixed_frame()
    encoder = TabularEncoder().fit(X)
    rows = [encoder.transform(X.iloc[[i]]) for i in range(len(X))]
    assert_array_equal(np.vstack(rows), encoder.transform(X))


def test_the_container_of_a_row_does_not_matter():
    X = mixed_frame()
    named, bare = TabularEncoder().fit(X), TabularEncoder().fit(X.to_numpy(dtype=object))
    expected = named.transform(X)
    assert_array_equal(named.transform(X.astype(object)), expected)
    assert_array_equal(named.transform(X.astype({"category": "str", "code": "float64"})), expected)
    # A bare object cell tells no numeric category from a number, and 10, 20 are two values.
    code = [list(named.get_feature_names_out()).index(f"code_{v}") for v in (10, 20)]
    rest = np.delete(expected, code, axis=1)
    Z = bare.transform(X.to_numpy(dtype=object))
    assert_array_equal(np.delete(Z, 3, axis=1), rest)
    assert_array_equal(np.sign(Z[:, 3]), np.sign(expected[:, code[1]] - 0.5))


def test_unknown_categories_give_zeros():
    encoder = TabularEncoder().fit(pd.DataFrame({"c": ["a", "b"], "f": [True, True]}))
    Z = encoder.transform(pd.DataFrame({"c": ["z", None, "b"], "f": [False, True, None]}))
    assert_array_equal(Z, [[0, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_missing_and_empty_are_one_category():
    X = np.array([["a"], [None], [np.nan], [""], [pd.NA]], dtype=object)
    Z = TabularEncoder().fit_transform(X)
    assert_array_equal(Z, [[0, 1], [1, 0], [1, 0], [1, 0], [1, 0]])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, float("nan"), np.float32("nan")])
def test_every_way_to_say_missing_is_the_same(missing):
    X = np.array([[1], [3], [missing]], dtype=object)
    assert_allclose(TabularEncoder().fit_transform(X), [[-1, 0], [1, 0], [0, 1]])


def test_missing_numbers_are_taken_only_where_fit_saw_some():
    X = np.array([[1.0, 2.0], [3.0, 5.0]])
    row = np.array([[np.nan, 2.0]])
    with pytest.raises(ValueError, match=r"Input X contains NaN\..*impute"):
        TabularEncoder().fit(X).transform(row)
    for other in (np.array([[1.0, np.nan]]), np.array([["", 0.0]])):
        table = pd.DataFrame(np.vstack([X, X])).assign(c=[*other[0], *other[0]])
        encoder = TabularEncoder().fit(table.rename(columns=str))
        Z = encoder.transform(pd.DataFrame({"0": [np.nan], "1": [2.0], "c": [other[0, 0]]}))
        assert Z[0, 0] == 0.0


def test_a_column_that_is_all_missing_says_so():
    X = np.array([[np.nan, 1.0], [np.nan, 2.0]])
    encoder = TabularEncoder().fit(X)
    assert_array_equal(encoder.transform(X)[:, [0, 2]], [[0, 1], [0, 1]])
    assert_array_equal(encoder.transform([[7.0, 1.0]])[:, [0, 2]], [[7, 0]])


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("seen_missing", [False, True])
def test_infinity_is_always_refused(value, seen_missing):
    good = np.array([[1.0], [2.0], [np.nan if seen_missing else 3.0]])
    words = r"Input X contains infinity or a value too large for dtype\('float64'\)"
    encoder = TabularEncoder().fit(good)
    for dtype in (float, object):
        bad = np.array([[1.0], [value]], dtype=dtype)
        with pytest.raises(ValueError, match=words):
            TabularEncoder().fit(bad)
        with pytest.raises(ValueError, match=words):
            encoder.transform(bad)
    with pytest.raises(ValueError, match=words):
        TabularEncoder().fit(np.array([[10**400], [1]], dtype=object))


def test_a_number_that_overflows_once_standardised_is_refused():
    encoder = TabularEncoder().fit(np.array([[0.0], [1e-9]]))
    with pytest.raises(ValueError, match="too large"):
        encoder.transform(np.array([[1e305]]))


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(["2020-01-01", "2020-01-02"]),
        pd.to_datetime(["2020-01-01", "2020-01-02"]).astype(object),
        pd.to_timedelta([1, 2], unit="D"),
        pd.PeriodIndex(["2020-01", "2020-02"], freq="M"),
        pd.Categorical(pd.to_datetime(["2020-01-01", "2020-01-02"])),
        pd.Series([[1], [2]]),
        pd.Series([{"foo": "bar"}, 1.0]),
        pd.Series([1, "a"], dtype=object),
        pd.Series([True, "a"], dtype=object),
        pd.Series([b"a", b"b"]),
        pd.Series([np.timedelta64(1, "D"), 1], dtype=object),
    ],
)
def test_undecidable_columns_are_refused_by_name(column):
    words = r"Column 'when' .*argument must be .* string.* number.*days since a date"
    X = pd.DataFrame({"a": [1.0, 2.0], "when": column})
    with pytest.raises(TypeError, match=words):
        TabularEncoder().fit(X)


def test_arrays_of_dates_are_refused_by_position():
    for dtype in ("M8[D]", "m8[ns]"):
        with pytest.raises(TypeError, match=r"Column 0 holds .*days since"):
            TabularEncoder().fit(np.array([[1, 2], [3, 4]]).astype(dtype))


def test_complex_numbers_among_objects_are_refused():
    with pytest.raises(ValueError, match="Complex data not supported"):
        TabularEncoder().fit(np.array([[1j], [2.0]], dtype=object))


def test_a_column_that_changes_its_kind_is_refused_by_name():
    X = pd.DataFrame({"n": [1.0, 2.0], "c": ["a", "b"]})
    encoder = TabularEncoder().fit(X)
    with pytest.raises(TypeError, match=r"Column 'n' held numbers .* in fit and holds strings now"):
        encoder.transform(X.assign(n=["1", "2"]))
    with pytest.raises(TypeError, match="Column 'c' held strings in fit and holds numbers now"):
        encoder.transform(X.assign(c=[1, 2]))
    assert_array_equal(encoder.transform(X.assign(c=[None, np.nan]))[:, 1:], 0.0)


def test_categories_that_float64_cannot_tell_apart_are_refused():
    X = pd.DataFrame({"id": pd.Categorical([2**53, 2**53 + 1])})
    with pytest.raises(TypeError, match=r"'id'.*Convert it to strings"):
        TabularEncoder().fit(X)


def test_numbers_of_any_python_type_are_numbers():
    X = np.array([[Decimal("1.5")], [np.int8(2)], [True], [3.5]], dtype=object)
    assert_array_equal(TabularEncoder().fit(X).numeric_, [0])


def test_categories_must_be_finite_and_may_be_none_at_all():
    with pytest.raises(ValueError, match="infinity"):
        TabularEncoder().fit(pd.DataFrame({"c": pd.Categorical([1.0, np.inf])}))
    X = pd.DataFrame({"n": [1.0, 3.0], "c": pd.Categorical([None, None])})
    assert_array_equal(TabularEncoder().fit_transform(X), [[-1, 1], [1, 1]])


def test_numbers_too_small_to_divide_by_are_left_as_they_are():
    encoder = TabularEncoder().fit(np.array([[0.0], [5e-324]]))
    assert_array_equal(encoder.scale_, [1.0])


def test_names_and_widths_are_checked_in_scikit_learn_words():
    X = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    encoder = TabularEncoder().fit(X)
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(X[["b", "a"]])
    with pytest.raises(ValueError, match="X has 1 features, but TabularEncoder is expecting 2"):
        TabularEncoder().fit(X.to_numpy()).transform(np.ones((1, 1)))
    assert list(TabularEncoder().fit([[1.0]]).get_feature_names_out()) == ["x0"]
    assert list(encoder.get_feature_names_out(["a", "b"])) == ["a", "b_x", "b_y"]
    with pytest.raises(ValueError, match="length equal to number of features"):
        TabularEncoder().fit([[1.0]]).get_feature_names_out(["a", "b"])
    with pytest.raises(ValueError, match="not equal to feature_names_in_"):
        encoder.get_feature_names_out(["a", "c"])


def test_x_is_never_written_to():
    X = np.array([[1.0, np.nan], [2.0, 3.0]])
    X.flags.writeable = False
    frame = mixed_frame()
    before = frame.copy()
    TabularEncoder().fit_transform(X)
    TabularEncoder().fit_transform(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_state_is_plain_arrays_and_survives_pickling():
    X = mixed_frame()
    encoder = TabularEncoder().fit(X)
    for value in vars(encoder).values():
        for array in value if isinstance(value, list) else [value]:
            assert isinstance(array, int) or type(array) is np.ndarray
    assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(X), encoder.transform(X))
    assert vars(clone(encoder)) == {}


def test_pandas_output_is_on_offer():
    X = mixed_frame()
    encoder = TabularEncoder().set_output(transform="pandas").fit(X)
    assert list(encoder.transform(X)) == list(encoder.get_feature_names_out())
    with config_context(transform_output="pandas"):
        plain = TabularEncoder().fit(X)
        assert type(prepare(X, plain)) is np.ndarray


def test_tags_tell_what_is_taken():
    tags = get_tags(TabularEncoder()).input_tags
    assert tags.allow_nan
    assert tags.string
    assert tags.categorical
    assert not tags.sparse


def test_arrays_are_encoded_without_pandas(fresh_process):
    fresh_process(
        """
        import numpy as np
        from skdistill.tables.encoder import TabularEncoder

        X = np.array([[1.0, "a"], [2.0, None]], dtype=object)
        TabularEncoder().fit(X).transform(X)
        """,
        forbid=("pandas", "torch"),
    )
