"""Strategies of hypothesis: tables, labels, weights and teachers as the field has them."""

from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.multiclass import unique_labels

from skdistill import CallableTeacher, TorchTeacher

COLUMNS = ("normal", "normal", "counts", "constant", "zero", "huge", "tiny", "far", "outlier")
DTYPES = ("float64", "float64", "float32", "float16", "int64", "int8", "uint8", "bool")
CONTAINERS = ("C", "F", "strided", "read-only", "memmap", "list", "frame", "nullable", "objects")
MIXED = ("category", "string", "boolean", "Int64", "float64", "object")
LABELS: dict[str, Any] = {
    "int": lambda k: np.arange(k),
    "negative": lambda k: 7 * np.arange(k) - 10,
    "int8": lambda k: np.arange(k, dtype=np.int8) - 2,
    "uint64": lambda k: np.arange(k, dtype=np.uint64) + np.uint64(2**63),
    "float": lambda k: np.arange(k) * 2.0 - 1,
    "float32": lambda k: np.arange(k, dtype=np.float32),
    "str": lambda k: np.array([f"{'x' * (i % 3)}é{i:03}" for i in range(k)]),
    "object": lambda k: np.array([f"class {i:03}" for i in range(k)], dtype=object),
    "bool": lambda k: np.array([False, True]),
}
WEIGHTS: dict[str, Any] = {
    "none": lambda rng, n: None,
    "ones": lambda rng, n: np.ones(n),
    "some zero": lambda rng, n: rng.integers(0, 2, n),
    "integers": lambda rng, n: rng.integers(0, 5, n),
    "random": lambda rng, n: rng.random(n),
    "tiny": lambda rng, n: rng.random(n) * 1e-300,
    "huge": lambda rng, n: rng.random(n) * 1e300,
    "of all sizes": lambda rng, n: 10.0 ** rng.integers(-30, 30, n),
    "float32": lambda rng, n: rng.random(n).astype(np.float32),
    "list": lambda rng, n: rng.random(n).tolist(),
}
# Estimators that are quick and say nothing while they are fitted on few rows.
ESTIMATORS: dict[str, Any] = {
    "forest": lambda: RandomForestClassifier(3, min_samples_leaf=2, random_state=0),
    "tree": lambda: DecisionTreeClassifier(max_depth=2, random_state=0),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=20)),
    "bayes": lambda: GaussianNB(),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=2),
    "neighbours": lambda: KNeighborsClassifier(1),
    "net": lambda: make_pipeline(StandardScaler(), MLPClassifier((3,), max_iter=2, random_state=0)),
}


@dataclass
class Problem:
    """What `DistilledClassifier` and its `fit` are given."""

    X: Any
    y: Any
    sample_weight: Any
    teachers: Any
    params: dict[str, Any] = field(default_factory=dict)


