"""How large the network is and how long it trains: what "auto" stands for beside the rows."""

import math
from typing import Any

from skdistill.training.data import TrainingSet
from skdistill.training.stream import TrainingStream

__all__ = ["build_module", "count_epochs", "dropout_rate", "dtype_name", "training_settings"]

# max_epochs="auto" makes this many steps for each row of X, within bounds.
_STEPS_PER_ROW, _FEWEST_STEPS, _MOST_STEPS = 7, 1_000, 20_000
# dropout="auto": none where all rows fit one batch, so that weights act as repeated rows there, and
# none where there are so many rows for each parameter that no network can learn them by heart.
_DROPOUT, _ROWS_TO_SPARE = 0.1, 10


def training_settings(estimator: Any, training: TrainingSet | TrainingStream) -> Any:
    """Return the words of scikit-learn for the loop over the rows."""
    from skdistill.training import net as _net

    n = training.n_rows
    return _net.TrainingSettings(
        max_epochs=count_epochs(estimator, n, training.n_real),
        batch_size=estimator.batch_size,
        learning_rate_init=estimator.learning_rate_init,
        weight_decay=estimator.weight_decay,
        n_iter_no_change=estimator.n_iter_no_change,
        callbacks=estimator.callbacks or (),
        dtype=dtype_name(estimator, n),
        device=estimator.device,
        self_distillation=float(estimator.self_distillation),
    )


def dtype_name(estimator: Any, n: int) -> str:
    """Return the training dtype: float64 where all rows fit one batch, unless one is set."""
    if estimator.dtype != "auto":
        return estimator.dtype
    return "float64" if n <= estimator.batch_size else "float32"


def count_epochs(estimator: Any, n: int, n_real: int) -> int:
    """Return the number of epochs; "auto" counts steps, whatever rows were added."""
    if not isinstance(estimator.max_epochs, str):
        return int(estimator.max_epochs)
    n_batches = math.ceil(n / estimator.batch_size)
    if n_batches == 1:
        return _FEWEST_STEPS
    n_steps = min(max(_STEPS_PER_ROW * n_real, _FEWEST_STEPS), _MOST_STEPS)
    return math.ceil(n_steps / n_batches)


def build_module(
    estimator: Any, training: TrainingSet | TrainingStream, seed: int, n_students: Any = None
) -> Any:
    """Build the student's network, or a stack of them."""
    from skdistill.training import network as _mlp
    from skdistill.training.modules import build_custom_module

    n_features, n_classes = training.n_features, len(training.classes)
    if estimator.student_module is not None:
        return build_custom_module(estimator.student_module, n_features, n_classes, seed)
    sizes = estimator.hidden_layer_sizes
    if isinstance(sizes, str):
        sizes = _mlp.auto_hidden_sizes(n_features, n_classes, training.encoding, training.n_real)
    n_inputs = n_features if training.encoding is None else len(training.encoding.column_)
    n_parameters = _mlp.count_parameters([n_inputs, *sizes, n_classes])
    return _mlp.StudentMLP(
        n_features,
        n_classes,
        hidden_layer_sizes=tuple(sizes),
        activation=estimator.activation,
        dropout=dropout_rate(estimator, training, n_parameters),
        encoding=training.encoding,
        n_students=n_students,
        seed=seed,
    )


def dropout_rate(
    estimator: Any, training: TrainingSet | TrainingStream, n_parameters: float = math.inf
) -> float:
    """Return the share of hidden units left out; "auto" asks how many rows there are."""
    if not isinstance(estimator.dropout, str):
        return estimator.dropout
    one_batch = training.n_rows <= estimator.batch_size
    to_spare = training.n_real >= _ROWS_TO_SPARE * n_parameters
    return 0.0 if one_batch or to_spare else _DROPOUT
