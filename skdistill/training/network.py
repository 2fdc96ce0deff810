"""The student's network: an MLP, or a stack of them, with its gradient written out by hand."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skdistill.student.forward import Layer
from skdistill.tables.bins import PiecewiseLinearEncoding
from skdistill.training.objective import LossSums

__all__ = ["ACTIVATIONS", "PiecewiseLinear", "StudentMLP", "auto_hidden_sizes"]

# hidden_layer_sizes="auto"
_WIDEST, _NARROWEST = 128, 16
_PARAMETERS_PER_ROW, _ENOUGH_PARAMETERS, _MOST_PARAMETERS = 11, 20_000, 50_000

# For each activation: the function, and its gradient from (gradient, input, output).
_aten = torch.ops.aten
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], type[nn.Module]]] = {
    "relu": (torch.relu, lambda g, z, a: _aten.threshold_backward(g, a, 0), nn.ReLU),
    "tanh": (torch.tanh, lambda g, z, a: _aten.tanh_backward(g, a), nn.Tanh),
    "gelu": (nn.functional.gelu, lambda g, z, a: _aten.gelu_backward(g, z), nn.GELU),
    "silu": (nn.functional.silu, lambda g, z, a: _aten.silu_backward(g, z), nn.SiLU),
}


class PiecewiseLinear(nn.Module):
    """The piecewise-linear encoding with fixed bins."""

    column: Tensor
    slope: Tensor
    offset: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, encoding: PiecewiseLinearEncoding) -> None:
        super().__init__()
        self.register_buffer("column", torch.tensor(encoding.column_, dtype=torch.long))
        self.register_buffer("slope", torch.tensor(encoding.slope_))
        self.register_buffer("offset", torch.tensor(encoding.offset_))
        self.register_buffer("lower", torch.tensor(encoding.lower_))
        self.register_buffer("upper", torch.tensor(encoding.upper_))

    def forward(self, X: Tensor) -> Tensor:
        """Encode each column as its values in the bins."""
        lines = X.index_select(1, self.column)
        torch.addcmul(self.offset, lines, self.slope, out=lines)
        return lines.clamp_(self.lower, self.upper)


class _DropoutMasks:
    """Dropout masks cut from a pool of random rows, redrawn now and then.

    Drawing a fresh mask for every step would cost as much as the step itself.
    """

    uses_of_a_pool = 256

    def __init__(self, keep: float, seed: int) -> None:
        self.keep = keep
        self._generator = torch.Generator().manual_seed(seed)
        self._pools: dict[tuple[int, int], tuple[Tensor, list[int]]] = {}

    def cut(self, n_rows: int, n_columns: int, like: Tensor) -> Tensor:
        """Return a mask of 0 and 1 / keep."""
        # Batches differ by a row in length; they share a pool.
        key = (-(-n_rows // 16), n_columns)
        pool, starts = self._pools.get(key, (like, []))
        if not starts:
            pool, starts = self._draw(8 * 16 * key[0], n_columns, like)
            self._pools[key] = pool, starts
        start = starts.pop()
        return pool[start : start + n_rows]

    def _draw(self, n_rows: int, n_columns: int, like: Tensor) -> tuple[Tensor, list[int]]:
        """Draw a pool and where it is cut."""
        pool = torch.empty(n_rows, n_columns, dtype=like.dtype)
        pool.bernoulli_(self.keep, generator=self._generator).div_(self.keep)
        last = n_rows - n_rows // 8
        starts = torch.randint(last + 1, (self.uses_of_a_pool,), generator=self._generator)
        return pool.to(like.device), starts.tolist()


def auto_hidden_sizes(
    n_features: int, n_classes: int, encoding: PiecewiseLinearEncoding | None, n_rows: int
) -> tuple[int, int]:
    """Return two hidden layers, the second half as wide, within the bound on parameters."""
    most = min(_MOST_PARAMETERS, max(_ENOUGH_PARAMETERS, _PARAMETERS_PER_ROW * n_rows))
    n_inputs = n_features if encoding is None else len(encoding.column_)
    for width in range(_WIDEST, _NARROWEST, -2):
        if count_parameters([n_inputs, width, width // 2, n_classes]) <= most:
            return width, width // 2
    return _NARROWEST, _NARROWEST // 2


def count_parameters(widths: Sequence[int]) -> int:
    """Count weights and biases of a network, given the widths of all its layers."""
    return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths))


class StudentMLP(nn.Module):
    """One MLP, or ``n_students`` of one shape trained side by side on the same batches.

    A single student has weights of shape (n_in, n_out); a stack has (n_students, n_in, n_out) and
    every product is a batched one. All students of a stack start from the same weights and share
    their dropout masks, so that each is the student that a fit of its own would give.

    The gradient is written out by hand: for networks this small most of a step's time would be
    spent in recording and replaying the graph.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        encoding: PiecewiseLinearEncoding | None = None,
        n_students: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.activation, self.dropout = activation, dropout
        self.embed = nn.Identity() if encoding is None else PiecewiseLinear(encoding)
        n_features = n_features if encoding is None else len(encoding.column_)
        sizes = [n_features, *hidden_layer_sizes, n_classes]
        self.shapes = list(itertools.pairwise(sizes))
        generator = torch.Generator().manual_seed(seed)
        # Drawn in float64 so that every dtype starts from the same weights.
        draws = [
            (2 * torch.rand((n_in + 1) * n_out, generator=generator, dtype=torch.float64) - 1)
            / math.sqrt(n_in)
            for n_in, n_out in self.shapes
        ]
        theta = torch.cat(draws)
        self.theta = nn.Parameter(theta if n_students is None else theta.repeat(n_students, 1))
        self._masks = _DropoutMasks(1 - dropout, seed + 1)
        self._views: Any = None

    def pairs(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the weight and bias of each layer as views of the flat numbers."""
        pairs, start = [], 0
        for n_in, n_out in self.shapes:
            middle, stop = start + n_in * n_out, start + (n_in + 1) * n_out
            weight, bias = flat[..., start:middle], flat[..., middle:stop]
            shape = flat.shape[:-1]
            # In a stack the bias keeps an axis for the rows.
            bias_shape = (n_out,) if flat.ndim == 1 else (*shape, 1, n_out)
            pairs.append((weight.view(*shape, n_in, n_out), bias.view(bias_shape)))
            start = stop
        return pairs

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, of shape (n_rows, n_classes) or (n_students, n_rows, n_classes)."""
        activate = ACTIVATIONS[self.activation][0]
        h = self.embed(X)
        last = len(self.shapes) - 1
        for i, (weight, bias) in enumerate(self.pairs(self.theta)):
            h = torch.matmul(h, weight) + bias
            if i < last:
                h = activate(h)
                if self.training and self.dropout:
                    h = h * self.dropout_mask(h)
        return h

    def prepare(self) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """Make the buffer of the gradient, and return views of the numbers and of the gradient."""
        self.theta.grad = torch.zeros_like(self.theta.data)
        self._views = self.pairs(self.theta.data), self.pairs(self.theta.grad)
        return self._views

    def dropout_mask(self, h: Tensor) -> Tensor:
        """Return the mask of a layer, one for all students of a stack."""
        return self._masks.cut(h.shape[-2], h.shape[-1], like=h)

    @torch.no_grad()
    def backward_by_hand(self, X: Tensor, targets: Any, criterion: Any) -> LossSums:
        """Run a batch forward, write the gradient of its mean and return the sums of its losses."""
        if self._views is None:
            self._views = self.prepare()
        parameters, gradients = self._views
        activate, activation_backward, _ = ACTIVATIONS[self.activation]
        dropping = self.training and self.dropout > 0
        inputs: list[Tensor] = [self.embed(X)]
        sums, outputs, masks = [], [], []
        for weight, bias in parameters[:-1]:
            z = _product(inputs[-1], weight, bias)
            a = activate(z)
            sums.append(z)
            outputs.append(a)
            if dropping:
                masks.append(self.dropout_mask(a))
            inputs.append(a * masks[-1] if dropping else a)
        terms, gradient = criterion.at_logits(_product(inputs[-1], *parameters[-1]), targets)
        hints: dict[int, Tensor] = {}
        if criterion.hints:
            # A hint looks at a layer before dropout.
            hidden, hints = criterion.at_hidden(dict(enumerate(outputs)), targets)
            terms = terms._replace(hidden=hidden)
        for i in range(len(parameters) - 1, -1, -1):
            into_weight, into_bias = gradients[i]
            torch.matmul(inputs[i].mT, gradient, out=into_weight)
            torch.sum(gradient, -2, keepdim=into_bias.ndim == 3, out=into_bias)
            if i:
                gradient = torch.matmul(gradient, parameters[i][0].mT)
                if dropping:
                    gradient *= masks[i - 1]
                if i - 1 in hints:
                    gradient += hints[i - 1]
                gradient = activation_backward(gradient, sums[i - 1], outputs[i - 1])
        return terms

    @torch.no_grad()
    def set_weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        """Take the weights and biases of one frozen student."""
        for (weight, bias), arrays in zip(self.pairs(self.theta), weights, strict=True):
            weight.copy_(torch.tensor(arrays[0]))
            bias.copy_(torch.tensor(arrays[1]))

    def layers(self, student: int | None = None) -> list[Layer]:
        """Return the frozen layers of the student, or of one student of the stack."""
        frozen: list[Layer] = []
        flat = self.theta if student is None else self.theta[student]
        for weight, bias in self.pairs(flat.detach().cpu()):
            arrays = weight.numpy().copy(), bias.numpy().copy()
            frozen += [Layer("linear", arrays), Layer(self.activation)]
        return frozen[:-1]


def _product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return h @ weight + bias in the fewest passes for one student or a stack."""
    if weight.ndim == 2:
        return torch.addmm(bias, h, weight)
    return torch.matmul(h, weight).add_(bias)
