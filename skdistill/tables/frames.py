"""Any container of rows: checked, counted, cut, stacked, and read column by column."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.utils import check_array

NUMERIC_KINDS = "biuf"


def as_table(X: Any, *, name: str = "X") -> Any:
    """Return a dense table, values as they are: a pandas DataFrame, or an array of any dtype."""
    if type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in NUMERIC_KINDS and X.size:
        return X
    if issparse(X):
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. "
            f"Use {name}.toarray() to convert it."
        )
    if not is_frame(X) and hasattr(X, "to_pandas"):
        X = _to_pandas(X, name)
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise TypeError(f"{name} is a lazy frame, which holds no rows yet. Pass {name}.collect().")
    if is_frame(X):
        _check_frame(X, name)
        return X
    if isinstance(X, (list, tuple)):
        X = _array_of_rows(X)
    return check_array(X, dtype=None, ensure_all_finite=False, input_name=name)


def _to_pandas(X: Any, name: str) -> Any:
    """Return a frame of another library as one of pandas."""
    try:
        return X.to_pandas()
    except ImportError as error:
        raise ImportError(
            f"{name} is a {type(X).__module__.partition('.')[0]} frame, and turning it into one of "
            f"pandas needs further packages: pip install pandas pyarrow ({error})."
        ) from error


def is_frame(X: Any) -> bool:
    """Tell a pandas DataFrame without importing pandas."""
    return hasattr(X, "iloc") and hasattr(X, "columns")


def n_rows(X: Any) -> int:
    """Count the rows of an array, a frame or a list."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def names_of(X: Any) -> list[Any]:
    """Return the names of a frame's columns, the positions of an array's."""
    return list(X.columns) if is_frame(X) else list(range(X.shape[1]))


def columns_of(X: Any) -> list[Any]:
    """Split a checked table into columns, once."""
    return [column for _, column in X.items()] if is_frame(X) else list(X.T)


def take_rows(X: Any, indices: Any) -> Any:
    """Take rows of a checked table by position or mask; the container stays what it is."""
    return X.iloc[indices] if is_frame(X) else X[indices]


def stack_rows(parts: Sequence[Any]) -> Any:
    """Stack checked tables of one kind; category columns keep the union of their categories."""
    if all(is_frame(part) for part in parts):
        return _stack_frames(parts)
    if any(is_frame(part) for part in parts):
        raise TypeError("A DataFrame and an array cannot be stacked: pass both in one container.")
    kinds = {part.dtype.kind for part in parts}
    # NumPy would turn the numbers into strings.
    if len(kinds) > 1 and kinds - set(NUMERIC_KINDS):
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def _stack_frames(parts: Sequence[Any]) -> Any:
    """Concatenate DataFrames with the same columns."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    names = list(parts[0].columns)
    for part in parts[1:]:
        if list(part.columns) != names:
            raise ValueError(
                f"Tables to stack need the same columns: {names} and {list(part.columns)}."
            )
    out = pd.concat(parts, ignore_index=True)
    for j in range(len(names)):
        columns = [part.iloc[:, j] for part in parts]
        dtypes = [column.dtype for column in columns]
        if all(map(is_categorical, dtypes)) and any(dtype != dtypes[0] for dtype in dtypes):
            out.isetitem(j, union_categoricals(columns, ignore_order=True))
    return out


def is_categorical(dtype: Any) -> bool:
    """Tell pandas' category dtype."""
    return hasattr(dtype, "categories") and hasattr(dtype, "ordered")


def is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA and NaT."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def rows_with_missing(X: Any) -> npt.NDArray[np.bool_]:
    """Tell which rows of a checked table have a missing value."""
    if is_frame(X):
        return np.asarray(X.isna().to_numpy().any(axis=1))
    if X.dtype.kind == "O":
        return np.array([any(is_missing(v) or v != v for v in row) for row in X])
    return np.asarray((X != X).any(axis=1))


def _check_frame(X: Any, name: str) -> None:
    """Refuse a DataFrame that is empty or complex, or has two columns of one name."""
    for count, what in zip(X.shape, ("sample", "feature"), strict=True):
        if not count:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required."
            )
    if not X.columns.is_unique:
        repeated = sorted(set(X.columns[X.columns.duplicated()]), key=str)
        raise ValueError(f"Column names of {name} must be unique, repeated are {repeated}.")
    for column, dtype in zip(X.columns, X.dtypes, strict=True):
        if getattr(dtype, "kind", "O") == "c":
            raise ValueError(f"Complex data not supported\n{name} column {column!r} is {dtype}.")


def _array_of_rows(rows: Sequence[Any]) -> npt.NDArray[Any]:
    """Make an array of nested lists in which numbers beside strings stay numbers."""
    array = np.asarray(rows)
    return np.asarray(rows, dtype=object) if array.dtype.kind in "US" else array


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


# What a column is to the student: a number to standardise, or a category to one-hot,
# known by its text or (booleans, categories that are numbers) by its value.
NUMBER, _TEXT, _VALUE = "numbers", "strings", "booleans or numeric categories"


def labelled_columns(X: Any) -> list[tuple[Any, str]]:
    """Return the columns of a checked table, and how error messages call each."""
    return list(zip(columns_of(X), map(repr, names_of(X)), strict=True))


def kind_of(column: Any, label: str) -> str:
    """Decide what one column is: by its dtype, and by its entries where that says nothing."""
    dtype = column.dtype
    if is_categorical(dtype):
        if not len(dtype.categories):
            return _TEXT
        kind = kind_of(np.asarray(dtype.categories), label)
        return _VALUE if kind == NUMBER else kind
    if issubclass(dtype.type, str):
        return _TEXT
    if dtype.kind in "iuf":
        return NUMBER
    if dtype.kind == "b":
        return _VALUE
    return _object_kind(_objects(column, label), label)


