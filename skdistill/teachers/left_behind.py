"""The placeholder that stands in `teachers` after a lean pickle was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

__all__ = ["TeachersLeftBehind"]


@dataclass(frozen=True, repr=False)
class TeachersLeftBehind:
    """What stands in `teachers` after unpickling: the names of what was not pickled.

    Parameters
    ----------
    descriptions : tuple of str
        One for each teacher, such as "forest: RandomForestClassifier".

    Examples
    --------
    >>> from skdistill.teachers import TeachersLeftBehind
    >>> TeachersLeftBehind(("forest: RandomForestClassifier",))
    <teachers left behind by pickling: forest: RandomForestClassifier>
    """

    descriptions: tuple[str, ...]

    @classmethod
    def from_teachers(cls, teachers: Any) -> Self:
        """Describe a list of teachers, whatever it holds.

        Parameters
        ----------
        teachers : object
            The value of the parameter `teachers`.

        Returns
        -------
        placeholder : TeachersLeftBehind
            The descriptions of its entries.
        """
        if isinstance(teachers, TeachersLeftBehind):
            return cls(teachers.descriptions)
        entries = teachers if isinstance(teachers, (list, tuple)) else [teachers]
        return cls(tuple(_describe(entry) for entry in entries))

    def refusal(self) -> str:
        """Say why there is nothing to fit from, and what to do.

        Returns
        -------
        message : str
            The words of the error that `fit` raises.
        """
        return (
            "The teachers of this estimator were left behind when it was pickled "
            f"({', '.join(self.descriptions)}): a pickle holds the student, which predicts "
            "without them. To fit again, give it teachers with set_params(teachers=[...]), or "
            "pickle it with keep_teachers=True. If a parallel tool pickled a fitted estimator on "
            "its way to a worker, hand that tool clone(estimator): a clone is not fitted and "
            "keeps its teachers."
        )

    def __repr__(self) -> str:
        """Name what was left behind."""
        return f"<teachers left behind by pickling: {', '.join(self.descriptions)}>"


def _describe(entry: Any) -> str:
    """Write one entry of `teachers` as "name: type"."""
    if isinstance(entry, tuple) and len(entry) == 2:
        return f"{entry[0]}: {type(entry[1]).__name__}"
    return type(entry).__name__
