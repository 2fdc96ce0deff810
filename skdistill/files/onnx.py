"""The public ``to_onnx``: one file from raw rows to labels, for other runtimes and languages."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx._parse import _parse_sklearn, _parse_sklearn_classifier
from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.utils_classifier import get_label_classes

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.files.artefact import FORMAT, write_atomically
from skdistill.files.onnx_graph import (
    DOUBLE,
    FLOAT,
    IR_VERSION,
    OPSET,
    TENSOR_TYPES,
    Block,
    StandaloneGraph,
    label_array,
    to_int8,
    write_student,
)
from skdistill.student import StudentClassifier, plain_student, stamp
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


class _Skl2onnxGraph:
    """Nodes and constants in a graph that skl2onnx builds."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container

    def constant(self, array: np.ndarray) -> str:
        name = self.scope.get_unique_variable_name("student_constant")
        values = array.ravel().tolist()
        if array.dtype == object:
            values = [value.encode() for value in values]
        kind = TENSOR_TYPES[array.dtype.name]
        self.container.add_initializer(name, kind, list(array.shape), values)
        return name

    def weight(self, array: np.ndarray) -> str:
        return self.constant(array)

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


try:
    import onnx
    from onnx import TensorProto, checker, helper
except ImportError as error:
    raise ImportError(
        "ONNX needs further packages: pip install skdistill[onnx] (or onnx and onnxruntime)."
    ) from error


# Probabilities of the model and of the student, on rows like those of fit, differ by rounding
# only: float32 in the model, float64 in the student.
_CHECKED_ROWS, _TOLERANCE = 64, 1e-4


def to_onnx(
    student: StudentClassifier,
    path: str | os.PathLike[str] | None = None,
    *,
    quantize: bool = False,
) -> onnx.ModelProto:
    """Convert a student to one self-contained ONNX model.

    The model has opset 17, ``ai.onnx.ml`` version 3 where it has string columns, and IR version 8.
    All preprocessing is inside.

    Where every column is a number there is one input, ``X``, float of shape (n, n_features).
    Otherwise there is one input of shape (n, 1) for each column, in the order of ``fit`` and named
    like it (``x0``, ``x1``, ... without names): float for a number, double for a boolean or a
    numeric category, string for text. A missing number is NaN, a missing text the empty string.
    Outputs are ``label`` of shape (n,), string, int64 (also for booleans) or double (for floats),
    and ``probabilities``, float of shape (n, n_classes). A column whose name is that of an output
    gets an underscore behind it.

    The graph cannot raise: a row with inf, or with NaN although ``fit`` saw no missing value, gets
    NaN for every probability, and its label means nothing.

    Its metadata holds, as JSON, ``classes``, ``feature_names``, ``inputs``, ``versions`` and
    ``skdistill_format``. The model passes onnx's checker, and where onnxruntime is installed
    its answers are compared with the student's before anything is returned.

    Parameters
    ----------
    student : StudentClassifier
        The student, with our own preprocessing or none.
    path : str or path-like, default=None
        Where to save the model as well.
    quantize : bool, default=False
        Whether to store the weights as 8-bit integers with one scale for each neuron. The model
        is about a third of the size; the arithmetic stays float, so that no row's answer depends
        on the other rows of its batch.

    Returns
    -------
    model : onnx.ModelProto

    Raises
    ------
    TypeError
        If the preprocessor is not our own, or the labels are mixed.
    ValueError
        If integer labels do not fit into 64 bits.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill import DistilledClassifier
    >>> from skdistill.onnx import to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
    >>> model = to_onnx(DistilledClassifier([teacher], random_state=0).fit(X, y).student_)
    >>> [output.name for output in model.graph.output]
    ['label', 'probabilities']
    """
    plain = plain_student(student)
    columns = _columns(student)
    inputs = [helper.make_tensor_value_info(name, kind, ["n", d]) for name, kind, d in columns]
    blocks = [Block(name, d, kind == TensorProto.STRING) for name, kind, d in columns]
    graph = StandaloneGraph(quantize)
    labels = label_array(student.classes_)
    write_student(graph, student, blocks, labels, FLOAT, "label", "probabilities")
    outputs = [
        helper.make_tensor_value_info("label", TENSOR_TYPES[labels.dtype.name], ["n"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(labels)]),
    ]
    has_text = any(block.is_text for block in blocks)
    opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid("ai.onnx.ml", 3)] * has_text
    model = helper.make_model(
        helper.make_graph(graph.nodes, "student", inputs, outputs, graph.constants),
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="skdistill",
        producer_version=stamp()["skdistill"],
    )
    helper.set_model_props(model, _metadata(student, [block.name for block in blocks]))
    checker.check_model(model, full_check=True)
    _compare_with_onnxruntime(model, _reference(plain, quantize))
    if path is not None:
        write_atomically(path, model.SerializeToString(deterministic=True))
    return model


