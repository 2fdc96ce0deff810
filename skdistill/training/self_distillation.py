"""Self-distillation: the student of the epoch before has a part in the soft targets."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skdistill.training.modules import logits_of
from skdistill.training.network import StudentMLP
from skdistill.training.objective import Targets

__all__ = ["ProgressiveBatches"]

# Rows answered at once, so that memory does not grow with rows times hidden units.
_BLOCK_ROWS = 8192


class ProgressiveBatches:
    """Batches of targets that are refined from epoch to epoch (PS-KD, Kim et al., 2021).

    In epoch t of ``n_epochs``, counted from 1, the soft target of a row is

        (1 - a) · proba + a · softmax(z),  a = weight · t / n_epochs,

    z being the logits, without dropout, that the weights at the end of epoch t - 1 give. The first
    epoch has none before it: its targets are the batches' own. A temperature softens the mixture.

    ``batches`` gives its `parts`, one epoch a call; the module is one student, or a stack of one;
    ``n_epochs`` are the epochs that are planned, wherever training stops.
    """

    def __init__(self, batches: Any, module: nn.Module, weight: float, n_epochs: int) -> None:
        self.batches, self.module = batches, module
        self.weight, self.n_epochs = weight, n_epochs
        self.epoch = 0

    def n_steps(self, epochs: int) -> int:
        """Return the number of batches of all epochs."""
        return int(self.batches.n_steps(epochs))

    def parts(self) -> Iterator[Any]:
        """Yield what is in memory at once, with the targets of this epoch."""
        self.epoch += 1
        before = self._state()
        # The first part finds the weights as the epoch before left them.
        weights: AbstractContextManager[Any] = nullcontext()
        for part in self.batches.parts():
            targets = part.targets
            if self.epoch > 1:
                with weights:
                    targets = self._mixed(targets, self._answer(part.X))
                weights = self._loaded(before)
            yield part.with_targets(targets)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of an epoch."""
        for part in self.parts():
            yield from part

    def _mixed(self, targets: Targets, answer: Tensor) -> Targets:
        """Return the targets with the earlier student's probabilities mixed in."""
        share = self.weight * self.epoch / self.n_epochs
        mixed = torch.lerp(torch.from_numpy(targets.proba), answer.cpu(), share)
        return targets._replace(proba=mixed.numpy())

    def _state(self) -> dict[str, Tensor]:
        """Return a copy of the student's weights."""
        return {name: value.clone() for name, value in self.module.state_dict().items()}

    @contextmanager
    def _loaded(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Let the student have other weights for a while."""
        own = self._state()
        self.module.load_state_dict(weights)
        try:
            yield
        finally:
            self.module.load_state_dict(own)

    @torch.no_grad()
    def _answer(self, X: Tensor) -> Tensor:
        """Return the probabilities that the student gives without dropout."""
        training = self.module.training
        self.module.eval()
        proba = [_logits(self.module, block).softmax(-1) for block in X.split(_BLOCK_ROWS)]
        self.module.train(training)
        return torch.cat(proba)


def _logits(module: nn.Module, X: Tensor) -> Tensor:
    """Return logits of shape (n_rows, n_classes); a stack of one answers as its student alone."""
    if isinstance(module, StudentMLP) and module.theta.ndim == 2:
        (theta,) = module.theta
        return functional_call(module, {"theta": theta}, (X,))
    return logits_of(module(X))
