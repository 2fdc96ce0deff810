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
    from skdistill._agreement_display import AgreementDisplay
    from skdistill._artefact import BadArtefactError, UnsupportedFormatError
    from skdistill._classifier import DistilledClassifier
    from skdistill._distillation_display import DistillationDisplay
    from skdistill._hints import Hint
    from skdistill._report import distillation_report
    from skdistill._report_view import DistillationReport
    from skdistill._smallest import SmallestStudent, smallest_student
    from skdistill._sweep_display import SweepDisplay
    from skdistill._torch_student import TorchStudent
    from skdistill._training_curve_display import TrainingCurveDisplay
    from skdistill._tuning import DistilledClassifierCV
    from skdistill._versions import SkdistillVersionWarning
    from skdistill.student import StudentClassifier
    from skdistill.teachers import CallableTeacher, TeachersLeftBehind, TorchTeacher

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

_HOME = {
    "AgreementDisplay": "_agreement_display",
    "BadArtefactError": "_artefact",
    "CallableTeacher": "teachers",
    "DistillationDisplay": "_distillation_display",
    "DistillationReport": "_report_view",
    "DistilledClassifier": "_classifier",
    "DistilledClassifierCV": "_tuning",
    "Hint": "_hints",
    "SkdistillVersionWarning": "_versions",
    "SmallestStudent": "_smallest",
    "StudentClassifier": "student",
    "SweepDisplay": "_sweep_display",
    "TeachersLeftBehind": "teachers",
    "TorchStudent": "_torch_student",
    "TorchTeacher": "teachers",
    "TrainingCurveDisplay": "_training_curve_display",
    "UnsupportedFormatError": "_artefact",
    "distillation_report": "_report",
    "smallest_student": "_smallest",
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
