"""Rows that only the teachers label: a transfer set of the user's, and synthetic rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skdistill.tables.rows import Rows
from skdistill.tables.synthetic import AUGMENTERS
from skdistill.teachers.progress import stage

if TYPE_CHECKING:
    from skdistill.teachers.sources import TargetSource, TeacherSpec


# n_synthetic="auto"
_ROWS_PER_ROW, _MOST_SYNTHETIC = 5, 100_000


@dataclass
class TransferRows:
    """Raw rows without a label, and the soft targets that the teachers gave them.

    ``shapes_inputs`` tells whether the student's preparation of columns is learned from them too.
    """

    X: Any
    proba: np.ndarray
    shapes_inputs: bool


def transfer_rows(
    source: TargetSource, rows: Rows, held: np.ndarray, rng: np.random.RandomState
) -> list[TransferRows]:
    """Label the rows of a transfer set and the synthetic rows; those held out shape no row."""
    transfer = []
    if rows.X_unlabeled is not None:
        if not source.can_label_further:
            raise ValueError(
                "X_unlabeled needs teachers that label it: teacher_proba covers the rows of X "
                "only. Pass teachers=[...] with cv='prefit'."
            )
        with stage("asking about unlabelled rows"):
            proba = source.label_further(rows.X_unlabeled)
        transfer.append(TransferRows(rows.X_unlabeled, proba, shapes_inputs=True))
    augmenter = augmenter_of(source)
    if augmenter is not None:
        train = rows.take(np.flatnonzero((rows.weight > 0) & ~held))
        n = count_synthetic(source.spec, len(train.weight))
        with stage("making synthetic rows"):
            X = augmenter(train.X, n, sample_weight=train.weight, random_state=rng)
        with stage("asking about synthetic rows"):
            proba = source.label_further(X)
        transfer.append(TransferRows(X, proba, shapes_inputs=False))
    return transfer


def augmenter_of(source: TargetSource) -> Callable[..., Any] | None:
    """Return what makes synthetic rows, if any are wanted."""
    augment = source.spec.augment
    if augment is None or source.spec.n_synthetic == 0:
        return None
    if augment == "auto":
        return AUGMENTERS["munge"] if source.makes_synthetic_rows else None
    if not source.can_label_further:
        raise ValueError(
            f"augment={augment!r} needs teachers that label synthetic rows. Pass "
            "teachers=[...] with cv='prefit', or augment=None."
        )
    return AUGMENTERS[augment] if isinstance(augment, str) else augment


def count_synthetic(spec: TeacherSpec, n: int) -> int:
    """Return how many synthetic rows are made for n rows."""
    if not isinstance(spec.n_synthetic, str):
        return int(spec.n_synthetic)
    return min(_ROWS_PER_ROW * n, max(n, _MOST_SYNTHETIC))
