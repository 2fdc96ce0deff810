"""The trained student and its forward pass: with tables, all that a server loads.

``classifier`` is the frozen StudentClassifier, ``torch_student`` the one that needs torch, ``base``
what both share. ``forward`` holds the arithmetic of the frozen network, ``one_row`` the callable
for servers, ``state`` the plain data that pickles and files hold, ``versions`` the stamps in
pickles.
"""

from skdistill.student.base import DocLink, SkdistillVersionWarning, check_stamp, stamp
from skdistill.student.classifier import StudentClassifier
from skdistill.student.forward import Forward, Layer
from skdistill.student.state import plain_student
from skdistill.student.torch_student import TorchStudent

__all__ = [
    "DocLink",
    "Forward",
    "Layer",
    "SkdistillVersionWarning",
    "StudentClassifier",
    "TorchStudent",
    "check_stamp",
    "plain_student",
    "stamp",
]
