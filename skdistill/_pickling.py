"""Placeholders for what a lean pickle leaves behind."""

from dataclasses import dataclass

__all__ = ["LeftBehind"]


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