def _columns(student: StudentClassifier) -> list[tuple[str, int, int]]:
    """Return name, type and width of each input: one matrix of numbers, or one input a column."""
    d, encoder = student.n_features_in_, student.preprocessor_
    if encoder is None or not len(encoder.category_columns_):
        return [("X", TensorProto.FLOAT, d)]
    kinds = [TensorProto.FLOAT] * d
    for j, categories in zip(encoder.category_columns_, encoder.categories_, strict=True):
        is_text = categories.dtype.kind == "U"
        kinds[j] = TensorProto.STRING if is_text else TensorProto.DOUBLE
    names: list[str] = []
    for j in range(d):
        name = str(student.feature_names_in_[j]) if hasattr(student, "feature_names_in_") else ""
        name = name or f"x{j}"
        while name in {"label", "probabilities", *names} or name.startswith("/"):
            name = f"{name}_" if not name.startswith("/") else f"_{name}"
        names.append(name)
    return [(name, kind, 1) for name, kind in zip(names, kinds, strict=True)]


def _metadata(student: StudentClassifier, inputs: list[str]) -> dict[str, str]:
    """Write what a reader in another language may want to know."""
    names = getattr(student, "feature_names_in_", None)
    facts = {
        "classes": student.classes_.tolist(),
        "feature_names": None if names is None else list(names),
        "inputs": inputs,
        "skdistill_format": FORMAT,
        "versions": {**stamp(), "onnx": onnx.__version__},
    }
    return {key: json.dumps(value) for key, value in facts.items()}


def _reference(plain: dict[str, Any], quantize: bool) -> StudentClassifier:
    """Return the student that the model holds: weights as rounded, and columns without names."""
    layers = []
    for kind, arrays in plain["layers"]:
        if quantize and kind == "linear":
            integers, scale = to_int8(arrays[0])
            arrays = (integers * scale, arrays[1])
        layers.append((kind, arrays))
    return StudentClassifier._from_plain({**plain, "feature_names": None, "layers": layers})


def _compare_with_onnxruntime(model: onnx.ModelProto, student: StudentClassifier) -> None:
    """Ask the model and the student about the same rows, if onnxruntime is installed."""
    if find_spec("onnxruntime") is None:
        return
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds, table = _rows_like_fit(student, session.get_inputs())
    proba = session.run(["probabilities"], feeds)[0]
    difference = float(np.abs(proba - student.predict_proba(table)).max())
    if not difference <= _TOLERANCE:
        raise RuntimeError(
            f"onnxruntime {onnxruntime.__version__} answers the model with probabilities that "
            f"differ from the student's by {difference:.2g}. Try another release of onnxruntime; "
            "with student weights or inputs in the thousands, float32 is too short."
        )


def _rows_like_fit(
    student: StudentClassifier, inputs: Sequence[Any]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw rows with the means, scales and categories of fit: the model's feeds, and a table."""
    rng, encoder = np.random.default_rng(0), student.preprocessor_
    numbers = rng.standard_normal((_CHECKED_ROWS, student.n_features_in_))
    if encoder is not None:
        numeric = encoder.numeric_
        numbers[:, numeric] = numbers[:, numeric] * encoder.scale_ + encoder.mean_
        if encoder.allow_missing_ and len(numeric):
            numbers[::7, numeric[0]] = np.nan
    # The model takes float32, whatever the rows of fit were.
    largest = np.finfo(np.float32).max
    numbers = np.clip(numbers, -largest, largest).astype(np.float32).astype(np.float64)
    if len(inputs) == 1 and inputs[0].name == "X":
        return {"X": numbers.astype(np.float32)}, numbers
    table = numbers.astype(object)
    for j, categories in zip(encoder.category_columns_, encoder.categories_, strict=True):
        table[:, j] = rng.choice(categories.astype(object), _CHECKED_ROWS)
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": object}
    return {i.name: table[:, [j]].astype(dtypes[i.type]) for j, i in enumerate(inputs)}, table
