"""Temperatures that set confidence right: fitted on labels, or matched to an honest student."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax

from skdistill.teachers.ensemble import temper

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


def mean_confidence(
    logits: np.ndarray, temperature: float = 1.0, sample_weight: np.ndarray | None = None
) -> float:
    """Return the mean probability of the most probable class at a temperature."""
    z = logits / temperature
    top = np.exp(z.max(axis=1) - logsumexp(z, axis=1))
    return float(np.average(top, weights=sample_weight))


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
