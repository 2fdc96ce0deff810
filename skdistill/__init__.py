"""Distil heavy tabular classifiers into small scikit-learn students.

Names are resolved on first use: importing the package loads neither torch nor scikit-learn, so
a process that only predicts pays only for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skdistill import augment, losses, metrics, teachers
    from skdistill import distributed as distributed
    from skdistill import onnx as onnx
    from skdistill.estimators import DistilledClassifier, DistilledClassifierCV
    from skdistill.files import BadArtefactError, UnsupportedFormatError
    from skdistill.report import (
        AgreementDisplay,
        DistillationDisplay,
        DistillationReport,
        SmallestStudent,
        SweepDisplay,
        TrainingCurveDisplay,
        distillation_report,
        smallest_student,
    )
    from skdistill.student import SkdistillVersionWarning, StudentClassifier, TorchStudent
    from skdistill.teachers import CallableTeacher, TeachersLeftBehind, TorchTeacher
    from skdistill.teachers.hints import Hint

    __version__: str

# Without `distributed` and `onnx`, which extras alone can import: `import *` works without.
__all__ = [
    "AgreementDisplay",
    "BadArtefactError",
    "CallableTeacher",
    "DistillationDisplay",
    "DistillationReport",
    "DistilledClassifier",
    "DistilledClassifierCV",
    "Hint",
    "SkdistillVersionWarning",
    "SmallestStudent",
    "StudentClassifier",
    "SweepDisplay",
    "TeachersLeftBehind",
    "TorchStudent",
    "TorchTeacher",
    "TrainingCurveDisplay",
    "UnsupportedFormatError",
    "__version__",
    "augment",
    "distillation_report",
    "losses",
    "metrics",
    "smallest_student",
    "teachers",
]

# Where each public name is found: its room, or the file where the room leaves it out.
_HOME = {
    name: home
    for home, names in {
        "estimators": ("DistilledClassifier", "DistilledClassifierCV"),
        "files": ("BadArtefactError", "UnsupportedFormatError"),
        "report": (
            "AgreementDisplay",
            "DistillationDisplay",
            "DistillationReport",
            "SmallestStudent",
            "SweepDisplay",
            "TrainingCurveDisplay",
            "distillation_report",
            "smallest_student",
        ),
        "student": ("SkdistillVersionWarning", "StudentClassifier", "TorchStudent"),
        "teachers": ("CallableTeacher", "TeachersLeftBehind", "TorchTeacher"),
        "teachers.hints": ("Hint",),
    }.items()
    for name in names
}
_SUBMODULES = ("augment", "distributed", "losses", "metrics", "onnx", "teachers")


def __getattr__(name: str) -> Any:
    """Import the module a public name lives in when the name is first asked for."""
    if name in _SUBMODULES:
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
    return sorted({*globals(), *__all__, *_SUBMODULES})
