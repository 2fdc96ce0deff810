"""From whatever table the user holds to the float matrix that the student sees."""

from __future__ import annotations

import numbers
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill.tables.frames import (
    NUMERIC_KINDS,
    as_table,
    is_missing,
    named_columns,
    take_rows,
)
from skdistill.tables.rows import check_sample_weight

FloatArray = npt.NDArray[np.float64]

# What a column is to the student: a number to standardise, or a category to one-hot,
# known by its text or (booleans, categories that are numbers) by its value.
_NUMBER, _TEXT, _VALUE = "numbers", "strings", "booleans or numeric categories"


class Transformer(Protocol):
    """What a preprocessor must offer once it is fitted."""

    def transform(self, X: Any) -> Any:
        """Return rows as the student sees them."""


def prepare(X: Any, preprocessor: Transformer | None = None) -> npt.NDArray[Any]:
    """Return rows as the student sees them, a finite float matrix; errors name the preprocessor."""
    if preprocessor is None:
        # inf beside -inf has no sum, of which scikit-learn's check would warn before it refuses.
        with np.errstate(invalid="ignore"):
            return check_array(as_table(X), dtype=[np.float64, np.float32], input_name="X")
    Z = preprocessor.transform(X)
    if type(preprocessor) is TabularEncoder and type(Z) is np.ndarray:
        return Z
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
    n_features_out_ : int
        Number of output columns: numbers, then missing indicators, then categories.
    allow_missing_ : bool
        Whether ``fit`` saw a missing value, so that ``transform`` takes NaN.
    is_affine_ : bool
        Whether ``transform(X)`` is ``(X - mean_) / scale_`` and nothing else.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TabularEncoder:
        """Learn means, scales and categories; a row of weight 0 counts as absent."""
        X = validate_data(self, as_table(X), reset=True, skip_check_array=True)
        weight = check_sample_weight(sample_weight, len(X))
        # Weights of 0.1 act as weights of 1, to the last digit.
        weight = weight / weight.max()
        if not weight.all():
            kept = np.flatnonzero(weight)
            X, weight = take_rows(X, kept), weight[kept]
        moments, self.categories_ = {}, []
        # In an array of booleans these are numbers.
        expected = _NUMBER if _is_numeric_array(X) else None
        for j, column in enumerate(named_columns(X)):
            kind, values = _read_column(column, expected)
            if kind == _NUMBER:
                moments[j] = _moments(values, weight)
            elif kind == _TEXT:
                self.categories_.append(np.array(sorted(set(values)), dtype=str))
            else:
                self.categories_.append(np.unique(_finite(values)))
        self.numeric_ = np.array(list(moments), dtype=np.intp)
        self.category_columns_ = np.setdiff1d(np.arange(X.shape[1]), self.numeric_)
        self.mean_, self.scale_, missing = np.reshape(list(moments.values()), (-1, 3)).T.copy()
        self.has_missing_ = missing.astype(bool)
        return self

    def transform(self, X: Any) -> FloatArray:
        """Encode each row: finite, C-contiguous."""
        check_is_fitted(self)
        X = validate_data(self, as_table(X), reset=False, skip_check_array=True)
        n_numbers = self.numeric_.size
        if not self.category_columns_.size and _is_numeric_array(X):
            values = X
        else:
            columns = list(named_columns(X))
            values = np.empty((len(X), n_numbers))
            for i, j in enumerate(self.numeric_):
                values[:, i] = _read_column(columns[j], _NUMBER)[1]
        standardised, missing = self._standardise(values)
        if not self.category_columns_.size and not self.has_missing_.any():
            return standardised
        out = np.zeros((len(X), self.n_features_out_))
        start = n_numbers + int(self.has_missing_.sum())
        out[:, :n_numbers] = standardised
        out[:, n_numbers:start] = missing[:, self.has_missing_]
        for j, categories in zip(self.category_columns_, self.categories_, strict=True):
            codes = _category_codes(columns[j], categories)
            known = np.flatnonzero(codes >= 0)
            out[known, start + codes[known]] = 1.0
            start += categories.size
        return out

    def _standardise(self, values: npt.NDArray[Any]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
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
        return _finite(out), missing

    @property
    def n_features_out_(self) -> int:
        """Number of output columns."""
        n_categories = sum(categories.size for categories in self.categories_)
        return int(self.numeric_.size + self.has_missing_.sum() + n_categories)

    @property
    def allow_missing_(self) -> bool:
        """Whether a value was missing in ``fit``."""
        return bool(self.has_missing_.any()) or any(
            category == "" or category != category for c in self.categories_ for category in c
        )

    @property
    def is_affine_(self) -> bool:
        """Whether the encoding is ``(X - mean_) / scale_`` and nothing else."""
        return not self.category_columns_.size and not self.allow_missing_

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Name the output columns: ``age``, ``age_missing``, ``colour_red``, ..."""
        # The public way to scikit-learn's check of the names that go in.
        names = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        out = [names[j] for j in self.numeric_]
        out += [f"{names[j]}_missing" for j in self.numeric_[self.has_missing_]]
        for j, categories in zip(self.category_columns_, self.categories_, strict=True):
            out += [f"{names[j]}_{_category_name(category)}" for category in categories]
        return np.array(out, dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Say that missing values, strings and categories are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def _is_numeric_array(X: Any) -> bool:
    """Tell whether a checked table is an array of numbers all over."""
    return isinstance(X, np.ndarray) and X.dtype.kind in NUMERIC_KINDS


def _category_name(category: Any) -> str:
    """Name a category in an output column."""
    if category == "" or category != category:
        return "missing"
    return category if isinstance(category, str) else f"{category:.17g}"


def _read_column(
    named: tuple[Any, Any], expected: str | None = None
) -> tuple[str, npt.NDArray[Any]]:
    """Return what a named column is, or was in `fit`, and its entries.

    Texts are objects, missing as the empty one; all else is float64, missing as NaN.
    """
    name, column = named
    dtype = column.dtype
    if hasattr(dtype, "categories"):  # pandas' category dtype
        return _read_categories(named, expected)
    if dtype.kind in NUMERIC_KINDS and expected != _TEXT:
        kind = expected or (_VALUE if dtype.kind == "b" else _NUMBER)
        if not isinstance(dtype, np.dtype):
            return kind, np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        with np.errstate(over="ignore"):
            return kind, np.asarray(column).astype(np.float64)
    if dtype.kind in "mM":
        # As objects, durations would pass for integers.
        raise _undecidable(name, str(dtype))
    values = np.asarray(column, dtype=object)
    types = set(map(type, values))
    found = _object_kind(name, values, types)
    kind = expected or (_TEXT if issubclass(dtype.type, str) else found)
    if kind == _TEXT and types != {str}:
        missing = np.fromiter(map(is_missing, values), dtype=bool, count=len(values))
        if found != _TEXT and not missing.all():
            raise _unlike_fit(name, _TEXT, found)
        values = np.where(missing, "", values)
    if kind == _TEXT:
        return kind, values
    if found == _TEXT:
        raise _unlike_fit(name, "numbers or booleans", _TEXT)
    if any(entry.__name__ == "NAType" for entry in types):
        # float() takes None but not pandas' NA.
        values = np.array([None if is_missing(value) else value for value in values], dtype=object)
    try:
        return kind, values.astype(np.float64)
    except OverflowError:
        raise _infinite() from None


def _read_categories(named: tuple[Any, Any], expected: str | None) -> tuple[str, npt.NDArray[Any]]:
    """Return what a column of pandas categories is, or was in `fit`, and its entries."""
    name, column = named
    categories = np.asarray(column.dtype.categories)
    fallback = None if len(categories) else _TEXT
    kind, values = _read_column((name, categories), expected or fallback)
    if expected is None and kind != _TEXT:
        kind = _VALUE
        if len(set(values)) < len(values):
            raise TypeError(
                f"Column {name!r} has categories that differ by less than float64 can hold. "
                "Convert it to strings."
            )
    # Code -1, missing, takes the last entry.
    return kind, np.append(values, "" if kind == _TEXT else np.nan)[np.asarray(column.cat.codes)]


def _object_kind(name: Any, values: npt.NDArray[np.object_], types: set[type]) -> str:
    """Decide what a column of Python objects is."""
    by_type = {entry: _type_kind(entry) for entry in types}
    kinds = set(by_type.values()) - {"missing"}
    if "complex" in kinds:
        raise ValueError(f"Complex data not supported\nColumn {name!r} holds complex numbers.")
    # NaN among strings or booleans is a missing one of them, not a number.
    if len(kinds) > 1 and all(v != v for v in values if by_type[type(v)] == _NUMBER):
        kinds.discard(_NUMBER)
    if kinds == {_TEXT} or kinds == {_VALUE}:
        return kinds.pop()
    if kinds <= {_NUMBER, _VALUE}:
        return _NUMBER
    raise _undecidable(name, " and ".join(sorted(entry.__name__ for entry in types)))


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


def _category_codes(named: tuple[Any, Any], categories: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return each entry's position among the categories, -1 where it is none of them."""
    if categories.dtype.kind == "U":
        known = {category: code for code, category in enumerate(categories.tolist())}
        texts = _read_column(named, _TEXT)[1]
        return np.fromiter(map(known.get, texts, repeat(-1)), dtype=np.intp, count=len(texts))
    values = _finite(_read_column(named, _VALUE)[1])
    # NaN sorts last, as in `categories`.
    codes = np.minimum(np.searchsorted(categories, values), categories.size - 1)
    found = categories[codes]
    same = (found == values) | (np.isnan(found) & np.isnan(values))
    return np.where(same, codes, -1)


def _undecidable(name: Any, found: str) -> TypeError:
    """Build the error for a column that is neither numbers nor strings."""
    return TypeError(
        f"Column {name!r} holds {found}, but every argument must be a string or a number, and a "
        "column must hold one kind only. Convert it to numbers (for dates e.g. days since a date) "
        "or to strings, or drop it."
    )


def _unlike_fit(name: Any, expected: str, found: str) -> TypeError:
    """Build the error for a column whose kind changed after fit."""
    return TypeError(
        f"Column {name!r} held {expected} in fit and holds {found} now. "
        f"Pass {expected}, as in fit, or fit again."
    )


def _infinite() -> ValueError:
    """Build scikit-learn's error for infinite input."""
    return ValueError("Input X contains infinity or a value too large for dtype('float64').")


def _finite(values: FloatArray) -> FloatArray:
    """Return values of which none is infinite."""
    if np.isinf(values).any():
        raise _infinite()
    return values


def _moments(values: FloatArray, weight: FloatArray) -> tuple[float, float, bool]:
    """Return weighted mean, standard deviation (1 if constant) and whether a value is missing."""
    present = ~np.isnan(values)
    has_missing = not present.all()
    if has_missing:
        values, weight = values[present], weight[present]
    if not values.size:
        return 0.0, 1.0, True
    low, high = _finite(values).min(), values.max()
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
