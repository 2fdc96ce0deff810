"""The one place where hard, soft and hidden terms are weighed and reduced."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skdistill import losses
from skdistill.training.hint_terms import HiddenColumns, HintTerm

__all__ = ["DistillationCriterion", "LossSums", "Targets", "WeighedTargets"]

CallableLoss = Callable[..., Tensor]


class Targets(NamedTuple):
    """What the rows of a batch carry; a row without a label has the label -1.

    ``soft_weight`` and ``hard_weight`` are scaled once over the training set so that the mean over
    all rows of ``weight * loss`` is the weighted mean over the rows that carry the term: alpha then
    keeps its meaning whatever rows are added.
    """

    proba: Tensor
    label: Tensor
    soft_weight: Tensor
    hard_weight: Tensor
    hidden: tuple[HiddenColumns, ...] = ()

    def take(self, rows: Tensor) -> "Targets":
        """Return the targets of some rows."""
        return Targets(
            self.proba.index_select(0, rows),
            self.label.index_select(0, rows),
            self.soft_weight.index_select(0, rows),
            self.hard_weight.index_select(0, rows),
            tuple(columns.take(rows) for columns in self.hidden),
        )


class WeighedTargets(NamedTuple):
    """What a batch carries when temperature and weights are already multiplied in.

    The columns are: the tempered soft target times its weight, the one-hot label times its weight,
    the two weights, and T² times the weighed entropy of the soft target, negated.
    """

    columns: Tensor

    def take(self, rows: Tensor) -> "WeighedTargets":
        """Return the targets of some rows."""
        return WeighedTargets(self.columns.index_select(0, rows))


class LossSums(NamedTuple):
    """Sums of the weighed losses over the rows of a batch, one for each student.

    The hidden term holds the weights of the hints.
    """

    soft: Tensor
    hard: Tensor
    hidden: Tensor | float = 0.0


class DistillationCriterion(nn.Module):
    """Soft, hard and hidden losses, weighed and reduced, with their gradient at the logits.

    ``temperature`` and ``alpha`` are numbers, or tensors of shape (n_students, 1, 1) when a stack
    of students is trained at once; sums then have shape (n_students,).
    """

    def __init__(
        self,
        temperature: float | Tensor,
        alpha: float | Tensor,
        loss: str | CallableLoss = "kl",
        hints: Sequence[HintTerm] = (),
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.alpha = alpha
        self.loss = loss
        # Their projections are trained with the student and stay here.
        self.hints = nn.ModuleList(hints)

    def forward(
        self, logits: Tensor, targets: Targets, hidden: Mapping[Any, Tensor] | None = None
    ) -> LossSums:
        """Return the sums over the batch; differentiable.

        ``hidden`` holds the student's layers that the hints name.
        """
        sums = self._at_outputs(logits, targets)
        return sums._replace(hidden=self._hidden_sum(hidden or {}, targets))

    def _at_outputs(self, logits: Tensor, targets: Targets) -> LossSums:
        """Return the sums of what the outputs alone decide; differentiable."""
        soft = (targets.soft_weight * self._soft_rows(logits, targets)).sum(-1)
        log_proba = logits.log_softmax(-1)
        label = _columns_of_labels(targets.label, logits)
        hard = -(targets.hard_weight * log_proba.gather(-1, label).squeeze(-1)).sum(-1)
        return LossSums(soft, hard)

    def _hidden_sum(self, hidden: Mapping[Any, Tensor], targets: Targets) -> Tensor | float:
        """Return the sum of the hints over the batch."""
        terms = zip(self.hints, targets.hidden, strict=True) if self.hints else ()
        return sum((term(hidden[term.student_layer], columns) for term, columns in terms), 0.0)

    def at_hidden(
        self, hidden: Mapping[Any, Tensor], targets: Targets
    ) -> tuple[Tensor, dict[Any, Tensor]]:
        """Return the sum of the hints, and the gradients of the batch mean at the layers.

        Those of the projections are left on them.
        """
        own = list(self.parameters())
        with torch.enable_grad():
            # A stack of one has an axis more.
            leaves = {
                name: hidden[name].detach().view(hidden[name].shape[-2:]).requires_grad_()
                for name in {term.student_layer for term in self.hints}
            }
            total: Any = self._hidden_sum(leaves, targets)
            mean = total / len(targets.label)
            gradients = torch.autograd.grad(mean, [*leaves.values(), *own])
        for parameter, gradient in zip(own, gradients[len(leaves) :], strict=True):
            parameter.grad = gradient
        return total.detach(), dict(zip(leaves, gradients, strict=False))

    def _soft_rows(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the soft loss of each row."""
        if callable(self.loss):
            rows = self.loss(logits, targets.proba, targets.label, temperature=self.temperature)
            if not isinstance(rows, Tensor) or rows.shape != logits.shape[:-1]:
                found = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
                raise ValueError(
                    "The callable loss must return a tensor with one value a row, of shape "
                    f"{tuple(logits.shape[:-1])}; got {found}. Do not reduce it."
                )
            return rows
        return SOFT_LOSSES[self.loss](logits, targets, self.temperature)

    def total(self, sums: LossSums) -> Tensor:
        """Weigh the sums of soft and hard losses by alpha, and add the hidden ones."""
        alpha = self.alpha.flatten() if isinstance(self.alpha, Tensor) else self.alpha
        return alpha * sums.soft + (1 - alpha) * sums.hard + sums.hidden

    def gradients_off(self) -> Any:
        """Return the cheapest context in which `at_logits` works: without autograd where it can."""
        by_formula = self.loss == "kl" and not self.hints
        return torch.inference_mode() if by_formula else torch.no_grad()

    def weigh(self, targets: Targets) -> "Targets | WeighedTargets":
        """Multiply temperature and weights into the targets once, where the loss allows it."""
        if self.loss != "kl" or isinstance(self.temperature, Tensor) or self.hints:
            return targets
        soft_weight, hard_weight = targets.soft_weight[:, None], targets.hard_weight[:, None]
        target = losses.temper(targets.proba, self.temperature)
        entropy = torch.special.entr(target).sum(-1, keepdim=True)
        one_hot = nn.functional.one_hot(targets.label.clamp(min=0), target.shape[1])
        columns = [target * soft_weight, one_hot * hard_weight, soft_weight, hard_weight]
        return WeighedTargets(
            torch.cat([*columns, -(self.temperature**2) * soft_weight * entropy], dim=1)
        )

    def at_logits(
        self, logits: Tensor, targets: Targets | WeighedTargets
    ) -> tuple[LossSums, Tensor]:
        """Return the sums of soft and hard losses, and the gradient of their weighed batch mean."""
        if isinstance(targets, WeighedTargets):
            return self._weighed_kl_at_logits(logits, targets.columns)
        if self.loss == "kl":
            return self._kl_at_logits(logits, targets)
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            sums = self._at_outputs(leaf, targets)
            (gradient,) = torch.autograd.grad(self.total(sums).sum() / logits.shape[-2], leaf)
        return LossSums(sums.soft.detach(), sums.hard.detach()), gradient

    def _weighed_kl_at_logits(self, logits: Tensor, columns: Tensor) -> tuple[LossSums, Tensor]:
        """Return alpha·T·(softmax(z/T) - q)·w_soft + (1 - alpha)·(softmax(z) - y)·w_hard."""
        T, alpha, n, k = self.temperature, self.alpha, logits.shape[0], logits.shape[1]
        target, label = columns[:, :k], columns[:, k : 2 * k]
        log_proba = logits.log_softmax(1)
        log_soft = log_proba if T == 1 else (logits / T).log_softmax(1)
        hard = -(log_proba * label).sum()
        soft = columns[:, -1].sum() - T**2 * (log_soft * target).sum()
        gradient = log_soft.exp()
        gradient.mul_(columns[:, 2 * k : 2 * k + 1]).sub_(target).mul_(alpha * T / n)
        if alpha < 1:
            rest = log_proba.exp_().mul_(columns[:, 2 * k + 1 : 2 * k + 2]).sub_(label)
            gradient.add_(rest.mul_((1 - alpha) / n))
        return LossSums(soft, hard), gradient

    def _kl_at_logits(self, logits: Tensor, targets: Targets) -> tuple[LossSums, Tensor]:
        """Give a stack of students what `_weighed_kl_at_logits` gives one."""
        T, alpha, n = self.temperature, self.alpha, logits.shape[-2]
        log_proba = logits.log_softmax(-1)
        label = _columns_of_labels(targets.label, logits)
        hard = -(log_proba.gather(-1, label).squeeze(-1) * targets.hard_weight).sum(-1)
        hard_gradient = log_proba.exp_()
        hard_gradient.scatter_add_(-1, label, torch.full_like(label, -1.0, dtype=logits.dtype))
        hard_gradient *= ((1 - alpha) / n) * targets.hard_weight.unsqueeze(-1)

        target = losses.temper(targets.proba, T)
        log_soft = (logits / T).log_softmax(-1)
        rows = -(torch.special.entr(target).sum(-1) + (target * log_soft).sum(-1))
        square = T.flatten() ** 2 if isinstance(T, Tensor) else T**2
        soft = square * (rows * targets.soft_weight).sum(-1)
        gradient = log_soft.exp_().sub_(target)
        gradient *= (alpha * T / n) * targets.soft_weight.unsqueeze(-1)
        gradient += hard_gradient
        return LossSums(soft, hard), gradient


def _columns_of_labels(label: Tensor, logits: Tensor) -> Tensor:
    """Return an index that picks one logit a row; rows without a label, of weight 0, pick any."""
    return label.clamp(min=0).unsqueeze(-1).expand(*logits.shape[:-1], 1)


def _kl(logits: Tensor, targets: Targets, temperature: float | Tensor) -> Tensor:
    return losses.kl_divergence(logits, targets.proba, temperature=temperature)


def _mse(logits: Tensor, targets: Targets, temperature: float | Tensor) -> Tensor:
    return losses.logit_mse(logits, targets.proba)


def _dkd(logits: Tensor, targets: Targets, temperature: float | Tensor) -> Tensor:
    return losses.decoupled_kl(logits, targets.proba, targets.label, temperature=temperature)


SOFT_LOSSES: dict[str, Callable[[Tensor, Targets, float | Tensor], Tensor]] = {
    "kl": _kl,
    "mse": _mse,
    "dkd": _dkd,
}
