"""Fitted teachers that answer as one, in blocks of rows."""

from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.utils.validation import check_memory

from skdistill.tables.frames import n_rows, take_rows
from skdistill.teachers.adapters import TorchTeacher
from skdistill.teachers.asking import Teacher
from skdistill.teachers.naming import Named, split_steps
from skdistill.teachers.pooling import SoftTargets, temper, to_proba
from skdistill.teachers.progress import Stage, stage, track

__all__ = ["Ensemble", "SoftTargets", "ask_each", "remembered", "resolve_averaging"]

# Teachers are asked in blocks of rows, so that memory does not grow with teachers times rows.
BATCH_ROWS = 65_536


def resolve_averaging(averaging: str, named: Sequence[Named]) -> str:
    """Return the space in which teachers are averaged; logits only where every teacher has them."""
    if averaging != "auto":
        return averaging
    last_steps = [split_steps(n.estimator)[1] for n in named]
    native = all(isinstance(t, TorchTeacher) and t.output == "logits" for t in last_steps)
    return "logits" if native else "proba"


class Ensemble:
    """The weighted mean of teachers' probabilities or logits, given at a temperature.

    Calibration sets ``temperature``. With ``memory`` answers are read from there where the content
    of teacher and rows is that of an earlier question.
    """

    def __init__(
        self, teachers: Sequence[Teacher], weights: np.ndarray, averaging: str, memory: Any = None
    ) -> None:
        self.teachers = [t for t, w in zip(teachers, weights, strict=True) if w > 0]
        self.weights = weights[weights > 0]
        self.averaging = averaging
        self.memory = memory
        self.temperature = 1.0

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the ensemble's probabilities for raw rows."""
        return temper(to_proba(self.mean(X), self.averaging), self.temperature)

    def mean(self, X: Any) -> np.ndarray:
        """Return the weighted mean in the space of `averaging`, asking in blocks of rows."""
        n = n_rows(X)
        if n <= BATCH_ROWS and len(self.teachers) == 1:
            return self._mean_of_block(X, 0)
        starts = range(0, max(n, 1), BATCH_ROWS)
        with stage("answer", len(starts) * len(self.teachers)) as shown:
            if n <= BATCH_ROWS:
                return self._mean_of_block(X, 0, shown)
            answer: Any = None
            for start in starts:
                rows = np.arange(start, min(start + BATCH_ROWS, n))
                block = self._mean_of_block(take_rows(X, rows), start, shown)
                if answer is None:
                    answer = np.empty((n, block.shape[1]), dtype=block.dtype)
                answer[rows] = block
            return answer

    def _mean_of_block(self, X: Any, first_row: int, shown: Stage | None = None) -> np.ndarray:
        """Return the running weighted mean over the teachers for one block of rows."""
        mean: Any = 0.0
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            question = (teacher.estimator, teacher.classes, X, self.averaging)
            mean = mean + weight * remembered(
                self.memory, _answer, *question, teacher=teacher, first_row=first_row
            )
            if shown is not None:
                shown.done()
        return mean


def _answer(
    estimator: Any, classes: np.ndarray, X: Any, space: str, *, teacher: Teacher, first_row: int
) -> np.ndarray:
    """Ask a teacher; what its answer depends on stands first and is the key in memory."""
    return teacher.ask(X, space, first_row=first_row)


def remembered(memory: Any, function: Callable[..., Any], *key: Any, **others: Any) -> Any:
    """Call a function, or read its result from memory by the content of the key.

    What cannot be hashed, such as a lambda, is computed each time.
    """
    if memory is not None:
        cached = check_memory(memory).cache(function, ignore=list(others))
        try:
            joblib.hash(key)
        except Exception:
            cached = function
        return cached(*key, **others)
    return function(*key, **others)


def ask_each(
    teachers: Sequence[Teacher], X: Any, averaging: str, memory: Any = None
) -> list[np.ndarray]:
    """Return the answer of each teacher by itself."""
    shown = track("teacher", teachers, len(teachers))
    return [Ensemble([t], np.ones(1), averaging, memory).mean(X) for t in shown]
