"""Frozen students of every built-in shape, made without training, and rows to ask them about."""

from typing import Any

import numpy as np
import pandas as pd

from skdistill.student import Layer, StudentClassifier
from skdistill.tables import PiecewiseLinearEncoding, TabularEncoder

ACTIVATIONS = ("relu", "tanh", "gelu", "silu")
NORMS = (None, "affine", "layer_norm")
TABLES = ("plain", "numbers", "far", "missing", "frame", "texts", "mixed")
LABELS = {
    "int": np.array([-3, 4, 10]),
    "int8": np.array([1, 2], dtype=np.int8),
    "str": np.array(["no", "so-so", "yes"]),
    "object": np.array(["a", "bb", "ccc", "é"], dtype=object),
    "bool": np.array([False, True]),
    "float": np.array([0.5, 1.0, 2.5]),
    "one": np.array([7]),
}


def make_table(kind: str, n: int = 40, seed: int = 0, *, unseen: bool = False) -> Any:
    """Return rows whose numbers float32 can hold; `unseen` adds other categories."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 3)) * [1.0, 5.0, 0.1] + [0.0, 3.0, 0.02]
    if kind == "far":
        numbers = numbers + 1e4
    numbers = numbers.astype(np.float32).astype(np.float64)
    if kind in {"missing", "mixed"}:
        numbers[rng.random((n, 3)) < [0.2, 0.0, 0.1]] = np.nan
    if kind in {"plain", "numbers", "far", "missing"}:
        return numbers
    if kind == "frame":
        return pd.DataFrame(numbers, columns=["width", "height", "label"])
    texts = rng.choice(["", "blue", "rød", "green"] + ["mauve"] * unseen, size=(n, 2))
    if kind == "texts":
        return texts.astype(object)
    values = rng.choice([0.1, 1.0, 7.0] + [8.0] * unseen, size=n)
    return pd.DataFrame(
        {
            "age": numbers[:, 0],
            "colour": np.where(texts[:, 0] == "", None, texts[:, 0]),
            "flag": rng.random(n) < 0.5,
            "label": numbers[:, 1],
            "grade": pd.Categorical(np.where(rng.random(n) < 0.2, np.nan, values)),
            "/shop": texts[:, 1],
        }
    )


def make_student(
    table: str = "numbers",
    *,
    embedding: bool = False,
    activation: str = "relu",
    norm: str | None = None,
    labels: str = "int",
    hidden: tuple[int, ...] = (8, 5),
    n_bins: int = 4,
    seed: int = 0,
) -> StudentClassifier:
    """Return a student with random weights, fitted to the rows of `make_table`."""
    return freeze(
        make_table(table),
        LABELS[labels],
        preprocessor=None if table == "plain" else TabularEncoder(),
        n_bins=n_bins if embedding else None,
        activation=activation,
        norm=norm,
        hidden=hidden,
        seed=seed,
    )


def freeze(
    X: Any,
    classes: np.ndarray,
    *,
    preprocessor: Any = None,
    n_bins: int | None = None,
    activation: str = "relu",
    norm: str | None = None,
    hidden: tuple[int, ...] = (8, 5),
    seed: int = 0,
) -> StudentClassifier:
    """Return a student with random weights for these rows and classes."""
    rng = np.random.default_rng(seed)
    Z = X if preprocessor is None else preprocessor.fit(X).transform(X)
    encoding = None if n_bins is None else PiecewiseLinearEncoding(n_bins).fit(Z)
    width = Z.shape[1] if encoding is None else encoding.n_features_out_
    layers = []
    for n_out in hidden:
        layers.append(_linear(rng, width, n_out))
        layers += _norm(rng, norm, n_out)
        layers.append(Layer(activation))
        width = n_out
    return StudentClassifier._freeze(
        classes=classes,
        n_features_in=X.shape[1],
        feature_names_in=np.array(X.columns, dtype=object) if hasattr(X, "columns") else None,
        preprocessor=preprocessor,
        encoding=encoding,
        layers=[*layers, _linear(rng, width, len(classes))],
    )


def _linear(rng: np.random.Generator, n_in: int, n_out: int) -> Layer:
    return Layer("linear", (rng.normal(size=(n_in, n_out)) / n_in**0.5, rng.normal(size=n_out)))


def _norm(rng: np.random.Generator, norm: str | None, n: int) -> list[Layer]:
    arrays = (rng.uniform(0.5, 1.5, size=n), rng.normal(size=n))
    return {
        None: [],
        "affine": [Layer("affine", arrays)],
        "layer_norm": [Layer("layer_norm", (*arrays, np.array(1e-5)))],
    }[norm]


def feeds_of(X: Any, inputs: list[Any]) -> dict[str, np.ndarray]:
    """Return what onnxruntime is fed for a table: the recipe of the documentation."""
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": object}
    if len(inputs) == 1 and inputs[0].name == "X":
        return {"X": np.asarray(X, dtype=np.float32)}
    columns = np.asarray(X, dtype=object)
    feeds = {}
    for j, description in enumerate(inputs):
        column = columns[:, [j]]
        if description.type == "tensor(string)":
            column = np.where(pd.isna(column), "", column)
        feeds[description.name] = column.astype(dtypes[description.type])
    return feeds
