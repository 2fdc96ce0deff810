"""Which source of soft targets it is: the one place that looks at `cv` and `teachers`."""

from collections.abc import Sequence

from skdistill.teachers.cross_fitting import CrossFitted, OutOfBag
from skdistill.teachers.naming import Entry
from skdistill.teachers.sources import Prefit, SelfTaught, TargetSource, TeacherSpec


def choose_source(
    spec: TeacherSpec, named: Sequence[Entry], weighted: Sequence[bool] | None = None
) -> TargetSource:
    """Return where the soft targets come from: the one place that looks at `cv` and `teachers`.

    ``weighted`` tells which of the teachers get the sample weights when they are fitted.
    """
    if isinstance(spec.teachers, str):
        return SelfTaught(spec, named)
    cv = "folds" if spec.teachers is None or not isinstance(spec.cv, str) else spec.cv
    kinds = {"prefit": Prefit, "oob": OutOfBag}
    return kinds.get(cv, CrossFitted)(spec, named, weighted)
