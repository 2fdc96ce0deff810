"""The frozen network: arrays, and the arithmetic on them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from skdistill.tables import Lines, encode_lines

_CHUNK_BYTES = 1 << 18
# Slopes are multiplied into weights only below this and above one over it.
_STEEP = 1e12
# What stands for slopes that were multiplied into the weights.
_NO_SLOPE = np.zeros(0)
# Layers that overwrite what they get.
_IN_PLACE = ("floor", "tanh", "gelu", "silu")


class Layer(NamedTuple):
    """One layer of the frozen network: its kind and the arrays it needs."""

    kind: str
    arrays: tuple[np.ndarray, ...] = ()


# Every layer takes a matrix of rows, or one row as a vector.
def _matmul(h: np.ndarray, weight: np.ndarray) -> np.ndarray:
    # The method dot: the ufunc matmul warns of an overflow, which is handled by value here, and
    # the function dot takes longer to call.
    return h.dot(weight)


def _linear(h: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    out = h.dot(weight)
    out += bias
    return out


def _floor(h: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.maximum(h, low, out=h)


def _tanh(h: np.ndarray) -> np.ndarray:
    return np.tanh(h, out=h)


def _gelu(h: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.multiply(h, ndtr(h), out=h)


def _silu(h: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.multiply(h, expit(h), out=h)


def _affine(h: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    out = h * scale
    out += shift
    return out


def _layer_norm(
    h: np.ndarray, scale: np.ndarray, shift: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    centred = h - h.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return _affine(centred / np.sqrt(variance + epsilon), scale, shift)


def _standardise(
    h: np.ndarray, mean: np.ndarray, scale: np.ndarray, like: np.ndarray
) -> np.ndarray:
    return ((h - mean) / scale).astype(like.dtype, copy=False)


_LAYERS: dict[str, Callable[..., np.ndarray]] = {
    "matmul": _matmul,
    "linear": _linear,
    "floor": _floor,
    "tanh": _tanh,
    "gelu": _gelu,
    "silu": _silu,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "standardise": _standardise,
    "encode": encode_lines,
}


class Forward:
    """A sequence of layers in one dtype, from rows to logits.

    Attributes
    ----------
    safe_square : float
        Rows whose sum of squares is below this hold no NaN and no inf, and no sum in the network
        can overflow on them.
    """

    def __init__(self, layers: Sequence[Layer], dtype: np.dtype) -> None:
        # Weights that overflow leave no row safe, which is no reason to warn.
        with np.errstate(over="ignore"):
            layers = [_cast(layer, dtype) for layer in _fold(layers, dtype)]
            self.safe_square = _safe_square(layers, dtype)
        self.layers = [(_LAYERS[kind], arrays) for kind, arrays in layers]
        # These must not overwrite the caller's rows.
        self._copies = layers[0].kind in _IN_PLACE
        widest = max(a.shape[-1] for layer in layers for a in layer.arrays if a.ndim)
        self._rows = max(128, _CHUNK_BYTES // (dtype.itemsize * widest))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Return the logits, working in chunks of rows that stay in the cache."""
        if len(X) <= self._rows:
            return self.apply(X)
        chunks = (X[i : i + self._rows] for i in range(0, len(X), self._rows))
        return np.concatenate([self.apply(chunk) for chunk in chunks])

    def apply(self, h: np.ndarray) -> np.ndarray:
        """Return the logits of a chunk of rows, or of one row as a vector, in a new array."""
        if self._copies:
            h = h.copy()
        for layer, arrays in self.layers:
            h = layer(h, *arrays)
        return h


def _cast(layer: Layer, dtype: np.dtype) -> Layer:
    """Return the layer in one dtype; columns stay integers, and the scaling stays in float64."""
    if layer.kind == "standardise":
        return Layer(layer.kind, (*layer.arrays, np.empty(0, dtype)))
    arrays = [a if a.dtype.kind == "i" else np.asarray(a, dtype, order="C") for a in layer.arrays]
    return Layer(layer.kind, tuple(arrays))


def _fold(layers: Sequence[Layer], dtype: np.dtype) -> list[Layer]:
    """Save passes: slopes, and biases before a relu, go into the weights behind them."""
    layers = list(layers)
    # A unit that is off after its bias was moved costs the rounding errors of its share of b @ W:
    # about 1e-6, and 1e-12.
    largest = 64.0 if dtype == np.float32 else 4096.0
    for i in range(len(layers)):
        match layers[i : i + 3]:
            case [Layer("encode", Lines() as lines), Layer("linear", (weight, bias)), *_]:
                # clip(z * s + o, l, u) is s * clip(z + o / s, ...), which also rounds less.
                column, slope, *rest = lines
                if slope.max() < _STEEP and slope.min() > 1 / _STEEP:
                    bare = Lines(column, _NO_SLOPE, *(line / slope for line in rest))
                    layers[i] = Layer("encode", bare)
                    weight = slope[:, None] * weight.astype(np.float64)
                    layers[i + 1] = Layer("linear", (weight, bias))
            case [Layer("linear", (weight, b)), Layer("relu"), Layer("linear", (W, c))]:
                # relu(h + b) @ W + c is max(h, -b) @ W + (b @ W + c).
                b, W = b.astype(np.float64), W.astype(np.float64)
                if (np.abs(b) @ np.abs(W)).max() < largest:
                    layers[i] = Layer("matmul", (weight,))
                    layers[i + 1] = Layer("floor", (-b,))
                    layers[i + 2] = Layer("linear", (W, b @ W + c))
    floor = Layer("floor", (np.zeros(()),))
    return [floor if layer.kind == "relu" else layer for layer in layers]


