"""Distil heavy tabular classifiers into small scikit-learn students.

Names are resolved on first use: importing the package loads neither torch nor scikit-learn, so
a process that only predicts pays only for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skdistill import augment as augment
    from skdistill import distributed as distributed
    from skdistill import losses as losses
    from skdistill import metrics as metrics
    from skdistill import onnx as onnx
    from skdistill import teachers as teachers
    from skdistill.estimators import DistilledClassifier as DistilledClassifier
    from skdistill.estimators import DistilledClassifierCV as DistilledClassifierCV
    from skdistill.files import BadArtefactError as BadArtefactError
    from skdistill.files import UnsupportedFormatError as UnsupportedFormatError
    from skdistill.report import AgreementDisplay as AgreementDisplay
    from skdistill.report import DistillationDisplay as DistillationDisplay
    from skdistill.report import DistillationReport as DistillationReport
    from skdistill.report import SmallestStudent as SmallestStudent
    from skdistill.report import SweepDisplay as SweepDisplay
    from skdistill.report import TrainingCurveDisplay as TrainingCurveDisplay
    from skdistill.report import distillation_report as distillation_report
    from skdistill.report import smallest_student as smallest_student
    from skdistill.student import SkdistillVersionWarning as SkdistillVersionWarning
    from skdistill.student import StudentClassifier as StudentClassifier
    from skdistill.student import TorchStudent as TorchStudent
    from skdistill.teachers import CallableTeacher as CallableTeacher
    from skdistill.teachers import TeachersLeftBehind as TeachersLeftBehind
    from skdistill.teachers import TorchTeacher as TorchTeacher
    from skdistill.teachers.hints import Hint as Hint

    __version__: str

# Where each public name is found: its room, or the file where the room leaves it out.
_HOME = {
    "AgreementDisplay": "report",
    "BadArtefactError": "files",
    "CallableTeacher": "teachers",
    "DistillationDisplay": "report",
    "DistillationReport": "report",
    "DistilledClassifier": "estimators",
    "DistilledClassifierCV": "estimators",
    "Hint": "teachers.hints",
    "SkdistillVersionWarning": "student",
    "SmallestStudent": "report",
    "StudentClassifier": "student",
    "SweepDisplay": "report",
    "TeachersLeftBehind": "teachers",
    "TorchStudent": "student",
    "TorchTeacher": "teachers",
    "TrainingCurveDisplay": "report",
    "UnsupportedFormatError": "files",
    "distillation_report": "report",
    "smallest_student": "report",
}
_MODULES = {"augment", "distributed", "losses", "metrics", "onnx", "teachers"}
# Type checkers read the imports above, as they understand a list of constants only.
if not TYPE_CHECKING:
    # Without the two modules that extras alone can import: `import *` works without.
    __all__ = sorted({*_HOME, *_MODULES, "__version__"} - {"distributed", "onnx"})


def __getattr__(name: str) -> Any:
    """Import the module a public name lives in when the name is first asked for."""
    if name in _MODULES:
        return import_module(f"skdistill.{name}")
    if name == "__version__":
        value = import_module("importlib.metadata").version("skdistill")
    elif name in _HOME:
        value = getattr(import_module(f"skdistill.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'skdistill' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those not yet resolved included."""
    return sorted({*globals(), *_HOME, *_MODULES, "__version__"})
