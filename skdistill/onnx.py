"""ONNX: one file from raw rows to labels, for other runtimes and other languages.

Importing this module teaches skl2onnx to convert a StudentClassifier, a DistilledClassifier and
Pipelines that hold one, if skl2onnx is installed. Needs the extra ``skdistill[onnx]``.
"""

from importlib.util import find_spec

from skdistill.files.onnx import to_onnx
from skdistill.files.onnx_graph import IR_VERSION, OPSET

__all__ = ["IR_VERSION", "OPSET", "to_onnx"]

if find_spec("skl2onnx") is not None:
    from skdistill.files.converters import register_converters

    register_converters()
