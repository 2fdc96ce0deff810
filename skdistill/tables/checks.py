"""What `fit` is given beside X, checked in one place: sample weights, labels and probabilities."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

__all__ = [
    "SUM_TOLERANCE",
    "check_labels",
    "check_sample_weight",
    "encode_among",
    "encode_labels",
    "find_improper",
    "normalise",
]

# Weights are kept as they are while the largest lies within these: sums of many, and their products
# with squared values, then stay finite and normal numbers.
_USUAL_WEIGHTS = (1e-100, 1e100)
# Rounding of probabilities, in float32 or in a file, is forgiven up to these.
_BELOW_ZERO = 1e-6
SUM_TOLERANCE = 1e-3


def check_sample_weight(sample_weight: Any, n: int) -> np.ndarray:
    """Return one weight a row as float64: finite, none negative and not all zero."""
    if sample_weight is None:
        return np.ones(n)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n, sample_weight)
    # inf beside -inf has no sum, of which scikit-learn's checks would warn before they refuse.
    with np.errstate(invalid="ignore"):
        weight = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
    if weight.ndim != 1:
        raise ValueError(f"sample_weight must be 1D array or scalar, got {weight.ndim}D array.")
    if weight.shape != (n,):
        raise ValueError(
            f"sample_weight.shape == {weight.shape}, expected {(n,)}: one weight for each row of X."
        )
    if (weight < 0).any():
        raise ValueError(
            f"Negative values in data passed to `sample_weight`: row {int((weight < 0).argmax())}."
        )
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number: all are zero.")
    largest = weight.max()
    if not _USUAL_WEIGHTS[0] < largest < _USUAL_WEIGHTS[1]:
        # Only their ratios count, and a power of two changes none.
        weight = np.ldexp(weight, -np.frexp(largest)[1])
    return weight


def check_labels(y: Any, n: int) -> np.ndarray:
    """Return the labels as an array of one for each row."""
    y = column_or_1d(y, warn=True)
    try:
        with np.errstate(invalid="ignore"):
            assert_all_finite(y, input_name="y")
        if y.dtype == object:
            sorted(set(y.tolist()))
    except TypeError as error:
        kinds = " and ".join(sorted({type(label).__name__ for label in y.tolist()}))
        raise TypeError(
            f"The labels in y cannot be put in order: they are {kinds}. Pass labels of one type; "
            "rows without a label go into X_unlabeled."
        ) from error
    check_classification_targets(y)
    if len(y) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n}, y has "
            f"{len(y)}."
        )
    return y


def encode_labels(y: Any, n: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels as codes, and the sorted labels."""
    y = check_labels(y, n)
    classes, code = np.unique(y, return_inverse=True)
    used = np.unique(code[weight > 0])
    if len(used) < 2:
        where = "" if len(classes) < 2 else " among the rows with a positive sample_weight"
        raise ValueError(
            "A classifier needs at least two classes in y; got one class"
            f"{where}: {classes[used[0]]!r}."
        )
    return code, classes


def encode_among(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return labels as positions among the classes, or raise where one is none of them."""
    position = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [label for label in dict.fromkeys(y.tolist()) if label not in position]
    if unknown:
        raise ValueError(
            f"y holds labels that are not in classes {classes.tolist()}: {unknown[:10]}."
        )
    return np.array([position[label] for label in y.tolist()], dtype=np.int64)


def find_improper(proba: np.ndarray) -> tuple[int, int | None] | None:
    """Return the place of the first value outside [0, 1], or else the first row whose sum is off.

    A row whose sum is off comes with the column None; None alone: all rows are probabilities.
    """
    outside = ~((proba >= -_BELOW_ZERO) & (proba <= 1 + SUM_TOLERANCE))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        return int(row), int(column)
    off = np.abs(proba.sum(axis=1) - 1) > SUM_TOLERANCE
    return (int(off.argmax()), None) if off.any() else None


def normalise(proba: np.ndarray) -> np.ndarray:
    """Return proper probabilities whose rows sum to 1 exactly."""
    proba = np.clip(proba, 0.0, 1.0)
    return proba / proba.sum(axis=1, keepdims=True)
