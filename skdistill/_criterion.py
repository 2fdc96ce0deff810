"""The one place where hard and soft terms are weighed and reduced."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skdistill import losses

__all__ = ["DistillationCriterion", "LossTerms", "Targets"]

CallableLoss = Callable[..., Tensor]


class Targets(NamedTuple):
    """What the rows of a batch carry.

    ``soft_weight`` and ``hard_weight`` are scaled once over the training set so that the mean over
    all rows of ``weight * loss`` is the weighted mean over the rows that carry the term: alpha then
    keeps its meaning whatever rows are added.
    """

    proba: Tensor
    label: Tensor
    soft_weight: Tensor
    hard_weight: Tensor

    def take(self, rows: Tensor) -> "Targets":
        """Return the targets of some rows."""
        return Targets(*(column.index_select(0, rows) for column in self))


class LossTerms(NamedTuple):
    """The batch means of the soft and the hard term and of their weighed sum."""

    total: Tensor
    soft: Tensor
    hard: Tensor


class DistillationCriterion(nn.Module):
    """Weighed mean of soft and hard losses, with its gradient at the logits.

    ``temperature`` and ``alpha`` are numbers, or tensors of shape (n_students, 1, 1) when a stack
    of students is trained at once; the batch means then have shape (n_students,).
    """

    def __init__(
        self,
        temperature: float | Tensor,
        alpha: float | Tensor,
        loss: str | CallableLoss = "kl",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.alpha = alpha
        self.loss = loss

    def forward(self, logits: Tensor, targets: Targets) -> LossTerms:
        """Return the batch means; differentiable."""
        soft = (targets.soft_weight * self._soft_rows(logits, targets)).mean(-1)
        hard = (targets.hard_weight * self._hard_rows(logits, targets)).mean(-1)
        return self._weigh(soft, hard)

    def _weigh(self, soft: Tensor, hard: Tensor) -> LossTerms:
        """Combine the two batch means by alpha."""
        alpha = self.alpha.flatten() if isinstance(self.alpha, Tensor) else self.alpha
        return LossTerms(alpha * soft + (1 - alpha) * hard, soft, hard)

    def _soft_rows(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the soft loss of each row."""
        if callable(self.loss):
            return self.loss(logits, targets.proba, targets.label, temperature=self.temperature)
        return SOFT_LOSSES[self.loss](logits, targets, self.temperature)

    def _hard_rows(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the cross-entropy with the label of each row; rows without one have weight 0."""
        log_proba = logits.log_softmax(-1)
        label = targets.label.unsqueeze(-1).expand(*logits.shape[:-1], 1)
        return -log_proba.gather(-1, label).squeeze(-1)

    def at_logits(self, logits: Tensor, targets: Targets) -> tuple[LossTerms, Tensor]:
        """Return the batch means and the gradient of their weighed sum at the logits."""
        if self.loss == "kl":
            return self._kl_at_logits(logits, targets)
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            terms = self(leaf, targets)
            (gradient,) = torch.autograd.grad(terms.total.sum(), leaf)
        return LossTerms(*(term.detach() for term in terms)), gradient

    def _kl_at_logits(self, logits: Tensor, targets: Targets) -> tuple[LossTerms, Tensor]:
        """Closed form: alpha·T·(softmax(z/T) - q)·w_soft + (1 - alpha)·(softmax(z) - y)·w_hard."""
        T, alpha = self.temperature, self.alpha
        log_proba = logits.log_softmax(-1)
        label = targets.label.unsqueeze(-1).expand(*logits.shape[:-1], 1)
        hard = -(log_proba.gather(-1, label).squeeze(-1) * targets.hard_weight).mean(-1)
        hard_gradient = log_proba.exp_()
        hard_gradient.scatter_add_(-1, label, torch.full_like(label, -1.0, dtype=logits.dtype))
        hard_gradient *= ((1 - alpha) / logits.shape[-2]) * targets.hard_weight.unsqueeze(-1)

        target = losses.temper(targets.proba, T)
        log_soft = (logits / T).log_softmax(-1)
        rows = -(torch.special.entr(target).sum(-1) + (target * log_soft).sum(-1))
        square = T.flatten() ** 2 if isinstance(T, Tensor) else T**2
        soft = square * (rows * targets.soft_weight).mean(-1)
        gradient = log_soft.exp_().sub_(target)
        gradient *= (alpha * T / logits.shape[-2]) * targets.soft_weight.unsqueeze(-1)
        gradient += hard_gradient
        return self._weigh(soft, hard), gradient


def _kl(logits: Tensor, targets: Targets, temperature: float | Tensor) -> Tensor:
    return losses.kl_divergence(logits, targets.proba, temperature=temperature)


def _mse(logits: Tensor, targets: Targets, temperature: float | Tensor) -> Tensor:
    return losses.logit_mse(logits, targets.proba)


SOFT_LOSSES: dict[str, Callable[[Tensor, Targets, float | Tensor], Tensor]] = {
    "kl": _kl,
    "mse": _mse,
}
