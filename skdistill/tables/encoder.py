"""From whatever table the user holds to the float matrix that the student sees."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

# What a column is to the student: a number to standardise, or a category to one-hot,
# known by its text or (booleans, categories that are numbers) by its value.
_NUMBER, _TEXT, _VALUE = "numbers", "strings", "booleans or numeric categories"
_NUMERIC_KINDS = "biuf"


def as_table(X: Any, *, name: str = "X") -> Any:
    """Check a table before anything reads it, and leave its values as they are.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features)
        Dense table. Missing and infinite values pass.
    name : str, default="X"
        How error messages call the table.

    Returns
    -------
    DataFrame or ndarray of shape (n_samples, n_features)
        A pandas DataFrame is returned itself, other data frames are converted to pandas,
        anything else becomes an ndarray of its own dtype (object stays object).

    Raises
    ------
    TypeError
        If the table is sparse.
    ValueError
        If it is complex, not two-dimensional, has no rows or no columns, or two columns of one
        name.

    Examples
    --------
    >>> from skdistill.tables.encoder import as_table
    >>> as_table([[1, "a"], [2, "b"]])
    array([[1, 'a'],
           [2, 'b']], dtype=object)
    """
    if type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in _NUMERIC_KINDS and X.size:
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
    """Count the rows of a checked table."""
    return int(X.shape[0])


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
    if len(kinds) > 1 and kinds - set(_NUMERIC_KINDS):
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def check_matrix(Z: Any, preprocessor: Any = None) -> npt.NDArray[Any]:
    """Check what a preprocessor made of the rows, or the rows themselves without one.

    Parameters
    ----------
    Z : array-like or DataFrame of shape (n_samples, n_outputs)
        Prepared rows.
    preprocessor : transformer or None, default=None
        What prepared them, for error messages.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        Dense and finite; float64, or float32 where rows without a preprocessor are.

    Raises
    ------
    TypeError
        If the rows are sparse.
    ValueError
        If they are no matrix of finite numbers.
    """
    if type(preprocessor) is TabularEncoder and type(Z) is np.ndarray:
        return Z
    if preprocessor is None:
        # inf beside -inf has no sum, of which scikit-learn's check would warn before it refuses.
        with np.errstate(invalid="ignore"):
            return check_array(as_table(Z), dtype=[np.float64, np.float32], input_name="X")
    source = f"preprocessor ({type(preprocessor).__name__})"
    if issparse(Z):
        raise TypeError(
            f"The {source} returns a sparse matrix; the student needs a dense one. "
            "Set its sparse_output=False, or sparse_threshold=0 for a ColumnTransformer."
        )
    try:
        with np.errstate(invalid="ignore"):
            return check_array(Z, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {source} must return a finite float matrix: {error}") from error


class TabularEncoder(TransformerMixin, BaseEstimator):
    """Turn a table of numbers and categories into standardised float64 columns.

    Numbers are standardised. Strings, booleans and pandas categories become one 0/1 column for
    each category seen in ``fit``; other categories give zeros. A missing number becomes 0, the
    mean, and columns that had missing values in ``fit`` get a 0/1 column that says so. A missing
    category is a category of its own, the same as the empty string. Every row is encoded by
    itself.

    Attributes
    ----------
    n_features_in_ : int
        Number of input columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where ``X`` had string names.
    numeric_ : ndarray of int
        Positions of the number columns.
    mean_, scale_ : ndarray of float64
        Weighted mean and standard deviation of each number column. The scale of a constant
        column is 1.
    has_missing_ : ndarray of bool
        Which number columns had missing values.
    category_columns_ : ndarray of int
        Positions of the category columns.
    categories_ : list of ndarray
        Sorted categories of each: strings, or float64 for booleans and numeric categories.
        Missing is ``""`` or NaN.
    numeric_out_ : ndarray of int
        Which output columns are standardised numbers.
    n_features_out_ : int
        Number of output columns: numbers, then missing indicators, then categories.
    allow_missing_ : bool
        Whether ``fit`` saw a missing value, so that ``transform`` takes NaN.
    is_affine_ : bool
        Whether ``transform(X)`` is ``(X - mean_) / scale_`` and nothing else.

    Examples
    --------
    >>> from skdistill.tables.encoder import TabularEncoder
    >>> encoder = TabularEncoder().fit([[1.0, "red"], [3.0, "blue"]])
    >>> encoder.transform([[3.0, "red"], [2.0, "green"]])
    array([[1., 0., 1.],
           [0., 0., 0.]])
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TabularEncoder:
        """Learn means, scales and categories.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Table of numbers, strings, booleans and categories.
        y : object, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A row of weight 0 counts as absent.

        Returns
        -------
        TabularEncoder
            The fitted encoder.

        Raises
        ------
        TypeError
            If a column holds dates, mixed kinds or anything but numbers and strings.
        ValueError
            If a number is infinite, or the weights are negative or all zero.
        """
        X = validate_data(self, as_table(X), reset=True, skip_check_array=True)
        weight = _row_weight(sample_weight, n_rows(X))
        if not weight.all():
            kept = np.flatnonzero(weight)
            X, weight = take_rows(X, kept), weight[kept]
        columns, labels = _columns(X), _labels(X)
        kinds = _kinds(X, columns, labels)
        self.numeric_ = np.flatnonzero([kind == _NUMBER for kind in kinds])
        self.category_columns_ = np.flatnonzero([kind != _NUMBER for kind in kinds])
        moments = [_moments(_numbers(columns[j], labels[j]), weight) for j in self.numeric_]
        self.mean_, self.scale_ = np.array([m[:2] for m in moments]).reshape(-1, 2).T.copy()
        self.has_missing_ = np.array([m[2] for m in moments], dtype=bool)
        self.categories_ = [
            _distinct(columns[j], labels[j], kinds[j]) for j in self.category_columns_
        ]
        return self

    def transform(self, X: Any) -> FloatArray:
        """Encode each row.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Table with the columns of ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out_), float64, C-contiguous
            The encoded rows; every value is finite.

        Raises
        ------
        TypeError
            If a column's kind differs from the one seen in ``fit``.
        ValueError
            If columns are not those of ``fit``, a number is infinite, or a number is missing
            while ``fit`` saw no missing value.
        """
        check_is_fitted(self)
        X = validate_data(self, as_table(X), reset=False, skip_check_array=True)
        if not self.category_columns_.size and _is_numeric_array(X):
            standardised, missing = self._standardise(X)
            if not self.has_missing_.any():
                return standardised
            return np.hstack([standardised, missing[:, self.has_missing_]])
        columns, labels = _columns(X), _labels(X)
        values = np.empty((n_rows(X), self.numeric_.size))
        for i, j in enumerate(self.numeric_):
            values[:, i] = _numbers(columns[j], labels[j])
        standardised, missing = self._standardise(values)
        out = np.zeros((n_rows(X), self.n_features_out_))
        start = self.numeric_.size + int(self.has_missing_.sum())
        out[:, : self.numeric_.size] = standardised
        out[:, self.numeric_.size : start] = missing[:, self.has_missing_]
        for j, categories in zip(self.category_columns_, self.categories_, strict=True):
            codes = _codes(columns[j], labels[j], categories)
            known = np.flatnonzero(codes >= 0)
            out[known, start + codes[known]] = 1.0
            start += categories.size
        return out

    def _standardise(self, values: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray]:
        """Return standardised numbers, missing ones as 0, and where they were missing."""
        with np.errstate(over="ignore", invalid="ignore"):
            out = np.subtract(values, self.mean_, dtype=np.float64, order="C", casting="same_kind")
            out /= self.scale_
            # The sum is the cheap test: it is finite unless some value is not, or nearly so.
            if np.isfinite(out.sum()):
                return out, np.zeros(out.shape, dtype=bool)
        missing = np.isnan(values)
        if missing.any() and not self.allow_missing_:
            raise ValueError(
                "Input X contains NaN. No value was missing in fit, so there is nothing to go by: "
                "fit on rows with missing values too, or impute them first (SimpleImputer)."
            )
        out[missing] = 0.0
        if not np.isfinite(out).all():
            raise _infinite()
        return out, missing

    @property
    def numeric_out_(self) -> IntArray:
        """Positions of the standardised numbers in the output."""
        return np.arange(self.numeric_.size)

    @property
    def n_features_out_(self) -> int:
        """Number of output columns."""
        n_categories = sum(categories.size for categories in self.categories_)
        return int(self.numeric_.size + self.has_missing_.sum() + n_categories)

    @property
    def allow_missing_(self) -> bool:
        """Whether a value was missing in ``fit``."""
        return bool(self.has_missing_.any()) or any(
            any(map(_is_missing_category, categories)) for categories in self.categories_
        )

    @property
    def is_affine_(self) -> bool:
        """Whether the encoding is ``(X - mean_) / scale_`` and nothing else."""
        return not self.category_columns_.size and not self.allow_missing_

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Name the output columns.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features_in_,), default=None
            Names of the input columns; by default those seen in ``fit``, else x0, x1, ...

        Returns
        -------
        ndarray of shape (n_features_out_,), object
            ``age``, ``age_missing``, ``colour_red``, ...

        Raises
        ------
        ValueError
            If the names are not those of ``fit`` or not one a column.
        """
        check_is_fitted(self)
        names = self._input_names(input_features)
        out = [names[j] for j in self.numeric_]
        out += [f"{names[j]}_missing" for j in self.numeric_[self.has_missing_]]
        for j, categories in zip(self.category_columns_, self.categories_, strict=True):
            out += [f"{names[j]}_{_category_name(category)}" for category in categories]
        return np.array(out, dtype=object)

    def _input_names(self, input_features: Any) -> list[str]:
        """Check the given names against those seen in fit."""
        seen = getattr(self, "feature_names_in_", None)
        if input_features is None:
            if seen is None:
                return [f"x{j}" for j in range(self.n_features_in_)]
            return list(seen)
        if len(input_features) != self.n_features_in_:
            raise ValueError(
                "input_features should have length equal to number of features "
                f"({self.n_features_in_}), got {len(input_features)}"
            )
        if seen is not None and list(seen) != list(input_features):
            raise ValueError("input_features is not equal to feature_names_in_")
        return list(input_features)

    def __sklearn_tags__(self) -> Any:
        """Say that missing values, strings and categories are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


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
        if all(map(_is_categorical, dtypes)) and any(dtype != dtypes[0] for dtype in dtypes):
            out.isetitem(j, union_categoricals(columns, ignore_order=True))
    return out


