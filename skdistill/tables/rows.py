"""What `fit` was given: rows, labels, weights and probabilities, checked and encoded."""

import inspect
import os
import warnings
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skdistill.tables.frames import (
    as_table,
    is_frame,
    named_columns,
    rows_with_missing,
    take_rows,
)

# Weights are kept as they are while the largest lies within these: sums of many, and their products
# with squared values, then stay finite and normal numbers.
_USUAL_WEIGHTS = (1e-100, 1e100)
# Rounding of probabilities, in float32 or in a file, is forgiven up to these.
_BELOW_ZERO = 1e-6
SUM_TOLERANCE = 1e-3


def check_sample_weight(sample_weight: Any, n: int) -> np.ndarray:
    """Return one weight a row as float64: finite, none negative and not all zero."""
    if sample_weight is None or isinstance(sample_weight, Real):
        sample_weight = np.full(n, 1.0 if sample_weight is None else sample_weight)
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


def _check_two_classes(classes: np.ndarray, used: np.ndarray) -> None:
    """Raise where rows with a weight are all of one class."""
    if len(used) < 2:
        where = "" if len(classes) < 2 else " among the rows with a positive sample_weight"
        raise ValueError(
            "A classifier needs at least two classes in y; got one class"
            f"{where}: {classes[used[0]]!r}."
        )


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


@dataclass
class Rows:
    """The rows of `fit`.

    Attributes
    ----------
    X : table with n rows
        As passed, still raw: teachers get it as it is.
    code : int array of shape (n,) or None
        Labels as positions in `classes`; None without labels.
    classes : array of shape (k,) or None
        The sorted labels; None until the teachers have named them.
    weight : float array of shape (n,)
        Sample weights; rows of weight 0 take no part.
    X_unlabeled : table or None
        Further rows, which only the teachers label.
    teacher_proba : array-like of shape (n, k) or None
        Soft targets obtained elsewhere, unchecked until the classes are known.
    """

    X: Any
    code: np.ndarray | None
    classes: np.ndarray | None
    weight: np.ndarray
    X_unlabeled: Any = None
    teacher_proba: Any = None

    @property
    def labels(self) -> np.ndarray:
        """The labels themselves, where there are any."""
        assert self.code is not None
        assert self.classes is not None
        return self.classes[self.code]

    def take(self, rows: np.ndarray) -> "Rows":
        """Return some of the rows; the transfer rows stay."""
        return replace(
            self,
            X=take_rows(self.X, rows),
            code=None if self.code is None else self.code[rows],
            weight=self.weight[rows],
            teacher_proba=None if self.teacher_proba is None else self.teacher_proba[rows],
        )

    def hold_out(self, fraction: float, rng: np.random.RandomState) -> np.ndarray:
        """Return a mask of rows to validate on, stratified by label where every class allows it."""
        assert self.code is not None
        used = np.flatnonzero(self.weight > 0)
        mask = np.zeros(len(self.weight), dtype=bool)
        mask[used[split_rows(self.code[used], fraction, rng)[1]]] = True
        missing = rows_with_missing(self.X)
        train = used[~mask[used]]
        if missing[mask].any() and not missing[train].any():
            # A student that saw no missing value could not be asked about one.
            mask[np.flatnonzero(mask & missing)[0]] = False
            mask[train[0]] = True
        return mask


def read_rows(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    X_unlabeled: Any = None,
    teacher_proba: Any = None,
    *,
    classes: np.ndarray | None = None,
) -> Rows:
    """Check what `fit` was given and encode the labels.

    With `classes` the labels are positions among these, of which a batch may lack some.
    """
    X = as_table(X)
    weight = check_sample_weight(sample_weight, len(X))
    code = None
    if y is not None:
        y = check_labels(y, len(X))
        if classes is not None:
            code = encode_among(y, classes)
        else:
            classes, code = np.unique(y, return_inverse=True)
            _check_two_classes(classes, np.unique(code[weight > 0]))
    if X_unlabeled is not None:
        X_unlabeled = _check_unlabeled(X_unlabeled, X)
    return Rows(X, code, classes, weight, X_unlabeled, teacher_proba)


