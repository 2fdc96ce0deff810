"""The soft and hard loss of a batch, and their gradient, on NumPy arrays."""

import numpy as np
import torch

from skdistill.training.objective import DistillationCriterion, Targets

__all__ = ["ArrayLoss"]

Array = np.ndarray

# Stands for the logarithm of 0: finite, so that 0 times it is 0.
_LOG_ZERO = -1e30
_BLOCK_ROWS = 65_536


class ArrayLoss:
    """What ``DistillationCriterion("kl")`` computes, for each student of a stack, up to rounding.

    Inside, arrays have the classes first, because NumPy reduces a short last axis slowly.

    Attributes
    ----------
    columns : float array of shape (n, 2 * n_classes + 2)
        What each row carries: its soft target times its weight (with several temperatures the
        logarithm of its probability instead), its one-hot label times its weight, both weights.
    """

    # What overflows at an extreme temperature is found by its value, in the loss.
    @np.errstate(all="ignore")
    def __init__(self, criterion: DistillationCriterion, targets: Targets) -> None:
        proba, w_soft, w_hard = (
            t.numpy() for t in (targets.proba, targets.soft_weight, targets.hard_weight)
        )
        T, alpha = (
            torch.as_tensor(value, dtype=targets.proba.dtype).numpy().reshape(-1, 1)
            for value in (criterion.temperature, criterion.alpha)
        )
        self._T, self._tempers = T, bool((T != 1).any())
        self._into_soft, self._into_hard = alpha * T, 1 - alpha
        self._has_hard = bool((alpha < 1).any())
        # A batch is tempered once for each temperature, whatever the number of students.
        temperatures, self._which = np.unique(T, return_inverse=True)
        self._temperatures = temperatures[:, None]
        n, k = proba.shape
        columns = np.zeros((n, 2 * k + 2), dtype=proba.dtype)
        entropy = np.empty((len(temperatures), n), dtype=proba.dtype)
        # In blocks, so that what is computed on the way does not outweigh the columns.
        for start in range(0, n, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            log_proba = np.maximum(np.log(proba[rows]), _LOG_ZERO)
            for i, t in enumerate(temperatures):
                entropy[i, rows] = _negative_entropy(log_proba / t)
            soft = log_proba
            if len(temperatures) == 1:
                soft = (self._temper(log_proba.T[:, None])[:, 0] * w_soft[rows]).T
            columns[rows, :k] = soft
        # A row without a label has -1, and no weight in the last column.
        columns[:, k : 2 * k][np.arange(n), targets.label.numpy()] = w_hard
        columns[:, 2 * k], columns[:, 2 * k + 1] = w_soft, w_hard
        self.columns = columns
        self._negative_entropy = (entropy @ w_soft)[self._which.ravel()]
        self._soft, self._hard = np.zeros(len(T)), np.zeros(len(T))

    def into_gradient(self, logits: Array, columns: Array) -> Array:
        """Return the gradient of the weighed batch mean, and add to the sums of the epoch.

        ``logits`` has shape (n_students, n_rows, n_classes), and so has the gradient.
        """
        k, n = logits.shape[2], len(columns)
        c = np.ascontiguousarray(columns.T)[:, None]
        target, label, w_soft, w_hard = c[:k], c[k : 2 * k], c[2 * k], c[2 * k + 1]
        z = np.ascontiguousarray(logits.transpose(2, 0, 1))
        z -= np.maximum.reduce(z, axis=0)
        proba, log_total = _softmax(z)
        self._hard += _over_rows(log_total, w_hard) - _over_rows(z, label)
        soft_proba = proba
        if self._tempers:
            z /= self._T
            soft_proba, log_total = _softmax(z)
        if len(self._temperatures) > 1:
            target = self._temper(target) * w_soft
        self._soft += _over_rows(log_total, w_soft) - _over_rows(z, target)
        gradient = soft_proba * w_soft
        gradient -= target
        gradient *= self._into_soft / n
        if self._has_hard:
            proba *= w_hard
            proba -= label
            proba *= self._into_hard / n
            gradient += proba
        return np.ascontiguousarray(gradient.transpose(1, 2, 0))

    def _temper(self, log_proba: Array) -> Array:
        """Return the targets of a batch at the temperature of each student."""
        scaled = log_proba / self._temperatures
        scaled -= np.maximum.reduce(scaled, axis=0)
        return _softmax(scaled)[0][:, self._which.ravel()]

    def sums(self) -> tuple[Array, Array]:
        """Return the sums of the soft and hard losses of an epoch, and begin to sum anew."""
        soft = self._T.ravel() ** 2 * (self._soft + self._negative_entropy)
        hard = self._hard
        self._soft, self._hard = np.zeros_like(soft), np.zeros_like(hard)
        return soft, hard


def _negative_entropy(scaled: Array) -> Array:
    """Return the sum of q log q of each row, q the softmax of the row."""
    log_q = scaled - scaled.max(axis=1, keepdims=True)
    log_q -= np.log(np.exp(log_q).sum(axis=1, keepdims=True))
    return (np.exp(log_q) * log_q).sum(axis=1)


def _softmax(z: Array) -> tuple[Array, Array]:
    """Return softmax over the first axis of z <= 0, and the logarithm of its denominator."""
    proba = np.exp(z)
    total = np.add.reduce(proba, axis=0)
    proba /= total
    return proba, np.log(total)


def _over_rows(a: Array, b: Array) -> Array | float:
    """Return the sum of products over rows, and classes if there are any, for each student."""
    if a.shape[-2] == 1:
        return np.vdot(a, b)
    products = (a * b).sum(axis=-1)
    return products if products.ndim == 1 else products.sum(axis=0)
