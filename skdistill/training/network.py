"""The student's network: an MLP, a stack of them, or the user's; to frozen layers and back."""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skdistill.student import Layer, TorchStudent
from skdistill.tables import PiecewiseLinearEncoding
from skdistill.teachers.answers import torch_lock
from skdistill.training.spec import StudentSpec

if TYPE_CHECKING:
    from skdistill.student import StudentClassifier
    from skdistill.training.data import TrainingSet

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

    def cut(self, h: Tensor) -> Tensor:
        """Return a mask of 0 and 1 / keep for a layer, one for all students of a stack."""
        n_rows, n_columns = h.shape[-2:]
        # Batches differ by a row in length; they share a pool.
        key = (-(-n_rows // 16), n_columns)
        pool, starts = self._pools.get(key, (h, []))
        if not starts:
            n_pool = 8 * 16 * key[0]
            pool = torch.empty(n_pool, n_columns, dtype=h.dtype)
            pool.bernoulli_(self.keep, generator=self._generator).div_(self.keep)
            last = n_pool - n_pool // 8
            drawn = torch.randint(last + 1, (self.uses_of_a_pool,), generator=self._generator)
            pool, starts = self._pools[key] = pool.to(h.device), drawn.tolist()
        start = starts.pop()
        return pool[start : start + n_rows]


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
        self.masks = _DropoutMasks(1 - dropout, seed + 1)

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
                h = h * self.masks.cut(h)
        return torch.matmul(h, last_weight) + last_bias, hidden

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


def build_module(
    spec: StudentSpec, data: "TrainingSet", seed: int, n_students: int | None = None
) -> Any:
    """Build the student's network by a resolved specification, or a stack of them."""
    n_features, n_classes = data.X.shape[1], len(data.classes)
    if spec.student_module is not None:
        return build_custom_module(spec.student_module, n_features, n_classes, seed)
    return StudentMLP(
        n_features,
        n_classes,
        hidden_layer_sizes=tuple(map(int, spec.hidden_layer_sizes)),
        activation=spec.activation,
        dropout=float(spec.dropout),
        encoding=data.encoding,
        n_students=n_students,
        seed=seed,
    )


@contextlib.contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed torch's global generator and restore it; needed for modules that draw from it."""
    with torch_lock, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the generators of other devices too.
        torch.default_generator.manual_seed(seed)
        yield


def build_custom_module(
    factory: Callable[[int, int], nn.Module], n_features: int, n_classes: int, seed: int
) -> nn.Module:
    """Call the user's factory and check what it returns."""
    if isinstance(factory, nn.Module):
        raise TypeError(
            f"student_module is a module itself; pass what makes one, such as the class: "
            f"student_module={type(factory).__name__}."
        )
    with seeded_globally(seed):
        module = factory(n_features, n_classes)
    if not isinstance(module, nn.Module):
        raise TypeError(
            "student_module must be a callable (n_features, n_classes) -> torch.nn.Module; "
            f"it returned a {type(module).__name__}."
        )
    logits = logits_of(on_two_rows(module, n_features, lambda module, rows: module(rows)))
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"The module of student_module({n_features}, {n_classes}) must return logits or "
            f"(logits, hidden); it returned a {type(logits).__name__} in their place."
        )
    shape = tuple(logits.shape)
    if shape != (2, n_classes):
        raise ValueError(
            f"student_module({n_features}, {n_classes}) must map rows of shape (n, {n_features}) "
            f"to logits of shape (n, {n_classes}); two rows gave shape {shape}."
        )
    return module


def logits_of(output: Any) -> Tensor:
    """Return the logits of a module that may return (logits, hidden)."""
    return output[0] if isinstance(output, tuple | list) else output


def on_two_rows(module: nn.Module, n_features: int, call: Callable[..., Any]) -> Any:
    """Call a function on the module, without dropout, and two rows of zeros."""
    training = module.training
    parameter = next(module.parameters(), torch.empty(0))
    rows = torch.zeros(2, n_features, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        output = call(module.eval(), rows)
    module.train(training)
    return output


_ACTIVATION_OF = {kind: name for name, (_, _, kind) in ACTIVATIONS.items()}


def frozen_layers(module: Any) -> list[Layer] | None:
    """Return the module as frozen layers, or None if it holds a layer that cannot be frozen."""
    kind = type(module)
    if kind is StudentMLP:
        return module.layers()
    if kind is nn.Sequential:
        parts: list[Any] = [frozen_layers(child) for child in module]
        return None if None in parts else list(itertools.chain(*parts))
    if kind in (nn.Dropout, nn.Identity):
        return []
    if kind in _ACTIVATION_OF:
        exact = getattr(module, "approximate", "none") == "none"
        return [Layer(_ACTIVATION_OF[kind])] if exact else None
    if kind is nn.Linear:
        weight = _numpy(module.weight).T
        bias = np.zeros(weight.shape[1]) if module.bias is None else _numpy(module.bias)
        return [Layer("linear", (weight, bias))]
    if kind is nn.BatchNorm1d and module.running_mean is not None:
        scale = 1 / np.sqrt(_numpy(module.running_var) + module.eps)
        shift = -_numpy(module.running_mean) * scale
        if module.affine:
            scale, shift = scale * _numpy(module.weight), shift * _numpy(module.weight)
            shift = shift + _numpy(module.bias)
        return [Layer("affine", (scale, shift))]
    if kind is nn.LayerNorm and len(module.normalized_shape) == 1:
        (size,) = module.normalized_shape
        scale = np.ones(size) if module.weight is None else _numpy(module.weight)
        shift = np.zeros(size) if module.bias is None else _numpy(module.bias)
        return [Layer("layer_norm", (scale, shift, np.array(module.eps)))]
    return None


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)


class Affine(nn.Module):
    """x * scale + shift with fixed numbers: scaling or a frozen batch norm."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: np.ndarray, shift: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float64))

    def forward(self, X: Tensor) -> Tensor:
        """Scale and shift each column."""
        return X * self.scale + self.shift


class Standardise(Affine):
    """(x - mean) / scale with fixed numbers."""

    def forward(self, X: Tensor) -> Tensor:
        """Standardise each column."""
        return (X - self.shift) / self.scale


def to_torch_module(student: "StudentClassifier") -> nn.Sequential:
    """Rebuild a frozen student as a torch module in float64."""
    modules: list[nn.Module] = []
    if student._takes_raw and student.preprocessor_ is not None:
        p = student.preprocessor_
        modules.append(Standardise(p.scale_, p.mean_))
    if student.encoding_ is not None:
        modules.append(PiecewiseLinear(student.encoding_))
    return nn.Sequential(*modules, *map(torch_layer, student.layers_))


def torch_layer(layer: Layer) -> nn.Module:
    """Return a frozen layer as a torch module in float64."""
    arrays = [torch.tensor(a, dtype=torch.float64) for a in layer.arrays]
    if layer.kind == "affine":
        return Affine(*layer.arrays)
    if layer.kind == "linear":
        module: nn.Module = nn.utils.skip_init(nn.Linear, *arrays[0].shape, dtype=torch.float64)
        state = {"weight": arrays[0].T, "bias": arrays[1]}
    elif layer.kind == "layer_norm":
        size = len(arrays[0])
        module = nn.LayerNorm(size, eps=float(arrays[2]), dtype=torch.float64)
        state = {"weight": arrays[0], "bias": arrays[1]}
    else:
        return ACTIVATIONS[layer.kind][2]()
    module.load_state_dict(state)
    return module


def trainable_module(
    student: "StudentClassifier | TorchStudent", dropout: float, seed: int
) -> nn.Module:
    """Return a frozen student's network with its weights, to be trained further."""
    if isinstance(student, TorchStudent):
        return copy.deepcopy(student.module_)
    kinds = [layer.kind for layer in student.layers_]
    activations = set(kinds[1::2])
    ours = set(kinds[::2]) == {"linear"} and len(activations) <= 1 and activations <= {*ACTIVATIONS}
    if not ours or len(kinds) % 2 == 0:
        return nn.Sequential(*map(torch_layer, student.layers_))
    weights = [layer.arrays for layer in student.layers_[::2]]
    encoding = student.encoding_
    module = StudentMLP(
        len(weights[0][0]) if encoding is None else len(encoding.edges_),
        len(student.classes_),
        hidden_layer_sizes=[weight.shape[1] for weight, _ in weights[:-1]],
        activation=next(iter(activations), "relu"),
        dropout=dropout,
        encoding=encoding,
        seed=seed,
    )
    module.set_weights(weights)
    return module
