"""ONNX: one file from raw rows to labels, for other runtimes and other languages.

Importing this module teaches skl2onnx to convert a StudentClassifier, a DistilledClassifier and
Pipelines that hold one, if skl2onnx is installed. Needs the extra ``skdistill[onnx]``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from skdistill.files.artefact import FORMAT, write_atomically
from skdistill.student.classifier import StudentClassifier
from skdistill.student.forward import Layer
from skdistill.student.state import plain_student
from skdistill.student.versions import stamp
from skdistill.tables.encoder import TabularEncoder

try:
    import onnx
    from onnx import TensorProto, checker, helper, numpy_helper
except ImportError as error:
    raise ImportError(
        "ONNX needs further packages: pip install skdistill[onnx] (or onnx and onnxruntime)."
    ) from error

if TYPE_CHECKING:
    from skdistill.estimators.classifier import DistilledClassifier

__all__ = ["IR_VERSION", "OPSET", "to_onnx"]

# Every onnxruntime since 1.12 (2022) runs models of this opset and IR version.
OPSET, IR_VERSION = 17, 8
_TENSORS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int8": TensorProto.INT8,
    "object": TensorProto.STRING,
}
# Probabilities of the model and of the student, on rows like those of fit, differ by rounding
# only: float32 in the model, float64 in the student.
_CHECKED_ROWS, _TOLERANCE = 64, 1e-4


class Block(NamedTuple):
    """A tensor of rows that holds `width` neighbouring columns of X."""

    name: str
    width: int
    is_text: bool


class Sink(Protocol):
    """Where nodes go: a graph of our own, or skl2onnx's."""

    def constant(self, array: np.ndarray) -> str:
        """Add a constant and return its name."""

    def weight(self, array: np.ndarray) -> str:
        """Add a matrix of weights and return its name."""

    def node(
        self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any
    ) -> str:
        """Add a node and return the name of its output."""


