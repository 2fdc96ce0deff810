"""From prepared rows to a trained student.

* What is asked of a student, and what "auto" stands for: ``spec``, ``network``.
* The rows: ``data`` (in memory), ``shards`` and ``stream`` (a few files at a time), ``batches``
  (with targets that the student of the epoch before has a part in).
* The network: ``network`` (ours, or a stack), ``modules`` (the user's own, frozen layers and back).
* What is minimised: ``objective``, with ``hint_terms``; how: ``step`` (forward, backward and Adam
  on the CPU), ``net`` (skorch's loop, early stopping, settings of the process).
* All of it together, and whether training diverged: ``trainer``; the measure of confidence and of
  teachers: ``control``.

Names are looked up when they are used: an estimator is unpickled, and its student predicts, without
torch and skorch, which the trainer loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skdistill.training.control import Control, UnseenLabels
    from skdistill.training.data import Prepared, TrainingSet, build_training_set
    from skdistill.training.net import one_thread
    from skdistill.training.shards import Shards
    from skdistill.training.spec import StudentSpec
    from skdistill.training.stream import TrainingStream, open_stream
    from skdistill.training.trainer import StudentTrainer, Trained

_FILES = {
    "Control": "control",
    "Prepared": "data",
    "Shards": "shards",
    "StudentSpec": "spec",
    "StudentTrainer": "trainer",
    "Trained": "trainer",
    "TrainingSet": "data",
    "TrainingStream": "stream",
    "UnseenLabels": "control",
    "build_training_set": "data",
    "one_thread": "net",
    "open_stream": "stream",
}

__all__ = [
    "Control",
    "Prepared",
    "Shards",
    "StudentSpec",
    "StudentTrainer",
    "Trained",
    "TrainingSet",
    "TrainingStream",
    "UnseenLabels",
    "build_training_set",
    "one_thread",
    "open_stream",
]


def __getattr__(name: str) -> Any:
    """Import a name from its file."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
