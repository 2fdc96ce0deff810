"""Many answers to one: how teachers are weighed, and the temperature that sets confidence right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import log_softmax, logsumexp, softmax

from skdistill.teachers.answers import PROBA_FLOOR

# Rules that weigh teachers by the labels, in place of given numbers.
LABEL_RULES = ("validation", "confidence")


@dataclass
class SoftTargets:
    """Soft targets of some rows, and how they came about.

    Attributes
    ----------
    proba : float array of shape (n, k)
        The teachers' probabilities; uniform where none answered.
    known : bool array of shape (n,)
        Rows that have a soft target: about them a teacher of positive weight said something. The
        others carry the hard term only.
    weights : float array of shape (n_teachers,) or None
        The teachers' weights on rows without a label, which sum to 1; None where none was asked.
    calibration_temperature : float
        By what the targets were calibrated.
    fitted : list
        The teachers that answered: each as it is, or the list of its fold clones.
    """

    proba: np.ndarray
    known: np.ndarray
    weights: np.ndarray | None = None
    calibration_temperature: float = 1.0
    fitted: list[Any] = field(default_factory=list)


def check_teacher_weights(teacher_weights: Any, n_teachers: int) -> np.ndarray | str:
    """Return a rule by its name, or one weight for each teacher; they sum to 1."""
    if teacher_weights is None:
        return np.full(n_teachers, 1 / n_teachers)
    if isinstance(teacher_weights, str) and teacher_weights in LABEL_RULES:
        return teacher_weights
    try:
        weights = np.asarray(teacher_weights, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.shape != (n_teachers,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"teacher_weights must be None, {' or '.join(map(repr, LABEL_RULES))}, or {n_teachers} "
            f"finite numbers >= 0, one for each teacher; got {teacher_weights!r}."
        )
    if not weights.any():
        raise ValueError("teacher_weights must hold at least one positive number; all are zero.")
    return weights / weights.sum()


def weights_without_labels(teacher_weights: Any, n_teachers: int) -> np.ndarray:
    """Return one weight for each teacher where no answer can be compared with a label.

    What "confidence" says of rows without a label is to weigh all alike; what "validation" says
    has to be learnt first.
    """
    weights = check_teacher_weights(teacher_weights, n_teachers)
    if not isinstance(weights, str):
        return weights
    if weights == "validation":
        raise ValueError(
            "teacher_weights='validation' compares each teacher's own answers with labels, in fit "
            "or in the first batch of partial_fit; here the teachers label new rows alone. Pass "
            "numbers, such as the teacher_weights_ of an earlier fit, or None."
        )
    return np.full(n_teachers, 1 / n_teachers)


def to_proba(values: np.ndarray, space: str, T: float | None = None) -> np.ndarray:
    """Return probabilities, at a temperature, from a mean of probabilities or of logits."""
    if space == "logits":
        values = np.exp(values - values.max(axis=1, keepdims=True))
    proba = values / values.sum(axis=1, keepdims=True)
    return proba if T is None else temper(proba, T)


def temper(proba: np.ndarray, T: float) -> np.ndarray:
    """Return probabilities at a temperature, zeros included: p^(1/T), normalised.

    :func:`skdistill.losses.temper` is the same of tensors; teachers are asked without torch.
    """
    scaled = proba ** (1 / T)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def pool(
    answers: Sequence[np.ndarray],
    weights: np.ndarray | str,
    averaging: str,
    code: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> SoftTargets:
    """Weigh the answers by numbers or by a rule, and average them.

    Answers are probabilities or logits of shape (n, k), as `averaging` says; a row of NaN is one
    that a teacher cannot answer.
    """
    if isinstance(weights, str) and weights == "confidence":
        by_row = confidence_weights(answers, averaging, code)
        equal = np.full(len(answers), 1 / len(answers))
        return SoftTargets(*mean_answer(answers, by_row, averaging), equal)
    if isinstance(weights, str):
        weights = validation_weights(answers, averaging, code, sample_weight)
    return SoftTargets(*mean_answer(answers, weights, averaging), weights)


def mean_answer(
    answers: Sequence[np.ndarray], weights: np.ndarray, averaging: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean as probabilities, and the rows that have one.

    ``weights`` holds a number for each teacher, or has shape (n_teachers, n). A teacher without an
    answer leaves its weight to the others.
    """
    total = np.zeros_like(answers[0])
    share = np.zeros(len(total))
    for answer, weight in zip(answers, weights, strict=True):
        own = np.where(np.isfinite(answer).all(axis=1), weight, 0.0)
        total += np.where(own[:, None] > 0, own[:, None] * answer, 0.0)
        share += own
    known = share > 0
    total[known] /= share[known, None]
    # Equal numbers are the uniform answer in either space.
    total[~known] = 1.0
    return to_proba(total, averaging), known


