"""Every parameter that is out of range is named with its value and what is allowed."""

import math

import numpy as np
import pytest
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, LRScheduler

from skdistill import DistilledClassifier, Hint, augment, losses

X, Y = make_data(labels=("ant", "bee", "cat"))
TEACHER = fitted_teacher(X, Y)


def own_loss(student_logits, target_proba, y, *, temperature):
    return losses.kl_divergence(student_logits, target_proba, temperature=temperature)


GOOD = {
    "temperature": [1e-6, 1, np.float32(3), np.int64(2), 1e9],
    "alpha": [0, 1, 0.5, np.float64(0.3)],
    "averaging": ["auto", "logits", "proba"],
    "loss": ["kl", "mse", "dkd", own_loss],
    "hints": [None, [], (Hint(layer=0, weight=0),)],
    "self_distillation": [0, 0.0, 0.5, np.float32(0.9)],
    "calibration": ["auto", None],
    "hidden_layer_sizes": ["auto", (), (8,), [4, 4]],
    "activation": ["relu", "tanh", "gelu", "silu"],
    "dropout": ["auto", 0, 0.0, 0.5],
    "student_module": [None, torch.nn.Linear],
    "preprocessor": ["auto", None, StandardScaler()],
    "numerical_embedding": ["auto", "piecewise_linear", None],
    "n_bins": [1, np.int64(8)],
    "augment": ["auto", "munge", None, augment.munge],
    "n_synthetic": ["auto", 0, 5],
    "max_epochs": ["auto", 1],
    "batch_size": [1],
    "learning_rate_init": [1e-3],
    "weight_decay": [0, 0.1],
    "early_stopping": [True, np.False_],
    "validation_fraction": [0.1],
    "n_iter_no_change": [1],
    "callbacks": [None, [], ()],
    "device": ["cpu"],
    "dtype": ["auto", "float32", "float64"],
    "keep_teachers": [True, False],
    "verbose": [0, 2, True],
}
BAD = {
    "temperature": [0, -1, 1e-38, 1e10, math.inf, math.nan, "1", True, None],
    "alpha": [-0.01, 1.01, math.nan, "half", None],
    "averaging": ["mean", None],
    "loss": ["dkd!", None],
    "hints": [Hint(layer=0), ["net.4"], "mse", [None]],
    "self_distillation": [1, -0.1, math.nan, "on", True, None],
    "calibration": ["platt", True, 1.0],
    "hidden_layer_sizes": [8, (0,), (1.5,), "88"],
    "activation": ["sigmoid", None],
    "dropout": [1, -0.1],
    "student_module": ["net"],
    "preprocessor": ["scale", StandardScaler, 3],
    "numerical_embedding": ["fourier", True],
    "n_bins": [0, 2.5, True],
    "augment": ["smote"],
    "n_synthetic": [-1, "many"],
    "max_epochs": [0, 1.5, "all", True],
    "batch_size": [0, None],
    "learning_rate_init": [0, -1, math.inf],
    "weight_decay": [-1e-9],
    "early_stopping": [1, "yes"],
    "validation_fraction": [0, 1],
    "n_iter_no_change": [0],
    "callbacks": ["print", min],
    "device": ["abacus", "cuda:99"],
    "dtype": ["float16", None],
    "keep_teachers": ["no", 1],
    "verbose": [-1, "loud"],
}


def pairs(table):
    """Return names and values, with the same ids in every process."""
    return [
        pytest.param(name, value, id=f"{name}={getattr(value, '__name__', value)}")
        for name, values in table.items()
        for value in values
    ]


def test_every_parameter_is_tried():
    elsewhere = {"teachers", "cv", "teacher_weights", "memory", "n_jobs", "random_state"}
    assert GOOD.keys() == BAD.keys()
    assert GOOD.keys() ^ elsewhere == DistilledClassifier().get_params(deep=False).keys()


@pytest.mark.parametrize(("name", "value"), pairs(GOOD))
@pytest.mark.filterwarnings("ignore:The student")
def test_allowed(name, value):
    student = quick([TEACHER], **{"max_epochs": 2, "n_synthetic": 5, "n_bins": 4, name: value})
    assert np.isfinite(student.fit(X, Y).predict_proba(X)).all()


@pytest.mark.parametrize(("name", "value"), pairs(BAD))
def test_refused(name, value):
    words = rf"The '{name}' parameter of DistilledClassifier must be .+; got .*"
    with pytest.raises(ValueError, match=words) as refusal:
        DistilledClassifier([TEACHER], **{name: value}).fit(X, Y)
    assert str(refusal.value).endswith(f"got {value!r}.")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cv", 1, "n_splits=1"),
        ("cv", "prefitted", "Got prefitted"),
        ("cv", [], r"cv=\[\] yields no splits"),
        ("teacher_weights", [1, 2], "teacher_weights must be None, .*; got"),
        ("teacher_weights", [-1], "teacher_weights must be None, .*; got"),
        ("teacher_weights", [np.nan], "teacher_weights must be None, .*; got"),
        ("teacher_weights", "best", "teacher_weights must be None, .*; got"),
        ("teacher_weights", [0], "at least one positive number"),
    ],
    ids=str,
)
def test_refused_in_other_words(name, value, words):
    with pytest.raises(ValueError, match=words):
        quick([TEACHER], **{name: value}).fit(X, Y)


def test_callbacks_that_would_fight_the_loop_are_refused():
    for callback in (EarlyStopping(), ("stop", EarlyStopping()), LRScheduler()):
        with pytest.raises(ValueError, match=r"early_stopping=True"):
            quick([TEACHER], callbacks=[callback]).fit(X, Y)


def test_a_refusal_leaves_nothing_fitted():
    student = quick([TEACHER], max_epochs=1).fit(X, Y).set_params(alpha=2)
    with pytest.raises(ValueError, match="'alpha'"):
        student.fit(X, Y)
    assert [name for name in vars(student) if name.endswith("_")] == []
    with pytest.raises(NotFittedError):
        student.predict(X)