def _objects(column: Any, label: str) -> npt.NDArray[np.object_]:
    """Return a column as Python objects; as such, durations would pass for integers."""
    if column.dtype.kind in "mM":
        raise _undecidable(label, str(column.dtype))
    return np.asarray(column, dtype=object)


def _object_kind(values: npt.NDArray[np.object_], label: str) -> str:
    """Decide what a column of Python objects is."""
    by_type = {entry: _type_kind(entry) for entry in set(map(type, values))}
    kinds = set(by_type.values()) - {"missing"}
    if "complex" in kinds:
        raise ValueError(f"Complex data not supported\nColumn {label} holds complex numbers.")
    # NaN among strings or booleans is a missing one of them, not a number.
    if len(kinds) > 1 and all(value != value for value in values if by_type[type(value)] == NUMBER):
        kinds.discard(NUMBER)
    if kinds <= {NUMBER, _VALUE}:
        return _VALUE if kinds == {_VALUE} else NUMBER
    if kinds == {_TEXT}:
        return _TEXT
    raise _undecidable(label, " and ".join(sorted(entry.__name__ for entry in by_type)))


def _type_kind(entry: type) -> str:
    """Decide what entries of a Python type are."""
    if entry is type(None) or entry.__name__ == "NAType":
        return "missing"
    if issubclass(entry, str):
        return _TEXT
    if issubclass(entry, (bool, np.bool_)):
        return _VALUE
    if issubclass(entry, (complex, np.complexfloating)):
        return "complex"
    # NumPy counts its durations among the integers.
    if issubclass(entry, numbers.Number) and not issubclass(entry, np.timedelta64):
        return NUMBER
    return "other"


def read_numbers(column: Any, label: str) -> FloatArray:
    """Read a column as float64, missing as NaN."""
    dtype = column.dtype
    if is_categorical(dtype):
        # Code -1, missing, takes the last entry.
        values = read_numbers(np.asarray(dtype.categories), label)
        return np.append(values, np.nan)[np.asarray(column.cat.codes)]
    if dtype.kind in NUMERIC_KINDS:
        if isinstance(dtype, np.dtype):
            with np.errstate(over="ignore"):
                return np.asarray(column).astype(np.float64)
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    objects = _objects(column, label)
    if (kind := _object_kind(objects, label)) == _TEXT:
        raise _unlike_fit(label, "numbers or booleans", kind)
    # float() takes None but not pandas' NA.
    if any(entry.__name__ == "NAType" for entry in set(map(type, objects))):
        entries = [None if is_missing(value) else value for value in objects]
        objects = np.array(entries, dtype=object)
    try:
        return objects.astype(np.float64)
    except OverflowError:
        raise infinite() from None


def _texts(column: Any, label: str) -> npt.NDArray[np.object_]:
    """Read a column as strings, missing as the empty one."""
    if is_categorical(column.dtype):
        values = _texts(np.asarray(column.dtype.categories), label)
        return np.append(values, "")[np.asarray(column.cat.codes)]
    values = _objects(column, label)
    if set(map(type, values)) <= {str}:
        return values
    kind = _object_kind(values, label)
    missing = np.fromiter(map(is_missing, values), dtype=bool, count=len(values))
    if kind != _TEXT and not missing.all():
        raise _unlike_fit(label, _TEXT, kind)
    return np.where(missing, "", values)


def distinct_categories(column: Any, label: str, kind: str) -> npt.NDArray[Any]:
    """Return the sorted categories of a column."""
    if kind == _TEXT:
        return np.array(sorted(set(_texts(column, label))), dtype=str)
    values = _category_values(column, label)
    if is_categorical(column.dtype):
        declared = np.asarray(column.dtype.categories)
        if len(set(declared.astype(np.float64))) != len(declared):
            raise TypeError(
                f"Column {label} has categories that differ by less than float64 can hold. "
                "Convert it to strings."
            )
    return np.unique(values)


def _category_values(column: Any, label: str) -> FloatArray:
    """Read booleans and numeric categories as float64."""
    values = read_numbers(column, label)
    if np.isinf(values).any():
        raise infinite()
    return values


def category_codes(column: Any, label: str, categories: npt.NDArray[Any]) -> IntArray:
    """Return each entry's position among the categories, -1 where it is none of them."""
    if categories.dtype.kind == "U":
        texts: Iterable[str] = _texts(column, label)
        known = {category: code for code, category in enumerate(categories.tolist())}
        return np.fromiter(map(known.get, texts, repeat(-1)), dtype=np.intp, count=len(column))
    values = _category_values(column, label)
    # NaN sorts last, as in `categories`.
    codes = np.minimum(np.searchsorted(categories, values), categories.size - 1)
    found = categories[codes]
    same = (found == values) | (np.isnan(found) & np.isnan(values))
    return np.where(same, codes, -1)


def _undecidable(label: str, found: str) -> TypeError:
    """Build the error for a column that is neither numbers nor strings."""
    return TypeError(
        f"Column {label} holds {found}, but every argument must be a string or a number, and a "
        "column must hold one kind only. Convert it to numbers (for dates e.g. days since a date) "
        "or to strings, or drop it."
    )


def _unlike_fit(label: str, expected: str, found: str) -> TypeError:
    """Build the error for a column whose kind changed after fit."""
    return TypeError(
        f"Column {label} held {expected} in fit and holds {found} now. "
        f"Pass {expected}, as in fit, or fit again."
    )


def infinite() -> ValueError:
    """Build scikit-learn's error for infinite input."""
    return ValueError("Input X contains infinity or a value too large for dtype('float64').")
