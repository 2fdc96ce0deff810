"""What skdistill's speed is compared with, as a careful user would write it, without skdistill."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

__all__ = [
    "FITS",
    "BareRow",
    "Lesson",
    "NaiveDistiller",
    "Network",
    "as_module",
    "as_onnx",
    "bare_rows",
    "matmul_only",
    "onnx_call",
    "sklearn_network",
    "skorch_around",
    "torch_call",
]

Answer = Callable[[np.ndarray], Any]


class Network(NamedTuple):
    """The numbers of a ReLU network, ``h @ weights + biases`` a layer; clipped lines come first.

    The lines are the columns, slopes, offsets, and lower and upper ends.
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    encoding: tuple[np.ndarray, ...] | None = None

    def astype(self, dtype: Any) -> "Network":
        """Return the network in another precision."""
        encoding = None
        if self.encoding is not None:
            column, *lines = self.encoding
            encoding = (column, *(line.astype(dtype) for line in lines))
        weights, biases = (
            [np.ascontiguousarray(a, dtype) for a in part] for part in (self.weights, self.biases)
        )
        return Network(weights, biases, encoding)


# --- NumPy -----------------------------------------------------------------------------------


class BareRow:
    """The least that NumPy can do for one row and two classes: no check, no new array.

    The last layer is folded to the difference of its columns; a call returns the second
    probability as a float.
    """

    def __init__(self, network: Network) -> None:
        weights, biases, encoding = network
        self.encoding = None
        if encoding is not None:
            self.encoding = (*encoding, np.empty_like(encoding[1]))
        self.hidden = [
            (weight, bias, np.empty_like(bias))
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True)
        ]
        self.last = np.ascontiguousarray(weights[-1][:, 1] - weights[-1][:, 0])
        self.last_bias = float(biases[-1][1] - biases[-1][0])
        # Arrays, because NumPy converts a Python number anew in every call.
        self.zero, self.one = (np.array(value, self.last.dtype) for value in (0, 1))

    def __call__(self, x: np.ndarray) -> float:
        """Return the probability of the second class of a row of shape (n_features,)."""
        if self.encoding is not None:
            column, slope, offset, lower, upper, out = self.encoding
            np.multiply(x[column], slope, out)
            np.add(out, offset, out)
            np.maximum(out, lower, out=out)
            x = np.minimum(out, upper, out=out)
        for weight, bias, out in self.hidden:
            np.dot(x, weight, out)
            np.add(out, bias, out)
            x = np.maximum(out, self.zero, out=out)
        return 1 / (1 + math.exp(-float(x.dot(self.last)) - self.last_bias))


def bare_rows(network: Network, chunk: int = 4096) -> Answer:
    """Return a NumPy forward of many rows, in chunks, that checks nothing."""

    def forward(h: np.ndarray) -> np.ndarray:
        if network.encoding is not None:
            column, slope, offset, lower, upper = network.encoding
            h = h.take(column, axis=1)
            h *= slope
            h += offset
            np.clip(h, lower, upper, out=h)
        last = len(network.weights) - 1
        for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            h = np.dot(h, weight)
            h += bias
            if i < last:
                np.maximum(h, 0, out=h)
        # Reductions over a short last axis are slow in NumPy, over a short first one they are not.
        h -= np.maximum.reduce(h.T)[:, None]
        np.exp(h, out=h)
        h /= np.add.reduce(h.T)[:, None]
        return h

    def answer(X: np.ndarray) -> np.ndarray:
        return np.concatenate([forward(X[i : i + chunk]) for i in range(0, len(X), chunk)])

    return answer


def matmul_only(network: Network, chunk: int) -> Answer:
    """Return the matrix products of a forward and nothing else, into arrays that stay."""
    buffers = [np.empty((chunk, w.shape[1]), w.dtype) for w in network.weights]

    def multiply(X: np.ndarray) -> None:
        for i in range(0, len(X), chunk):
            h = X[i : i + chunk]
            for weight, buffer in zip(network.weights, buffers, strict=True):
                h = np.dot(h, weight, out=buffer[: len(h)])

    return multiply


# --- other runtimes --------------------------------------------------------------------------


