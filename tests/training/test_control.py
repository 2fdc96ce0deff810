"""Laws of the control: its rows, what it says of a student and of teachers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from training_zoo import make_mlp, training_set

from skdistill.teachers.pooling import BOUNDS
from skdistill.training.control import Control, UnseenLabels, _logits, control_rows, read_control
from skdistill.training.data import HeldOut


def with_synthetic(n_synthetic=300, n=600, **changes):
    training = training_set(n)
    n_fit = len(training.X) - n_synthetic
    label = training.label.copy()
    label[n_fit:] = -1
    return replace(training, label=label, n_fit=n_fit, n_synthetic=n_synthetic, **changes)


def test_the_control_learns_labelled_rows_and_keeps_some_from_itself():
    training = with_synthetic()
    rows = control_rows(training, np.random.RandomState(0))
    kept = rows.held_out
    assert len(rows.X) + len(kept.X) == training.n_fit
    together = np.concatenate([rows.X, kept.X])
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(training.X[:300], axis=0))
    assert (rows.label >= 0).all()
    assert not rows.soft_weight.any()
    assert rows.hard_weight.mean() == pytest.approx(1)


def test_rows_held_out_for_early_stopping_serve_the_control_too():
    training = replace(training_set(400, held=60), n_fit=400)
    rows = control_rows(training, np.random.RandomState(0))
    assert rows.held_out is training.held_out
    assert len(rows.X) == 400


def test_rows_without_a_target_do_not_count_against_teachers():
    training = with_synthetic()
    training.soft_weight[:50] = 0
    rows = control_rows(training, np.random.RandomState(0))
    control = read_control(make_mlp().layers(), rows, training)
    assert len(control.weight) == len(control.log_loss) == len(control.teacher_log_loss)
    assert 0 < len(control.weight) < len(rows.held_out.X)


def test_the_logits_are_divided_until_confidences_match():
    training = with_synthetic()
    shy, sure = make_mlp().layers(), make_mlp(seed=1).layers()
    sure[-1] = sure[-1]._replace(arrays=tuple(50 * a for a in sure[-1].arrays))
    rows = control_rows(training, np.random.RandomState(0))
    asked = read_control(sure, rows, training)
    own = read_control(shy, rows, training)
    control = replace(
        asked,
        confidence=0.9 * own.confidence + 0.1 * asked.confidence + 0.05,
        teacher_log_loss=asked.log_loss,
    )
    layers, T = control.calibrate(shy, training)
    assert BOUNDS[0] < T < 1
    for ours, theirs in zip(layers[-1].arrays, shy[-1].arrays, strict=True):
        np.testing.assert_allclose(ours, theirs / T)
    assert layers[:-1] == shy[:-1]
    assert control.calibrate(layers, training)[1] == pytest.approx(1, abs=1e-9)
    assert control.calibrate(sure, training)[1] == 1


def test_where_the_teachers_are_worse_their_student_is_left_alone():
    training = with_synthetic()
    shy, sure = make_mlp().layers(), make_mlp(seed=1).layers()
    sure[-1] = sure[-1]._replace(arrays=tuple(50 * a for a in sure[-1].arrays))
    asked = read_control(sure, control_rows(training, np.random.RandomState(0)), training)
    n = 100
    bad = replace(asked, log_loss=np.zeros(n), teacher_log_loss=np.ones(n), weight=np.ones(n))
    assert bad.shortfall() is not None
    assert bad.calibrate(shy, training) == (shy, 1.0)


def test_few_held_out_rows_calibrate_nothing():
    training = with_synthetic(n_synthetic=300)
    training = replace(training, n_fit=40, X=training.X[60:])
    rows = control_rows(training, np.random.RandomState(0))
    assert len(rows.held_out.X) < 50
    assert read_control(make_mlp().layers(), rows, training).rows is None


def test_few_synthetic_rows_calibrate_nothing():
    training = with_synthetic(n_synthetic=100)
    layers = make_mlp().layers()
    control = read_control(layers, control_rows(training, np.random.RandomState(0)), training)
    assert control.calibrate(layers, training) == (layers, 1.0)


def test_a_shortfall_is_more_than_two_errors():
    rng = np.random.default_rng(0)
    plain, noise = rng.exponential(size=200), rng.normal(size=200)

    def control(by, n=200):
        worse = plain + noise - noise.mean() + by
        return Control(None, 0.0, plain[:n], worse[:n], np.ones(n))

    error = noise.std() / np.sqrt(200)
    assert control(1.9 * error).shortfall() is None
    assert f"best, is {plain.mean() + 2.1 * error:.3f}" in control(2.1 * error).shortfall()
    assert control(100.0, n=49).shortfall() is None


def test_teachers_are_compared_at_their_best_temperature():
    training = with_synthetic()
    label = training.label[:300]
    right = np.full((300, 3), 0.3) + 0.1 * np.eye(3)[label]
    proba = training.proba.copy()
    proba[:300] = right
    training = replace(training, proba=proba)
    rows = control_rows(training, np.random.RandomState(0))
    control = read_control(make_mlp().layers(), rows, training)
    sharpest = -log_softmax(4 * np.log([0.4, 0.3, 0.3]))[0]
    np.testing.assert_allclose(control.teacher_log_loss, sharpest)


@pytest.mark.parametrize(("factor", "expected"), [(0.2, 0.25), (1.0, 0.5), (5.0, 1.0)])
def test_labels_that_training_did_not_see_sharpen_and_never_soften(factor, expected):
    training = training_set(600)
    layers = make_mlp().layers()
    # Labels follow the logits at the temperature 0.5, and the student's are too small or too large.
    layers[-1] = layers[-1]._replace(arrays=tuple(5 * a for a in layers[-1].arrays))
    sharp = np.exp(log_softmax(_logits(layers, training, training.X) / 0.5, axis=1))
    draw = np.random.default_rng(0).random((len(sharp), 1))
    label = (draw > sharp.cumsum(axis=1)).sum(axis=1)
    layers[-1] = layers[-1]._replace(arrays=tuple(factor * a for a in layers[-1].arrays))
    z = _logits(layers, training, training.X)
    unseen = UnseenLabels(HeldOut(training.X, label, np.ones(len(z)), sharp))
    divided, temperature = unseen.calibrate(layers, training)
    assert temperature == pytest.approx(expected, rel=0.1)
    np.testing.assert_allclose(_logits(divided, training, training.X) * temperature, z, atol=1e-6)
    few = replace(unseen.held, X=training.X[:49], label=label[:49], weight=np.ones(49))
    assert UnseenLabels(few).calibrate(layers, training) == (layers, 1.0)


def test_blocks_of_rows_make_no_difference(monkeypatch):
    training = training_set(50)
    layers = make_mlp().layers()
    expected = _logits(layers, training, training.X)
    monkeypatch.setattr("skdistill.training.control._BLOCK_ROWS", 7)
    np.testing.assert_allclose(_logits(layers, training, training.X), expected, rtol=1e-12)
