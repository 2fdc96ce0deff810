"""What the user asks of a student and of its training, as one plain object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class StudentSpec:
    """The constructor's parameters that shape a student and its training; "auto" stands as it is.

    :func:`skdistill.training.network.resolve` fills in what "auto" means for some rows.
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