def _row_weight(sample_weight: Any, n: int) -> FloatArray:
    """Check sample weights and scale the largest to 1."""
    if sample_weight is None:
        return np.ones(n)
    weight: FloatArray = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weight.ndim != 1:
        raise ValueError(f"sample_weight must be a 1D array, got shape {weight.shape}.")
    check_consistent_length(weight, np.empty(n))
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min()}.")
    if not weight.any():
        raise ValueError("sample_weight is zero for every row: no row is left to fit.")
    return weight / weight.max()


def _is_numeric_array(X: Any) -> bool:
    """Tell whether a checked table is an array of numbers all over."""
    return isinstance(X, np.ndarray) and X.dtype.kind in _NUMERIC_KINDS


def _columns(X: Any) -> list[Any]:
    """Split a table into columns, once."""
    if is_frame(X):
        return [column for _, column in X.items()]
    return list(X.T)


def _labels(X: Any) -> list[str]:
    """Say how error messages call each column."""
    return [f"{name!r}" for name in X.columns] if is_frame(X) else [str(j) for j in range(len(X.T))]


def _kinds(X: Any, columns: list[Any], labels: list[str]) -> list[str]:
    """Decide what each column is."""
    if _is_numeric_array(X):
        return [_NUMBER] * len(columns)
    return [_kind(column, label) for column, label in zip(columns, labels, strict=True)]


