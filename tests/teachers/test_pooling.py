"""Laws of pooling: weights given, learnt on labels, or drawn row by row; temperatures."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from skdistill.teachers.pooling import (
    BOUNDS,
    check_teacher_weights,
    confidence_weights,
    fit_temperature,
    matching_temperature,
    mean_answer,
    mean_confidence,
    pool,
    sharpening_temperature,
    temper,
    to_proba,
    validation_weights,
    weights_without_labels,
)

RNG = np.random.default_rng(0)
N, K = 400, 3
CODE = RNG.integers(K, size=N)
HINT = np.eye(K)[CODE]
LOGITS = [RNG.normal(size=(N, K)) + strength * HINT for strength in (0.5, 1.0, 2.0)]
ANSWERS = {"logits": LOGITS, "proba": [softmax(z, axis=1) for z in LOGITS]}
# Teachers that are about as good as each other, so that the best weights are none of them 0.
RIVALS = {"logits": [1.5 * RNG.normal(size=(N, K)) + 1.5 * HINT for _ in range(3)]}
RIVALS["proba"] = [softmax(z, axis=1) for z in RIVALS["logits"]]


def log_loss(proba, weight=None):
    return np.average(-np.log(proba[np.arange(N), CODE]), weights=weight)


@pytest.mark.parametrize(
    "bad",
    [[1.0], [1, -1], [1, np.nan], [1, None], ["a", "b"], "equal", [[1, 2]], [1, 2, 3]],
)
def test_bad_teacher_weights(bad):
    with pytest.raises(ValueError, match="None, 'validation' or 'confidence', or 2 finite numbers"):
        check_teacher_weights(bad, 2)


def test_words_are_no_weight_of_a_single_teacher():
    with pytest.raises(ValueError, match=r"or 1 finite numbers >= 0, .*; got 'equal'"):
        check_teacher_weights("equal", 1)


def test_teacher_weights_sum_to_one_and_are_not_all_zero():
    np.testing.assert_array_equal(check_teacher_weights([3, 1], 2), [0.75, 0.25])
    np.testing.assert_array_equal(check_teacher_weights(None, 4), [0.25] * 4)
    with pytest.raises(ValueError, match=r"^teacher_weights must hold at least one positive"):
        check_teacher_weights([0, 0], 2)


def test_rules_pass_by_their_name():
    assert check_teacher_weights("validation", 2) == "validation"
    assert check_teacher_weights("confidence", 2) == "confidence"


def test_without_labels_confidence_weighs_alike_and_validation_is_refused():
    for given in (None, [3, 1]):
        expected = check_teacher_weights(given, 2)
        np.testing.assert_array_equal(weights_without_labels(given, 2), expected)
    np.testing.assert_array_equal(weights_without_labels("confidence", 4), [0.25] * 4)
    with pytest.raises(ValueError, match=r"^teacher_weights='validation' compares .*, or None\.$"):
        weights_without_labels("validation", 2)


def test_a_mean_answer_stands_for_probabilities():
    shift = np.where(np.arange(N) % 2, 2000.0, -2000.0)[:, None]
    np.testing.assert_allclose(to_proba(shift + LOGITS[0], "logits"), ANSWERS["proba"][0])
    np.testing.assert_allclose(to_proba(3 * ANSWERS["proba"][0], "proba"), ANSWERS["proba"][0])


@pytest.mark.parametrize("teachers", [ANSWERS, RIVALS], ids=["unequal", "rivals"])
@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_learnt_weights_are_the_best_of_a_fine_grid(averaging, teachers):
    answers = teachers[averaging]
    learnt = validation_weights(answers, averaging, CODE)
    assert learnt.sum() == pytest.approx(1)
    assert (learnt >= 0).all()
    grid = [
        np.array([a, b, 1 - a - b])
        for a in np.linspace(0, 1, 21)
        for b in np.linspace(0, 1 - a, 21)
    ]
    losses = [log_loss(mean_answer(answers, w, averaging)[0]) for w in grid]
    assert log_loss(mean_answer(answers, learnt, averaging)[0]) <= min(losses) + 1e-9


@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_learnt_weights_are_no_worse_than_the_best_teacher_or_the_mean(averaging):
    answers = [*ANSWERS[averaging], ANSWERS[averaging][0][::-1].copy()]
    loss = log_loss(pool(answers, "validation", averaging, CODE).proba)
    singles = [log_loss(mean_answer([a], np.ones(1), averaging)[0]) for a in answers]
    equal = log_loss(mean_answer(answers, np.full(4, 0.25), averaging)[0])
    assert loss <= min(*singles, equal) + 1e-12


def test_one_teacher_among_guesses_gets_all_the_weight():
    guess = np.full((N, K), 1 / K)
    oracle = 0.9 * HINT + 0.1 / K
    np.testing.assert_allclose(
        validation_weights([guess, oracle, guess], "proba", CODE), [0, 1, 0], atol=1e-6
    )


@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_weights_of_rows_act_as_repeated_rows(averaging):
    answers, weight = ANSWERS[averaging], RNG.integers(0, 3, size=N)
    repeated = np.repeat(np.arange(N), weight)
    np.testing.assert_allclose(
        validation_weights(answers, averaging, CODE, weight.astype(float)),
        validation_weights([a[repeated] for a in answers], averaging, CODE[repeated]),
        atol=1e-5,
    )


@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_the_scale_of_the_weights_of_rows_does_not_enter(averaging):
    answers, weight = RIVALS[averaging], RNG.random(N)
    np.testing.assert_allclose(
        validation_weights(answers, averaging, CODE, 1e-6 * weight),
        validation_weights(answers, averaging, CODE, weight),
        atol=1e-5,
    )


@pytest.mark.parametrize("n_teachers", [2, 3])
@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_confidence_weights_against_numpy(averaging, n_teachers):
    weights = confidence_weights(ANSWERS[averaging][:n_teachers], averaging, CODE)
    at_label = np.stack([p[np.arange(N), CODE] for p in ANSWERS["proba"][:n_teachers]])
    share = (1 / at_label) / (1 / at_label).sum(axis=0)
    np.testing.assert_allclose(weights, (1 - share) / (n_teachers - 1), rtol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    # The teacher that expects the label most has the largest weight.
    np.testing.assert_array_equal(weights.argmax(axis=0), at_label.argmax(axis=0))


@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_a_pool_weighs_its_answers_by_numbers_or_by_what_a_rule_says(averaging):
    answers, row_weight = ANSWERS[averaging], RNG.random(N) * (np.arange(N) % 3)
    learnt = validation_weights(answers, averaging, CODE, row_weight)
    by_row = confidence_weights(answers, averaging, CODE)
    given = np.array([0.2, 0.3, 0.5])
    for asked, weights, reported in [
        (given, given, given),
        ("validation", learnt, learnt),
        # A row without a label is weighed alike.
        ("confidence", by_row, [1 / 3] * 3),
    ]:
        pooled = pool(answers, asked, averaging, CODE, row_weight)
        mean = sum(w * a for w, a in zip(np.asarray(weights)[..., None], answers, strict=True))
        np.testing.assert_allclose(pooled.proba, to_proba(mean, averaging))
        np.testing.assert_array_equal(pooled.weights, reported)


@pytest.mark.parametrize("rule", ["validation", "confidence"])
def test_one_teacher_has_the_whole_weight(rule):
    pooled = pool(ANSWERS["proba"][:1], rule, "proba", CODE)
    np.testing.assert_allclose(pooled.proba, ANSWERS["proba"][0])
    np.testing.assert_array_equal(pooled.weights, [1.0])


@pytest.mark.parametrize("weights", ["validation", "confidence", "equal"])
@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_a_teacher_without_an_answer_leaves_its_weight_to_the_others(weights, averaging):
    weights = np.full(3, 1 / 3) if weights == "equal" else weights
    answers = [a.copy() for a in ANSWERS[averaging]]
    answers[0][:5] = np.nan
    for a in answers:
        a[5] = np.nan
    pooled = pool(answers, weights, averaging, CODE)
    assert pooled.known.sum() == N - 1
    np.testing.assert_allclose(pooled.proba[5], 1 / K)
    np.testing.assert_allclose(pooled.proba.sum(axis=1), 1)
    two = np.full(2, 0.5) if not isinstance(weights, str) else weights
    if isinstance(two, str) and two == "validation":
        two = pooled.weights[1:]
    without = pool(ANSWERS[averaging][1:], two, averaging, CODE)
    np.testing.assert_allclose(pooled.proba[:5], without.proba[:5])


def test_the_only_teacher_with_an_answer_has_all_the_weight():
    answers = [ANSWERS["proba"][0], np.full((N, K), np.nan), np.full((N, K), np.nan)]
    pooled = pool(answers, "confidence", "proba", CODE)
    np.testing.assert_allclose(pooled.proba, answers[0])
    assert pooled.known.all()


@pytest.mark.parametrize("averaging", ["logits", "proba"])
def test_confidence_weights_are_those_of_the_teachers_that_answer(averaging):
    answers = [a.copy() for a in ANSWERS[averaging]]
    answers[0][::2] = np.nan
    answers[1][::4] = np.nan
    answers[2][::8] = np.nan
    weights = confidence_weights(answers, averaging, CODE)
    two = confidence_weights(ANSWERS[averaging][1:], averaging, CODE)
    np.testing.assert_array_equal(weights[:, 2::4], np.insert(two[:, 2::4], 0, 0, axis=0))
    np.testing.assert_array_equal(weights[:, 4::8], np.array([0, 0, 1])[:, None] + np.zeros(50))
    np.testing.assert_array_equal(weights[:, ::8], 0)


def test_rows_of_weight_zero_compare_no_teachers():
    half = [a.copy() for a in ANSWERS["proba"][:2]]
    half[0][::2] = np.nan
    with pytest.raises(ValueError, match="on rows that all of them answer, and there is none"):
        pool(half, "validation", "proba", CODE, np.arange(N) % 2 == 0)


def test_teachers_that_share_no_row_cannot_be_compared():
    half = [a.copy() for a in ANSWERS["proba"][:2]]
    half[0][::2], half[1][1::2] = np.nan, np.nan
    with pytest.raises(ValueError, match="on rows that all of them answer, and there is none"):
        pool(half, "validation", "proba", CODE)


DRAWS = np.random.default_rng(0)
Z = 2 * DRAWS.normal(size=(3000, 4))
DRAWN = np.array([DRAWS.choice(4, p=p) for p in softmax(Z, axis=1)])


def log_loss_of(logits, code, weight=None):
    rows = -log_softmax(logits, axis=1)[np.arange(len(code)), code]
    return np.average(rows, weights=weight)


@pytest.mark.parametrize("T", [0.5, 1.0, 2.5])
def test_labels_reveal_the_temperature(T):
    assert fit_temperature(Z * T, DRAWN) == pytest.approx(T, rel=0.06)
    # Logits and log-probabilities are one thing up to a constant a row.
    assert fit_temperature(log_softmax(Z * T, axis=1), DRAWN) == pytest.approx(
        fit_temperature(Z * T, DRAWN)
    )


def test_it_is_the_minimum():
    found = fit_temperature(Z, DRAWN)
    best = minimize_scalar(lambda T: log_loss_of(Z / T, DRAWN), bounds=BOUNDS, method="bounded")
    assert log_loss_of(Z / found, DRAWN) <= best.fun + 1e-12
    assert found == pytest.approx(best.x, abs=1e-4)


def test_weights_act_as_repeated_rows():
    weight = DRAWS.integers(0, 3, size=len(Z))
    rows = np.repeat(np.arange(len(Z)), weight)
    weighed = fit_temperature(Z, DRAWN, weight.astype(float))
    assert weighed == pytest.approx(fit_temperature(Z[rows], DRAWN[rows]), rel=1e-9)
    assert weighed == pytest.approx(fit_temperature(Z, DRAWN, 0.1 * weight), rel=1e-9)


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
    whole = fit_temperature(Z, DRAWN, weight, pseudo_count=1.0)
    assert whole == pytest.approx(fit_temperature(Z[:5], DRAWN[:5], pseudo_count=1.0), rel=1e-9)
    assert BOUNDS[0] < whole < BOUNDS[1]


def test_confidence_is_the_mean_of_the_largest_probability():
    for T in (0.5, 1.0, 3.0):
        top = softmax(Z / T, axis=1).max(axis=1)
        assert mean_confidence(Z, T) == pytest.approx(top.mean())


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
    T = sharpening_temperature(shy, DRAWN)
    assert pytest.approx(0.5, rel=0.06) == T
    for other in (0.95 * T, 1.05 * T):
        assert brier(temper(shy, T), DRAWN) < brier(temper(shy, other), DRAWN)
    assert sharpening_temperature(softmax(2 * Z, axis=1), DRAWN) == 1
    assert sharpening_temperature(np.eye(4)[DRAWN] * 0.4 + 0.15, DRAWN) == BOUNDS[0]


def test_labels_that_were_excluded_do_not_rule_it():
    shy = softmax(Z / 2, axis=1)
    excluded = np.eye(4)[(DRAWN[:30] + 1) % 4]
    with_zeros = sharpening_temperature(
        np.concatenate([shy, excluded]), np.concatenate([DRAWN, DRAWN[:30]])
    )
    assert with_zeros == pytest.approx(sharpening_temperature(shy, DRAWN), rel=1e-9)


def test_row_weights_of_the_brier_score_act_as_repeated_rows():
    shy = softmax(Z / 2, axis=1)
    weight = DRAWS.integers(0, 3, size=len(Z))
    rows = np.repeat(np.arange(len(Z)), weight)
    weighed = sharpening_temperature(shy, DRAWN, weight.astype(float))
    assert weighed == pytest.approx(sharpening_temperature(shy[rows], DRAWN[rows]), rel=1e-9)


def test_tempered_probabilities_keep_their_zeros():
    p = np.array([[0.8, 0.2, 0.0]])
    np.testing.assert_allclose(temper(p, 2.0), [[2 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(temper(p, 1.0), p)
