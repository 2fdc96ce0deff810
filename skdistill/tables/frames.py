"""Any container of rows: checked, counted, cut and stacked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        try:
            X = X.to_pandas()
        except ImportError as error:
            raise ImportError(
                f"{name} is a {type(X).__module__.partition('.')[0]} frame, and turning it into "
                f"one of pandas needs further packages: pip install pandas pyarrow ({error})."
            ) from error
    if hasattr(X, "collect") and hasattr(X, "lazy"):
        raise TypeError(f"{name} is a lazy frame, which holds no rows yet. Pass {name}.collect().")
    if is_frame(X):
        _check_frame(X, name)
        return X
    if isinstance(X, (list, tuple)):
        array = np.asarray(X)
        # Numbers beside strings stay numbers.
        X = np.asarray(X, dtype=object) if array.dtype.kind in "US" else array
    return check_array(X, dtype=None, ensure_all_finite=False, input_name=name)


def _check_frame(X: Any, name: str) -> None:
    """Refuse a DataFrame that is empty or complex, or has two columns of one name."""
    if not X.size:
        check_array(np.empty(X.shape))
    if not X.columns.is_unique:
        repeated = sorted(set(X.columns[X.columns.duplicated()]), key=str)
        raise ValueError(f"Column names of {name} must be unique, repeated are {repeated}.")
    for column, dtype in zip(X.columns, X.dtypes, strict=True):
        if getattr(dtype, "kind", "O") == "c":
            raise ValueError(f"Complex data not supported\n{name} column {column!r} is {dtype}.")


def is_frame(X: Any) -> bool:
    """Tell a pandas DataFrame without importing pandas."""
    return hasattr(X, "iloc") and hasattr(X, "columns")


def is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA and NaT."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def n_rows(X: Any) -> int:
    """Count the rows of what need not be a checked table: a list, a sparse matrix."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def named_columns(X: Any) -> Iterable[tuple[Any, Any]]:
    """Return each column of a checked table with its name, in an array its position."""
    return X.items() if is_frame(X) else enumerate(X.T)


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
    for j, dtype in enumerate(out.dtypes):
        columns = [part.iloc[:, j] for part in parts]
        # pandas gives up category columns whose categories differ.
        if dtype != "category" and all(column.dtype == "category" for column in columns):
            out.isetitem(j, union_categoricals(columns, ignore_order=True))
    return out


def rows_with_missing(X: Any) -> npt.NDArray[np.bool_]:
    """Tell which rows of a checked table have a missing value."""
    if is_frame(X):
        return np.asarray(X.isna().to_numpy().any(axis=1))
    if X.dtype.kind == "O":
        return np.array([any(is_missing(v) or v != v for v in row) for row in X])
    return np.asarray((X != X).any(axis=1))
