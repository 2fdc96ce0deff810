"""Adam on a flat NumPy array."""

import math
from typing import Any

import numpy as np

__all__ = ["ArrayAdam"]

# Numbers that are updated together: five arrays of these fit a processor's cache.
_PART = 1 << 15


class ArrayAdam:
    """What ``FlatAdam`` does, up to rounding, without torch's cost of a call.

    Every operation is a single one and correctly rounded, so that the numbers of a student do not
    depend on where they lie in the array: in a stack they become the same as alone.

    Parameters
    ----------
    theta, gradient : float array of one shape, contiguous
        The numbers, which are updated in place, and where their gradient is found.
    settings : dict
        With "lr" and "weight_decay" at each step.
    moments : pair of float arrays of that shape, contiguous, default=None
        Running means of the gradient and of its square, both without their factors 1 - beta, which
        are updated in place; None: zeros.
    count : int, default=0
        The number of steps that the moments stand for.
    """

    def __init__(
        self,
        theta: np.ndarray,
        gradient: np.ndarray,
        settings: dict[str, Any],
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        moments: tuple[np.ndarray, np.ndarray] | None = None,
        count: int = 0,
    ) -> None:
        self._settings, self._betas, self._epsilon, self.count = settings, betas, epsilon, count
        mean, square = np.zeros((2, theta.size), theta.dtype) if moments is None else moments
        flat = [array.reshape(-1) for array in (theta, gradient, mean, square)]
        starts = range(0, theta.size, _PART)
        buffers = np.empty((2, min(_PART, theta.size)), theta.dtype)
        self._parts = [
            [*(array[i : i + _PART] for array in flat), *buffers[:, : theta.size - i]]
            for i in starts
        ]

    def update(self) -> None:
        """Make one step."""
        self.count += 1
        (beta1, beta2), decay = self._betas, self._settings["weight_decay"]
        second = math.sqrt((1 - beta2**self.count) / (1 - beta2))
        # The factors 1 - beta of the moments are multiplied in here.
        size = self._settings["lr"] * second * (1 - beta1) / (1 - beta1**self.count)
        epsilon = self._epsilon * second
        for theta, gradient, mean, square, scale, step in self._parts:
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
