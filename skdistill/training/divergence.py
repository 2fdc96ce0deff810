"""Whether training ended at a student that knows nothing."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skdistill.training.batches import to_tensors
from skdistill.training.data import TrainingSet
from skdistill.training.modules import logits_of
from skdistill.training.objective import Objective, Targets
from skdistill.training.stream import TrainingStream
from skdistill.training.threads import one_thread

__all__ = ["what_went_wrong"]

_MOST_ROWS = 2_000


def what_went_wrong(net: Any, training: TrainingSet | TrainingStream) -> str | None:
    """Say so where the student is worse than equal probabilities, or answers all rows alike.

    None where all is well. It is judged on some of the rows, as it answers now.
    """
    rows = _some(training.sample if isinstance(training, TrainingStream) else training)
    objective = net.criterion_
    # In a forked process torch crashes, or waits for ever, where it wants its threads.
    with one_thread(True), torch.no_grad():
        X, targets = to_tensors(rows, net.module_)
        logits = logits_of(net.module_(X)).cpu().double()
        proba, soft, hard = (
            array.astype(np.float64)
            for array in (targets.proba, targets.soft_weight, targets.hard_weight)
        )
        targets = Targets(proba, targets.label, soft, hard)
        wrong = _worse_than_uniform(objective, logits.numpy(), targets)
        wrong = wrong or _all_alike(float(objective.alpha), X, logits, targets)
    if wrong is None:
        return None
    return (
        f"{wrong}: training diverged. Lower learning_rate_init={net.lr}; a temperature near 0 and "
        "extreme values in X do this too."
    )


def _worse_than_uniform(objective: Objective, logits: np.ndarray, targets: Targets) -> str | None:
    """Compare what was minimised, hints apart, with its value at equal logits.

    One that has hardly begun is a little worse. What a loss of the user's own is worth there says
    nothing, so it is not judged.
    """
    if callable(objective.loss):
        return None
    T, k = float(objective.temperature), logits.shape[1]
    judge = Objective(T, float(objective.alpha), objective.loss)
    own, uniform = (
        float(judge.total(judge.sums(z[None], targets)[0])) / len(z)
        for z in (logits, np.zeros_like(logits))
    )
    # T²·KL is a difference of numbers near 1, times T².
    rounding = 100 * np.finfo(np.float64).eps * max(1.0, T) ** 2
    if not own > 2 * uniform + math.log(k) + rounding:
        return None
    return f"The student's loss is {own:.3g}, and equal probabilities have {uniform:.3g}"


def _all_alike(alpha: float, X: Tensor, logits: Tensor, targets: Targets) -> str | None:
    """Find the one answer of a network whose units are dead."""
    if _differ(logits.softmax(-1)) or not _differ(X):
        return None
    to_learn = []
    if alpha > 0:
        to_learn.append(targets.proba[targets.soft_weight > 0])
    if alpha < 1:
        to_learn.append(targets.label[targets.hard_weight > 0])
    if not any(map(_differ, to_learn)):
        return None
    return "The student gives every row the same answer"


def _differ(rows: Tensor | np.ndarray) -> bool:
    """Tell whether not all rows are the same."""
    different: Any = rows != rows[:1]
    return bool(different.any())


def _some(training: TrainingSet) -> TrainingSet:
    """Return a few rows, spread over all."""
    n = len(training.X)
    keep = np.unique(np.linspace(0, n - 1, min(n, _MOST_ROWS)).astype(np.intp))
    columns = ("X", "proba", "label", "soft_weight", "hard_weight")
    taken: dict[str, Any] = {name: getattr(training, name)[keep] for name in columns}
    return replace(training, **taken, hidden=[])