def confidence_weights(
    answers: Sequence[np.ndarray], averaging: str, code: np.ndarray
) -> np.ndarray:
    r"""Weigh the teachers row by row: less, the less a teacher expects the row's label.

    .. math:: w_k = \frac{1}{K - 1} \left( 1 - \frac{e^{c_k}}{\sum_j e^{c_j}} \right)

    with the log-loss :math:`c_k` of teacher k on the row (Zhang, Chen & Wang, "Confidence-Aware
    Multi-Teacher Knowledge Distillation", ICASSP 2022). The weights (n_teachers, n) sum to 1 in
    each column, or are 0 where none answers; a teacher without an answer has weight 0, and the
    others weigh as if it were not there.
    """
    losses = np.stack([-_log_proba_of(answer, averaging, code) for answer in answers])
    seen = np.isfinite(losses)
    n_seen = seen.sum(axis=0)
    share = softmax(np.where(seen | (n_seen == 0), np.nan_to_num(losses), -np.inf), axis=0)
    # The only teacher that has an answer has all the weight.
    weights = np.where(n_seen > 1, (1 - share) / np.maximum(n_seen - 1, 1), 1.0)
    return np.where(seen, weights, 0.0)


def _log_proba_of(answer: np.ndarray, averaging: str, code: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability that a teacher gives each row's label."""
    rows = np.arange(len(code))
    if averaging == "logits":
        return log_softmax(answer, axis=1)[rows, code]
    return np.log(np.maximum(answer[rows, code], PROBA_FLOOR))


def validation_weights(
    answers: Sequence[np.ndarray],
    averaging: str,
    code: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Find the weights whose average has the lowest log-loss on the labels.

    The problem is convex in both spaces. Equal weights and the best single teacher are candidates
    in any case, so the answer is not worse than either on these rows.
    """
    n_teachers = len(answers)
    used = np.logical_and.reduce([np.isfinite(answer).all(axis=1) for answer in answers])
    row_weight = np.ones(len(code)) if sample_weight is None else sample_weight
    used &= row_weight > 0
    equal = np.full(n_teachers, 1 / n_teachers)
    if n_teachers == 1:
        return equal
    if not used.any():
        raise ValueError(
            "teacher_weights='validation' compares the teachers on rows that all of them answer, "
            "and there is none. Pass numbers, or cv=5."
        )
    row_weight = row_weight[used] / row_weight[used].sum()
    loss = (_logit_pool_loss if averaging == "logits" else _proba_pool_loss)(
        np.stack([answer[used] for answer in answers]), code[used], row_weight
    )
    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_teachers,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
    ).x.clip(min=0)
    candidates = [equal, found / found.sum(), *np.eye(n_teachers)]
    return min(candidates, key=lambda w: float(loss(w)[0]))


def _proba_pool_loss(answers: np.ndarray, code: np.ndarray, row_weight: np.ndarray) -> Any:
    """Return the log-loss of a mean of probabilities, and its gradient, as a function."""
    at_label = np.maximum(answers[:, np.arange(len(code)), code], PROBA_FLOOR)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(weights @ at_label, PROBA_FLOOR)
        return -float(row_weight @ np.log(mixed)), -at_label @ (row_weight / mixed)

    return loss


def _logit_pool_loss(answers: np.ndarray, code: np.ndarray, row_weight: np.ndarray) -> Any:
    """Return the log-loss of a mean of logits, and its gradient, as a function."""
    rows = np.arange(len(code))
    at_label = answers[:, rows, code]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_proba = log_softmax(np.tensordot(weights, answers, axes=1), axis=1)
        expected = np.einsum("nk,mnk->mn", np.exp(log_proba), answers)
        return -float(row_weight @ log_proba[rows, code]), (expected - at_label) @ row_weight

    return loss


# No set of labels is taken to ask for more than this.
BOUNDS = (0.25, 4.0)


def fit_temperature(
    log_proba: np.ndarray,
    code: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    pseudo_count: float = 0.0,
) -> float:
    r"""Find the temperature at which probabilities have the lowest log-loss on labels.

    .. math:: \min_T - \sum_i w_i \sum_j y_{ij} \log \mathrm{softmax}(\log p_i / T)_j

    (temperature scaling; Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural
    Networks", ICML 2017). Convex in :math:`1/T`, so there is one answer: above 1 where the
    probabilities are too sharp, within `BOUNDS`. A `pseudo_count` of labels of each class is
    added, spread over the rows: by Laplace's rule, with 1, few rows without an error do not prove
    a model that makes none.
    """
    n, k = log_proba.shape
    weight = np.ones(n) if sample_weight is None else sample_weight
    weight = weight / weight.sum()
    n_effective = 1 / np.square(weight).sum()
    smoothing = pseudo_count * k / (n_effective + pseudo_count * k)
    at_label = (1 - smoothing) * log_proba[np.arange(n), code] + smoothing * log_proba.mean(axis=1)

    def slope(beta: float) -> float:
        expected = (softmax(beta * log_proba, axis=1) * log_proba).sum(axis=1)
        return float(weight @ (expected - at_label))

    return 1 / _root(slope, 1 / BOUNDS[1], 1 / BOUNDS[0])


def sharpening_temperature(
    proba: np.ndarray, code: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    r"""Find the temperature, at most 1, at which probabilities have the lowest Brier score.

    .. math:: \min_{T \le 1} \sum_i w_i \sum_j (p_{ij}^{1/T} / Z_i - y_{ij})^2

    A label that got probability 0 costs the Brier score at most 2, whatever the temperature; the
    log-loss would be ruled by the constant that stands for 0. Votes of few members scatter, which
    makes them look too sharp, but a student averages over its neighbours: so nothing is softened.
    """
    n, k = proba.shape
    weight = np.ones(n) if sample_weight is None else sample_weight
    weight, label = weight / weight.sum(), np.eye(k)[code]
    log_proba = np.log(proba, where=proba > 0, out=np.zeros_like(proba))

    def slope(beta: float) -> float:
        tempered = temper(proba, 1 / beta)
        spread = log_proba - (tempered * log_proba).sum(axis=1, keepdims=True)
        return float(weight @ ((tempered - label) * tempered * spread).sum(axis=1))

    return 1 / _root(slope, 1.0, 1 / BOUNDS[0])


def mean_confidence(logits: np.ndarray, T: float = 1.0) -> float:
    """Return the mean probability of the most probable class at a temperature."""
    z = logits / T
    return float(np.exp(z.max(axis=1) - logsumexp(z, axis=1)).mean())


def matching_temperature(logits: np.ndarray, confidence: float) -> float:
    """Return the temperature, at most 1, that lifts the mean confidence to a given one.

    Logits that are confident enough keep the temperature 1, and none falls below ``BOUNDS[0]``.
    """
    log_proba = log_softmax(logits, axis=1)

    def lacking(beta: float) -> float:
        return mean_confidence(log_proba, 1 / beta) - confidence

    return 1 / _root(lacking, 1.0, 1 / BOUNDS[0])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where an increasing function crosses zero, or the end that is closest to it."""
    if function(low) >= 0:
        return low
    if function(high) <= 0:
        return high
    return float(brentq(function, low, high, xtol=1e-12, rtol=1e-12))
