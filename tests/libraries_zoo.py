"""Teachers of other libraries, and how tests ask them."""

import catboost
import lightgbm
import numpy as np
import pytest
import skorch
import torch
import xgboost
from teachers_zoo import Noisy

from skdistill.teachers.asking import Teacher
from skdistill.teachers.naming import Entry, name_teachers


def named(teacher) -> Entry:
    """Return a teacher as an entry of its own list."""
    return name_teachers([teacher])[0]


def adapt(teacher, classes, **kwargs) -> Teacher:
    """Return a teacher ready to be asked."""
    return Teacher(named(teacher), np.asarray(classes), **kwargs)


def net(criterion=torch.nn.CrossEntropyLoss, n_classes=2, **kwargs):
    """Return an unfitted skorch net."""
    return skorch.NeuralNetClassifier(
        Noisy,
        module__n_classes=n_classes,
        criterion=criterion,
        max_epochs=2,
        verbose=0,
        train_split=None,
        **kwargs,
    )


def boosters():
    """Return an unfitted classifier of each library of boosted trees."""
    return [
        xgboost.XGBClassifier(n_estimators=3, n_jobs=1),
        lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1, min_child_samples=2),
        catboost.CatBoostClassifier(
            iterations=3, verbose=0, allow_writing_files=False, thread_count=1
        ),
    ]


def each(teachers):
    """Run a test with each of the teachers."""
    return pytest.mark.parametrize("teacher", teachers, ids=lambda t: type(t).__name__)
