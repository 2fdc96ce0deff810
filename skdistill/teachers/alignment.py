"""What a teacher answers -> float64 columns in the order of the student's classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from skdistill.tables.checks import find_improper, normalise

__all__ = [
    "align_columns",
    "check_finite",
    "check_proba",
    "check_shape",
    "columns_by_label",
    "take_columns",
]

# The column of a class that a teacher lacks.
_MISSING = -1
_MAX_LABELS_SHOWN = 20


def align_columns(
    teacher_classes: Any, classes: Any, label: str, *, allow_missing: bool = False
) -> np.ndarray:
    """Return a teacher's column for each class, or raise where its labels do not match.

    By value when the teacher knows every class, or may lack some, whose column is then -1.
    Otherwise by position when the classes are the integers 0..k-1 and the teacher has k classes:
    meta-estimators hand out y encoded that way, in sorted order of the labels.
    """
    own, wanted = _labels(teacher_classes, label), np.asarray(classes)
    # A dict compares in Python's way (1 == 1.0 == True, never "1"), which NumPy does not.
    column_of = {value: column for column, value in enumerate(own)}
    if len(column_of) != len(own):
        raise ValueError(f"{label} has the same class twice: {_shown(own)}.")
    columns = np.array([column_of.get(value, _MISSING) for value in wanted.tolist()], np.int64)
    if allow_missing or (columns != _MISSING).all():
        return columns
    if wanted.dtype.kind in "iu" and np.array_equal(wanted, np.arange(len(own))):
        return np.argsort(np.asarray(own))
    raise ValueError(
        f"{label} and the classes to learn do not match: the teacher knows {_shown(own)}, the "
        f"classes are {_shown(wanted.tolist())}. Use the labels the teacher was fitted on, or name "
        "the columns of its probabilities with CallableTeacher(teacher.predict_proba, classes=...)."
    )


def _labels(classes: Any, label: str) -> list[Any]:
    """Return the labels of one output as plain Python values."""
    if isinstance(classes, list) and any(np.ndim(value) for value in classes):
        raise ValueError(
            f"{label} predicts {len(classes)} outputs; a teacher must be a classifier of one."
        )
    return np.asarray(classes).ravel().tolist()


def _shown(labels: list[Any]) -> str:
    """Write a list of labels, cut where it is long."""
    if len(labels) <= _MAX_LABELS_SHOWN:
        return str(labels)
    return f"{labels[:_MAX_LABELS_SHOWN]} and {len(labels) - _MAX_LABELS_SHOWN} more"


def columns_by_label(outputs: Any, classes: Any) -> np.ndarray:
    """Turn what a teacher returned into a float64 array, columns in the order of `classes`.

    A frame whose column names are the classes is reordered by name; anything else keeps its order.
    """
    names = getattr(outputs, "columns", None)
    array = np.asarray(outputs)
    if array.dtype.kind == "c":
        raise ValueError("it returned complex numbers; a teacher answers with real ones.")
    array = array.astype(np.float64, copy=False)
    if names is None or classes is None or array.ndim != 2:
        return array
    column_of = {name: column for column, name in enumerate(np.asarray(names).tolist())}
    wanted = np.asarray(classes).tolist()
    if len(column_of) != array.shape[1] or set(wanted) != set(column_of):
        return array
    return array[:, [column_of[value] for value in wanted]]


def check_shape(outputs: np.ndarray, n_rows: int, n_classes: int | None, label: str) -> np.ndarray:
    """Return the outputs if they are (n_rows, n_classes)."""
    if outputs.ndim == 2 and outputs.shape[0] == n_rows and n_classes in (None, outputs.shape[1]):
        return outputs
    columns = "n_classes" if n_classes is None else n_classes
    binary = outputs.shape in ((n_rows,), (n_rows, 1))
    raise ValueError(
        f"{label} returned an array of shape {outputs.shape}, expected ({n_rows}, {columns})."
        + (" For two classes return both columns, [1 - p, p]." if binary else "")
    )


def check_finite(outputs: np.ndarray, label: str, first_row: int = 0) -> np.ndarray:
    """Return the outputs if none is NaN or infinite."""
    finite = np.isfinite(outputs)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"{label} returned {outputs[row, column]} in row {first_row + row}, column {column}."
        )
    return outputs


def check_proba(
    outputs: np.ndarray, label: str, first_row: int = 0, advice: str = ""
) -> np.ndarray:
    """Return probabilities whose rows sum to exactly 1, or raise where they are none."""
    improper = find_improper(check_finite(outputs, label, first_row))
    if improper is None:
        return normalise(outputs)
    row, column = improper
    if column is None:
        raise ValueError(
            f"{label} returned probabilities that sum to {outputs[row].sum():.6g} in row "
            f"{first_row + row}; each row must sum to 1.{advice}"
        )
    raise ValueError(
        f"{label} returned {outputs[row, column]:.6g} in row {first_row + row}, column "
        f"{column}; a probability lies in [0, 1].{advice}"
    )


def take_columns(proba: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Keep the columns asked for, 0 for a class of column -1, and renormalise.

    A row with no mass left is uniform, one of NaN stays NaN.
    """
    kept = np.where(columns == _MISSING, 0.0, proba[:, columns])
    mass = kept.sum(axis=1, keepdims=True)
    uniform = np.full_like(kept, 1.0 / kept.shape[1])
    return np.divide(kept, mass, out=uniform, where=mass != 0)
