"""The student's network: an MLP, or a stack of them."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skdistill.student.forward import Layer
from skdistill.tables.bins import PiecewiseLinearEncoding
from skdistill.training.data import TrainingSet
from skdistill.training.spec import StudentSpec
from skdistill.training.stream import TrainingStream

# For each activation: the function, and its gradient from (gradient, input, output). Those are the
# operators that autograd itself calls: torch documents no function for them, and formulas of our
# own would round otherwise than autograd does.
_aten = torch.ops.aten
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], type[nn.Module]]] = {
    "relu": (torch.relu, lambda g, z, a: _aten.threshold_backward(g, a, 0), nn.ReLU),
    "tanh": (torch.tanh, lambda g, z, a: _aten.tanh_backward(g, a), nn.Tanh),
    "gelu": (nn.functional.gelu, lambda g, z, a: _aten.gelu_backward(g, z), nn.GELU),
    "silu": (nn.functional.silu, lambda g, z, a: _aten.silu_backward(g, z), nn.SiLU),
}


class PiecewiseLinear(nn.Module):
    """What :func:`skdistill.tables.bins.encode_lines` computes, for tensors."""

    column: Tensor
    slope: Tensor
    offset: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, encoding: PiecewiseLinearEncoding) -> None:
        super().__init__()
        for name, array in encoding.lines._asdict().items():
            self.register_buffer(name, torch.tensor(array))

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


class StudentMLP(nn.Module):
    """One MLP, or ``n_students`` of one shape trained side by side on the same batches.

    A single student has weights of shape (n_in, n_out); a stack has (n_students, n_in, n_out) and
    every product is a batched one. All students of a stack start from the same weights and share
    their dropout masks, so that each is the student that a fit of its own would give.

    ``forward`` is for autograd; :mod:`skdistill.training.step` trains by NumPy on the CPU, since
    for networks this small most of the time would be spent in recording and replaying the graph.
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
        n_features = n_features if encoding is None else encoding.n_features_out_
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
        return self.with_hidden(X)[0]

    def with_hidden(self, X: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits, and the outputs of the hidden layers before dropout."""
        activate = ACTIVATIONS[self.activation][0]
        h, hidden = self.embed(X), []
        *pairs, (last_weight, last_bias) = self.pairs(self.theta)
        for weight, bias in pairs:
            h = activate(torch.matmul(h, weight) + bias)
            hidden.append(h)
            if self.training and self.dropout:
                h = h * self.dropout_mask(h)
        return torch.matmul(h, last_weight) + last_bias, hidden

    def make_gradient(self) -> list[tuple[Tensor, Tensor]]:
        """Give the parameters a gradient of zeros, and return its views for each layer."""
        self.theta.grad = torch.zeros_like(self.theta.data)
        return self.pairs(self.theta.grad)

    def dropout_mask(self, h: Tensor) -> Tensor:
        """Return the mask of a layer, one for all students of a stack."""
        return self._masks.cut(h.shape[-2], h.shape[-1], like=h)

    @torch.no_grad()
    def set_weights(self, weights: Sequence[tuple[Any, ...]]) -> None:
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


# hidden_layer_sizes="auto"
_WIDEST, _NARROWEST = 128, 16
_PARAMETERS_PER_ROW, _ENOUGH_PARAMETERS, _MOST_PARAMETERS = 11, 20_000, 50_000
# max_epochs="auto" makes this many optimiser steps for each row of X, within bounds.
_STEPS_PER_ROW, _FEWEST_STEPS, _MOST_STEPS = 7, 1_000, 20_000
# dropout="auto": none where all rows fit one batch, so that weights act as repeated rows there, and
# none where there are so many rows for each parameter that no network can learn them by heart.
_DROPOUT, _ROWS_TO_SPARE = 0.1, 10


def resolve(spec: StudentSpec, data: TrainingSet | TrainingStream) -> StudentSpec:
    """Return the specification with every "auto" replaced by its value for these rows."""
    n, n_real = data.n_rows, data.n_real
    widths = network_widths(spec, data)
    return replace(
        spec,
        hidden_layer_sizes=tuple(widths[1:-1]),
        dropout=dropout_rate(spec, n, n_real, count_parameters(widths)),
        max_epochs=count_epochs(spec, n, n_real),
        dtype=dtype_name(spec, n),
    )


def network_widths(spec: StudentSpec, data: TrainingSet | TrainingStream) -> list[int]:
    """Return the widths of all layers of the built-in network, inputs and outputs included."""
    n_inputs, n_classes = data.n_features, len(data.classes)
    if data.encoding is not None:
        n_inputs = data.encoding.n_features_out_
    sizes: Any = spec.hidden_layer_sizes
    if isinstance(sizes, str):
        sizes = auto_hidden_sizes(n_inputs, n_classes, data.n_real)
    return [n_inputs, *sizes, n_classes]


def auto_hidden_sizes(n_inputs: int, n_classes: int, n_rows: int) -> tuple[int, int]:
    """Return two hidden layers, the second half as wide, within the bound on parameters."""
    most = min(_MOST_PARAMETERS, max(_ENOUGH_PARAMETERS, _PARAMETERS_PER_ROW * n_rows))
    for width in range(_WIDEST, _NARROWEST, -2):
        if count_parameters([n_inputs, width, width // 2, n_classes]) <= most:
            return width, width // 2
    return _NARROWEST, _NARROWEST // 2


def count_parameters(widths: Sequence[int]) -> int:
    """Count weights and biases of a network, given the widths of all its layers."""
    return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths))


def dtype_name(spec: StudentSpec, n: int) -> str:
    """Return the training dtype: float64 where all rows fit one batch, unless one is set."""
    if spec.dtype != "auto":
        return spec.dtype
    return "float64" if n <= spec.batch_size else "float32"


def count_epochs(spec: StudentSpec, n: int, n_real: int) -> int:
    """Return the number of epochs; "auto" counts optimiser steps, whatever rows were added."""
    if not isinstance(spec.max_epochs, str):
        return int(spec.max_epochs)
    n_batches = math.ceil(n / spec.batch_size)
    if n_batches == 1:
        return _FEWEST_STEPS
    n_steps = min(max(_STEPS_PER_ROW * n_real, _FEWEST_STEPS), _MOST_STEPS)
    return math.ceil(n_steps / n_batches)


def dropout_rate(spec: StudentSpec, n: int, n_real: int, n_parameters: float = math.inf) -> float:
    """Return the share of hidden units left out; "auto" asks how many rows there are."""
    if not isinstance(spec.dropout, str):
        return spec.dropout
    to_spare = n_real >= _ROWS_TO_SPARE * n_parameters
    return 0.0 if n <= spec.batch_size or to_spare else _DROPOUT
