"""A table of any container: checked, counted, cut and stacked by rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.utils import check_array

__all__ = [
    "NUMERIC_KINDS",
    "as_table",
    "columns_of",
    "is_categorical",
    "is_frame",
    "is_missing",
    "n_rows",
    "names_of",
    "rows_with_missing",
    "stack_rows",
    "take_rows",
]

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
