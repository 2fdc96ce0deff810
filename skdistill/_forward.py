"""The frozen network: arrays, and the arithmetic on them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Forward", "Layer", "log_softmax", "softmax"]

_CHUNK_BYTES = 1 << 18


class Layer(NamedTuple):
    """One step of the frozen forward: its kind and the arrays it needs."""

    kind: str
    arrays: tuple[np.ndarray, ...] = ()


def _linear(h: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    # np.dot and not @: the ufunc matmul warns of an overflow, which is handled by value here.
    out = np.dot(h, weight)
    out += bias
    return out


def _relu(h: np.ndarray) -> np.ndarray:
    return np.maximum(h, 0.0, out=h)


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
    centred = h - h.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    return _affine(centred / np.sqrt(variance + epsilon), scale, shift)


def _standardise(
    h: np.ndarray, mean: np.ndarray, scale: np.ndarray, like: np.ndarray
) -> np.ndarray:
    return ((h - mean) / scale).astype(like.dtype, copy=False)


def _encode(h: np.ndarray, column: np.ndarray, *lines: np.ndarray) -> np.ndarray:
    slope, offset, lower, upper, like = lines
    out = h.take(column, axis=1) * slope
    out += offset
    np.maximum(out, lower, out=out)
    np.minimum(out, upper, out=out)
    return out.astype(like.dtype, copy=False)


_STEPS: dict[str, Callable[..., np.ndarray]] = {
    "linear": _linear,
    "relu": _relu,
    "tanh": _tanh,
    "gelu": _gelu,
    "silu": _silu,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "standardise": _standardise,
    "encode": _encode,
}


class Forward:
    """A sequence of layers in one dtype, from rows to logits.

    Attributes
    ----------
    safe_square : float
        Rows whose sum of squares is below this hold no NaN and no inf, and no sum in the network
        can overflow on them.
    """

    def __init__(self, first: Sequence[Layer], layers: Sequence[Layer], dtype: np.dtype) -> None:
        cast = [(s.kind, tuple(np.ascontiguousarray(a, dtype) for a in s.arrays)) for s in layers]
        steps = [*((s.kind, s.arrays) for s in first), *cast]
        self.steps = [(_STEPS[kind], arrays) for kind, arrays in steps]
        # Activations overwrite what they get, which must not be the caller's rows.
        self._in_place = not steps[0][1]
        widest = max(a.shape[-1] for _, arrays in steps for a in arrays if a.ndim)
        self._rows = max(128, _CHUNK_BYTES // (dtype.itemsize * widest))
        self.safe_square = _safe_square(steps, dtype)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Return the logits, working in chunks of rows that stay in the cache."""
        if len(X) <= self._rows:
            return self._chunk(X)
        chunks = (X[i : i + self._rows] for i in range(0, len(X), self._rows))
        return np.concatenate([self._chunk(chunk) for chunk in chunks])

    def _chunk(self, h: np.ndarray) -> np.ndarray:
        if self._in_place:
            h = h.copy()
        for step, arrays in self.steps:
            h = step(h, *arrays)
        return h


def _safe_square(steps: Sequence[tuple[str, Any]], dtype: np.dtype) -> float:
    """Return a bound on the sum of squares of the rows under which nothing can overflow."""
    limit = 1e30 if dtype == np.float32 else 1e200
    norm = math.sqrt(limit)
    while norm > 1 and _largest(steps, norm) > limit:
        norm /= 1e3
    return norm**2


def _largest(steps: Sequence[tuple[str, Any]], norm: float) -> float:
    """Bound the norm of every intermediate row, given a bound on the norm of the input row."""
    largest = norm
    for kind, arrays in steps:
        sizes = [float(np.linalg.norm(a.astype(np.float64))) for a in arrays if a.size]
        if kind == "linear":
            norm = sizes[0] * norm + sizes[1]
        elif kind == "affine":
            norm = float(np.abs(arrays[0]).max()) * norm + sizes[1]
        elif kind == "layer_norm":
            # The square of a centred value is formed on the way.
            largest = max(largest, norm**2)
            norm = math.sqrt(arrays[0].size) * sizes[0] + sizes[1]
        elif kind == "standardise":
            norm = (norm + sizes[0]) / float(arrays[1].min())
        elif kind == "encode":
            largest = max(largest, float(np.abs(arrays[1]).max()) * norm + sizes[2])
            norm = float(np.linalg.norm(np.maximum(-arrays[3], arrays[4])))
        largest = max(largest, norm)
    return largest


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, row by row, in the dtype of the logits."""
    out = logits - _row_max(logits)
    np.exp(out, out=out)
    out /= np.add.reduce(out, axis=1, keepdims=True)
    return out


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, row by row, in the dtype of the logits."""
    out = logits - _row_max(logits)
    out -= np.log(np.add.reduce(np.exp(out), axis=1, keepdims=True))
    return out


def _row_max(logits: np.ndarray) -> np.ndarray:
    """Return each row's maximum as a column."""
    n_rows, n_classes = logits.shape
    # NumPy reduces many rows over a short last axis slowly.
    if n_rows < 64 or n_classes > 8:
        return np.maximum.reduce(logits, axis=1, keepdims=True)
    top = logits[:, :1].copy()
    for j in range(1, n_classes):
        np.maximum(top, logits[:, j : j + 1], out=top)
    return top
