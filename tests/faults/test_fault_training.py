"""Parameters and trainings that go wrong: one test for each row of the fault table."""

import numpy as np
import pytest
import skorch
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from tests.quick_students import fitted_teacher, make_data, quick

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


@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan, 1e-38, "warm"])
def test_temperature(temperature):
    words = rf"'temperature' .* finite number in \[1e-06, 1e\+09\]; got '?{temperature}"
    assert_refused(ValueError, words, temperature=temperature)


@pytest.mark.parametrize("temperature", [1e-6, 1e9])
def test_temperature_at_its_bounds(temperature):
    classifier = quick([TEACHER], temperature=temperature).fit(X, Y)
    assert np.isfinite(classifier.predict_proba(X)).all()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, np.nan, "half"])
def test_alpha(alpha):
    words = rf"'alpha' parameter .* finite number in \[0, 1\]; got '?{alpha}"
    assert_refused(ValueError, words, alpha=alpha)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate_init", 0),
        ("learning_rate_init", np.inf),
        ("weight_decay", -1),
        ("dropout", 1.0),
        ("batch_size", 0),
        ("max_epochs", 0),
        ("hidden_layer_sizes", (0,)),
        ("n_bins", 0),
        ("n_synthetic", -1),
        ("validation_fraction", 1.0),
        ("self_distillation", 1.0),
        ("loss", "cross_entropy"),
        ("averaging", "median"),
        ("activation", "step"),
        ("dtype", "float16"),
        ("device", "abacus"),
        ("preprocessor", "scale"),
        ("student_module", 3),
    ],
)
def test_other_parameters(name, value):
    assert_refused(ValueError, f"(?s)The '{name}' parameter .* must be .*; got", **{name: value})


@pytest.mark.parametrize(
    ("cv", "words"), [(1, "n_splits=1"), ("prefitted", "Got prefitted"), ([], "yields no splits")]
)
def test_cv(cv, words):
    assert_refused(ValueError, words, cv=cv)


@pytest.mark.parametrize("weights", [[1, 2], [-1], [np.nan], "best"], ids=str)
def test_teacher_weights(weights):
    assert_refused(ValueError, "teacher_weights must be None, .*; got", teacher_weights=weights)


def test_teacher_weights_of_zero():
    assert_refused(ValueError, "at least one positive number", teacher_weights=[0])


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


def test_seeds():
    """The same seed gives the same student, and the global generators are left alone."""
    numpy_state = check_random_state(None).get_state()[1].copy()
    torch_state = torch.get_rng_state()
    params = {"dropout": 0.2, "augment": "munge", "batch_size": 32, "max_epochs": 3}
    first, second = (quick([TEACHER], **params).fit(X, Y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(check_random_state(None).get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)
