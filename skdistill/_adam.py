"""Adam on flat parameters, without the cost of a general optimiser's step."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["FlatAdam"]


class FlatAdam(Optimizer):
    """Adam (Kingma & Ba, 2015) with torch's defaults, for a few parameters that hold everything.

    For networks this small ``torch.optim.Adam`` spends most of a step on hooks and on grouping
    tensors. :meth:`update` is the arithmetic alone; :meth:`step` is the same with torch's hooks.
    """

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._count = 0
        self._moments: list[tuple[Tensor, ...]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies hold: torch's optimisers leave attributes of their own out."""
        own = {"_count": self._count, "_moments": self._moments}
        return {**super().__getstate__(), **own}

    def take_moments(self, other: "FlatAdam") -> None:
        """Go on where another optimiser of the same parameters stands."""
        self._count = other._count
        self._moments = [tuple(t.clone() for t in moments) for moments in other._moments]

    def step(self, closure: Any = None) -> Any:
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self.update()
        return loss

    def update(self) -> None:
        """Make one step; call it where gradients are off."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        if not self._moments:
            self._moments = [
                (torch.zeros_like(p.data), torch.zeros_like(p.data), torch.empty_like(p.data))
                for p in parameters
            ]
        self._count += 1
        settings = self.param_groups[0]
        first = 1 - self.beta1**self._count
        second = math.sqrt(1 - self.beta2**self._count)
        for p, (mean, square, scale) in zip(parameters, self._moments, strict=True):
            gradient = p.grad
            if settings["weight_decay"]:
                gradient = gradient.add(p.data, alpha=settings["weight_decay"])
            mean.lerp_(gradient, 1 - self.beta1)
            square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            torch.sqrt(square, out=scale).add_(self.epsilon * second)
            p.data.addcdiv_(mean, scale, value=-settings["lr"] * second / first)
