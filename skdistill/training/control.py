"""The control: what the student's own network learns from labels alone, on rows kept from it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import log_softmax

from skdistill.student import Forward, Layer
from skdistill.tables import split_rows
from skdistill.teachers.answers import PROBA_FLOOR
from skdistill.teachers.pooling import fit_temperature, matching_temperature, mean_confidence
from skdistill.training.data import HeldOut, TrainingSet

# Below this many rows without a label a mean confidence says little; above the other, no more.
_FEWEST_ROWS, _MOST_ROWS = 200, 5_000
_HELD_SHARE = 0.2
# Fewer held-out rows than this prove nothing, neither of confidence nor against teachers.
_FEWEST_HELD = 50
_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Control:
    """What a plain student says, whose labels on the held-out rows are news to it.

    Attributes
    ----------
    rows : array of shape (n, n_prepared) or None
        Synthetic rows on which confidences are compared; None where there are too few.
    confidence : float
        Mean confidence of the plain student there, once it is calibrated on the held-out labels,
        less the standard error that these leave.
    log_loss, teacher_log_loss : array of shape (n_held,)
        Of the plain student and of the soft targets, on the held-out rows that have a target. The
        targets are taken at the temperature that suits them best.
    weight : array of shape (n_held,)
        Weights of the held-out rows.
    """

    rows: np.ndarray | None
    confidence: float
    log_loss: np.ndarray
    teacher_log_loss: np.ndarray
    weight: np.ndarray

    def calibrate(self, layers: list[Layer], training: TrainingSet) -> tuple[list[Layer], float]:
        """Divide a student's logits so that it is no less confident than the plain one.

        A teacher that averages many opinions is often less sure than right, and its student
        inherits that. The labels cannot show it, for the teacher knows them; the plain student
        can, since its own confidence was checked on labels it had not seen. A student that is to
        be better than the plain one has no reason to be less confident than it; where the teachers
        are worse than the plain student, it has.
        """
        if self.rows is None or self.shortfall() is not None:
            return layers, 1.0
        divisor = matching_temperature(_logits(layers, training, self.rows), self.confidence)
        return _divided(layers, divisor), divisor

    def shortfall(self) -> str | None:
        """Say by how much the teachers are worse than the plain student, beyond two errors."""
        if len(self.weight) < _FEWEST_HELD:
            return None
        weight = self.weight / self.weight.sum()
        difference = self.teacher_log_loss - self.log_loss
        if weight @ difference <= 2 * _standard_error(difference, weight):
            return None
        return (
            f"On {len(weight)} held-out rows the teachers' log-loss, at the temperature that suits "
            f"them best, is {weight @ self.teacher_log_loss:.3f}; that of a plain student that "
            f"never saw these rows is {weight @ self.log_loss:.3f}."
        )


@dataclass(frozen=True)
class UnseenLabels:
    """Labels of rows that the student did not learn, and so can be checked on itself.

    Where rows are plenty this replaces the plain student: some are kept from training.
    """

    held: HeldOut

    def calibrate(self, layers: list[Layer], training: TrainingSet) -> tuple[list[Layer], float]:
        """Divide a student's logits, by at most 1, so that its log-loss there is the lowest."""
        if len(self.held.label) < _FEWEST_HELD:
            return layers, 1.0
        log_proba = log_softmax(_logits(layers, training, self.held.X), axis=1)
        own = fit_temperature(log_proba, self.held.label, self.held.weight, pseudo_count=1.0)
        divisor = min(1.0, own)
        return _divided(layers, divisor), divisor


def _divided(layers: list[Layer], divisor: float) -> list[Layer]:
    """Divide the logits that come out of layers."""
    kind, arrays = layers[-1]
    return [*layers[:-1], Layer(kind, tuple(array / divisor for array in arrays))]


def control_rows(training: TrainingSet, rng: np.random.RandomState) -> TrainingSet:
    """Return the labelled rows alone, some of them held out: what the control is trained on."""
    held = training.held_out
    learnt = np.arange(training.n_fit)
    if held is None:
        learnt, kept = split_rows(training.label[: training.n_fit], _HELD_SHARE, rng)
        known = training.soft_weight[kept, None] > 0
        held = HeldOut(
            training.X[kept],
            training.label[kept],
            training.hard_weight[kept],
            np.where(known, training.proba[kept], np.nan),
        )
    return replace(
        training,
        X=training.X[learnt],
        proba=training.proba[learnt],
        label=training.label[learnt],
        soft_weight=np.zeros(len(learnt)),
        hard_weight=training.hard_weight[learnt] / training.hard_weight[learnt].mean(),
        held_out=held,
        n_fit=len(learnt),
        n_synthetic=0,
        hidden=(),
    )


def read_control(layers: list[Layer], control: TrainingSet, training: TrainingSet) -> Control:
    """Ask the trained control about the rows kept from it and about the synthetic ones."""
    held = control.held_out
    assert held is not None
    log_proba = log_softmax(_logits(layers, training, held.X), axis=1)
    answered = np.flatnonzero(np.isfinite(held.proba).all(axis=1))
    rows, confidence = None, 0.0
    if training.n_synthetic >= _FEWEST_ROWS and len(held.X) >= _FEWEST_HELD:
        first = len(training.X) - training.n_synthetic
        n = min(training.n_synthetic, _MOST_ROWS)
        rows = training.X[np.linspace(first, len(training.X) - 1, n).astype(int)]
        own = fit_temperature(log_proba, held.label, held.weight, pseudo_count=1.0)
        confidence = mean_confidence(_logits(layers, training, rows), own)
        confidence -= _standard_error(log_proba.argmax(axis=1) == held.label, held.weight)
    return Control(
        rows=rows,
        confidence=confidence,
        log_loss=-log_proba[answered, held.label[answered]],
        teacher_log_loss=_log_loss_at_best(held, answered),
        weight=held.weight[answered],
    )


def _standard_error(values: np.ndarray, weight: np.ndarray) -> float:
    """Return the standard error of a weighted mean."""
    weight = weight / weight.sum()
    return float(np.sqrt(np.square(weight) @ np.square(values - weight @ values)))


def _log_loss_at_best(held: HeldOut, rows: np.ndarray) -> np.ndarray:
    """Return the log-loss of soft targets at the temperature that suits them best."""
    if not len(rows):
        return np.zeros(0)
    log_proba = np.log(np.maximum(held.proba[rows], PROBA_FLOOR))
    divisor = fit_temperature(log_proba, held.label[rows], held.weight[rows])
    return -log_softmax(log_proba / divisor, axis=1)[np.arange(len(rows)), held.label[rows]]


def _logits(layers: list[Layer], training: TrainingSet, Z: np.ndarray) -> Any:
    """Return the logits of frozen layers on prepared rows, in float64."""
    forward = Forward(layers, np.dtype(np.float64))
    answers = []
    # In blocks: an encoded row is several times as wide.
    for start in range(0, max(len(Z), 1), _BLOCK_ROWS):
        block = Z[start : start + _BLOCK_ROWS]
        if training.encoding is not None:
            block = training.encoding.encode(block)
        answers.append(forward(np.array(block, dtype=np.float64)))
    return np.concatenate(answers)
