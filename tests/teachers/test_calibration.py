"""Laws of temperatures fitted on labels or matched to a confidence."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from skdistill.teachers.pooling import (
    BOUNDS,
    fit_temperature,
    matching_temperature,
    mean_confidence,
    sharpening_temperature,
    temper,
)

RNG = np.random.default_rng(0)
Z = 2 * RNG.normal(size=(3000, 4))
CODE = np.array([RNG.choice(4, p=p) for p in softmax(Z, axis=1)])


def log_loss(logits, code, weight=None):
    rows = -log_softmax(logits, axis=1)[np.arange(len(code)), code]
    return np.average(rows, weights=weight)


@pytest.mark.parametrize("T", [0.5, 1.0, 2.5])
def test_labels_reveal_the_temperature(T):
    assert fit_temperature(Z * T, CODE) == pytest.approx(T, rel=0.06)
    # Logits and log-probabilities are one thing up to a constant a row.
    assert fit_temperature(log_softmax(Z * T, axis=1), CODE) == pytest.approx(
        fit_temperature(Z * T, CODE)
    )


def test_it_is_the_minimum():
    found = fit_temperature(Z, CODE)
    best = minimize_scalar(lambda T: log_loss(Z / T, CODE), bounds=BOUNDS, method="bounded")
    assert log_loss(Z / found, CODE) <= best.fun + 1e-12
    assert found == pytest.approx(best.x, abs=1e-4)


def test_weights_act_as_repeated_rows():
    weight = RNG.integers(0, 3, size=len(Z))
    rows = np.repeat(np.arange(len(Z)), weight)
    weighed = fit_temperature(Z, CODE, weight.astype(float))
    assert weighed == pytest.approx(fit_temperature(Z[rows], CODE[rows]), rel=1e-9)
    assert weighed == pytest.approx(fit_temperature(Z, CODE, 0.1 * weight), rel=1e-9)


def test_it_stays_within_bounds():
    right, wrong = np.eye(3)[[0, 1, 2]], np.eye(3)[[1, 2, 0]]
    assert fit_temperature(right, np.arange(3)) == BOUNDS[0]
    assert fit_temperature(wrong, np.arange(3)) == BOUNDS[1]


def test_few_rows_without_an_error_prove_little():
    few, many = (np.tile(2 * np.eye(3), (n, 1)) for n in (4, 400))
    careful, bold = (
        fit_temperature(z, np.tile(np.arange(3), len(z) // 3), pseudo_count=1.0)
        for z in (few, many)
    )
    assert bold < careful
    # Laplace's rule: one pseudo-label of each class beside 12.
    assert mean_confidence(few, careful) == pytest.approx(13 / 15)


def test_rows_of_weight_zero_do_not_count_beside_pseudo_labels():
    weight = np.where(np.arange(len(Z)) < 5, 2.0, 0.0)
    whole = fit_temperature(Z, CODE, weight, pseudo_count=1.0)
    assert whole == pytest.approx(fit_temperature(Z[:5], CODE[:5], pseudo_count=1.0), rel=1e-9)
    assert BOUNDS[0] < whole < BOUNDS[1]


def test_confidence_is_the_mean_of_the_largest_probability():
    weight = RNG.random(len(Z))
    for T in (0.5, 1.0, 3.0):
        top = softmax(Z / T, axis=1).max(axis=1)
        assert mean_confidence(Z, T) == pytest.approx(top.mean())
        assert mean_confidence(Z, T, weight) == pytest.approx(np.average(top, weights=weight))


def test_a_match_only_sharpens():
    now = mean_confidence(Z)
    T = matching_temperature(Z, now + 0.1)
    assert BOUNDS[0] < T < 1
    assert mean_confidence(Z, T) == pytest.approx(now + 0.1)
    assert matching_temperature(Z, now - 0.1) == 1
    assert matching_temperature(Z, 1.0) == BOUNDS[0]


def brier(proba, code, weight=None):
    return np.average(np.square(proba - np.eye(4)[code]).sum(axis=1), weights=weight)


def test_the_sharpening_temperature_has_the_lowest_brier_score():
    shy = softmax(Z / 2, axis=1)
    T = sharpening_temperature(shy, CODE)
    assert pytest.approx(0.5, rel=0.06) == T
    for other in (0.95 * T, 1.05 * T):
        assert brier(temper(shy, T), CODE) < brier(temper(shy, other), CODE)
    assert sharpening_temperature(softmax(2 * Z, axis=1), CODE) == 1
    assert sharpening_temperature(np.eye(4)[CODE] * 0.4 + 0.15, CODE) == BOUNDS[0]


def test_labels_that_were_excluded_do_not_rule_it():
    shy = softmax(Z / 2, axis=1)
    excluded = np.eye(4)[(CODE[:30] + 1) % 4]
    with_zeros = sharpening_temperature(
        np.concatenate([shy, excluded]), np.concatenate([CODE, CODE[:30]])
    )
    assert with_zeros == pytest.approx(sharpening_temperature(shy, CODE), rel=1e-9)


def test_row_weights_of_the_brier_score_act_as_repeated_rows():
    shy = softmax(Z / 2, axis=1)
    weight = RNG.integers(0, 3, size=len(Z))
    rows = np.repeat(np.arange(len(Z)), weight)
    weighed = sharpening_temperature(shy, CODE, weight.astype(float))
    assert weighed == pytest.approx(sharpening_temperature(shy[rows], CODE[rows]), rel=1e-9)


def test_tempered_probabilities_keep_their_zeros():
    p = np.array([[0.8, 0.2, 0.0]])
    np.testing.assert_allclose(temper(p, 2.0), [[2 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(temper(p, 1.0), p)
