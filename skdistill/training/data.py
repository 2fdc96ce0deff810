"""From labelled rows to the arrays a student is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from skdistill.tables import (
    PiecewiseLinearEncoding,
    Rows,
    TabularEncoder,
    prepare,
    stack_rows,
    take_rows,
)
from skdistill.teachers.hints import ActiveHint
from skdistill.teachers.pooling import SoftTargets
from skdistill.teachers.sources import TransferRows

if TYPE_CHECKING:
    from skdistill.teachers.hidden import HintAnswers


@dataclass
class HeldOut:
    """Prepared rows with true labels on which the epochs are compared.

    ``proba`` are their soft targets, which no training uses; NaN where there is none.
    """

    X: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    proba: np.ndarray


@dataclass
class Prepared:
    """How rows were prepared for a student, which holds for all rows after them."""

    preprocessor: Any
    encoding: PiecewiseLinearEncoding | None


@dataclass
class HintTargets:
    """What a hint's teacher says of each row, and the rows' weights, scaled as the others are.

    ``asked`` is the hint. Rows are compared with those of the same ``space`` alone; None where all
    rows share one.
    """

    asked: ActiveHint
    values: np.ndarray
    weight: np.ndarray
    space: np.ndarray | None


@dataclass
class TrainingSet:
    """Everything a student is trained on; nothing here depends on temperature or alpha.

    ``soft_weight`` and ``hard_weight`` are scaled so that the mean over all rows of weight times
    loss is the weighted mean over the rows that carry the term. Rows without a label have the label
    -1. The first ``n_fit`` rows are those of `fit`, the last ``n_synthetic`` are made up.
    """

    X: np.ndarray
    proba: np.ndarray
    label: np.ndarray
    soft_weight: np.ndarray
    hard_weight: np.ndarray
    classes: np.ndarray
    preprocessor: Any
    encoding: PiecewiseLinearEncoding | None
    held_out: HeldOut | None
    n_fit: int
    n_synthetic: int
    hidden: Sequence[HintTargets] = ()


def build_training_set(
    rows: Rows,
    targets: SoftTargets | None,
    extra: Sequence[TransferRows],
    held: np.ndarray,
    *,
    preprocessor: Any = None,
    n_bins: int | None = None,
    like: "Prepared | TrainingSet | None" = None,
    hidden: "Sequence[HintAnswers]" = (),
) -> TrainingSet:
    """Prepare all rows for the student and weigh them.

    With `like` they are prepared as other rows were before, and nothing is fitted. `hidden` holds
    the answers to the hints, for the rows of `fit` and the extra ones.
    """
    assert rows.classes is not None
    used = (rows.weight > 0) & ~held
    train = rows.take(np.flatnonzero(used))
    fitted = _fit_preprocessor(preprocessor, train, extra) if like is None else like.preprocessor
    Z = np.concatenate([prepare(t, fitted) for t in [train.X, *(e.X for e in extra)]])
    n = len(train.weight)
    # A row without a label counts as much as the average row of X.
    weight = np.concatenate([train.weight, np.full(len(Z) - n, train.weight.mean())])
    soft, hard = np.zeros((2, len(Z)))
    label = np.full(len(Z), -1, dtype=np.int64)
    if targets is not None:
        soft[:n], soft[n:] = train.weight * targets.known[used], weight[n:]
    if train.code is not None:
        hard[:n], label[:n] = train.weight, train.code
    shaping = n + sum(len(e.X) for e in extra if e.shapes_inputs)
    encoding = None if like is None else like.encoding
    if n_bins is not None and like is None:
        encoding = PiecewiseLinearEncoding(n_bins).fit(Z[:shaping], weight[:shaping])
    return TrainingSet(
        X=Z,
        proba=_stack_proba(targets, extra, used, len(rows.classes)),
        label=label,
        soft_weight=_scaled(soft),
        hard_weight=_scaled(hard),
        classes=rows.classes,
        preprocessor=fitted,
        encoding=encoding,
        held_out=held_out_rows(rows, targets, held, fitted) if held.any() else None,
        n_fit=n,
        n_synthetic=len(Z) - shaping,
        hidden=[_hidden_layer(answers, used, weight) for answers in hidden],
    )


def _hidden_layer(answers: "HintAnswers", used: np.ndarray, weight: np.ndarray) -> HintTargets:
    """Keep the answers for the rows trained on; rows without one get the weight zero."""
    kept = answers
    if not used.all():
        n_extra = len(weight) - int(used.sum())
        kept = answers.take(np.concatenate([np.flatnonzero(used), len(used) + np.arange(n_extra)]))
    shared = kept.space.min() == kept.space.max()
    known = _scaled(weight * (kept.space >= 0))
    return HintTargets(kept.asked, kept.values, known, None if shared else kept.space)


def _fit_preprocessor(preprocessor: Any, train: Rows, extra: Sequence[TransferRows]) -> Any:
    """Fit what the student sees of X.

    Our own encoder also learns its scale and categories from real extra rows, which may come from
    another domain; a user's transformer is fitted on X and y alone.
    """
    if preprocessor is None:
        return None
    if isinstance(preprocessor, str):
        real = [e.X for e in extra if e.shapes_inputs]
        weight = [train.weight, *(np.full(len(t), train.weight.mean()) for t in real)]
        everything = stack_rows([train.X, *real]) if real else train.X
        return TabularEncoder().fit(everything, sample_weight=np.concatenate(weight))
    fitted = clone(preprocessor)
    assert train.classes is not None
    label = None if train.code is None else train.classes[train.code]
    weighted = has_fit_parameter(fitted, "sample_weight")
    return fitted.fit(train.X, label, **({"sample_weight": train.weight} if weighted else {}))


def _stack_proba(
    targets: SoftTargets | None, extra: Sequence[TransferRows], used: np.ndarray, n_classes: int
) -> np.ndarray:
    """Return the soft targets of all rows; rows without one get a placeholder of weight zero."""
    if targets is None:
        return np.full((int(used.sum()), n_classes), 1 / n_classes)
    own = targets.proba[used]
    return np.concatenate([own, *(e.proba for e in extra)]) if extra else own


def _scaled(weight: np.ndarray) -> np.ndarray:
    """Scale weights so that a plain mean over all rows is the mean over the rows that carry one."""
    total = weight.sum()
    return weight * (len(weight) / total) if total > 0 else weight


def held_out_rows(
    rows: Rows, targets: SoftTargets | None, held: np.ndarray, fitted: Any
) -> HeldOut:
    """Prepare the rows on which the epochs are compared."""
    assert rows.code is not None
    assert rows.classes is not None
    Z = prepare(take_rows(rows.X, np.flatnonzero(held)), fitted)
    proba = np.full((len(Z), len(rows.classes)), np.nan)
    if targets is not None:
        known = targets.known[held]
        proba[known] = targets.proba[held][known]
    return HeldOut(Z, rows.code[held], rows.weight[held], proba)
