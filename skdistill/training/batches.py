"""Batches: cut from a training set, or from a few shards of a stream after another."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from skdistill.teachers.progress import track
from skdistill.training.data import TrainingSet
from skdistill.training.hint_terms import HintBatch
from skdistill.training.network import StudentMLP, logits_of
from skdistill.training.objective import Targets
from skdistill.training.stream import TrainingStream

# Rows answered at once, so that memory does not grow with rows times hidden units.
_BLOCK_ROWS = 8192


class Batches:
    """Shuffled batches of nearly equal size, cut from tensors."""

    def __init__(self, X: Tensor, targets: Targets, batch_size: int, generator: torch.Generator):
        self.X, self.targets, self.generator = X, targets, generator
        self.n_batches = -(-len(X) // batch_size)

    def rows(self) -> Iterator[np.ndarray | None]:
        """Yield the rows of each batch; None where one batch holds all."""
        if self.n_batches == 1:
            yield None
            return
        order = torch.randperm(len(self.X), generator=self.generator)
        yield from (rows.numpy() for rows in order.tensor_split(self.n_batches))

    def __iter__(self) -> Iterator[tuple[Tensor, Targets]]:
        """Yield the batches of an epoch."""
        for rows in self.rows():
            if rows is None:
                yield self.X, self.targets
            else:
                place = torch.from_numpy(rows).to(self.X.device)
                yield self.X.index_select(0, place), self.targets.take(rows)


class Epochs:
    """The batches of all epochs; each iteration over them, or their `parts`, is an epoch.

    With ``self_distillation`` targets are refined from epoch to epoch (PS-KD, Kim et al., 2021). In
    epoch t of ``n_epochs``, counted from 1, the soft target of a row is

        (1 - a) · proba + a · softmax(z),  a = self_distillation · t / n_epochs,

    z being the logits, without dropout, that the weights at the end of epoch t - 1 give. The first
    epoch has none before it: its targets are the rows' own. A temperature softens the mixture.

    ``rows`` are tensors and their targets, or a stream, which is read for ``module``: one student,
    or a stack of students. ``n_epochs`` are the epochs that are planned, wherever training stops.
    """

    def __init__(
        self,
        rows: tuple[Tensor, Targets] | TrainingStream,
        module: nn.Module,
        batch_size: int,
        n_epochs: int,
        seed: int = 0,
        self_distillation: float = 0.0,
    ) -> None:
        self.rows, self.module, self.batch_size = rows, module, batch_size
        self.n_epochs, self.self_distillation = n_epochs, self_distillation
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def n_steps(self) -> int:
        """Return the number of batches of all epochs."""
        rows, epochs = self.rows, range(self.n_epochs)
        if isinstance(rows, TrainingStream):
            sizes = [rows.count(group) for epoch in epochs for group in rows.plan(epoch)]
        else:
            sizes = [len(rows[0])] * self.n_epochs
        return sum(-(-size // self.batch_size) for size in sizes)

    def parts(self) -> Iterator[Batches]:
        """Yield the batches of what is in memory at once, with the targets of this epoch."""
        self.epoch += 1
        refined = self.self_distillation > 0 and self.epoch > 1
        before = _copy_of_state(self.module) if refined else None
        for X, targets in self._read():
            if before is not None:
                share = self.self_distillation * self.epoch / self.n_epochs
                proba = torch.from_numpy(targets.proba)
                mixed = torch.lerp(proba, self._answer(X, before).cpu(), share)
                targets = targets._replace(proba=mixed.numpy())
            yield Batches(X, targets, self.batch_size, self.generator)

    def __iter__(self) -> Iterator[tuple[Tensor, Targets]]:
        """Yield the batches of an epoch."""
        for part in self.parts():
            yield from part

    def _read(self) -> Iterator[tuple[Tensor, Targets]]:
        """Yield what is in memory at once; a stream's only group, always the same, is kept."""
        stream = self.rows
        if not isinstance(stream, TrainingStream):
            yield stream
            return
        groups = stream.plan(self.epoch - 1)
        for group in track("group of shards", groups, len(groups)):
            tensors = to_tensors(stream.load(group, self.epoch - 1), self.module)
            if stream.is_one_group:
                self.rows = tensors
            yield tensors

    @torch.no_grad()
    def _answer(self, X: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Return the probabilities that the student gives with earlier weights, without dropout."""
        module, training, own = self.module, self.module.training, _copy_of_state(self.module)
        call: Any = module
        module.load_state_dict(weights)
        if isinstance(module, StudentMLP) and module.theta.ndim == 2:
            # A stack of one answers as its student alone.
            call = partial(functional_call, module, {"theta": module.theta[0].clone()})
        module.eval()
        try:
            outputs = [call(block) for block in X.split(_BLOCK_ROWS)]
        finally:
            module.train(training)
            module.load_state_dict(own)
        return torch.cat([logits_of(output).softmax(-1) for output in outputs])


def _copy_of_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's weights."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def to_tensors(data: TrainingSet, module: nn.Module) -> tuple[Tensor, Targets]:
    """Return rows where the module is and what they carry, in its precision."""
    parameter = next(module.parameters())
    place: dict[str, Any] = {"dtype": parameter.dtype, "device": parameter.device}
    proba, soft_weight, hard_weight = (
        torch.as_tensor(array, dtype=parameter.dtype).numpy()
        for array in (data.proba, data.soft_weight, data.hard_weight)
    )
    hidden = tuple(
        HintBatch(
            values=torch.as_tensor(layer.values, **place),
            weight=torch.as_tensor(layer.weight, **place),
            space=None
            if layer.space is None
            else torch.as_tensor(layer.space, device=parameter.device),
        )
        for layer in data.hidden
    )
    targets = Targets(proba, data.label, soft_weight, hard_weight, hidden)
    return torch.as_tensor(data.X, **place), targets
