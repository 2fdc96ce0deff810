"""Small teachers that tests share: torch modules, and rows to ask them about."""

from collections.abc import Callable

import numpy as np
import torch

N_FEATURES = 3


def make_rows(n: int = 60, n_classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return X (n, 3) float64 and codes that depend on the first column; every class appears."""
    X = np.random.default_rng(seed).normal(size=(n, N_FEATURES))
    codes = np.argsort(np.argsort(X[:, 0])) * n_classes // n
    return X, codes


class Noisy(torch.nn.Module):
    """A module that differs between calls and changes itself unless it is in evaluation mode."""

    def __init__(self, n_classes: int = 2) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(N_FEATURES)
        self.drop = torch.nn.Dropout(0.5)
        self.linear = torch.nn.Linear(N_FEATURES, n_classes)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.linear(self.drop(self.norm(X)))


class Answer(torch.nn.Module):
    """A module that returns what a function makes of X."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, X: torch.Tensor) -> object:
        return self.function(X)
