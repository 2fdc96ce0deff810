"""Which source of soft targets it is: where `cv` and `teachers` become an object."""

from collections.abc import Sequence

from skdistill.teachers.cross_fitting import CrossFitted, OutOfBag
from skdistill.teachers.naming import Entry, is_prefit
from skdistill.teachers.sources import Given, Prefit, SelfTaught, TargetSource, TeacherSpec


def choose_source(
    spec: TeacherSpec,
    named: Sequence[Entry],
    weighted: Sequence[bool] | None = None,
    *,
    given: bool = False,
) -> TargetSource:
    """Return where the soft targets come from.

    What only has to know whether teachers are fitted already asks `is_prefit`.
    ``weighted`` tells which of the teachers get the sample weights when they are fitted, ``given``
    that the targets were obtained elsewhere.
    """
    if isinstance(spec.teachers, str):
        return SelfTaught(spec, named)
    # The default teacher is unfitted, whatever `cv` says.
    cv = None if spec.teachers is None else spec.cv
    if given:
        return Given(spec, named, prefit=is_prefit(cv))
    if is_prefit(cv):
        return Prefit(spec, named)
    kind = OutOfBag if isinstance(cv, str) and cv == "oob" else CrossFitted
    return kind(spec, named, weighted)
