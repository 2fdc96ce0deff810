"""A student beside its teachers: scores, a report with a verdict, displays, a search for its size.

- ``metrics.py``: the scores that users import, and what they accept.
- ``report.py``: `distillation_report`, from arguments to numbers; ``compared.py`` finds student and
  teachers, trains the plain student and asks them all, ``cost.py`` measures size and speed,
  ``verdict.py`` compares with intervals and says what a reader must know, and ``view.py`` writes it
  all as text, HTML or a frame.
- ``distillation_display.py``, ``agreement_display.py``, ``training_displays.py``: the figures, on
  the base in ``plotting.py``.
- ``smallest.py``: `smallest_student`; ``size_table.py`` is what it found.

Neither torch nor matplotlib is loaded before something is trained or drawn.
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