class _Graph:
    """The nodes and constants of a graph of our own."""

    def __init__(self, quantize: bool) -> None:
        self.quantize = quantize
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        # The slash keeps names of ours apart from names of columns.
        name = f"/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, array: np.ndarray) -> str:
        if not self.quantize:
            return self.constant(array)
        integers, scale = (self.constant(part) for part in _to_int8(array))
        # Not DequantizeLinear: onnxruntime fuses it with Gemm and then rounds the activations too.
        return self.node("Mul", self.node("Cast", integers, to=TensorProto.FLOAT), scale)

    def node(
        self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any
    ) -> str:
        output = output or f"/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output


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
    plain_student(student)
    graph, inputs = _Graph(quantize), _inputs(student)
    blocks = [Block(i.name, i.type.tensor_type.shape.dim[1].dim_value, _is_text(i)) for i in inputs]
    labels = _label_array(student.classes_)
    _write_student(graph, student, blocks, labels, np.dtype(np.float32), "label", "probabilities")
    outputs = [
        helper.make_tensor_value_info("label", _TENSORS[labels.dtype.name], ["n"]),
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
    _compare_with_onnxruntime(model, _rounded(student) if quantize else student)
    if path is not None:
        write_atomically(path, model.SerializeToString(deterministic=True))
    return model


def _is_text(value: onnx.ValueInfoProto) -> bool:
    """Tell an input of strings."""
    return bool(value.type.tensor_type.elem_type == TensorProto.STRING)


def _inputs(student: StudentClassifier) -> list[onnx.ValueInfoProto]:
    """Describe the inputs: one matrix of numbers, or one input a column."""
    d, encoder = student.n_features_in_, student.preprocessor_
    if encoder is None or not len(encoder.category_columns_):
        return [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", d])]
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
    return [
        helper.make_tensor_value_info(n, kind, ["n", 1])
        for n, kind in zip(names, kinds, strict=True)
    ]


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


def _label_array(classes: np.ndarray) -> np.ndarray:
    """Return the class labels as int64, double or Python strings."""
    values = classes.tolist()
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return np.array(values, dtype=object)
    if kinds == {float}:
        return np.array(values, dtype=np.float64)
    if kinds not in ({bool}, {int}):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(
            "Class labels must be strings, integers, booleans or floats for ONNX, all of one type; "
            f"these are {names}."
        )
    if max(values) > np.iinfo(np.int64).max or min(values) < np.iinfo(np.int64).min:
        raise ValueError("ONNX labels are 64-bit integers; a class label lies outside their range.")
    return np.array(values, dtype=np.int64)


def _write_student(
    sink: Sink,
    student: StudentClassifier,
    blocks: Sequence[Block],
    labels: np.ndarray,
    dtype: np.dtype,
    label: str,
    probabilities: str,
) -> None:
    """Write the nodes from raw columns to the two outputs; the network computes in `dtype`."""
    prepared, checked = _prepare(sink, student.preprocessor_, blocks)
    if student.encoding_ is not None:
        prepared = _embed(sink, student.encoding_, prepared)
    h = _cast(sink, prepared, dtype)
    for layer in student.layers_:
        h = _write_layer(sink, layer, h, dtype)
    if checked:
        h = sink.node("Add", h, _nan_rows(sink, checked, dtype))
    sink.node("Softmax", h, axis=1, output=probabilities)
    best = sink.node("ArgMax", h, axis=1, keepdims=0)
    sink.node("Gather", sink.constant(labels), best, axis=0, output=label)


def _cast(sink: Sink, name: str, dtype: np.dtype) -> str:
    """Cast a tensor."""
    return sink.node("Cast", name, to=_TENSORS[dtype.name])


def _concat(sink: Sink, names: Sequence[str]) -> str:
    """Put tensors side by side."""
    return names[0] if len(names) == 1 else sink.node("Concat", *names, axis=1)


def _nan_rows(sink: Sink, checked: Sequence[str], dtype: np.dtype) -> str:
    """Return a column of 0, and NaN for rows with a value that is not finite: 0 · inf is NaN.

    Without it such a row might be answered: what Relu and Clip make of NaN is the runtime's choice.
    """
    nothing = sink.node("Mul", _concat(sink, checked), sink.constant(np.zeros(1)))
    total = sink.node("ReduceSum", nothing, sink.constant(np.array([1])), keepdims=1)
    return _cast(sink, total, dtype)


def _prepare(sink: Sink, encoder: Any, blocks: Sequence[Block]) -> tuple[str, list[str]]:
    """Write the preprocessing in double, where (x - mean) / scale keeps its digits.

    Returns the prepared rows, and the tensors whose every value must be finite.
    """
    if type(encoder) is not TabularEncoder:
        numbers = _concat(sink, [_cast(sink, b.name, np.dtype(np.float64)) for b in blocks])
        return numbers, [numbers]
    parts: list[str] = []
    checked: list[str] = []
    if len(encoder.numeric_):
        parts = _standardise(sink, encoder, _numbers(sink, blocks, encoder.numeric_.tolist()))
        checked = parts[:1]
    for j, categories in zip(encoder.category_columns_, encoder.categories_, strict=True):
        if categories.dtype.kind == "U":
            parts.append(_one_hot_text(sink, _pick(sink, blocks, int(j), text=True), categories))
        else:
            part, finite = _one_hot_value(sink, _numbers(sink, blocks, [int(j)]), categories)
            parts.append(part)
            checked.append(finite)
    return _concat(sink, parts), checked


def _numbers(sink: Sink, blocks: Sequence[Block], positions: Sequence[int]) -> str:
    """Return columns of X as one double tensor."""
    if len(blocks) == 1 and list(positions) == list(range(blocks[0].width)):
        _check_kind(blocks[0], 0, text=False)
        return _cast(sink, blocks[0].name, np.dtype(np.float64))
    picked = [
        _cast(sink, _pick(sink, blocks, int(j), text=False), np.dtype(np.float64))
        for j in positions
    ]
    return _concat(sink, picked)


def _pick(sink: Sink, blocks: Sequence[Block], position: int, *, text: bool) -> str:
    """Return one column of X."""
    start = 0
    for block in blocks:
        if position < start + block.width:
            _check_kind(block, position, text=text)
            if block.width == 1:
                return block.name
            return sink.node(
                "Gather", block.name, sink.constant(np.array([position - start])), axis=1
            )
        start += block.width
    raise ValueError(f"The inputs have {start} columns; column {position} of fit is missing.")


def _check_kind(block: Block, position: int, *, text: bool) -> None:
    """Refuse strings where fit saw numbers, and numbers where it saw strings."""
    if block.is_text != text:
        expected, found = ("strings", "numbers") if text else ("numbers", "strings")
        raise TypeError(
            f"Column {position} held {expected} in fit, and input {block.name!r} holds {found}."
        )


def _standardise(sink: Sink, encoder: TabularEncoder, numbers: str) -> list[str]:
    """Write standardised numbers, and the indicators of missing ones if there are any."""
    parts, mean = [], sink.constant(encoder.mean_)
    if encoder.allow_missing_:
        missing = sink.node("IsNaN", numbers)
        numbers = sink.node("Where", missing, mean, numbers)
        if encoder.has_missing_.any():
            flagged = sink.constant(np.flatnonzero(encoder.has_missing_).astype(np.int64))
            flags = sink.node("Gather", missing, flagged, axis=1)
            parts = [_cast(sink, flags, np.dtype(np.float64))]
    centred = sink.node("Sub", numbers, mean)
    return [sink.node("Div", centred, sink.constant(encoder.scale_)), *parts]


def _one_hot_text(sink: Sink, column: str, categories: np.ndarray) -> str:
    """Write a column for each text; an unknown one is 0 in all."""
    listed = categories.tolist()
    hot = sink.node("OneHotEncoder", column, domain="ai.onnx.ml", cats_strings=listed, zeros=1)
    flat = sink.node("Squeeze", hot, sink.constant(np.array([1])))
    return _cast(sink, flat, np.dtype(np.float64))


def _one_hot_value(sink: Sink, column: str, categories: np.ndarray) -> tuple[str, str]:
    """Write a column for each number, the last for NaN if it is a category."""
    missing = sink.node("IsNaN", column)
    known = categories[~np.isnan(categories)]
    hot = [missing] if len(known) < len(categories) else []
    if len(known):
        hot = [sink.node("Equal", column, sink.constant(known[None, :])), *hot]
    double = np.dtype(np.float64)
    finite = sink.node("Where", missing, sink.constant(np.zeros(1)), column)
    return _concat(sink, [_cast(sink, h, double) for h in hot]), finite


def _embed(sink: Sink, encoding: Any, prepared: str) -> str:
    """Write the piecewise-linear encoding."""
    column = sink.constant(encoding.column_.astype(np.int64))
    picked = sink.node("Gather", prepared, column, axis=1)
    sloped = sink.node("Mul", picked, sink.constant(encoding.slope_))
    shifted = sink.node("Add", sloped, sink.constant(encoding.offset_))
    raised = sink.node("Max", shifted, sink.constant(encoding.lower_))
    return sink.node("Min", raised, sink.constant(encoding.upper_))


def _write_layer(sink: Sink, layer: Layer, h: str, dtype: np.dtype) -> str:
    """Write one layer of the network."""
    if layer.kind in {"relu", "tanh"}:
        return sink.node(layer.kind.capitalize(), h)
    if layer.kind == "silu":
        return sink.node("Mul", h, sink.node("Sigmoid", h))
    if layer.kind == "gelu":
        return _write_gelu(sink, h, dtype)
    if layer.kind == "linear":
        weight, bias = (a.astype(dtype) for a in layer.arrays)
        return sink.node("Gemm", h, sink.weight(weight), sink.constant(bias))
    arrays = [sink.constant(a.astype(dtype)) for a in layer.arrays if a.ndim]
    if layer.kind == "layer_norm":
        epsilon = float(layer.arrays[2])
        return sink.node("LayerNormalization", h, *arrays, axis=-1, epsilon=epsilon)
    scaled = sink.node("Mul", h, arrays[0])
    return sink.node("Add", scaled, arrays[1])


def _to_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight matrix as integers from -127 to 127, and the scale of each column."""
    scale = np.abs(weight).max(axis=0) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def _rounded(student: StudentClassifier) -> StudentClassifier:
    """Return the student with the weights that quantising leaves."""
    layers = []
    for layer in student.layers_:
        if layer.kind == "linear":
            integers, scale = _to_int8(layer.arrays[0])
            layer = Layer("linear", (integers * scale, layer.arrays[1]))
        layers.append(layer)
    return StudentClassifier._freeze(
        classes=student.classes_,
        n_features_in=student.n_features_in_,
        feature_names_in=getattr(student, "feature_names_in_", None),
        preprocessor=student.preprocessor_,
        encoding=student.encoding_,
        layers=layers,
    )


def _write_gelu(sink: Sink, h: str, dtype: np.dtype) -> str:
    """Write h · (1 + erf(h / √2)) / 2; runtimes have erf in float32 only."""
    scaled = sink.node("Mul", h, sink.constant(np.array(np.sqrt(0.5), dtype)))
    erf = sink.node("Erf", _cast(sink, scaled, np.dtype(np.float32)))
    gate = sink.node("Add", _cast(sink, erf, dtype), sink.constant(np.array(1.0, dtype)))
    half = sink.node("Mul", h, sink.constant(np.array(0.5, dtype)))
    return sink.node("Mul", half, gate)


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
    difference = float(np.abs(proba - _nameless(student).predict_proba(table)).max())
    if not difference <= _TOLERANCE:
        raise RuntimeError(
            f"onnxruntime {onnxruntime.__version__} answers the model with probabilities that "
            f"differ from the student's by {difference:.2g}. Try another release of onnxruntime; "
            "with student weights or inputs in the thousands, float32 is too short."
        )


def _nameless(student: StudentClassifier) -> StudentClassifier:
    """Return the same student without names of columns, which takes arrays without a warning."""
    if not hasattr(student, "feature_names_in_"):
        return student
    state = student.__getstate__()
    del state["feature_names_in_"]
    bare = StudentClassifier()
    bare.__setstate__(state)
    return bare


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


class _Skl2onnxSink:
    """Nodes and constants in a graph that skl2onnx builds."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container

    def constant(self, array: np.ndarray) -> str:
        name = self.scope.get_unique_variable_name("student_constant")
        values = array.ravel().tolist()
        if array.dtype == object:
            values = [value.encode() for value in values]
        self.container.add_initializer(name, _TENSORS[array.dtype.name], list(array.shape), values)
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
    student = model if isinstance(model, StudentClassifier) else model.student_
    if not isinstance(student, StudentClassifier):
        student.to_onnx()
    return student


def _parse(scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None) -> Any:
    """Let skl2onnx convert a preprocessor that is not ours, and put the student behind it."""
    # The public parse_sklearn would make an output of the model of what the preprocessor returns.
    from skl2onnx._parse import _parse_sklearn, _parse_sklearn_classifier

    encoder = _student_of(model).preprocessor_
    if encoder is not None and type(encoder) is not TabularEncoder:
        inputs = _parse_sklearn(scope, encoder, inputs, custom_parsers=custom_parsers)
    return _parse_sklearn_classifier(scope, model, inputs, custom_parsers=custom_parsers)


def _shapes(operator: Any) -> None:
    """Tell skl2onnx the types and shapes of the outputs."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType
    from skl2onnx.common.utils_classifier import get_label_classes

    labels = _label_array(get_label_classes(operator.scope_inst, operator.raw_operator))
    kind = StringTensorType if labels.dtype == object else Int64TensorType
    n = operator.inputs[0].get_first_dimension()
    operator.outputs[0].set_type(kind([n]))
    operator.outputs[1].type.shape = [n, len(labels)]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Write a student into a graph that skl2onnx builds."""
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
    from skl2onnx.common.utils_classifier import get_label_classes

    if container.target_opset < OPSET:
        raise RuntimeError(
            f"A student needs opset {OPSET}; target_opset is {container.target_opset}."
        )
    student = _student_of(operator.raw_operator)
    labels = _label_array(get_label_classes(scope, operator.raw_operator))
    if labels.dtype == np.float64:
        if not (labels == labels.astype(np.int64)).all():
            raise ValueError("skl2onnx has integer and string labels only; these are fractions.")
        labels = labels.astype(np.int64)
    blocks = []
    for variable in operator.inputs:
        shape = variable.type.shape
        known = len(shape) == 2 and isinstance(shape[1], int)
        width = shape[1] if known else 1 if len(operator.inputs) > 1 else student.n_features_in_
        blocks.append(Block(variable.full_name, width, isinstance(variable.type, StringTensorType)))
    is_double = isinstance(operator.outputs[1].type, DoubleTensorType)
    dtype = np.dtype(np.float64 if is_double else np.float32)
    names = [output.full_name for output in operator.outputs]
    _write_student(_Skl2onnxSink(scope, container), student, blocks, labels, dtype, *names[:2])


def _register() -> None:
    """Teach skl2onnx our two classifiers."""
    from skl2onnx import update_registered_converter

    from skdistill.estimators.classifier import DistilledClassifier

    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    options["output_class_labels"] = [False, True]
    for model in (StudentClassifier, DistilledClassifier):
        alias = f"Skdistill{model.__name__}"
        update_registered_converter(model, alias, _shapes, _convert, parser=_parse, options=options)


if find_spec("skl2onnx") is not None:
    _register()