def _check_unlabeled(X_unlabeled: Any, X: Any) -> Any:
    """Check that transfer rows have the columns of X, and warn where a range does not overlap."""
    extra = as_table(X_unlabeled, name="X_unlabeled")
    if is_frame(X) != is_frame(extra):
        raise ValueError(
            "X_unlabeled and X must be of one kind: both DataFrames or both arrays; got "
            f"{type(X_unlabeled).__name__} and {type(X).__name__}."
        )
    if extra.shape[1] != X.shape[1]:
        raise ValueError(
            f"X_unlabeled has {extra.shape[1]} columns, X has {X.shape[1]}. Inside a Pipeline the "
            "steps before the classifier transform X only, unless X_unlabeled stands in "
            "Pipeline(transform_input=['X_unlabeled'])."
        )
    if is_frame(X):
        if set(extra.columns) != set(X.columns):
            missing = sorted(map(str, set(X.columns) - set(extra.columns)))
            raise ValueError(f"X_unlabeled lacks columns of X: {missing}.")
        extra = extra[list(X.columns)]
    _warn_if_disjoint(X, extra)
    return extra


def _warn_if_disjoint(X: Any, extra: Any) -> None:
    """Warn when a numeric column of the transfer rows lies wholly outside its range in X."""
    disjoint = []
    for (name, own), (_, further) in zip(named_columns(X), named_columns(extra), strict=True):
        try:
            a, b = (np.asarray(c, dtype=np.float64) for c in (own, further))
        except (TypeError, ValueError):
            continue
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        if len(a) and len(b) and (b.min() > a.max() or b.max() < a.min()):
            disjoint.append(str(name))
    if disjoint:
        warn_user(
            f"The values of X_unlabeled lie wholly outside their range in X in column(s) "
            f"{', '.join(disjoint[:10])}. If X is scaled by a step of a Pipeline, X_unlabeled is "
            "not, unless it stands in Pipeline(transform_input=['X_unlabeled'])."
        )


def split_rows(
    code: np.ndarray, fraction: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions in two, stratified by label where every class allows it."""
    # Here, as it would slow the way to `predict`.
    from sklearn.model_selection import train_test_split

    _, counts = np.unique(code, return_counts=True)
    n, n_classes = len(code), len(counts)
    n_held = max(1, round(fraction * n))
    stratify = code if counts.min() >= 2 and n_classes <= n_held <= n - n_classes else None
    seed = int(rng.randint(np.iinfo(np.int32).max))
    train, held = train_test_split(
        np.arange(n), test_size=n_held, stratify=stratify, random_state=seed
    )
    return train, held


def check_teacher_proba(teacher_proba: Any, n: int, classes: np.ndarray | None) -> np.ndarray:
    """Return given soft targets as rows that sum to 1 exactly; their columns where it is known."""
    with np.errstate(invalid="ignore"):
        proba = check_array(teacher_proba, dtype=np.float64, input_name="teacher_proba")
    if classes is not None and proba.shape != (n, len(classes)):
        raise ValueError(
            f"teacher_proba must have shape {(n, len(classes))}: one row for each row of X and one "
            f"column for each of classes_ {classes.tolist()}; got {proba.shape}."
        )
    improper = find_improper(proba)
    if improper is not None:
        row = proba[improper[0]]
        raise ValueError(
            f"teacher_proba must hold probabilities: row {improper[0]} is {row.tolist()}, which "
            f"sums to {row.sum():g}."
        )
    return normalise(proba)


# joblib and scikit-learn stand between two frames of ours, and between us and the user's line.
_OTHERS = (Path(__file__).parent, joblib.__file__, sklearn.__file__)
_SKIPPED = tuple(str(Path(file).parent) + os.sep for file in _OTHERS)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside this package and those that call it for the user."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
