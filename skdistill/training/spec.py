"""What the user asks of a student and of its training, and what "auto" stands for."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from skdistill.training.data import TrainingSet


@dataclass(frozen=True)
class StudentSpec:
    """The constructor's parameters that shape a student and its training; "auto" stands as it is.

    :func:`resolve` fills in what "auto" means for some rows.
    """

    temperature: float
    alpha: float
    loss: "str | Callable[..., Tensor]"
    self_distillation: float
    hidden_layer_sizes: Sequence[int] | str
    activation: str
    dropout: float | str
    student_module: "Callable[[int, int], nn.Module] | None"
    max_epochs: int | str
    batch_size: int
    learning_rate_init: float
    weight_decay: float
    n_iter_no_change: int
    callbacks: Sequence[Any] | None
    dtype: str
    device: str


# hidden_layer_sizes="auto"
_WIDEST, _NARROWEST = 128, 16
_PARAMETERS_PER_ROW, _ENOUGH_PARAMETERS, _MOST_PARAMETERS = 11, 20_000, 50_000
# max_epochs="auto" makes this many optimiser steps for each row of X, within bounds.
_STEPS_PER_ROW, _FEWEST_STEPS, _MOST_STEPS = 7, 1_000, 20_000
# dropout="auto": none where all rows fit one batch, so that weights act as repeated rows there, and
# none where there are so many rows for each parameter that no network can learn them by heart.
_DROPOUT, _ROWS_TO_SPARE = 0.1, 10


def resolve(spec: StudentSpec, sample: "TrainingSet", n: int, n_fit: int) -> StudentSpec:
    """Replace every "auto" by its value for n rows, of which n_fit are not made up."""
    widths = network_widths(spec, sample, n_fit)
    dtype = "float64" if n <= spec.batch_size else "float32"
    return replace(
        spec,
        hidden_layer_sizes=tuple(widths[1:-1]),
        dropout=dropout_rate(spec, n, n_fit, count_parameters(widths)),
        max_epochs=count_epochs(spec, n, n_fit),
        batch_size=min(spec.batch_size, n),
        dtype=dtype if spec.dtype == "auto" else spec.dtype,
    )


def network_widths(spec: StudentSpec, sample: "TrainingSet", n_fit: int) -> list[int]:
    """Return the widths of all layers of the built-in network, inputs and outputs included."""
    encoding, n_classes = sample.encoding, len(sample.classes)
    n_inputs = sample.X.shape[1] if encoding is None else encoding.n_features_out_
    sizes: Any = spec.hidden_layer_sizes
    if isinstance(sizes, str):
        sizes = auto_hidden_sizes(n_inputs, n_classes, n_fit)
    return [n_inputs, *sizes, n_classes]


def auto_hidden_sizes(n_inputs: int, n_classes: int, n_rows: int) -> tuple[int, int]:
    """Return two hidden layers, the second half as wide, within the bound on parameters."""
    most = min(_MOST_PARAMETERS, max(_ENOUGH_PARAMETERS, _PARAMETERS_PER_ROW * n_rows))
    for width in range(_WIDEST, _NARROWEST, -2):
        if count_parameters([n_inputs, width, width // 2, n_classes]) <= most:
            return width, width // 2
    return _NARROWEST, _NARROWEST // 2


def count_parameters(widths: Sequence[int]) -> int:
    """Count weights and biases of a network, given the widths of all its layers."""
    return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths))


def count_epochs(spec: StudentSpec, n: int, n_fit: int) -> int:
    """Return the number of epochs; "auto" counts optimiser steps, whatever rows were added."""
    if not isinstance(spec.max_epochs, str):
        return int(spec.max_epochs)
    n_batches = math.ceil(n / spec.batch_size)
    if n_batches == 1:
        return _FEWEST_STEPS
    n_steps = min(max(_STEPS_PER_ROW * n_fit, _FEWEST_STEPS), _MOST_STEPS)
    return math.ceil(n_steps / n_batches)


def dropout_rate(spec: StudentSpec, n: int, n_fit: int, n_parameters: float = math.inf) -> float:
    """Return the share of hidden units left out; "auto" asks how many rows there are."""
    if not isinstance(spec.dropout, str):
        return spec.dropout
    to_spare = n_fit >= _ROWS_TO_SPARE * n_parameters
    return 0.0 if n <= spec.batch_size or to_spare else _DROPOUT
