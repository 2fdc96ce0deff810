"""From whatever table the user holds to the float matrix that the student sees."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill.tables.frames import (
    NUMBER,
    NUMERIC_KINDS,
    as_table,
    category_codes,
    distinct_categories,
    infinite,
    kind_of,
    labelled_columns,
    n_rows,
    read_numbers,
    take_rows,
)
from skdistill.tables.rows import check_sample_weight

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Transformer(Protocol):
    """What a preprocessor must offer once it is fitted."""

    def transform(self, X: Any) -> Any:
        """Return rows as the student sees them."""


def check_matrix(Z: Any, preprocessor: Transformer | None = None) -> npt.NDArray[Any]:
    """Return prepared rows as a finite float matrix; errors name the preprocessor, if any."""
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
        weight = check_sample_weight(sample_weight, n_rows(X))
        # Weights of 0.1 act as weights of 1, to the last digit.
        weight = weight / weight.max()
        if not weight.all():
            kept = np.flatnonzero(weight)
            X, weight = take_rows(X, kept), weight[kept]
        columns = labelled_columns(X)
        if _is_numeric_array(X):
            kinds = [NUMBER] * len(columns)
        else:
            kinds = [kind_of(*column) for column in columns]
        self.numeric_ = np.flatnonzero([kind == NUMBER for kind in kinds])
        self.category_columns_ = np.flatnonzero([kind != NUMBER for kind in kinds])
        moments = [_moments(read_numbers(*columns[j]), weight) for j in self.numeric_]
        self.mean_, self.scale_ = np.array([m[:2] for m in moments]).reshape(-1, 2).T.copy()
        self.has_missing_ = np.array([m[2] for m in moments], dtype=bool)
        self.categories_ = [
            distinct_categories(*columns[j], kinds[j]) for j in self.category_columns_
        ]
        return self

    def transform(self, X: Any) -> FloatArray:
        """Encode each row: finite, C-contiguous."""
        check_is_fitted(self)
        X = validate_data(self, as_table(X), reset=False, skip_check_array=True)
        if not self.category_columns_.size and _is_numeric_array(X):
            standardised, missing = self._standardise(X)
            if not self.has_missing_.any():
                return standardised
            return np.hstack([standardised, missing[:, self.has_missing_]])
        columns = labelled_columns(X)
        values = np.empty((n_rows(X), self.numeric_.size))
        for i, j in enumerate(self.numeric_):
            values[:, i] = read_numbers(*columns[j])
        standardised, missing = self._standardise(values)
        out = np.zeros((n_rows(X), self.n_features_out_))
        start = self.numeric_.size + int(self.has_missing_.sum())
        out[:, : self.numeric_.size] = standardised
        out[:, self.numeric_.size : start] = missing[:, self.has_missing_]
        for j, categories in zip(self.category_columns_, self.categories_, strict=True):
            codes = category_codes(*columns[j], categories)
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
            raise infinite()
        return out, missing

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


def _is_missing_category(category: Any) -> bool:
    """Tell the category that stands for a missing value."""
    return bool(category == "" if isinstance(category, str) else np.isnan(category))


def _category_name(category: Any) -> str:
    """Name a category in an output column."""
    if _is_missing_category(category):
        return "missing"
    return category if isinstance(category, str) else f"{category:.17g}"


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
        raise infinite()
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
