"""Every parameter that is out of range is named with its value and what is allowed."""

import math

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, LRScheduler

from skdistill import DistilledClassifier, Hint
from skdistill.estimators.parameters import RULES, check_parameters

GOOD = {
    "temperature": [0.5, 1, np.float32(3), np.int64(2)],
    "alpha": [0, 1, 0.5, np.float64(0.3)],
    "averaging": ["auto", "logits", "proba"],
    "loss": ["kl", "mse", "dkd", min],
    "hints": [None, [], [Hint(layer=0)], (Hint(layer=0, weight=0),)],
    "self_distillation": [0, 0.0, 0.5, np.float32(0.9)],
    "calibration": ["auto", None],
    "hidden_layer_sizes": ["auto", (), (8,), [4, 4]],
    "activation": ["relu", "tanh", "gelu", "silu"],
    "dropout": ["auto", 0, 0.0, 0.5],
    "student_module": [None, min],
    "preprocessor": ["auto", None, StandardScaler()],
    "numerical_embedding": ["auto", "piecewise_linear", None],
    "n_bins": [1, np.int64(8)],
    "augment": ["auto", "munge", None, min],
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
    "temperature": [0, -1, 1e10, math.inf, math.nan, "1", True, None],
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
    return [(name, value) for name, values in table.items() for value in values]


def test_every_rule_is_tried():
    assert set(GOOD) == set(BAD) == set(RULES) <= set(DistilledClassifier().get_params())


@pytest.mark.parametrize(("name", "value"), pairs(GOOD), ids=str)
def test_allowed(name, value):
    check_parameters(DistilledClassifier(**{name: value}))


@pytest.mark.parametrize(("name", "value"), pairs(BAD), ids=str)
def test_refused(name, value):
    words = rf"The '{name}' parameter of DistilledClassifier must be .+; got .*"
    with pytest.raises(ValueError, match=words) as refusal:
        check_parameters(DistilledClassifier(**{name: value}))
    assert str(refusal.value).endswith(f"got {value!r}.")


def test_callbacks_that_would_fight_the_loop_are_refused():
    for callback in (EarlyStopping(), ("stop", EarlyStopping()), LRScheduler()):
        with pytest.raises(ValueError, match=r"early_stopping=True"):
            check_parameters(DistilledClassifier(callbacks=[callback]))
