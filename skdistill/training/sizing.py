"""How large the network is and how long it trains: what "auto" stands for beside the rows."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skdistill.training.data import TrainingSet
from skdistill.training.spec import StudentSpec
from skdistill.training.stream import TrainingStream

__all__ = [
    "auto_hidden_sizes",
    "count_epochs",
    "count_parameters",
    "dropout_rate",
    "dtype_name",
    "network_widths",
    "resolve",
]

# hidden_layer_sizes="auto"
_WIDEST, _NARROWEST = 128, 16
_PARAMETERS_PER_ROW, _ENOUGH_PARAMETERS, _MOST_PARAMETERS = 11, 20_000, 50_000
# max_epochs="auto" makes this many optimiser steps for each row of X, within bounds.
_STEPS_PER_ROW, _FEWEST_STEPS, _MOST_STEPS = 7, 1_000, 20_000
# dropout="auto": none where all rows fit one batch, so that weights act as repeated rows there, and
# none where there are so many rows for each parameter that no network can learn them by heart.
_DROPOUT, _ROWS_TO_SPARE = 0.1, 10


def resolve(spec: StudentSpec, data: TrainingSet | TrainingStream) -> StudentSpec:
    """Return the specification with every "auto" replaced by its value for these rows."""
    n, n_real = data.n_rows, data.n_real
    widths = network_widths(spec, data)
    return replace(
        spec,
        hidden_layer_sizes=tuple(widths[1:-1]),
        dropout=dropout_rate(spec, n, n_real, count_parameters(widths)),
        max_epochs=count_epochs(spec, n, n_real),
        dtype=dtype_name(spec, n),
    )


def network_widths(spec: StudentSpec, data: TrainingSet | TrainingStream) -> list[int]:
    """Return the widths of all layers of the built-in network, inputs and outputs included."""
    n_inputs, n_classes = data.n_features, len(data.classes)
    if data.encoding is not None:
        n_inputs = data.encoding.n_features_out_
    sizes: Any = spec.hidden_layer_sizes
    if isinstance(sizes, str):
        sizes = auto_hidden_sizes(n_inputs, n_classes, data.n_real)
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


def dtype_name(spec: StudentSpec, n: int) -> str:
    """Return the training dtype: float64 where all rows fit one batch, unless one is set."""
    if spec.dtype != "auto":
        return spec.dtype
    return "float64" if n <= spec.batch_size else "float32"


def count_epochs(spec: StudentSpec, n: int, n_real: int) -> int:
    """Return the number of epochs; "auto" counts optimiser steps, whatever rows were added."""
    if not isinstance(spec.max_epochs, str):
        return int(spec.max_epochs)
    n_batches = math.ceil(n / spec.batch_size)
    if n_batches == 1:
        return _FEWEST_STEPS
    n_steps = min(max(_STEPS_PER_ROW * n_real, _FEWEST_STEPS), _MOST_STEPS)
    return math.ceil(n_steps / n_batches)


def dropout_rate(spec: StudentSpec, n: int, n_real: int, n_parameters: float = math.inf) -> float:
    """Return the share of hidden units left out; "auto" asks how many rows there are."""
    if not isinstance(spec.dropout, str):
        return spec.dropout
    to_spare = n_real >= _ROWS_TO_SPARE * n_parameters
    return 0.0 if n <= spec.batch_size or to_spare else _DROPOUT
