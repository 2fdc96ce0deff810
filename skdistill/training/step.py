"""A step of training on the CPU: NumPy's products on the memory of torch's parameters."""

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from skdistill.training.network import ACTIVATIONS, PiecewiseLinear, StudentMLP
from skdistill.training.objective import LossSums, Objective, Targets, WeighedRows

# Numbers that are updated together: five arrays of these fit a processor's cache.
_PART = 1 << 15


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015) with torch's defaults, for a few parameters on the CPU.

    For networks this small ``torch.optim.Adam`` spends most of a step on hooks and on grouping
    tensors. :meth:`update` is the arithmetic alone; :meth:`step` is the same with torch's hooks.
    Every operation is a single one and correctly rounded, so that the numbers of a student do not
    depend on where they lie in a parameter: in a stack they become the same as alone.

    The state of a parameter holds running means of its gradient and of the square, both without
    their factors 1 - beta, and the number of steps that they stand for.
    """

    betas, epsilon = (0.9, 0.999), 1e-8

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._kept: dict[int, _Views] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, which shares no memory with the parameters of the other."""
        super().__setstate__(state)
        self._kept = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; torch's own method loads torch's compiler first, which takes seconds."""
        self.param_groups.append({**self.defaults, **param_group})

    def step(self, closure: Any = None) -> Any:
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss

    def update(self) -> None:
        """Make one step with the gradients that the parameters have."""
        settings = self.param_groups[0]
        for i, parameter in enumerate(settings["params"]):
            gradient, kept = parameter.grad, self._kept.get(i)
            if gradient is None:
                continue
            if kept is None or kept.gradient is not gradient or kept.place != parameter.data_ptr():
                kept = self._kept[i] = self._views(parameter, gradient)
            self._move(kept, settings["lr"], settings["weight_decay"])

    def _move(self, views: "_Views", rate: float, decay: float) -> None:
        """Move one parameter in place."""
        views.state["count"] = count = views.state["count"] + 1
        beta1, beta2 = self.betas
        second = math.sqrt((1 - beta2**count) / (1 - beta2))
        # The factors 1 - beta of the moments are multiplied in here.
        size = rate * second * (1 - beta1) / (1 - beta1**count)
        epsilon = self.epsilon * second
        for theta, gradient, mean, square, scale, step in views.parts:
            if decay:
                gradient = np.add(gradient, np.multiply(theta, decay, out=step), out=step)
            mean *= beta1
            mean += gradient
            square *= beta2
            square += np.multiply(gradient, gradient, out=scale)
            np.sqrt(square, out=scale)
            scale += epsilon
            np.divide(mean, scale, out=step)
            step *= size
            theta -= step

    def _views(self, parameter: Tensor, gradient: Tensor) -> "_Views":
        """Return views of a parameter, its gradient and its moments, and buffers, in parts."""
        theta = parameter.detach().numpy().reshape(-1)
        state = self.state[parameter]
        if not state:
            state |= {"count": 0, "mean": np.zeros_like(theta), "square": np.zeros_like(theta)}
        flat = [theta, gradient.numpy().reshape(-1), state["mean"], state["square"]]
        buffers = np.empty((2, min(_PART, theta.size)), theta.dtype)
        parts = [
            [*(array[i : i + _PART] for array in flat), *buffers[:, : theta.size - i]]
            for i in range(0, theta.size, _PART)
        ]
        return _Views(gradient, parameter.data_ptr(), state, parts)


class _Views(NamedTuple):
    """What updates a parameter as long as it and its gradient stay where they are in memory."""

    gradient: Tensor
    place: int
    state: dict[str, Any]
    parts: list[list[np.ndarray]]


def take_moments(optimizer: Optimizer, other: Optimizer) -> None:
    """Go on from another optimiser's moments, whose first parameters are the same."""
    # On another device the optimiser may be another one, which begins anew.
    if type(optimizer) is not type(other):
        return
    own, before = (o.param_groups[0]["params"] for o in (optimizer, other))
    # Projections of hints, which come last, are not trained further.
    for parameter, old in zip(own, before, strict=False):
        optimizer.state[parameter] = copy.deepcopy(other.state[old])


Array = np.ndarray


class _Layer(NamedTuple):
    """The numbers of a layer and of its gradient, each of shape (n_students, ..., n_out)."""

    weight: Array
    bias: Array
    into_weight: Array
    into_bias: Array


