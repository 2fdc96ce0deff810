"""The rule of what counts as probabilities, for teachers' answers and given soft targets alike."""

import numpy as np

__all__ = ["SUM_TOLERANCE", "find_improper", "normalise"]

# Rounding in float32 or in a file is forgiven up to these.
BELOW_ZERO = 1e-6
SUM_TOLERANCE = 1e-3


def find_improper(proba: np.ndarray) -> tuple[int, int | None] | None:
    """Return the place of the first value outside [0, 1], or else the first row whose sum is off.

    A row whose sum is off comes with the column None; None alone: all rows are probabilities.
    """
    outside = ~((proba >= -BELOW_ZERO) & (proba <= 1 + SUM_TOLERANCE))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        return int(row), int(column)
    off = np.abs(proba.sum(axis=1) - 1) > SUM_TOLERANCE
    return (int(off.argmax()), None) if off.any() else None


def normalise(proba: np.ndarray) -> np.ndarray:
    """Return proper probabilities whose rows sum to 1 exactly."""
    proba = np.clip(proba, 0.0, 1.0)
    return proba / proba.sum(axis=1, keepdims=True)
