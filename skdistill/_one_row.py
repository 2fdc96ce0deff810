"""One row at a time: the forward without checks, for servers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from skdistill._forward import Forward

__all__ = ["OneRow"]


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
        self._chains = {dtype: _chain(forward) for dtype, forward in forwards.items()}

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
        h = x.copy()
        for step, arrays in self._chains[x.dtype]:
            h = step(h, *arrays)
        if len(h) == 2:
            return _two_probabilities(h)
        h -= h.max()
        np.exp(h, out=h)
        h /= h.sum()
        return h


def _two_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of two logits without a pass of NumPy over two numbers."""
    first, second = logits.tolist()
    small = math.exp(-abs(first - second))
    logits[0] = logits[1] = small / (1 + small)
    logits[0 if first > second else 1] = 1 / (1 + small)
    return logits


def _chain(forward: Forward) -> list[tuple[Callable[..., np.ndarray], tuple[np.ndarray, ...]]]:
    """Return the steps for a single row; most of those for a matrix serve as they are."""
    named = {step.__name__: step for step in (_encode, _layer_norm)}
    return [(named.get(step.__name__, step), arrays) for step, arrays in forward.steps]


def _encode(h: np.ndarray, column: np.ndarray, *lines: np.ndarray) -> np.ndarray:
    slope, offset, lower, upper, like = lines
    out = h.take(column) * slope
    out += offset
    np.maximum(out, lower, out=out)
    np.minimum(out, upper, out=out)
    return out.astype(like.dtype, copy=False)


def _layer_norm(
    h: np.ndarray, scale: np.ndarray, shift: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    centred = h - h.mean()
    return centred / math.sqrt(np.square(centred).mean() + float(epsilon)) * scale + shift