def _kind(column: Any, label: str) -> str:
    """Decide what one column is: by its dtype, and by its entries where that says nothing."""
    dtype = column.dtype
    if _is_categorical(dtype):
        if not len(dtype.categories):
            return _TEXT
        kind = _kind(np.asarray(dtype.categories), label)
        return _VALUE if kind == _NUMBER else kind
    if issubclass(dtype.type, str):
        return _TEXT
    if dtype.kind in "iuf":
        return _NUMBER
    if dtype.kind == "b":
        return _VALUE
    return _object_kind(_objects(column, label), label)


def _is_categorical(dtype: Any) -> bool:
    """Tell pandas' category dtype."""
    return hasattr(dtype, "categories") and hasattr(dtype, "ordered")


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
    if len(kinds) > 1 and all(
        value != value for value in values if by_type[type(value)] == _NUMBER
    ):
        kinds.discard(_NUMBER)
    if kinds <= {_NUMBER, _VALUE}:
        return _VALUE if kinds == {_VALUE} else _NUMBER
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
        return _NUMBER
    return "other"


def _is_missing(value: Any) -> bool:
    """Tell None, NaN and pandas' NA."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return value is None or type(value).__name__ == "NAType"


def _is_missing_category(category: Any) -> bool:
    """Tell the category that stands for a missing value."""
    return bool(category == "" if isinstance(category, str) else np.isnan(category))


def _category_name(category: Any) -> str:
    """Name a category in an output column."""
    if _is_missing_category(category):
        return "missing"
    return category if isinstance(category, str) else f"{category:.17g}"


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


def _infinite() -> ValueError:
    """Build scikit-learn's error for infinite input."""
    return ValueError("Input X contains infinity or a value too large for dtype('float64').")