def as_module(network: Network) -> nn.Sequential:
    """Return the network, without an encoding, as a torch module that gives logits."""
    layers: list[nn.Module] = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        linear: nn.Module = nn.Linear(*weight.shape)
        linear.load_state_dict({"weight": torch.as_tensor(weight.T), "bias": torch.as_tensor(bias)})
        layers += [linear.to(torch.as_tensor(weight).dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def torch_call(module: nn.Module) -> Answer:
    """Return the module as people call it: no gradients, arrays in, probabilities out."""

    def answer(X: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return torch.softmax(module(torch.from_numpy(X)), dim=1).numpy()

    return answer


def skorch_around(module: nn.Module, X: np.ndarray, y: np.ndarray) -> NeuralNetClassifier:
    """Return skorch's classifier around the trained module."""
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=0, verbose=0, batch_size=128
    )
    return net.fit(X[:10], y[:10].astype(np.int64))


def as_onnx(network: Network) -> bytes:
    """Return the network, without an encoding, as the shortest ONNX graph: probabilities only."""
    import onnx
    from onnx import helper, numpy_helper

    nodes, constants, name = [], [], "X"
    for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        constants += [
            numpy_helper.from_array(weight, f"w{i}"),
            numpy_helper.from_array(bias, f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"]))
        name = f"z{i}"
        if i < len(network.weights) - 1:
            nodes.append(helper.make_node("Relu", [name], [f"a{i}"]))
            name = f"a{i}"
    nodes.append(helper.make_node("Softmax", [name], ["probabilities"], axis=1))
    kind = helper.np_dtype_to_tensor_dtype(network.weights[0].dtype)
    d, k = network.weights[0].shape[0], network.weights[-1].shape[1]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("X", kind, ["n", d])],
        [helper.make_tensor_value_info("probabilities", kind, ["n", k])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def onnx_call(model: bytes, n_threads: int) -> Answer:
    """Return ONNX Runtime's Python call, asked for the probabilities alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run, outputs = session.run, ["probabilities"]

    def answer(X: np.ndarray) -> np.ndarray:
        return run(outputs, {"X": X})[0]

    return answer


# --- training --------------------------------------------------------------------------------


class Lesson(NamedTuple):
    """What every training gets: rows, labels, the teacher's probabilities, and the budget."""

    X: np.ndarray
    y: np.ndarray
    teacher_proba: np.ndarray
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    temperature: float
    alpha: float
    seed: int


def _plain_network(n_features: int, hidden: tuple[int, ...], n_classes: int) -> nn.Sequential:
    """Return a ReLU network that gives logits."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((n_features, *hidden, n_classes)):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def kd_loss(
    logits: torch.Tensor, teacher: torch.Tensor, y: torch.Tensor, temperature: float, alpha: float
) -> torch.Tensor:
    """Return alpha·T²·KL + (1 - alpha)·CE, the teacher given as log-probabilities."""
    distance = nn.functional.kl_div(
        torch.log_softmax(logits / temperature, dim=1),
        torch.softmax(teacher / temperature, dim=1),
        reduction="batchmean",
    )
    hard = nn.functional.cross_entropy(logits, y)
    return alpha * temperature**2 * distance + (1 - alpha) * hard


def _log(proba: np.ndarray) -> np.ndarray:
    """Return logarithms that are finite."""
    return np.log(np.maximum(proba, 1e-7)).astype(np.float32)


def fit_index_loop(lesson: Lesson) -> Answer:
    """Train with the least loop that plain torch allows: shuffled indices, one step a batch."""
    torch.manual_seed(lesson.seed)
    scaler = StandardScaler().fit(lesson.X)
    X = torch.as_tensor(scaler.transform(lesson.X))
    teacher, y = torch.as_tensor(_log(lesson.teacher_proba)), torch.as_tensor(lesson.y)
    module = _plain_network(X.shape[1], lesson.hidden, teacher.shape[1])
    optimizer = torch.optim.Adam(module.parameters())
    for _ in range(lesson.epochs):
        for rows in torch.randperm(len(X)).split(lesson.batch_size):
            optimizer.zero_grad()
            logits = module(X[rows])
            kd_loss(logits, teacher[rows], y[rows], lesson.temperature, lesson.alpha).backward()
            optimizer.step()
    answer = torch_call(module.eval())
    return lambda rows: answer(scaler.transform(rows))


def _fit_skorch(lesson: Lesson, **settings: Any) -> Answer:
    """Train skorch's classifier on hard labels."""
    torch.manual_seed(lesson.seed)
    scaler = StandardScaler().fit(lesson.X)
    net = NeuralNetClassifier(
        _plain_network(lesson.X.shape[1], lesson.hidden, lesson.teacher_proba.shape[1]),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=lesson.epochs,
        batch_size=lesson.batch_size,
        iterator_train__shuffle=True,
        verbose=0,
        **settings,
    )
    net.fit(scaler.transform(lesson.X), lesson.y)
    return lambda rows: net.predict_proba(scaler.transform(rows))


def fit_skorch(lesson: Lesson) -> Answer:
    """Train skorch as it comes, but silent: on 80 % of the rows, the others are scored."""
    return _fit_skorch(lesson)


def fit_skorch_bare(lesson: Lesson) -> Answer:
    """Train skorch on all rows with every callback switched off."""
    return _fit_skorch(lesson, train_split=None, callbacks="disable")


def sklearn_network(hidden: tuple[int, ...], epochs: int, batch_size: int, seed: int) -> Any:
    """Return scikit-learn's network that runs all its epochs."""
    return MLPClassifier(
        hidden,
        alpha=0.0,
        batch_size=batch_size,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=10**6,
        early_stopping=False,
        random_state=seed,
    )


def fit_sklearn(lesson: Lesson) -> Answer:
    """Train scikit-learn's network on hard labels; it stays in float32 for float32 rows."""
    scaler = StandardScaler().fit(lesson.X)
    net = sklearn_network(lesson.hidden, lesson.epochs, lesson.batch_size, lesson.seed)
    net.fit(scaler.transform(lesson.X), lesson.y)
    return lambda rows: net.predict_proba(scaler.transform(rows))


FITS: dict[str, Callable[[Lesson], Answer]] = {
    "skorch": fit_skorch,
    "skorch, no callbacks, all rows": fit_skorch_bare,
    "torch, index loop": fit_index_loop,
    "MLPClassifier": fit_sklearn,
}


class _PackedLoss(nn.Module):
    """The loss of a batch whose target holds the label beside the teacher's log-probabilities."""

    def __init__(self, temperature: float, alpha: float) -> None:
        super().__init__()
        self.temperature, self.alpha = temperature, alpha

    def forward(self, logits: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        """Return the mean over the batch."""
        label, teacher = packed[:, 0].long(), packed[:, 1:]
        return kd_loss(logits, teacher, label, self.temperature, self.alpha)


class NaiveDistiller(ClassifierMixin, BaseEstimator):
    """Distillation as one writes it for GridSearchCV: the teacher and a skorch net inside ``fit``.

    The teacher is cross-fitted, so that its answers are out-of-fold; skorch keeps its default
    callbacks and prints nothing.
    """

    def __init__(
        self,
        teacher: Any,
        *,
        temperature: float = 3.0,
        alpha: float = 0.7,
        teacher_folds: int = 5,
        hidden: tuple[int, ...] = (64, 32),
        epochs: int = 50,
        batch_size: int = 64,
        random_state: int = 0,
    ) -> None:
        self.teacher = teacher
        self.temperature = temperature
        self.alpha = alpha
        self.teacher_folds = teacher_folds
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Cross-fit the teacher and train the student on its answers."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        proba = cross_val_predict(
            clone(self.teacher), X, codes, cv=self.teacher_folds, method="predict_proba"
        )
        packed = np.column_stack([codes.astype(np.float32), _log(proba)])
        self.scaler_ = StandardScaler().fit(X)
        torch.manual_seed(self.random_state)
        self.net_ = NeuralNet(
            _plain_network(X.shape[1], self.hidden, len(self.classes_)),
            criterion=_PackedLoss(self.temperature, self.alpha),
            optimizer=torch.optim.Adam,
            lr=1e-3,
            max_epochs=self.epochs,
            batch_size=self.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).fit(self.scaler_.transform(X).astype(np.float32), packed)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the student's probabilities."""
        logits = self.net_.predict(self.scaler_.transform(X).astype(np.float32))
        return torch.softmax(torch.as_tensor(logits), dim=1).numpy()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable label."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
