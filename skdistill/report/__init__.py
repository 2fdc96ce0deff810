"""A student beside its teachers and a plain student: scores, words, costs, displays.

* ``report`` puts the report together: ``compared`` finds who is compared, ``metrics`` scores them,
  ``verdict`` gives intervals and words, ``cost`` sizes and times, ``view`` writes text and HTML.
* ``agreement_display``, ``distillation_display`` and ``training_displays`` draw, on ``plotting``.
* ``smallest`` searches over the student's size, ``size_table`` is what it finds.
"""

from skdistill.report.agreement_display import AgreementDisplay
from skdistill.report.distillation_display import DistillationDisplay
from skdistill.report.report import distillation_report
from skdistill.report.size_table import SmallestStudent
from skdistill.report.smallest import smallest_student
from skdistill.report.training_displays import SweepDisplay, TrainingCurveDisplay
from skdistill.report.view import DistillationReport

__all__ = [
    "AgreementDisplay",
    "DistillationDisplay",
    "DistillationReport",
    "SmallestStudent",
    "SweepDisplay",
    "TrainingCurveDisplay",
    "distillation_report",
    "smallest_student",
]
