"""Where soft targets come from: chosen once, asked for the rows of `fit`, and for further ones."""

from collections.abc import Sequence

from skdistill.tables.rows import Rows
from skdistill.teachers.cross_fitting import CrossFitted, DefaultTeacher, OutOfBag
from skdistill.teachers.naming import Named, is_prefit, is_self
from skdistill.teachers.target_source import (
    Continued,
    Given,
    Prefit,
    SelfTaught,
    TargetSource,
    TeacherSpec,
)

__all__ = ["Continued", "TargetSource", "TeacherSpec", "choose_source"]


def choose_source(
    spec: TeacherSpec,
    named: Sequence[Named],
    rows: Rows | None = None,
    *,
    weighted: Sequence[bool] | None = None,
) -> TargetSource:
    """Return where the soft targets come from: the one place that looks at `cv` and `teachers`.

    Without rows the classes are to be set before rows are labelled. ``weighted`` tells which of
    the teachers get the sample weights when they are fitted.
    """
    classes = None if rows is None else rows.classes
    source: TargetSource
    if is_self(spec.teachers):
        return SelfTaught(spec, named, classes)
    if spec.teachers is None:
        source = DefaultTeacher(spec, named, classes, weighted)
    elif is_prefit(spec.cv):
        source = Prefit(spec, named, classes)
    elif isinstance(spec.cv, str) and spec.cv == "oob":
        source = OutOfBag(spec, named, classes, weighted)
    else:
        source = CrossFitted(spec, named, classes, weighted)
    return source if rows is None or rows.teacher_proba is None else Given(source)
