"""Hints: hidden layers of a network, and terms of the objective that compare them."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skdistill import losses
from skdistill.teachers.hints import student_layer
from skdistill.training.data import HintTargets
from skdistill.training.network import StudentMLP, logits_of, on_two_rows


def with_hidden(
    module: nn.Module, X: Tensor, names: Collection[Any] | None = None
) -> tuple[Tensor, dict[Any, Tensor]]:
    """Run a module; return its logits and the named hidden layers, or all of them.

    Layers of the built-in network go by number. In a user's module a name is a key of the
    dictionary that the module returns beside the logits, or the dotted name of a submodule that is
    called once.
    """
    if isinstance(module, StudentMLP):
        logits, layers = module.with_hidden(X)
        return logits, dict(enumerate(layers))
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, part: nn.Module, inputs: Any, output: Any) -> None:
        tensor = logits_of(output)
        calls[name] += 1
        if isinstance(tensor, Tensor):
            # A copy, as the layer behind may work in place.
            outputs[name] = tensor.clone()

    handles = [
        part.register_forward_hook(partial(keep, name))
        for name, part in module.named_modules(remove_duplicate=False)
        if name and (names is None or name in names)
    ]
    try:
        output = module(X)
    finally:
        for handle in handles:
            handle.remove()
    found = {name: layer for name, layer in outputs.items() if calls[name] == 1}
    if isinstance(output, tuple | list) and len(output) > 1 and isinstance(output[1], Mapping):
        found |= {n: layer for n, layer in output[1].items() if names is None or n in names}
    return logits_of(output), found


def hidden_shapes(module: nn.Module, n_features: int) -> dict[Any, tuple[int, ...]]:
    """Return the shape of a row in each hidden layer that keeps the rows apart.

    Layers of the built-in network go by number, those of a user's module by name.
    """
    if isinstance(module, StudentMLP):
        return {i: (width,) for i, (_, width) in enumerate(module.shapes[:-1])}
    _, hidden = on_two_rows(module, n_features, with_hidden)
    return {name: tuple(h.shape[1:]) for name, h in hidden.items() if h.ndim > 1 and len(h) == 2}


class HintBatch(NamedTuple):
    """What the rows of a batch carry for one hint: the teacher's layer, weights, who answered.

    ``space`` is None where one teacher answered all rows.
    """

    values: Tensor
    weight: Tensor
    space: Tensor | None

    def take(self, rows: Tensor) -> "HintBatch":
        """Return what some rows carry."""
        rows = rows.to(self.values.device)
        space = None if self.space is None else self.space.index_select(0, rows)
        values, weight = self.values.index_select(0, rows), self.weight.index_select(0, rows)
        return HintBatch(values, weight, space)


class HintTerm(nn.Module):
    """One hint between two layers; `shapes` are those of a row in the student's layers.

    Layers that cannot be compared raise a ValueError; `seed` is that of the projection.
    """

    def __init__(
        self,
        layer: HintTargets,
        shapes: Mapping[Any, tuple[int, ...]],
        seed: int,
    ) -> None:
        super().__init__()
        hint = layer.asked.hint
        self.kind, self.weight = hint.kind, float(hint.weight)
        self.channel_axis, self.leaves = hint.channel_axis, hint.layer is None
        self.student_layer = student_layer(layer.asked, list(shapes))
        own, shape = shapes[self.student_layer], tuple(layer.values.shape[1:])
        self.scale = _mean_variance(layer) if hint.kind == "mse" else 1.0
        self.projection: nn.Linear | None = None
        if hint.kind == "attention":
            _check_places(layer.asked.where, own, shape, hint.channel_axis)
        n_student, n_teacher = math.prod(own), math.prod(shape)
        if hint.kind in ("mse", "cosine") and n_student != n_teacher:
            self.projection = _projection(n_student, n_teacher, seed)

    def forward(self, hidden: Tensor, columns: HintBatch) -> Tensor:
        """Return the weighed sum of the term over the rows of a batch."""
        return self.weight * (columns.weight * self._rows(hidden, columns)).sum()

    def _rows(self, hidden: Tensor, columns: HintBatch) -> Tensor:
        """Return the term of each row."""
        values, weight, space = columns
        flat = values.flatten(1)
        if self.kind == "relation":
            # Which rows of the batch are alike: those of one teacher are compared with each other.
            similarity = losses.co_occurrence(flat) if self.leaves else flat @ flat.T
            comparable = None if space is None else space[:, None] == space
            return losses.relation(hidden, similarity, weight=weight, comparable=comparable)
        if self.kind == "attention":
            own = losses.attention_map(hidden, channel_axis=self.channel_axis)
            return losses.attention_transfer(own, values)
        hidden = hidden.flatten(1)
        if self.projection is not None:
            hidden = self.projection(hidden)
        if self.kind == "cosine":
            return losses.hidden_cosine(hidden, flat)
        return losses.hidden_mse(hidden, flat) / self.scale


def build_hint_terms(
    hidden: Sequence[HintTargets], module: nn.Module, n_features: int, seed: int
) -> list[HintTerm]:
    """Return a term for each hint on a layer of the module."""
    shapes = hidden_shapes(module, n_features) if hidden else {}
    # The network draws from seed and seed + 1.
    return [HintTerm(layer, shapes, seed + 2 + i) for i, layer in enumerate(hidden)]


def _mean_variance(layer: HintTargets) -> float:
    """Return the mean over a layer's units of their variance; raise where there is none."""
    rows = layer.values.reshape(len(layer.values), -1)
    share = (layer.weight / layer.weight.sum()).astype(rows.dtype)
    mean = share @ rows
    squares = rows - mean
    variance = float((share @ np.square(squares, out=squares)).mean())
    # Rounding alone makes a little of a constant.
    if variance <= (8 * np.finfo(rows.dtype).eps * float(np.abs(mean).max())) ** 2:
        raise ValueError(
            f"{layer.asked.where}: layer {layer.asked.hint.layer!r} of the teacher is the same for "
            "all rows, so there is nothing to match. Name another layer."
        )
    return variance


def _check_places(
    where: str, student: tuple[int, ...], teacher: tuple[int, ...], channel_axis: int
) -> None:
    """Raise if two attention maps have no places in common."""
    if len(student) == 1 and student == teacher:
        return
    if len(student) == 1:
        places = f"{student[0]} units" if len(teacher) == 1 else f"{student[0]} units, no places"
        other = f"{teacher[0]} units" if len(teacher) == 1 else f"places {teacher}"
        raise ValueError(
            f"{where}: the student's layer has {places}, the teacher's {other}. kind='attention' "
            "compares units one by one; use kind='relation', or layers of equal widths."
        )
    if not -len(student) <= channel_axis <= len(student):
        raise ValueError(
            f"{where}: channel_axis={channel_axis} is no axis of the student's layer, whose rows "
            f"have the shape {student}."
        )
    if len(student) - 1 != len(teacher):
        raise ValueError(
            f"{where}: the attention maps have {len(student) - 1} and {len(teacher)} axes of "
            "places. Name layers with as many axes."
        )


def _projection(n_in: int, n_out: int, seed: int) -> nn.Linear:
    """Return a linear map whose first weights come from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    projection: Any = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float64)
    bound = 1 / math.sqrt(n_in)
    with torch.no_grad():
        for parameter in projection.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return projection
