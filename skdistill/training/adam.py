"""Adam on NumPy views of torch parameters, without the cost of a general optimiser's step."""

import copy
import math
from typing import Any

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
        self._parts: dict[Tensor, tuple[Tensor, int, list[list[np.ndarray]]]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, which shares no memory with the parameters of the other."""
        super().__setstate__(state)
        self._parts = {}

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
        for parameter in settings["params"]:
            if parameter.grad is not None:
                self._update(parameter, settings["lr"], settings["weight_decay"])

    def _update(self, parameter: Tensor, rate: float, decay: float) -> None:
        """Move one parameter in place."""
        state, parts = self.state[parameter], self._views(parameter)
        state["count"] += 1
        beta1, beta2 = self.betas
        second = math.sqrt((1 - beta2 ** state["count"]) / (1 - beta2))
        # The factors 1 - beta of the moments are multiplied in here.
        size = rate * second * (1 - beta1) / (1 - beta1 ** state["count"])
        epsilon = self.epsilon * second
        for theta, gradient, mean, square, scale, step in parts:
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

    def _views(self, parameter: Tensor) -> list[list[np.ndarray]]:
        """Return views of a parameter, its gradient and its moments, and buffers, in parts."""
        gradient, place = parameter.grad, parameter.data_ptr()
        assert gradient is not None
        kept = self._parts.get(parameter)
        if kept is not None and kept[0] is gradient and kept[1] == place:
            return kept[2]
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
        self._parts[parameter] = gradient, place, parts
        return parts


def take_moments(optimizer: Optimizer, other: Optimizer) -> None:
    """Go on from another optimiser's moments, whose first parameters are the same."""
    # On another device the optimiser may be another one, which begins anew.
    if type(optimizer) is not type(other):
        return
    own, before = (o.param_groups[0]["params"] for o in (optimizer, other))
    # Projections of hints, which come last, are not trained further.
    for parameter, old in zip(own, before, strict=False):
        optimizer.state[parameter] = copy.deepcopy(other.state[old])
