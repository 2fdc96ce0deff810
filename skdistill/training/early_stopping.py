"""The epoch that is best on held-out rows, as a callback of skorch's loop."""

import math
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from skdistill.training.data import HeldOut
from skdistill.training.modules import logits_of

__all__ = ["BestEpoch", "StopTrainingError"]


class StopTrainingError(Exception):
    """Raised by a callback to end the training loop."""


class BestEpoch(Callback):
    """Stop when the log-loss on held-out rows no longer falls, and restore the best weights.

    In a stack each student keeps its own best weights; training stops when none can improve.
    """

    def __init__(self, held_out: HeldOut, patience: int) -> None:
        self.held_out, self.patience = held_out, patience

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Put the held-out rows where the network is, and start without a best epoch."""
        parameter = next(net.module_.parameters())
        place: dict[str, Any] = {"dtype": parameter.dtype, "device": parameter.device}
        # torch.tensor copies: as_tensor warns of arrays that are read-only, as a frame's are.
        self.X_ = torch.tensor(self.held_out.X, **place)
        self.label_ = torch.as_tensor(self.held_out.label, device=parameter.device)
        self.weight_ = torch.as_tensor(self.held_out.weight, **place)
        self.best_: Tensor | None = None

    def on_epoch_end(
        self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Record the validation loss and keep the weights where it is the lowest yet."""
        epoch = len(net.history)
        loss = self._loss(net)
        net.history.record("valid_loss", loss.tolist())
        state = net.module_.state_dict()
        if self.best_ is None:
            self.best_ = torch.full_like(loss, math.inf)
            self.epoch_ = torch.zeros_like(loss, dtype=torch.long)
            self.state_ = {name: value.clone() for name, value in state.items()}
        waiting = epoch - self.epoch_ <= self.patience
        better = (loss < self.best_) & waiting
        self.best_ = torch.where(better, loss, self.best_)
        self.epoch_ = torch.where(better, torch.full_like(self.epoch_, epoch), self.epoch_)
        for name, value in state.items():
            if loss.ndim == 0:
                keep = bool(better)
                self.state_[name] = value.clone() if keep else self.state_[name]
            elif name == "theta":
                self.state_[name] = torch.where(better[:, None], value, self.state_[name])
        if bool((epoch - self.epoch_ >= self.patience).all()):
            raise StopTrainingError

    def _loss(self, net: NeuralNet) -> Tensor:
        """Return the weighted mean log-loss on the held-out rows."""
        net.module_.eval()
        with torch.no_grad():
            log_proba = logits_of(net.module_(self.X_)).log_softmax(-1)
        label = self.label_.unsqueeze(-1).expand(*log_proba.shape[:-1], 1)
        rows = -log_proba.gather(-1, label).squeeze(-1)
        return (rows * self.weight_).sum(-1) / self.weight_.sum()

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Restore the best weights."""
        if self.best_ is not None:
            net.module_.load_state_dict(self.state_)
