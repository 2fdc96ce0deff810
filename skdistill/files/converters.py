"""Converters that teach skl2onnx our two classifiers, alone or in a Pipeline."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper
from skl2onnx import update_registered_converter
from skl2onnx._parse import _parse_sklearn, _parse_sklearn_classifier
from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.utils_classifier import get_label_classes

from skdistill.estimators import DistilledClassifier
from skdistill.files.onnx_graph import (
    DOUBLE,
    FLOAT,
    OPSET,
    Block,
    Graph,
    label_array,
    write_student,
)
from skdistill.student import StudentClassifier
from skdistill.tables import TabularEncoder

# Private, because the public parse_sklearn makes an output of the model of what a preprocessor
# returns, and the public OnnxSubEstimator cannot convert a ColumnTransformer.


def register_converters() -> None:
    """Teach skl2onnx our two classifiers."""
    options = {
        "zipmap": [True, False, "columns"],
        "nocl": [True, False],
        "output_class_labels": [False, True],
    }
    for model in (StudentClassifier, DistilledClassifier):
        alias = f"Skdistill{model.__name__}"
        update_registered_converter(model, alias, _shapes, _convert, parser=_parse, options=options)


class _Skl2onnxGraph(Graph):
    """Nodes and constants in a graph that skl2onnx builds."""

    def __init__(self, scope: Any, container: Any) -> None:
        super().__init__()
        self.scope, self.container = scope, container

    def constant(self, array: np.ndarray) -> str:
        name = self.scope.get_unique_variable_name("student_constant")
        values = array.ravel().tolist()
        if array.dtype == object:
            values = [value.encode() for value in values]
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.container.add_initializer(name, kind, list(array.shape), values)
        return name

    def node(
        self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any
    ) -> str:
        output = output or self.scope.get_unique_variable_name(f"student_{kind}")
        name = self.scope.get_unique_operator_name(f"student_{kind}")
        versions = {"op_version": 1} if domain else {}
        self.container.add_node(
            kind, list(inputs), [output], op_domain=domain, name=name, **versions, **attributes
        )
        return output


def _student_of(model: StudentClassifier | DistilledClassifier) -> StudentClassifier:
    """Return the frozen student of what skl2onnx was given."""
    student = model.student_ if isinstance(model, DistilledClassifier) else model
    if not isinstance(student, StudentClassifier):
        student.to_onnx()  # a TorchStudent, which says why it cannot
    return student


def _parse(scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None) -> Any:
    """Let skl2onnx convert a preprocessor that is not ours, and put the student behind it."""
    encoder = _student_of(model).preprocessor_
    if encoder is not None and type(encoder) is not TabularEncoder:
        inputs = _parse_sklearn(scope, encoder, inputs, custom_parsers=custom_parsers)
    return _parse_sklearn_classifier(scope, model, inputs, custom_parsers=custom_parsers)


def _shapes(operator: Any) -> None:
    """Tell skl2onnx the types and shapes of the outputs."""
    labels = label_array(get_label_classes(operator.scope_inst, operator.raw_operator))
    kind = StringTensorType if labels.dtype == object else Int64TensorType
    n = operator.inputs[0].get_first_dimension()
    operator.outputs[0].set_type(kind([n]))
    operator.outputs[1].type.shape = [n, len(labels)]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Write a student into a graph that skl2onnx builds."""
    if container.target_opset < OPSET:
        raise RuntimeError(
            f"A student needs opset {OPSET}; target_opset is {container.target_opset}."
        )
    student = _student_of(operator.raw_operator)
    labels = _labels(get_label_classes(scope, operator.raw_operator))
    blocks = _blocks(operator.inputs, student.n_features_in_)
    is_double = isinstance(operator.outputs[1].type, DoubleTensorType)
    names = [output.full_name for output in operator.outputs]
    graph = _Skl2onnxGraph(scope, container)
    write_student(graph, student, blocks, labels, DOUBLE if is_double else FLOAT, *names[:2])


def _labels(classes: np.ndarray) -> np.ndarray:
    """Return the class labels as strings or integers: skl2onnx has no others."""
    labels = label_array(classes)
    if labels.dtype != np.float64:
        return labels
    if not (labels == labels.astype(np.int64)).all():
        raise ValueError("skl2onnx has integer and string labels only; these are fractions.")
    return labels.astype(np.int64)


def _blocks(inputs: Sequence[Any], n_features: int) -> Sequence[Block]:
    """Describe the inputs, whose width skl2onnx may not know."""
    blocks = []
    for variable in inputs:
        shape = variable.type.shape
        known = len(shape) == 2 and isinstance(shape[1], int)
        width = shape[1] if known else 1 if len(inputs) > 1 else n_features
        blocks.append(Block(variable.full_name, width, isinstance(variable.type, StringTensorType)))
    return blocks
