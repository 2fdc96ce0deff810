"""What `fit` was given: rows, labels, weights and transfer rows, checked and encoded."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_array

from skdistill.tables.checks import (
    check_labels,
    check_sample_weight,
    encode_among,
    encode_labels,
    find_improper,
    normalise,
)
from skdistill.tables.frames import as_table, columns_of, is_frame, n_rows, names_of, take_rows
from skdistill.tables.warn import warn_user

__all__ = ["Rows", "check_teacher_proba", "read_rows"]


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
    n = n_rows(X)
    weight = check_sample_weight(sample_weight, n)
    code = None
    if y is not None and classes is None:
        code, classes = encode_labels(y, n, weight)
    elif y is not None:
        assert classes is not None
        code = encode_among(check_labels(y, n), classes)
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
    for name, *columns in zip(names_of(X), columns_of(X), columns_of(extra), strict=True):
        try:
            a, b = (np.asarray(c, dtype=np.float64) for c in columns)
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
