"""What a reader of a report must know about its numbers."""

from collections.abc import Sequence

from skdistill.report.compared import ComparedModel, FoundStudent
from skdistill.report.cost import Speed
from skdistill.report.ensemble import TeacherEnsemble

__all__ = ["notes_on", "notes_on_times"]

# Of the time of single rows, the share of waiting above which times are not the model's own.
_MUCH_WAITING = 1 / 3
# Notes name so many models one by one.
_MOST_LISTED = 5


def notes_on(
    found: FoundStudent, teachers: TeacherEnsemble, plain: ComparedModel | None, *, trained: bool
) -> tuple[str, ...]:
    """Say what a reader must know about the numbers."""
    notes = [_on_plain(plain, trained)]
    if teachers.in_sample:
        notes.append(
            f"Used as they were: {_listed(teachers.in_sample)}. The soft targets of rows they "
            "were fitted on were not out-of-fold; the held-out rows must be new to them too."
        )
    temperature = getattr(found.model, "calibration_temperature_", 1.0)
    if temperature != 1:
        notes.append(_on_calibration(temperature, teachers))
    if found.before:
        notes.append("The steps before the student in its Pipeline are in no row's size or time.")
    notes.append("Intervals cover the choice of held-out rows, not that of seeds.")
    return tuple(notes)


def _on_plain(plain: ComparedModel | None, trained: bool) -> str:
    """Say what the plain student is, or why there is none."""
    if plain is None:
        return (
            "There is no plain student to compare with, and so no knowledge recovered: pass "
            "X_train and y_train to have one trained, or a fitted baseline=."
        )
    if trained:
        return (
            "The plain student has the settings of the distilled one, hard labels only "
            "(alpha=0) and early stopping."
        )
    kind = type(plain.parts[0]).__name__
    return f"The plain student is the baseline that was passed, a {kind}."


def _on_calibration(temperature: float, teachers: TeacherEnsemble) -> str:
    """Say whose confidence `fit` set right, and what that means for the comparison."""
    what = "distilled student" if teachers.in_sample else "targets it was trained on"
    others = "teachers, ensemble and plain student are as they are."
    if teachers.temperature != 1:
        others = (
            '"calibrated ensemble" is the ensemble at that temperature. All comparisons are '
            "with the ensemble as it answers, so what a student gains on it in log-loss may be "
            "calibration."
        )
    return (
        f"The confidence of the {what} was calibrated by fit, at a temperature of "
        f"{temperature:.2f}; {others}"
    )


def _listed(names: Sequence[str]) -> str:
    """Name some, and count the others where there are many."""
    if len(names) <= _MOST_LISTED:
        return ", ".join(names)
    shown = names[: _MOST_LISTED - 1]
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"


def notes_on_times(models: Sequence[ComparedModel], speeds: Sequence[Speed]) -> list[str]:
    """Warn of times that are not the models' own: long calls wait more often than short ones."""
    pairs = zip(models, speeds, strict=True)
    names = [model.name for model, speed in pairs if speed.waited > _MUCH_WAITING]
    if not names:
        return []
    return [
        f"Much of the time of {_listed(names)} went into waiting, for a busy processor or for "
        "something remote. A busy machine delays long calls more than short ones, which makes the "
        "student's speed-up look larger: measure again on a quiet one."
    ]