def _safe_square(layers: Sequence[Layer], dtype: np.dtype) -> float:
    """Return a bound on the sum of squares of the rows under which nothing can overflow."""
    limit = 1e30 if dtype == np.float32 else 1e200
    norm = math.sqrt(limit)
    while not _largest(layers, norm) <= limit:
        norm /= 1e3
        if norm < 1e-6:
            return 0.0
    return norm**2


def _largest(layers: Sequence[Layer], norm: float) -> float:
    """Bound the norm of every intermediate row, given a bound on the norm of the input row."""
    largest = norm
    for kind, arrays in layers:
        sizes = [float(np.linalg.norm(a.astype(np.float64))) for a in arrays if a.size]
        if kind in {"matmul", "linear"}:
            norm = sizes[0] * norm + sum(sizes[1:])
        elif kind == "floor":
            norm += sizes[0]
        elif kind == "affine":
            norm = float(np.abs(arrays[0]).max()) * norm + sizes[1]
        elif kind == "layer_norm":
            # The square of a centred value is formed on the way.
            largest = max(largest, norm**2)
            norm = math.sqrt(arrays[0].size) * sizes[0] + sizes[1]
        elif kind == "standardise":
            norm = (norm + sizes[0]) / float(arrays[1].min())
        elif kind == "encode":
            _, slope, _, lower, upper = arrays
            steepest = float(np.abs(slope).max()) if slope.size else 1.0
            largest = max(largest, steepest * norm + sizes[-3])
            norm = float(np.linalg.norm(np.maximum(-lower, upper)))
        largest = max(largest, norm)
    return largest


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, in place: rows of a matrix, or one row as a vector."""
    if logits.shape[-1] == 2:
        return _softmax_pair(logits) if logits.size == 2 else _softmax_pairs(logits)
    logits -= _row_max(logits)
    np.exp(logits, out=logits)
    logits /= np.add.reduce(logits, axis=-1, keepdims=True)
    return logits


def _softmax_pair(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of two logits without a pass of NumPy over two numbers."""
    gap = logits.item(0) - logits.item(1)
    small = math.exp(-abs(gap))
    large = 1 / (1 + small)
    small *= large
    logits[..., 0], logits[..., 1] = (large, small) if gap > 0 else (small, large)
    return logits


def _softmax_pairs(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of rows of two logits in passes over columns."""
    ratio = logits[:, 0] - logits[:, 1]
    # Beyond this the exponential overflows, and the other probability is below all normal numbers.
    np.minimum(ratio, -math.log(np.finfo(ratio.dtype).tiny), out=ratio)
    np.exp(ratio, out=ratio)
    second = np.reciprocal(ratio + 1)
    logits[:, 1] = second
    np.multiply(ratio, second, out=logits[:, 0])
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, row by row, in the dtype of the logits."""
    out = logits - _row_max(logits)
    out -= np.log(np.add.reduce(np.exp(out), axis=1, keepdims=True))
    return out


def _row_max(logits: np.ndarray) -> np.ndarray:
    """Return each row's maximum as a column."""
    # NumPy reduces many rows over a short last axis slowly.
    if len(logits) < 64 or logits.shape[-1] > 8:
        return np.maximum.reduce(logits, axis=-1, keepdims=True)
    top = logits[:, :1].copy()
    for j in range(1, logits.shape[1]):
        np.maximum(top, logits[:, j : j + 1], out=top)
    return top


class OneRow:
    """A callable from one raw row to its class probabilities, made by ``student.compile()``.

    Nothing is checked: the row must be a float array of shape (n_features,) in the order of the
    columns of `fit`. Each dtype has its own arithmetic. NaN gives NaN, a wrong width raises NumPy's
    own error, and inf may give an ordinary answer. It holds no state, so threads may share it.

    Parameters
    ----------
    forwards : dict of dtype to Forward
        The network from raw rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill import DistilledClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
    >>> student = DistilledClassifier([teacher], random_state=0).fit(X, y).student_
    >>> predict_one = student.compile()
    >>> bool(abs(predict_one(X[0]) - student.predict_proba(X[:1])[0]).max() < 1e-12)
    True
    """

    def __init__(self, forwards: dict[Any, Forward]) -> None:
        self._forwards = forwards

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the class probabilities of one row.

        Parameters
        ----------
        x : ndarray of shape (n_features,), float32 or float64
            The row.

        Returns
        -------
        proba : ndarray of shape (n_classes,), dtype of x
        """
        return softmax(self._forwards[x.dtype].apply(x))
