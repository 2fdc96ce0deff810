"""What a classifier costs: learned numbers, bytes on disk, and time to answer."""

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from skdistill.files import pack
from skdistill.student import StudentClassifier, plain_student, stamp
from skdistill.tables import n_rows, take_rows
from skdistill.teachers.adapters import TorchTeacher
from skdistill.teachers.naming import split_steps

_MOST_CALLS, _FEWEST_CALLS, _MOST_ROWS = 2_000, 3, 16_384
_FIRST_BLOCK = 64


def count_parameters(estimator: object) -> int | None:
    """Count the numbers a classifier has learned, if these can be reached in a public way.

    Preprocessing does not count. A tree has two numbers for each split, and one for each class of
    each leaf.
    """
    last = split_steps(estimator)[1]
    last = getattr(last, "student_", last)
    if hasattr(last, "n_parameters_"):
        return last.n_parameters_
    module = last.module if isinstance(last, TorchTeacher) else getattr(last, "module_", None)
    if module is not None and hasattr(module, "parameters"):
        return sum(p.numel() for p in module.parameters())
    if hasattr(last, "tree_"):
        tree = last.tree_
        n_splits = tree.node_count - tree.n_leaves
        return int(2 * n_splits + tree.n_leaves * np.prod(tree.value.shape[1:]))
    if hasattr(last, "estimators_"):
        on_top = [last.final_estimator_] if hasattr(last, "final_estimator_") else []
        return total(count_parameters(m) for m in [*_flat(last.estimators_), *on_top])
    for names in (("coefs_", "intercepts_"), ("coef_", "intercept_")):
        if hasattr(last, names[0]):
            found = [getattr(last, name) for name in names]
            layers = [a if isinstance(a, list | tuple) else [a] for a in found]
            return sum(map(np.size, chain(*layers)))
    return None


def _flat(members: Any) -> Iterator[Any]:
    """Walk through the arrays and lists in which boosting keeps a tree for each class."""
    for member in members:
        if isinstance(member, list | np.ndarray):
            yield from _flat(member)
        else:
            yield member


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum, or None where a part is unknown."""
    numbers = list(counts)
    known = [n for n in numbers if n is not None]
    return sum(known) if len(known) == len(numbers) else None


class _Counter:
    """A file that keeps nothing but the number of bytes written to it."""

    n_bytes = 0

    def write(self, data: Any) -> None:
        """Count the bytes."""
        self.n_bytes += memoryview(data).nbytes


def count_bytes(estimator: object) -> int | None:
    """Return the bytes of the file that `save` writes, of anything else those of its pickle."""
    student = getattr(estimator, "student_", estimator)
    if isinstance(student, StudentClassifier):
        # A preprocessor of the user's own has no saved form.
        with suppress(TypeError, ValueError):
            return len(pack(plain_student(student), stamp()))
    # The length of a pickle, without holding it in memory.
    counter = _Counter()
    try:
        pickle.Pickler(counter, protocol=5).dump(student)
    # Whatever an object's own way of pickling raises: its size is then unknown.
    except Exception:
        return None
    return counter.n_bytes


@dataclass(frozen=True)
class Speed:
    """How fast a classifier answers.

    Attributes
    ----------
    p50, p99 : float
        Median and 99th percentile of the seconds that one row takes.
    rows_per_second : float
        In blocks of many rows.
    waited : float
        Share of the time of single rows in which this process did not compute: it waited for the
        processor, or for something remote.
    """

    p50: float
    p99: float
    rows_per_second: float
    waited: float


def measure_speed(predict_proba: Callable[[Any], Any], X: Any, *, seconds: float = 0.5) -> Speed:
    """Time a classifier on single rows for some seconds, then on blocks of rows for half of them.

    One call goes ahead untimed. Single rows are then asked about in turn, three times at least;
    then blocks, which are doubled until they hold all of X (at most 16,384 rows) or take a fifth
    of the time.
    """
    n = n_rows(X)
    singles = [take_rows(X, np.array([i])) for i in range(min(n, 64))]
    predict_proba(singles[0])
    computing = time.process_time()
    times = _time_calls(predict_proba, singles, seconds, _FEWEST_CALLS)
    computing = time.process_time() - computing
    p50, p99 = np.percentile(times, [50, 99])
    waited = max(0.0, 1 - computing / sum(times))
    size = min(n, _FIRST_BLOCK)
    while True:
        block = take_rows(X, np.arange(size))
        (first,) = _time_calls(predict_proba, [block], 0.0, 1)
        if first > seconds / 5 or size == min(n, _MOST_ROWS):
            break
        size = min(2 * size, n, _MOST_ROWS)
    times = [first, *_time_calls(predict_proba, [block], seconds / 2 - first, 0)]
    return Speed(float(p50), float(p99), size / float(np.median(times)), waited)


def _time_calls(
    predict_proba: Callable[[Any], Any], inputs: list[Any], seconds: float, fewest: int
) -> list[float]:
    """Call in turn until the time is up, and return the seconds of each call."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < fewest or (len(times) < _MOST_CALLS and time.perf_counter() < end):
        one = inputs[len(times) % len(inputs)]
        start = time.perf_counter()
        predict_proba(one)
        times.append(time.perf_counter() - start)
    return times
