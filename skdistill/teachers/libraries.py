"""Objects of other libraries: told apart without importing these, fed numbers, left as found."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skdistill.tables.frames import is_frame

__all__ = ["comes_from", "is_torch_module", "left_as_found", "numeric_array"]

# Modules may share layers, and torch has one global generator: one lock guards them all.
_torch_lock = threading.RLock()

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

    with _torch_lock, torch.random.fork_rng(devices=[]):
        parts = [part for module in modules for part in module.modules()]
        flags = [part.training for part in parts]
        try:
            yield
        finally:
            for part, flag in zip(parts, flags, strict=True):
                part.training = flag
