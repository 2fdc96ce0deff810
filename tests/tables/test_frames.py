"""Laws of tables: what is one, and how rows are counted, taken and stacked."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from skdistill.tables import as_table, n_rows, stack_rows, take_rows
from skdistill.tables.frames import rows_with_missing


def mixed_frame(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "nullable": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            "object": pd.Series([("x", None, "y")[i] for i in rng.integers(0, 3, n)], dtype=object),
            "category": pd.Categorical(rng.choice(["u", "v"], n), categories=["w", "v", "u"]),
            "code": pd.Categorical(rng.choice([10, 20], n)),
            "flag": rng.random(n) < 0.5,
        }
    )


# as_table -----------------------------------------------------------------------------------------


def test_a_frame_and_an_array_pass_unchanged():
    frame, array = mixed_frame(), np.array([[np.inf, np.nan]], dtype=np.float32)
    assert as_table(frame) is frame
    assert as_table(array) is array
    assert as_table(np.array([[1, "a"]], dtype=object)).dtype == object


def test_numbers_beside_strings_in_a_list_stay_numbers():
    assert as_table([[1, "a"], [2, None]]).tolist() == [[1, "a"], [2, None]]
    assert as_table([[1, "a"], [2, "b"]]).tolist() == [[1, "a"], [2, "b"]]
    assert as_table([[1, 2.5]]).dtype == np.float64


def test_another_frame_library_is_converted_to_pandas():
    class Frame:
        columns = ("a",)

        def to_pandas(self):
            return pd.DataFrame({"a": [1.0]})

    assert isinstance(as_table(Frame()), pd.DataFrame)


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        (sparse.csr_array(np.eye(2)), TypeError, r"Sparse.*dense.*X\.toarray\(\)"),
        (np.eye(2) * 1j, ValueError, "Complex data not supported"),
        (pd.DataFrame({"z": [1j]}), ValueError, "Complex data not supported"),
        (np.ones(3), ValueError, "Reshape your data"),
        (np.ones((1, 1, 1)), ValueError, "dim 3"),
        (pd.DataFrame(np.eye(3), columns=list("cac")), ValueError, r"unique.*\['c'\]"),
        (np.ones((0, 3)), ValueError, r"0 sample\(s\)"),
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\).*minimum of 1 is required"),
        (np.ones((3, 0)), ValueError, r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1"),
        (
            pd.DataFrame(index=range(3)),
            ValueError,
            r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required",
        ),
    ],
)
def test_what_is_no_table_is_refused(X, error, words):
    with pytest.raises(error, match=words):
        as_table(X)


def test_errors_call_the_table_by_its_name():
    with pytest.raises(TypeError, match=r"X_unlabeled\.toarray"):
        as_table(sparse.csr_array(np.eye(2)), name="X_unlabeled")


# rows ---------------------------------------------------------------------------------------------


def test_taking_and_stacking_rows_is_a_round_trip():
    for X in (mixed_frame(), np.arange(120.0).reshape(60, 2)):
        halves = [take_rows(X, np.arange(0, 20)), take_rows(X, np.arange(20, 60))]
        stacked = stack_rows(halves)
        assert n_rows(stacked) == 60
        if isinstance(X, pd.DataFrame):
            pd.testing.assert_frame_equal(stacked, X)
        else:
            assert_array_equal(stacked, X)


def test_stacked_categories_are_the_union():
    parts = [pd.DataFrame({"c": pd.Categorical(list(names))}) for names in ("ab", "bc")]
    stacked = stack_rows(parts)
    assert stacked["c"].tolist() == list("abbc")
    assert list(stacked["c"].cat.categories) == list("abc")


def test_stacking_keeps_numbers_beside_strings():
    stacked = stack_rows([np.array([[1.5]]), np.array([["a"]])])
    assert stacked.tolist() == [[1.5], ["a"]]


def test_tables_that_do_not_match_are_not_stacked():
    frame = pd.DataFrame({"a": [1.0]})
    with pytest.raises(TypeError, match="one container"):
        stack_rows([frame, np.ones((1, 1))])
    with pytest.raises(ValueError, match="same columns"):
        stack_rows([frame, pd.DataFrame({"b": [1.0]})])


class OfAnotherLibrary:
    """A frame whose library needs a package that is not there."""

    def to_pandas(self):
        raise ModuleNotFoundError("No module named 'pyarrow'")


def test_a_frame_that_cannot_become_one_of_pandas():
    words = "X is a .* frame, and turning it .* pip install pandas pyarrow .No module"
    with pytest.raises(ImportError, match=words):
        as_table(OfAnotherLibrary())


def test_a_lazy_frame():
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"holds no rows yet. Pass X\.collect\(\)"):
        as_table(polars.DataFrame({"a": [1.0]}).lazy())


def test_rows_are_counted_in_any_container():
    for X in ([[1, 2], [3, 4]], np.eye(2), pd.DataFrame(np.eye(2)), sparse.csr_array(np.eye(2))):
        assert n_rows(X) == 2


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, pd.NaT, float("nan")])
def test_rows_with_a_missing_value_are_found_in_any_container(missing):
    cells = np.array([[1.0, "a"], [missing, "b"], [2.0, missing], [3.0, ""]], dtype=object)
    for X in (cells, pd.DataFrame(cells)):
        assert_array_equal(rows_with_missing(X), [False, True, True, False])
    numbers = np.array([[1.0, 2.0], [np.nan, 3.0]])
    assert_array_equal(rows_with_missing(numbers), [False, True])
    assert_array_equal(rows_with_missing(np.eye(2, dtype=int)), [False, False])
