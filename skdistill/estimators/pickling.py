"""Lean pickles: placeholders for what they leave behind, and copies that are not lean."""

import copy
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["LeftBehind", "deep_copy", "shallow_copy"]

T = TypeVar("T")


def shallow_copy(estimator: T) -> T:
    """Return a shallow copy that does not go through `__getstate__`."""
    new = type(estimator).__new__(type(estimator))
    new.__dict__.update(estimator.__dict__)
    return new


def deep_copy(estimator: T, memo: dict[int, Any]) -> T:
    """Return a deep copy that does not go through `__getstate__`."""
    new = type(estimator).__new__(type(estimator))
    memo[id(estimator)] = new
    new.__dict__.update(copy.deepcopy(estimator.__dict__, memo))
    return new


@dataclass(frozen=True, repr=False)
class LeftBehind:
    """What stands in a parameter after unpickling when its value only shaped training."""

    parameter: str
    type_name: str

    def refusal(self) -> str:
        """Say why fit cannot run, and what to do."""
        return (
            f"The value of {self.parameter} ({self.type_name}) was left behind when this estimator "
            "was pickled: a pickle holds the student, which predicts without it. To fit again, set "
            f"it with set_params({self.parameter}=...), or pickle with keep_teachers=True."
        )

    def __repr__(self) -> str:
        """Name what was left behind."""
        return f"<{self.parameter} left behind by pickling: {self.type_name}>"
