"""The nodes of a student as an ONNX graph: preprocessing, embedding, network, label.

They are written to a :class:`Graph`: one of our own, or the one that skl2onnx builds.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from skdistill.student import Layer, StudentClassifier
from skdistill.tables import Lines, TabularEncoder

# Every onnxruntime since 1.12 (2022) runs models of this opset and IR version.
OPSET, IR_VERSION = 17, 8
FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


class Block(NamedTuple):
    """A tensor of rows that holds `width` neighbouring columns of X."""

    name: str
    width: int
    is_text: bool


class Graph:
    """Takes nodes and constants, and names them."""

    def __init__(self, quantize: bool = False) -> None:
        self.quantize = quantize
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        # The slash keeps names of ours apart from names of columns.
        name = f"/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, array: np.ndarray) -> str:
        """Add a matrix of weights, as 8-bit integers if asked for."""
        if not self.quantize:
            return self.constant(array)
        integers, scale = (self.constant(part) for part in to_int8(array))
        # Not DequantizeLinear: onnxruntime fuses it with Gemm and then rounds the activations too.
        return self.node("Mul", self.node("Cast", integers, to=TensorProto.FLOAT), scale)

    def node(
        self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any
    ) -> str:
        """Add a node and return the name of its output."""
        output = output or f"/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output


def to_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight matrix as integers from -127 to 127, and the scale of each column."""
    scale = np.abs(weight).max(axis=0) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def label_array(classes: np.ndarray) -> np.ndarray:
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


def write_student(
    graph: Graph,
    student: StudentClassifier,
    blocks: Sequence[Block],
    labels: np.ndarray,
    dtype: np.dtype,
    label: str,
    probabilities: str,
) -> None:
    """Write the nodes from raw columns to the two outputs; the network computes in `dtype`."""
    prepared, checked = _prepare(graph, student.preprocessor_, blocks)
    if student.encoding_ is not None:
        prepared = _embed(graph, student.encoding_.lines, prepared)
    h = _cast(graph, prepared, dtype)
    for layer in student.layers_:
        h = _write_layer(graph, layer, h, dtype)
    if checked:
        h = graph.node("Add", h, _nan_rows(graph, checked, dtype))
    graph.node("Softmax", h, axis=1, output=probabilities)
    best = graph.node("ArgMax", h, axis=1, keepdims=0)
    graph.node("Gather", graph.constant(labels), best, axis=0, output=label)


def _cast(graph: Graph, name: str, dtype: np.dtype) -> str:
    """Cast a tensor."""
    return graph.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(dtype))


def _concat(graph: Graph, names: Sequence[str]) -> str:
    """Put tensors side by side."""
    return names[0] if len(names) == 1 else graph.node("Concat", *names, axis=1)


def _nan_rows(graph: Graph, checked: Sequence[str], dtype: np.dtype) -> str:
    """Return a column of 0, and NaN for rows with a value that is not finite: 0 · inf is NaN.

    Without it such a row might be answered: what Relu and Clip make of NaN is the runtime's choice.
    """
    nothing = graph.node("Mul", _concat(graph, checked), graph.constant(np.zeros(1)))
    total = graph.node("ReduceSum", nothing, graph.constant(np.array([1])), keepdims=1)
    return _cast(graph, total, dtype)


def _prepare(graph: Graph, encoder: Any, blocks: Sequence[Block]) -> tuple[str, list[str]]:
    """Write the preprocessing in double, where (x - mean) / scale keeps its digits.

    Returns the prepared rows, and the tensors whose every value must be finite.
    """
    if type(encoder) is not TabularEncoder:
        numbers = _concat(graph, [_cast(graph, b.name, DOUBLE) for b in blocks])
        return numbers, [numbers]
    parts: list[str] = []
    checked: list[str] = []
    if len(encoder.numeric_):
        parts = _standardise(graph, encoder, _numbers(graph, blocks, encoder.numeric_.tolist()))
        checked = parts[:1]
    for j, categories in zip(encoder.category_columns_, encoder.categories_, strict=True):
        if categories.dtype.kind == "U":
            parts.append(_one_hot_text(graph, _pick(graph, blocks, int(j), text=True), categories))
        else:
            part, finite = _one_hot_value(graph, _numbers(graph, blocks, [int(j)]), categories)
            parts.append(part)
            checked.append(finite)
    return _concat(graph, parts), checked


