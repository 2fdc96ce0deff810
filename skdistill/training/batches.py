"""Batches: cut from a training set, or from a few shards of a stream after another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from skdistill.teachers.progress import track
from skdistill.training.data import HiddenLayer, TrainingSet
from skdistill.training.hint_terms import HiddenColumns
from skdistill.training.modules import logits_of
from skdistill.training.network import StudentMLP
from skdistill.training.objective import Targets
from skdistill.training.stream import TrainingStream


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
