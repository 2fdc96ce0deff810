"""What foreign libraries return, as float64 columns in the order of the student's classes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skdistill.tables import find_improper, is_frame, normalise

# What a probability of 0 counts as where its logarithm is needed.
PROBA_FLOOR = 1e-7

# Modules may share layers, and torch has one global generator, from which students may draw too:
# one lock guards them all.
torch_lock = threading.RLock()

_WAY_TO_NUMBERS = (
    "Put the preprocessing before the module: make_pipeline(fitted_preprocessor, "
    "TorchTeacher(module))."
)


def comes_from(estimator: Any, *packages: str) -> bool:
    """Tell whether the class of an estimator, or a base class, lives in one of the packages."""
    return any(kind.__module__.partition(".")[0] in packages for kind in type(estimator).__mro__)


def is_torch_module(teacher: Any) -> bool:
    """Tell whether this is a torch module; in a process that has not imported torch, nothing is."""
    torch_nn = getattr(sys.modules.get("torch"), "nn", None)
    return torch_nn is not None and isinstance(teacher, torch_nn.Module)


def numeric_array(X: Any, dtype: str) -> np.ndarray:
    """Return X as a writeable array of numbers, or raise saying what must come before."""
    if issparse(X):
        return X.toarray().astype(dtype)
    if is_frame(X):
        strange = [name for name, kind in X.dtypes.items() if kind.kind not in "biuf"]
        if strange:
            raise TypeError(f"The columns {strange} of X are not numeric. {_WAY_TO_NUMBERS}")
        return np.array(X.to_numpy(dtype=dtype, na_value=np.nan))
    array = np.asarray(X)
    if array.ndim < 2:
        raise ValueError(f"X must have rows and columns, got an array of shape {array.shape}.")
    if array.dtype.kind == "O" and any(isinstance(cell, str | bytes) for cell in array.flat):
        raise TypeError(f"X holds strings. {_WAY_TO_NUMBERS}")
    if array.dtype.kind not in "biufO":
        raise TypeError(f"X of dtype {array.dtype} is not numeric. {_WAY_TO_NUMBERS}")
    try:
        return np.array(array, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"X is not numeric ({error}). {_WAY_TO_NUMBERS}") from error


@contextmanager
def left_as_found(modules: Sequence[Any] = ()) -> Iterator[None]:
    """Restore the `training` flags of modules and torch's random state; other threads wait."""
    import torch

    with torch_lock, torch.random.fork_rng(devices=[]):
        parts = [part for module in modules for part in module.modules()]
        flags = [part.training for part in parts]
        try:
            yield
        finally:
            for part, flag in zip(parts, flags, strict=True):
                part.training = flag


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