def _numbers(graph: Graph, blocks: Sequence[Block], positions: Sequence[int]) -> str:
    """Return columns of X as one double tensor."""
    if len(blocks) == 1 and list(positions) == list(range(blocks[0].width)):
        _check_kind(blocks[0], 0, text=False)
        return _cast(graph, blocks[0].name, DOUBLE)
    picked = [_cast(graph, _pick(graph, blocks, int(j), text=False), DOUBLE) for j in positions]
    return _concat(graph, picked)


def _pick(graph: Graph, blocks: Sequence[Block], position: int, *, text: bool) -> str:
    """Return one column of X."""
    start = 0
    for block in blocks:
        if position < start + block.width:
            _check_kind(block, position, text=text)
            if block.width == 1:
                return block.name
            return graph.node(
                "Gather", block.name, graph.constant(np.array([position - start])), axis=1
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


def _standardise(graph: Graph, encoder: TabularEncoder, numbers: str) -> list[str]:
    """Write standardised numbers, and the indicators of missing ones if there are any."""
    parts, mean = [], graph.constant(encoder.mean_)
    if encoder.allow_missing_:
        missing = graph.node("IsNaN", numbers)
        numbers = graph.node("Where", missing, mean, numbers)
        if encoder.has_missing_.any():
            flagged = graph.constant(np.flatnonzero(encoder.has_missing_).astype(np.int64))
            flags = graph.node("Gather", missing, flagged, axis=1)
            parts = [_cast(graph, flags, DOUBLE)]
    centred = graph.node("Sub", numbers, mean)
    return [graph.node("Div", centred, graph.constant(encoder.scale_)), *parts]


def _one_hot_text(graph: Graph, column: str, categories: np.ndarray) -> str:
    """Write a column for each text; an unknown one is 0 in all."""
    listed = categories.tolist()
    hot = graph.node("OneHotEncoder", column, domain="ai.onnx.ml", cats_strings=listed, zeros=1)
    flat = graph.node("Squeeze", hot, graph.constant(np.array([1])))
    return _cast(graph, flat, DOUBLE)


def _one_hot_value(graph: Graph, column: str, categories: np.ndarray) -> tuple[str, str]:
    """Write a column for each number, the last for NaN if it is a category."""
    missing = graph.node("IsNaN", column)
    known = categories[~np.isnan(categories)]
    hot = [missing] if len(known) < len(categories) else []
    if len(known):
        hot = [graph.node("Equal", column, graph.constant(known[None, :])), *hot]
    finite = graph.node("Where", missing, graph.constant(np.zeros(1)), column)
    return _concat(graph, [_cast(graph, h, DOUBLE) for h in hot]), finite


def _embed(graph: Graph, lines: Lines, prepared: str) -> str:
    """Write the piecewise-linear encoding."""
    column = graph.constant(lines.column.astype(np.int64))
    picked = graph.node("Gather", prepared, column, axis=1)
    sloped = graph.node("Mul", picked, graph.constant(lines.slope))
    shifted = graph.node("Add", sloped, graph.constant(lines.offset))
    raised = graph.node("Max", shifted, graph.constant(lines.lower))
    return graph.node("Min", raised, graph.constant(lines.upper))


def _write_layer(graph: Graph, layer: Layer, h: str, dtype: np.dtype) -> str:
    """Write one layer of the network."""
    if layer.kind in {"relu", "tanh"}:
        return graph.node(layer.kind.capitalize(), h)
    if layer.kind == "silu":
        return graph.node("Mul", h, graph.node("Sigmoid", h))
    if layer.kind == "gelu":
        return _write_gelu(graph, h, dtype)
    if layer.kind == "linear":
        weight, bias = (a.astype(dtype) for a in layer.arrays)
        return graph.node("Gemm", h, graph.weight(weight), graph.constant(bias))
    arrays = [graph.constant(a.astype(dtype)) for a in layer.arrays if a.ndim]
    if layer.kind == "layer_norm":
        epsilon = float(layer.arrays[2])
        return graph.node("LayerNormalization", h, *arrays, axis=-1, epsilon=epsilon)
    scaled = graph.node("Mul", h, arrays[0])
    return graph.node("Add", scaled, arrays[1])


def _write_gelu(graph: Graph, h: str, dtype: np.dtype) -> str:
    """Write h · (1 + erf(h / √2)) / 2; runtimes have erf in float32 only."""
    scaled = graph.node("Mul", h, graph.constant(np.array(np.sqrt(0.5), dtype)))
    erf = graph.node("Erf", _cast(graph, scaled, FLOAT))
    gate = graph.node("Add", _cast(graph, erf, dtype), graph.constant(np.array(1.0, dtype)))
    half = graph.node("Mul", h, graph.constant(np.array(0.5, dtype)))
    return graph.node("Mul", half, gate)
