"""Batches: cut from a training set, or from a few shards of a stream after another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skdistill.teachers.progress import track
from skdistill.training.data import HiddenLayer, TrainingSet
from skdistill.training.hint_terms import HiddenColumns
from skdistill.training.objective import Targets
from skdistill.training.stream import TrainingStream

__all__ = ["Batches", "StreamedBatches", "to_tensors"]


class Batches:
    """Shuffled batches of nearly equal size, cut from tensors."""

    def __init__(self, X: Tensor, targets: Targets, batch_size: int, generator: torch.Generator):
        self.X, self.targets, self.generator = X, targets, generator
        self.batch_size = batch_size
        self.n_batches = -(-len(X) // batch_size)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.n_batches

    def n_steps(self, epochs: int) -> int:
        """Return the number of batches of all epochs."""
        return epochs * self.n_batches

    def parts(self) -> Iterator["Batches"]:
        """Yield what is in memory at once: here everything."""
        yield self

    def with_targets(self, targets: Targets) -> "Batches":
        """Return batches of the same rows that draw from the same generator."""
        return Batches(self.X, targets, self.batch_size, self.generator)

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


class StreamedBatches:
    """Batches cut from a few shards of a stream after another; each iteration is an epoch."""

    def __init__(
        self,
        stream: TrainingStream,
        read: Callable[[TrainingSet], tuple[Tensor, Targets]],
        batch_size: int,
        generator: torch.Generator,
    ):
        self.stream, self.read = stream, read
        self.batch_size, self.generator = batch_size, generator
        self.epoch = 0
        self._kept: tuple[Tensor, Targets] | None = None

    def n_steps(self, epochs: int) -> int:
        """Return the number of batches of all epochs."""
        sizes = [self.stream.count(g) for e in range(epochs) for g in self.stream.plan(e)]
        return sum(-(-size // self.batch_size) for size in sizes)

    def parts(self) -> Iterator[Batches]:
        """Yield the batches of each group of shards, which are in memory at once."""
        groups = self.stream.plan(self.epoch)
        for group in track("group of shards", groups, len(groups)):
            yield Batches(*self._read(group), self.batch_size, self.generator)
        self.epoch += 1

    def __iter__(self) -> Iterator[tuple[Tensor, Targets]]:
        """Yield the batches of an epoch."""
        for part in self.parts():
            yield from part

    def _read(self, group: Any) -> tuple[Tensor, Targets]:
        """Read a group of shards; once, if it is the only one and the same in every epoch."""
        if self._kept is not None:
            return self._kept
        tensors = self.read(self.stream.load(group, self.epoch))
        if self.stream.is_one_group:
            self._kept = tensors
        return tensors


def to_tensors(data: TrainingSet, module: nn.Module) -> tuple[Tensor, Targets]:
    """Return rows where the module is and what they carry, in its precision."""
    parameter = next(module.parameters())
    place: dict[str, Any] = {"dtype": parameter.dtype, "device": parameter.device}
    proba, soft_weight, hard_weight = (
        torch.as_tensor(array, dtype=parameter.dtype).numpy()
        for array in (data.proba, data.soft_weight, data.hard_weight)
    )
    hidden = tuple(_columns(data.hidden, place))
    targets = Targets(proba, data.label, soft_weight, hard_weight, hidden)
    return torch.as_tensor(data.X, **place), targets


def _columns(hidden: Sequence[HiddenLayer], place: dict[str, Any]) -> Iterator[HiddenColumns]:
    """Yield what the rows carry for each hint, as tensors."""
    for layer in hidden:
        space = layer.space
        yield HiddenColumns(
            values=torch.as_tensor(layer.values, **place),
            weight=torch.as_tensor(layer.weight, **place),
            space=None if space is None else torch.as_tensor(space, device=place["device"]),
        )
