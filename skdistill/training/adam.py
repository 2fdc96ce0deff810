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
        self.count = 0
        self._moments: list[tuple[Tensor, ...]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies hold: torch's optimisers leave attributes of their own out."""
        own = {"count": self.count, "_moments": self._moments}
        return {**super().__getstate__(), **own}

    def moments(self) -> list[tuple[Tensor, ...]]:
        """Return the running mean of each gradient and of its square, and room for one more.

        They are kept without their factors 1 - beta, as :class:`ArrayAdam` keeps them.
        """
        if not self._moments:
            self._moments = [
                (torch.zeros_like(p.data), torch.zeros_like(p.data), torch.empty_like(p.data))
                for p in self._parameters()
            ]
        return self._moments

    def take_moments(self, other: "FlatAdam") -> None:
        """Go on where another optimiser stands, whose first parameters are the same."""
        self.count = other.count
        first = other.moments()[: len(self._parameters())]
        self._moments = [tuple(t.clone() for t in moments) for moments in first]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; torch's own method loads torch's compiler first, which takes seconds."""
        self.param_groups.append({**self.defaults, **param_group})

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
        self.count += 1
        settings = self.param_groups[0]
        second = math.sqrt((1 - self.beta2**self.count) / (1 - self.beta2))
        size = settings["lr"] * second * (1 - self.beta1) / (1 - self.beta1**self.count)
        for p, (mean, square, scale) in zip(self._parameters(), self.moments(), strict=True):
            gradient = p.grad
            assert gradient is not None
            if settings["weight_decay"]:
                gradient = gradient.add(p.data, alpha=settings["weight_decay"])
            torch.add(gradient, mean, alpha=self.beta1, out=mean)
            square.mul_(self.beta2).addcmul_(gradient, gradient)
            torch.sqrt(square, out=scale).add_(self.epsilon * second)
            p.data.addcdiv_(mean, scale, value=-size)
