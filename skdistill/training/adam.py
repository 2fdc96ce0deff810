"""Adam on NumPy views of torch parameters, without the cost of a general optimiser's step."""

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Adam", "take_moments"]

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
