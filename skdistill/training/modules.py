"""Torch modules a user brings or takes away: built, frozen to layers, rebuilt from them."""

import contextlib
import copy
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skdistill.student.forward import Layer
from skdistill.student.torch_student import TorchStudent
from skdistill.training.network import ACTIVATIONS, PiecewiseLinear, StudentMLP

if TYPE_CHECKING:
    from skdistill.student.classifier import StudentClassifier


_global_seed_lock = threading.RLock()


@contextlib.contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed torch's global generator and restore it; needed for modules that draw from it."""
    with _global_seed_lock, torch.random.fork_rng(devices=[]):
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
    _check_output(module, n_features, n_classes)
    return module


def _check_output(module: nn.Module, n_features: int, n_classes: int) -> None:
    """Raise if the module does not map rows to one logit a class."""
    logits = logits_of(_on_two_rows(module, n_features, lambda module, rows: module(rows)))
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


def logits_of(output: Any) -> Tensor:
    """Return the logits of a module that may return (logits, hidden)."""
    return output[0] if isinstance(output, tuple | list) else output


def with_hidden(
    module: nn.Module, X: Tensor, names: Collection[Any] | None = None
) -> tuple[Tensor, dict[Any, Tensor]]:
    """Run a module; return its logits and the named hidden layers, or all of them.

    Layers of the built-in network go by number. In a user's module a name is a key of the
    dictionary that the module returns beside the logits, or the dotted name of a submodule that is
    called once.
    """
    if isinstance(module, StudentMLP):
        logits, layers = module.with_hidden(X)
        return logits, dict(enumerate(layers))
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def record(name: str, part: nn.Module) -> Any:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            tensor = logits_of(output)
            calls[name] += 1
            if isinstance(tensor, Tensor):
                # A copy, as the layer behind may work in place.
                outputs[name] = tensor.clone()

        return part.register_forward_hook(hook)

    parts = {name: part for name, part in module.named_modules(remove_duplicate=False) if name}
    handles = [record(n, part) for n, part in parts.items() if names is None or n in names]
    try:
        output = module(X)
    finally:
        for handle in handles:
            handle.remove()
    found = {name: layer for name, layer in outputs.items() if calls[name] == 1}
    if isinstance(output, tuple | list) and len(output) > 1 and isinstance(output[1], Mapping):
        found |= {n: layer for n, layer in output[1].items() if names is None or n in names}
    return logits_of(output), found


def hidden_shapes(module: nn.Module, n_features: int) -> dict[Any, tuple[int, ...]]:
    """Return the shape of a row in each hidden layer that keeps the rows apart.

    Layers of the built-in network go by number, those of a user's module by name.
    """
    if isinstance(module, StudentMLP):
        return {i: (width,) for i, (_, width) in enumerate(module.shapes[:-1])}
    _, hidden = _on_two_rows(module, n_features, with_hidden)
    return {name: tuple(h.shape[1:]) for name, h in hidden.items() if h.ndim > 1 and len(h) == 2}


def _on_two_rows(module: nn.Module, n_features: int, call: Callable[..., Any]) -> Any:
    """Call a function on the module, without dropout, and two rows of zeros."""
    training = module.training
    parameter = next(module.parameters(), torch.empty(0))
    rows = torch.zeros(2, n_features, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        output = call(module.eval(), rows)
    module.train(training)
    return output


def frozen_layers(module: nn.Module) -> list[Layer] | None:
    """Return the module as frozen layers, or None if it holds a layer that cannot be frozen."""
    if type(module) is StudentMLP:
        return module.layers()
    if type(module) is nn.Sequential:
        layers: list[Layer] = []
        for child in module:
            frozen = frozen_layers(child)
            if frozen is None:
                return None
            layers += frozen
        return layers
    return _FREEZERS[type(module)](module) if type(module) in _FREEZERS else None


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _freeze_linear(module: Any) -> list[Layer]:
    weight = _numpy(module.weight).T
    bias = np.zeros(weight.shape[1]) if module.bias is None else _numpy(module.bias)
    return [Layer("linear", (weight, bias))]


def _freeze_batch_norm(module: Any) -> list[Layer] | None:
    if module.running_mean is None:
        return None
    scale = 1 / np.sqrt(_numpy(module.running_var) + module.eps)
    shift = -_numpy(module.running_mean) * scale
    if module.affine:
        scale, shift = scale * _numpy(module.weight), shift * _numpy(module.weight)
        shift = shift + _numpy(module.bias)
    return [Layer("affine", (scale, shift))]


def _freeze_layer_norm(module: Any) -> list[Layer] | None:
    if len(module.normalized_shape) != 1:
        return None
    size = module.normalized_shape[0]
    scale = np.ones(size) if module.weight is None else _numpy(module.weight)
    shift = np.zeros(size) if module.bias is None else _numpy(module.bias)
    return [Layer("layer_norm", (scale, shift, np.array(module.eps)))]


_FREEZERS: dict[type, Callable[[Any], list[Layer] | None]] = {
    nn.Linear: _freeze_linear,
    nn.BatchNorm1d: _freeze_batch_norm,
    nn.LayerNorm: _freeze_layer_norm,
    nn.Dropout: lambda module: [],
    nn.Identity: lambda module: [],
    nn.ReLU: lambda module: [Layer("relu")],
    nn.Tanh: lambda module: [Layer("tanh")],
    nn.SiLU: lambda module: [Layer("silu")],
    nn.GELU: lambda module: [Layer("gelu")] if module.approximate == "none" else None,
}


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


def torch_student(student: "StudentClassifier") -> nn.Sequential:
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
