"""The trained student and its forward pass: with tables, all that a server loads.

``classifier`` is the frozen StudentClassifier, ``torch_student`` the one that needs torch, ``base``
what both share, the stamps in pickles among it. ``forward`` holds the arithmetic of the frozen
network, and the callable for servers.
"""

from skdistill.student.base import DocLink, SkdistillVersionWarning, check_stamp, stamp
from skdistill.student.classifier import StudentClassifier
from skdistill.student.forward import Forward, Layer
from skdistill.student.torch_student import TorchStudent

__all__ = [
    "DocLink",
    "Forward",
    "Layer",
    "SkdistillVersionWarning",
    "StudentClassifier",
    "TorchStudent",
    "check_stamp",
    "stamp",
]