class _Hidden:
    """What a hidden layer writes for batches of one length, and its activation."""

    def __init__(self, activation: str, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self.sums, self.gradient = np.empty(shape, dtype), np.empty(shape, dtype)
        self._tensors = torch.from_numpy(self.gradient), torch.from_numpy(self.sums)
        self._function, self._backward, _ = ACTIVATIONS[activation]
        self._dropped = np.empty(shape, dtype)

    def activate(self) -> Array:
        """Return the outputs of the layer from its sums."""
        self._outputs = self._function(self._tensors[1])
        return self._outputs.numpy()

    def drop(self, outputs: Array, mask: Array) -> Array:
        """Return the outputs after dropout; hints and the gradient still need those before."""
        return np.multiply(outputs, mask, out=self._dropped)

    def backward(self) -> Array:
        """Return the gradient of the sums from that of the outputs."""
        return self._backward(*self._tensors, self._outputs).numpy()


class _Relu(_Hidden):
    """The same for the rectifier, where NumPy is faster."""

    def __init__(self, activation: str, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        super().__init__(activation, shape, dtype)
        # NumPy converts a Python number anew in every call.
        self._zero = np.zeros((), dtype)
        self._positive = np.empty(shape, bool)

    def activate(self) -> Array:
        """Overwrite the sums: the outputs tell all that the gradient needs."""
        return np.maximum(self.sums, self._zero, out=self.sums)

    def backward(self) -> Array:
        """Overwrite the gradient of the outputs."""
        positive = np.greater(self.sums, self._zero, out=self._positive)
        return np.multiply(self.gradient, positive, out=self.gradient)


class CpuStep:
    """Forward, gradient and update of the built-in network for the rows of a batch.

    Torch spends microseconds on every small operation and copies the weights of a stack before it
    multiplies them; NumPy does neither. A student of a stack gets the very operations that a
    student alone gets, so that both end at the same numbers in every dtype. The parameters stay
    torch's: only their memory is shared.
    """

    def __init__(self, module: StudentMLP, objective: Objective, optimizer: Adam) -> None:
        self.module, self._objective, self._optimizer = module, objective, optimizer
        views = zip(module.pairs(module.theta.data), module.make_gradient(), strict=True)
        self._layers = [
            _Layer(*(_stacked(tensor) for pair in pairs for tensor in pair)) for pairs in views
        ]
        self._hints = len(objective.hints) > 0
        self._loaded: Tensor | None = None
        self._targets: Targets | None = None

    def load(self, X: Tensor, targets: Targets) -> None:
        """Take the rows, of shape (n, n_features), of the steps to come, and what they carry.

        What is loaded already, rows or targets, costs nothing.
        """
        if X is not self._loaded:
            self._loaded, self._X = X, X.numpy()
            self._whole: Array | None = None
            # Other rows may be cut into batches of other lengths.
            self._hidden: dict[int, list[_Hidden]] = {}
        if targets is not self._targets:
            self._targets = targets
            self._rows = self._objective.prepare(targets)
            self._start_sums()

    def _start_sums(self) -> None:
        """Begin to sum the losses anew."""
        self._soft, self._hard = np.zeros((2, len(self._layers[0].weight)))
        self._hidden_sum = 0.0

    def __call__(self, rows: Array | None) -> None:
        """Make one step on some rows, or on all."""
        if rows is None:
            if self._whole is None:
                self._whole = self._embed(self._X)
            self._backward(self._whole, self._rows, rows)
        else:
            self._backward(self._embed(self._X.take(rows, axis=0)), self._rows.take(rows), rows)
        self._optimizer.update()

    def sums(self) -> LossSums:
        """Return the sums of the losses over one pass of these rows, and begin to sum anew."""
        sums = self._objective.finish((self._soft, self._hard), self._rows.offset)
        sums = sums._replace(hidden=self._hidden_sum)
        self._start_sums()
        return sums

    def _embed(self, X: Array) -> Array:
        """Return what the first layer sees of the rows."""
        embed = self.module.embed
        # The call of a module that does nothing takes longer than a layer.
        return embed(torch.from_numpy(X)).numpy() if isinstance(embed, PiecewiseLinear) else X

    def _backward(self, h: Array, carried: WeighedRows, rows: Array | None) -> None:
        """Run a batch forward and write the gradient of its mean."""
        hidden = self._hidden.get(len(h))
        if hidden is None:
            hidden = self._hidden[len(h)] = self._make_hidden(len(h))
        *layers, last = self._layers
        dropping = self.module.training and self.module.dropout > 0
        inputs, outputs, masks = [h], [], []
        for layer, made in zip(layers, hidden, strict=True):
            np.matmul(inputs[-1], layer.weight, out=made.sums)
            made.sums += layer.bias
            h = made.activate()
            outputs.append(h)
            if dropping:
                masks.append(self.module.dropout_mask(torch.from_numpy(h)).numpy())
                h = made.drop(h, masks[-1])
            inputs.append(h)
        logits = np.matmul(h, last.weight)
        logits += last.bias
        (soft, hard), gradient = self._objective.at_logits(logits, carried)
        self._soft += soft
        self._hard += hard
        hints = self._at_hidden(outputs, rows) if self._hints else {}
        for i in range(len(layers), -1, -1):
            layer = self._layers[i]
            np.matmul(inputs[i].swapaxes(-1, -2), gradient, out=layer.into_weight)
            np.add.reduce(gradient, axis=-2, keepdims=True, out=layer.into_bias)
            if i:
                made = hidden[i - 1]
                np.matmul(gradient, layer.weight.swapaxes(-1, -2), out=made.gradient)
                if dropping:
                    made.gradient *= masks[i - 1]
                if i - 1 in hints:
                    made.gradient += hints[i - 1]
                gradient = made.backward()

    def _at_hidden(self, outputs: list[Array], rows: Array | None) -> dict[int, Array]:
        """Return the gradients of the hints at the hidden layers, and add to their sum."""
        assert self._targets is not None
        columns = self._targets.hidden
        with torch.inference_mode(False):
            if rows is not None:
                columns = tuple(layer.take(torch.from_numpy(rows)) for layer in columns)
            # With hints a stack holds one student.
            layers = {i: torch.from_numpy(h[0]) for i, h in enumerate(outputs)}
            total, gradients = self._objective.at_hidden(layers, columns)
        self._hidden_sum += total
        return {i: gradient.numpy() for i, gradient in gradients.items()}

    def _make_hidden(self, n: int) -> list[_Hidden]:
        """Make what the hidden layers write for batches of n rows."""
        activation, dtype = self.module.activation, self._X.dtype
        kind = _Relu if activation == "relu" else _Hidden
        shapes = [layer.weight.shape for layer in self._layers[:-1]]
        return [kind(activation, (s[0], n, s[2]), dtype) for s in shapes]


def _stacked(parameter: Tensor) -> Array:
    """Return a weight or bias as an array of shape (n_students, ..., n_out)."""
    array = parameter.numpy()
    return array if array.ndim == 3 else array.reshape(1, -1, array.shape[-1])
