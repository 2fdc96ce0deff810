"""The public ``to_onnx``: one file from raw rows to labels, for other runtimes and languages."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

try:
    import onnx
    from onnx import TensorProto, checker, helper
except ImportError as error:
    raise ImportError(
        "ONNX needs further packages: pip install skdistill[onnx] (or onnx and onnxruntime)."
    ) from error

from skdistill.files.artefact import FORMAT, write_atomically
from skdistill.files.manifest import check_file_holds
from skdistill.files.onnx_graph import (
    FLOAT,
    IR_VERSION,
    OPSET,
    Block,
    Graph,
    label_array,
    to_int8,
    write_student,
)
from skdistill.student import StudentClassifier, stamp

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
    check_file_holds(student.__getstate__()["preprocessor_"])
    columns = _columns(student)
    inputs = [helper.make_tensor_value_info(name, kind, ["n", d]) for name, kind, d in columns]
    blocks = [Block(name, d, kind == TensorProto.STRING) for name, kind, d in columns]
    graph = Graph(quantize)
    labels = label_array(student.classes_)
    write_student(graph, student, blocks, labels, FLOAT, "label", "probabilities")
    label_type = helper.np_dtype_to_tensor_dtype(labels.dtype)
    outputs = [
        helper.make_tensor_value_info("label", label_type, ["n"]),
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
    _compare_with_onnxruntime(model, _reference(student, quantize))
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


def _reference(student: StudentClassifier, quantize: bool) -> StudentClassifier:
    """Return the student that the model holds: weights as rounded, and columns without names."""
    state = student.__getstate__()
    state.pop("feature_names_in_", None)
    if quantize:
        for layer in state["layers_"]:
            if layer[0] == "linear":
                integers, scale = to_int8(layer[1])
                layer[1] = integers * scale
    reference = StudentClassifier()
    reference.__setstate__(state)
    return reference


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
