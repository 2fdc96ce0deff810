"""One teacher with a switch: every way a teacher can go wrong while it answers."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

LABELS = ("no", "yes")


def _fail(X: Any) -> Any:
    raise RuntimeError("the service is down")


def _interrupt(X: Any) -> Any:
    raise KeyboardInterrupt


def _in_last_row(value: float) -> Any:
    """Return good answers but for one value, in the last row."""

    def answer(X: Any) -> np.ndarray:
        proba = np.tile([0.25, 0.75], (len(X), 1))
        proba[-1, 0] = value
        return proba

    return answer


def _by_sign(X: Any) -> np.ndarray:
    """Return 1 for the class that the first column names."""
    return np.eye(2)[(np.asarray(X)[:, 0] > 0).astype(int)]


ANSWERS: dict[str, Any] = {
    "nan": _in_last_row(np.nan),
    "infinite": _in_last_row(np.inf),
    "negative": _in_last_row(-0.2),
    "sum": _in_last_row(0.5),
    "zeros": lambda X: np.zeros((len(X), 2)),
    "one column": lambda X: np.full((len(X), 1), 0.3),
    "one dimension": lambda X: np.full(len(X), 0.3),
    "three columns": lambda X: np.full((len(X), 3), 1 / 3),
    "a row short": lambda X: np.full((len(X) - 1, 2), 0.5),
    "strings": lambda X: np.full((len(X), 2), "x"),
    "complex": lambda X: np.full((len(X), 2), 0.5 + 0j),
    "nothing": lambda X: None,
    "fails": _fail,
    "interrupts": _interrupt,
    "certain": _by_sign,
}


class BadTeacher(ClassifierMixin, BaseEstimator):
    """A fitted teacher of two labels that answers as its mode says."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    @property
    def classes_(self) -> np.ndarray:
        return np.array(LABELS)

    def fit(self, X: Any, y: Any) -> "BadTeacher":
        return self

    def predict_proba(self, X: Any) -> Any:
        return ANSWERS[self.mode](X)

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __sklearn_is_fitted__(self) -> bool:
        return True