def numbers(kinds: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return float64 columns of these kinds."""
    columns = {
        "normal": lambda: rng.normal(size=n),
        "counts": lambda: rng.integers(0, 3, n).astype(float),
        "constant": lambda: np.full(n, 0.1),
        "zero": lambda: np.zeros(n),
        "huge": lambda: rng.normal(size=n) * 1e30,
        "tiny": lambda: rng.normal(size=n) * 1e-30,
        "far": lambda: 1e6 + rng.normal(size=n),
        "outlier": lambda: np.r_[1e30, rng.normal(size=n - 1)],
    }
    return np.column_stack([columns[kind]() for kind in kinds])


def cast(X: np.ndarray, dtype: str) -> np.ndarray:
    """Return the table in this dtype, within its range."""
    if dtype == "bool":
        return X > 0
    if np.dtype(dtype).kind == "f":
        return np.clip(X, -1e4, 1e4).astype(dtype) if dtype == "float16" else X.astype(dtype)
    low = 0 if dtype[0] == "u" else -100
    return np.clip(np.rint(X * 3), low, 100).astype(dtype)


def contain(X: np.ndarray, container: str) -> Any:
    """Return the same rows in another container."""
    if container == "F":
        return np.asfortranarray(X)
    if container == "strided":
        return np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2]
    if container == "read-only":
        X = X.copy()
        X.flags.writeable = False
        return X
    if container == "memmap":
        with TemporaryFile() as file:
            file.write(X.tobytes())
            file.flush()
            return np.memmap(file, dtype=X.dtype, mode="r", shape=X.shape)
    if container == "list":
        return X.tolist()
    if container == "objects":
        return X.astype(object)
    names = [f"c{j}" for j in range(X.shape[1])]
    if container == "frame":
        return pd.DataFrame(X, columns=names)
    if container == "nullable":
        kind = "boolean" if X.dtype == bool else X.dtype.name.title().replace("Ui", "UI")
        return pd.DataFrame(X, columns=names).astype("Float32" if kind == "Float16" else kind)
    return X.copy()


def mixed_frame(kinds: Any, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return a frame with a column of each kind, with missing values wherever the kind has them."""
    columns = {}
    for j, kind in enumerate(kinds):
        choice = rng.integers(0, 4, n)
        values = {
            "category": lambda c=choice: pd.Categorical.from_codes(c - 1, ["u", "v", "w"]),
            "string": lambda c=choice: pd.array([("a", "b", "", pd.NA)[i] for i in c], "string"),
            "boolean": lambda c=choice: pd.array(
                [(True, False, True, pd.NA)[i] for i in c], "boolean"
            ),
            "Int64": lambda c=choice: pd.array([(10, 2**40, 0, pd.NA)[i] for i in c], "Int64"),
            "float64": lambda c=choice: np.where(c == 0, np.nan, rng.normal(size=n)),
            "object": lambda c=choice: pd.Series(
                [("x", "y", None, np.nan)[i] for i in c], dtype=object
            ),
        }
        columns[f"c{j}"] = values[kind]()
    return pd.DataFrame(columns)


def answer_by_hash(k: int) -> Any:
    """Return a function that gives each row of any table k probabilities of its own."""

    def answer(X: Any) -> np.ndarray:
        table = pd.DataFrame(X).astype(str)
        digest = pd.util.hash_pandas_object(table, index=False).to_numpy() % 97
        proba = 1.0 + (digest[:, None] * (1 + np.arange(k))) % 7
        return proba / proba.sum(axis=1, keepdims=True)

    return answer


def make_labels(kind: str, k: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return labels of which each occurs, where there are rows enough."""
    code = np.r_[np.arange(k), rng.integers(0, k, max(0, n - k))][:n]
    return LABELS[kind](k)[rng.permutation(code)]


def _module(width: int, k: int, output: str) -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(width, k)]
    return torch.nn.Sequential(*layers, *[torch.nn.Softmax(1)] * (output == "proba"))


def make_teacher(kind: str, X: Any, y: Any, fitted: bool) -> Any:
    """Return a teacher of this kind, fitted to the rows if it has to be."""
    classes = unique_labels(y)
    if kind == "function":
        return CallableTeacher(answer_by_hash(len(classes)), classes)
    if kind.startswith("torch"):
        output = kind.partition(" ")[2]
        return TorchTeacher(
            _module(np.shape(X)[1], len(classes), output).double(), classes, output=output
        )
    if kind == "frozen":
        return FrozenEstimator(ESTIMATORS["tree"]().fit(X, y))
    return ESTIMATORS[kind]().fit(X, y) if fitted else ESTIMATORS[kind]()


@st.composite
def tables(draw: Any, n: int) -> Any:
    """Draw n rows of numbers in any dtype and container."""
    kinds = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=5))
    dtype = draw(st.sampled_from(DTYPES))
    X = cast(numbers(kinds, n, np.random.default_rng(draw(st.integers(0, 99)))), dtype)
    if draw(st.booleans()):
        X = np.column_stack([X, X[:, 0]])
    return contain(X, draw(st.sampled_from(CONTAINERS)))


@st.composite
def mixed_tables(draw: Any, n: int) -> Any:
    """Draw n rows of a frame with categories, strings, booleans and missing values."""
    kinds = draw(st.lists(st.sampled_from(MIXED), min_size=1, max_size=4))
    return mixed_frame(kinds, n, np.random.default_rng(draw(st.integers(0, 99))))


@st.composite
def problems(draw: Any) -> Problem:
    """Draw what `fit` may be given: mostly usable, and sometimes not."""
    n = draw(st.one_of(st.integers(1, 6), st.integers(7, 50)))
    mixed = draw(st.integers(0, 3)) == 0
    X = draw(mixed_tables(n) if mixed else tables(n))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(sorted(LABELS)))
    k = 2 if kind == "bool" else draw(st.integers(2, 5))
    y = make_labels(kind, k, n, rng)
    y = draw(st.sampled_from([lambda y: y, np.ndarray.tolist, pd.Series]))(y)
    weight = WEIGHTS[draw(st.sampled_from(sorted(WEIGHTS)))](rng, n)
    params = {
        "cv": draw(st.sampled_from(["prefit", "prefit", 2, 5])),
        "alpha": draw(st.sampled_from([0.9, 1.0, 0.5, 0.0])),
        "temperature": draw(st.sampled_from([1.0, 3.0, 0.1, 100.0])),
        "averaging": draw(st.sampled_from(["auto", "logits", "proba"])),
        "teacher_weights": draw(st.sampled_from([None, None, "confidence", "validation"])),
        "loss": draw(st.sampled_from(["kl", "kl", "mse", "dkd"])),
        "calibration": draw(st.sampled_from(["auto", None])),
        "numerical_embedding": draw(st.sampled_from(["auto", "piecewise_linear", None])),
        "n_bins": draw(st.sampled_from([16, 2])),
        "activation": draw(st.sampled_from(["relu", "tanh", "gelu", "silu"])),
        "hidden_layer_sizes": draw(st.sampled_from([(4,), (), (3, 2), "auto"])),
        "augment": draw(st.sampled_from(["auto", None, "munge"])),
        "n_synthetic": draw(st.sampled_from(["auto", 0, 7])),
        "early_stopping": draw(st.integers(0, 3)) == 0,
        "batch_size": draw(st.sampled_from([128, 8])),
        "self_distillation": draw(st.sampled_from([0.0, 0.0, 0.5])),
        "dtype": draw(st.sampled_from(["auto", "float32", "float64"])),
        "max_epochs": 2,
        "random_state": 0,
    }
    if not mixed and draw(st.integers(0, 4)) == 0:
        params["preprocessor"] = draw(st.sampled_from([None, StandardScaler()]))
    anything = ["function"]
    numeric = [*anything, *sorted(ESTIMATORS), "frozen", "torch logits", "torch proba"]
    names = draw(st.lists(st.sampled_from(anything if mixed else numeric), max_size=3))
    if not names:
        teachers = draw(st.sampled_from(["self", "self", "self", None]))
        if teachers == "self":
            params |= {"teacher_weights": None, "augment": "auto", "self_distillation": 0.5}
        return Problem(X, y, weight, teachers, params)
    if len(np.unique(y)) < 2:
        names = ["function"]
    return Problem(X, y, weight, [(name, i) for i, name in enumerate(names)], params)
