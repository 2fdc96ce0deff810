"""Warnings that point at the user's line, however deep the package they come from."""

import inspect
import os
import warnings
from pathlib import Path

import joblib

__all__ = ["warn_user"]

# joblib stands between two frames of ours where teachers are fitted.
_SKIPPED = tuple(str(Path(f).parent) + os.sep for f in (Path(__file__).parent, joblib.__file__))


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
