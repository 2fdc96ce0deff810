"""ONNX: one file from raw rows to labels. Needs the extra ``skdistill[onnx]``."""

from skdistill.files.onnx import IR_VERSION, OPSET, to_onnx

__all__ = ["IR_VERSION", "OPSET", "to_onnx"]
