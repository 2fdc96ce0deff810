"""Trainings that go wrong: one test for each row of the fault table."""

import pytest
import skorch
from quick_students import fitted_teacher, make_data, quick
from sklearn.exceptions import NotFittedError

X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


def assert_refused(error, words, **params):
    """Fit raises, and the classifier is not fitted afterwards, though it was before."""
    classifier = quick([TEACHER]).fit(X, Y).set_params(**params)
    with pytest.raises(error, match=words):
        classifier.fit(X, Y)
    assert [name for name in vars(classifier) if name.endswith("_")] == []
    with pytest.raises(NotFittedError):
        classifier.predict(X)


def test_divergence():
    words = r"training loss became (nan|inf) in epoch \d+ with learning_rate_init=1e\+300. Lower"
    assert_refused(FloatingPointError, words, learning_rate_init=1e300, hidden_layer_sizes=(8, 8))


def test_a_loss_that_is_nan():
    def loss(student_logits, target_proba, y, *, temperature):
        return student_logits.sum(dim=1) * float("nan")

    assert_refused(FloatingPointError, "training loss became nan in epoch 1", loss=loss)


def test_a_loss_that_is_reduced():
    def loss(student_logits, target_proba, y, *, temperature):
        return student_logits.mean()

    assert_refused(ValueError, r"one value a row, of shape \(90,\); got \(\)", loss=loss)


class Interrupted(skorch.callbacks.Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_keyboard_interrupt():
    assert_refused(KeyboardInterrupt, "^$", callbacks=[Interrupted()])
