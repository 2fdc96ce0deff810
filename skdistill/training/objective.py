"""The one objective: soft, hard and hidden losses, weighed, and their gradient at the logits."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skdistill import losses
from skdistill.training.hint_terms import HintBatch, HintTerm

Array = np.ndarray
CallableLoss = Callable[..., Tensor]

# Stands for the logarithm of 0: finite, so that 0 times it is 0.
_LOG_ZERO = -1e30
# Below this a target counts as this in "mse", as in losses.logit_mse.
_FLOOR = 1e-7
_BLOCK_ROWS = 65_536


class _Numbers(NamedTuple):
    """Temperature and alpha in one dtype, each of shape (n_students, 1)."""

    T: Array
    tempers: bool
    # A batch is tempered once for each temperature, whatever the number of students.
    temperatures: Array
    which: Array
    alpha: Array
    into_soft: Array
    into_hard: Array
    has_hard: bool


class Targets(NamedTuple):
    """What rows carry, in the precision of training; a row without a label has the label -1.

    ``soft_weight`` and ``hard_weight`` are scaled once over the training set so that the mean over
    all rows of ``weight * loss`` is the weighted mean over the rows that carry the term: alpha then
    keeps its meaning whatever rows are added.
    """

    proba: Array
    label: Array
    soft_weight: Array
    hard_weight: Array
    hidden: tuple[HintBatch, ...] = ()

    def take(self, rows: Array) -> "Targets":
        """Return the targets of some rows."""
        return Targets(
            self.proba.take(rows, axis=0),
            self.label.take(rows),
            self.soft_weight.take(rows),
            self.hard_weight.take(rows),
            tuple(layer.take(torch.from_numpy(rows)) for layer in self.hidden),
        )


class WeighedRows(NamedTuple):
    """What the objective makes of targets, once for all epochs.

    Attributes
    ----------
    columns : float array of shape (n, 2 * n_classes + 2)
        What each row is compared with, its one-hot label times its weight, both weights. It is
        compared with its tempered soft target times its weight ("kl" at one temperature), the
        logarithm of its target ("kl" at several), its centred target logits ("mse") or the target.
    offset : float array of shape (n_students,)
        What the soft losses of all rows have beside the terms that depend on a student.
    label : int array of shape (n,) or None
        For losses that look at it.
    numbers : _Numbers
        Temperature and alpha in the precision of the columns.
    """

    columns: Array
    offset: Array
    label: Array | None
    numbers: _Numbers

    def take(self, rows: Array) -> "WeighedRows":
        """Return some rows; the offset stays that of all."""
        label = None if self.label is None else self.label.take(rows)
        return WeighedRows(self.columns.take(rows, axis=0), self.offset, label, self.numbers)


class LossSums(NamedTuple):
    """Sums of the weighed losses over rows: numbers, or arrays with one entry a student.

    The hidden term holds the weights of the hints.
    """

    soft: Any
    hard: Any
    hidden: Any = 0.0


class Objective(nn.Module):
    """Losses of one student, or of a stack of students with a temperature and an alpha each.

    Inside, arrays have the classes first, because NumPy reduces a short last axis slowly.

    A soft loss "kl" or "mse" has its gradient in closed form, "dkd" or one of the user's own by
    autograd, on ``device``, where the user's may hold tensors. The projections of hints are
    trained with the student and stay here.
    """

    def __init__(
        self,
        temperature: float | Sequence[float],
        alpha: float | Sequence[float],
        loss: str | CallableLoss = "kl",
        hints: Sequence[HintTerm] = (),
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.temperature, self.alpha = np.asarray(temperature, float), np.asarray(alpha, float)
        self.loss, self.device = loss, device
        self.hints = nn.ModuleList(hints)

    def _numbers(self, dtype: np.dtype) -> _Numbers:
        """Return temperature and alpha in a dtype."""
        T, alpha = (v.astype(dtype).reshape(-1, 1) for v in (self.temperature, self.alpha))
        temperatures, which = np.unique(T, return_inverse=True)
        return _Numbers(
            T=T,
            tempers=bool((T != 1).any()),
            temperatures=temperatures[:, None],
            which=which.ravel(),
            alpha=alpha,
            into_soft=alpha * T,
            into_hard=1 - alpha,
            has_hard=bool((alpha < 1).any()),
        )

    # What overflows at an extreme temperature is found by its value, in the loss.
    @np.errstate(all="ignore")
    def prepare(self, targets: Targets) -> WeighedRows:
        """Multiply temperature and weights into what rows carry."""
        proba, label, w_soft, w_hard = targets[:4]
        n, k = proba.shape
        numbers = self._numbers(proba.dtype)
        offset = np.zeros(len(numbers.T), proba.dtype)
        columns = np.zeros((n, 2 * k + 2), proba.dtype)
        if self.loss == "kl":
            offset = self._fill_kl(columns, proba, w_soft, numbers)
        elif self.loss == "mse":
            np.log(np.maximum(proba, _FLOOR), out=columns[:, :k])
            columns[:, :k] -= columns[:, :k].mean(axis=1, keepdims=True)
        else:
            columns[:, :k] = proba
        # A row without a label has -1, and no weight in the last column.
        columns[:, k : 2 * k][np.arange(n), label] = w_hard
        columns[:, 2 * k], columns[:, 2 * k + 1] = w_soft, w_hard
        return WeighedRows(columns, offset, None if self.loss in ("kl", "mse") else label, numbers)

    def _fill_kl(self, columns: Array, proba: Array, w_soft: Array, numbers: _Numbers) -> Array:
        """Write the targets of "kl"; return the sum of their weighed entropies, negated."""
        n, k = proba.shape
        n_temperatures = len(numbers.temperatures)
        entropy = np.empty((n_temperatures, n), proba.dtype)
        # In blocks, so that what is computed on the way does not outweigh the columns.
        for start in range(0, n, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            log_proba = np.maximum(np.log(proba[rows]), _LOG_ZERO)
            for i, temperature in enumerate(numbers.temperatures):
                entropy[i, rows] = _negative_entropy(log_proba / temperature)
            soft = log_proba
            if n_temperatures == 1:
                soft = (_temper(log_proba.T[:, None], numbers)[:, 0] * w_soft[rows]).T
            columns[rows, :k] = soft
        return (entropy @ w_soft)[numbers.which]

    def at_logits(self, logits: Array, rows: WeighedRows) -> tuple[tuple[Any, Any], Array]:
        """Return sums over a batch, which `finish` takes, and the gradient of its weighed mean.

        ``logits`` has shape (n_students, n_rows, n_classes), and so has the gradient.
        """
        k, n, numbers = logits.shape[2], logits.shape[1], rows.numbers
        c = np.ascontiguousarray(rows.columns.T)[:, None]
        target, label, w_soft, w_hard = c[:k], c[k : 2 * k], c[2 * k], c[2 * k + 1]
        z = np.ascontiguousarray(logits.transpose(2, 0, 1))
        z -= np.maximum.reduce(z, axis=0)
        proba, log_total = _softmax(z)
        hard = _over_rows(log_total, w_hard) - _over_rows(z, label)
        if self.loss == "kl":
            soft, gradient = _kl(z, proba, log_total, target, w_soft, numbers)
        elif self.loss == "mse":
            soft, gradient = _mse(z, target, w_soft, numbers)
        else:
            soft, gradient = self._by_autograd(logits, rows)
        if numbers.has_hard:
            proba *= w_hard
            proba -= label
            proba *= numbers.into_hard / n
            gradient += proba
        return (soft, hard), np.ascontiguousarray(gradient.transpose(1, 2, 0))

    def _by_autograd(self, logits: Array, rows: WeighedRows) -> tuple[Any, Array]:
        """Return the sum of the soft losses, and the gradient of their mean, classes first."""
        k, n = logits.shape[2], logits.shape[1]
        is_stack = self.alpha.ndim > 0
        assert rows.label is not None
        with torch.inference_mode(False), torch.enable_grad():
            leaf, proba, label, w_soft = (
                torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
                for array in (
                    logits if is_stack else logits[0],
                    rows.columns[:, :k],
                    rows.label,
                    rows.columns[:, 2 * k],
                )
            )
            leaf.requires_grad_()
            temperature: Any = float(self.temperature) if not is_stack else None
            if is_stack:
                temperature = torch.from_numpy(rows.numbers.T[:, None]).to(self.device)
            soft = (w_soft * self._soft_rows(leaf, proba, label, temperature)).sum(-1)
            gradient = torch.zeros_like(leaf)
            # A loss of the user's own may not depend on the student at all.
            if soft.requires_grad:
                (gradient,) = torch.autograd.grad(soft.sum(), leaf)
        into = gradient.cpu().numpy().reshape(logits.shape).transpose(2, 0, 1)
        return soft.detach().cpu().numpy(), into * (rows.numbers.alpha / n)

    def _soft_rows(self, logits: Tensor, proba: Tensor, label: Tensor, temperature: Any) -> Tensor:
        """Return the soft loss of each row."""
        if self.loss == "dkd":
            return losses.decoupled_kl(logits, proba, label, temperature=temperature)
        assert callable(self.loss)
        rows = self.loss(logits, proba, label, temperature=temperature)
        if not isinstance(rows, Tensor) or rows.shape != logits.shape[:-1]:
            found = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(
                "The callable loss must return a tensor with one value a row, of shape "
                f"{tuple(logits.shape[:-1])}; got {found}. Do not reduce it."
            )
        return rows

    def finish(self, sums: tuple[Any, Any], rows: WeighedRows) -> LossSums:
        """Return the losses of all rows whose sums `at_logits` gave, added up."""
        soft, hard = sums
        square = rows.numbers.T.ravel() ** 2 if self.loss == "kl" else 1.0
        soft, hard = square * (soft + rows.offset), hard + np.zeros(len(rows.offset))
        return LossSums(soft, hard) if self.alpha.ndim else LossSums(soft[0], hard[0])

    @np.errstate(all="ignore")
    def sums(self, logits: Array, targets: Targets) -> tuple[LossSums, Array]:
        """Return the losses of rows, hints apart, and the gradient of their weighed mean."""
        rows = self.prepare(targets)
        sums, gradient = self.at_logits(logits, rows)
        return self.finish(sums, rows), gradient

    def total(self, sums: LossSums) -> Any:
        """Weigh the sums of soft and hard losses by alpha, and add the hidden ones."""
        return self.alpha * sums.soft + (1 - self.alpha) * sums.hard + sums.hidden

    def worse_than_uniform(self, logits: Array, targets: Targets) -> str | None:
        """Say so where what is minimised, hints apart, is far above its value at equal logits.

        One that has hardly begun is a little worse. What a loss of the user's own is worth there
        says nothing, so it is not judged.
        """
        if callable(self.loss):
            return None
        T, k = float(self.temperature), logits.shape[1]
        judge = Objective(T, float(self.alpha), self.loss)
        own, uniform = (
            float(judge.total(judge.sums(z[None], targets)[0])) / len(z)
            for z in (logits, np.zeros_like(logits))
        )
        # T²·KL is a difference of numbers near 1, times T².
        rounding = 100 * np.finfo(np.float64).eps * max(1.0, T) ** 2
        if not own > 2 * uniform + math.log(k) + rounding:
            return None
        return f"The student's loss is {own:.3g}, and equal probabilities have {uniform:.3g}"

    def at_hidden(
        self, hidden: Mapping[Any, Tensor], columns: Sequence[HintBatch]
    ) -> tuple[float, dict[Any, Tensor]]:
        """Return the sum of the hints, and the gradients of the batch mean at the layers.

        Those of the projections are left on them.
        """
        own = list(self.parameters())
        with torch.inference_mode(False), torch.enable_grad():
            names = {term.student_layer for term in self.hints}
            leaves = {name: hidden[name].detach().requires_grad_() for name in names}
            total: Any = 0.0
            for term, layer in zip(self.hints, columns, strict=True):
                total = total + term(leaves[term.student_layer], layer)
            mean = total / len(columns[0].values)
            gradients = torch.autograd.grad(mean, [*leaves.values(), *own])
        for parameter, gradient in zip(own, gradients[len(leaves) :], strict=True):
            parameter.grad = gradient
        return float(total.detach()), dict(zip(leaves, gradients, strict=False))


def _kl(
    z: Array, proba: Array, log_total: Array, target: Array, w_soft: Array, numbers: _Numbers
) -> tuple[Any, Array]:
    """Return the tempered cross-entropies, and alpha·T·(softmax(z/T) - q)·w / n; z is used up."""
    if numbers.tempers:
        z /= numbers.T
        proba, log_total = _softmax(z)
    if len(numbers.temperatures) > 1:
        target = _temper(target, numbers) * w_soft
    soft = _over_rows(log_total, w_soft) - _over_rows(z, target)
    gradient = proba * w_soft
    gradient -= target
    gradient *= numbers.into_soft / z.shape[2]
    return soft, gradient


def _mse(z: Array, target: Array, w_soft: Array, numbers: _Numbers) -> tuple[Any, Array]:
    """Return the squared errors of centred logits, and their gradient; z is used up."""
    k, n = z.shape[0], z.shape[2]
    z -= np.add.reduce(z, axis=0) / k
    z -= target
    weighed = z * w_soft
    soft = _over_rows(z, weighed) / k
    weighed *= numbers.alpha * (2 / (k * n))
    return soft, weighed


def _temper(log_proba: Array, numbers: _Numbers) -> Array:
    """Return targets, classes first, at the temperature of each student."""
    scaled = log_proba / numbers.temperatures
    scaled -= np.maximum.reduce(scaled, axis=0)
    return _softmax(scaled)[0][:, numbers.which]


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


def _over_rows(a: Array, b: Array) -> Any:
    """Return the sum of products over rows, and classes if there are any, for each student."""
    if a.shape[-2] == 1:
        return np.vdot(a, b)
    products = (a * b).sum(axis=-1)
    return products if products.ndim == 1 else products.sum(axis=0)