def _numbers(column: Any, label: str) -> FloatArray:
    """Read a column as float64, missing as NaN."""
    dtype = column.dtype
    if _is_categorical(dtype):
        # Code -1, missing, takes the last entry.
        values = _numbers(np.asarray(dtype.categories), label)
        return np.append(values, np.nan)[np.asarray(column.cat.codes)]
    if dtype.kind in _NUMERIC_KINDS:
        if isinstance(dtype, np.dtype):
            with np.errstate(over="ignore"):
                return np.asarray(column).astype(np.float64)
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    objects = _objects(column, label)
    if (kind := _object_kind(objects, label)) == _TEXT:
        raise _unlike_fit(label, "numbers or booleans", kind)
    # float() takes None but not pandas' NA.
    if any(entry.__name__ == "NAType" for entry in set(map(type, objects))):
        entries = [None if _is_missing(value) else value for value in objects]
        objects = np.array(entries, dtype=object)
    try:
        return objects.astype(np.float64)
    except OverflowError:
        raise _infinite() from None


def _texts(column: Any, label: str) -> npt.NDArray[np.object_]:
    """Read a column as strings, missing as the empty one."""
    if _is_categorical(column.dtype):
        values = _texts(np.asarray(column.dtype.categories), label)
        return np.append(values, "")[np.asarray(column.cat.codes)]
    values = _objects(column, label)
    if set(map(type, values)) <= {str}:
        return values
    kind = _object_kind(values, label)
    missing = np.fromiter(map(_is_missing, values), dtype=bool, count=len(values))
    if kind != _TEXT and not missing.all():
        raise _unlike_fit(label, _TEXT, kind)
    return np.where(missing, "", values)


def _moments(values: FloatArray, weight: FloatArray) -> tuple[float, float, bool]:
    """Return weighted mean, standard deviation (1 if constant) and whether a value is missing."""
    present = ~np.isnan(values)
    has_missing = not present.all()
    if has_missing:
        values, weight = values[present], weight[present]
    if not values.size:
        return 0.0, 1.0, True
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _infinite()
    if low == high:
        return float(low), 1.0, has_missing
    # Powers of two change no digit, and squares of values below 1 cannot overflow.
    exponent = int(np.frexp(max(-low, high))[1])
    values = np.ldexp(values, -exponent)
    total = weight.sum()
    mean = (weight @ values) / total
    deviation = np.sqrt((weight @ (values - mean) ** 2) / total)
    scale = float(np.ldexp(deviation, exponent))
    if scale < np.finfo(np.float64).tiny:
        scale = 1.0
    return float(np.ldexp(mean, exponent)), scale, has_missing


def _distinct(column: Any, label: str, kind: str) -> npt.NDArray[Any]:
    """Return the sorted categories of a column."""
    if kind == _TEXT:
        return np.array(sorted(set(_texts(column, label))), dtype=str)
    values = _category_values(column, label)
    if _is_categorical(column.dtype):
        declared = np.asarray(column.dtype.categories)
        if len(set(declared.astype(np.float64))) != len(declared):
            raise TypeError(
                f"Column {label} has categories that differ by less than float64 can hold. "
                "Convert it to strings."
            )
    return np.unique(values)


def _category_values(column: Any, label: str) -> FloatArray:
    """Read booleans and numeric categories as float64."""
    values = _numbers(column, label)
    if np.isinf(values).any():
        raise _infinite()
    return values


def _codes(column: Any, label: str, categories: npt.NDArray[Any]) -> IntArray:
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
