"""Laws of pooling: weights given, learnt on labels, or drawn row by row."""

import numpy as np
import pytest
from scipy.special import softmax

from skdistill.teachers.pooling import (
    check_teacher_weights,
    confidence_weights,
    mean_answer,
    pool,
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
