"""Small data and quick students that tests share."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from skdistill import DistilledClassifier

# Enough steps to learn a line, few enough to take milliseconds.
QUICK: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "numerical_embedding": "piecewise_linear",
    "batch_size": 256,
    "max_epochs": 30,
    "learning_rate_init": 0.05,
    "augment": None,
    "random_state": 0,
}


def make_data(n: int = 90, labels: Any = ("no", "yes"), seed: int = 0) -> tuple[np.ndarray, Any]:
    """Return X (n, 3) and labels in equal shares that depend, with noise, on two columns."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    score = X[:, 0] + 0.5 * X[:, 1] + rng.normal(scale=0.3, size=n)
    return X, np.asarray(labels)[np.argsort(np.argsort(score)) * len(labels) // n]


def fitted_teacher(X: Any, y: Any) -> LogisticRegression:
    """Return a teacher that knows the data well."""
    return LogisticRegression().fit(X, y)


def quick(teachers: Any = None, **params: Any) -> DistilledClassifier:
    """Return a student that trains in milliseconds."""
    return DistilledClassifier(teachers, **{**QUICK, **params})


class Fixed(ClassifierMixin, BaseEstimator):
    """A fitted teacher that gives every row one answer, or whatever a function makes of X."""

    def __init__(self, answer: Any, classes: Any = (0, 1)) -> None:
        self.answer = answer
        self.classes = classes

    @property
    def classes_(self) -> np.ndarray:
        return np.asarray(self.classes)

    def fit(self, X: Any, y: Any) -> "Fixed":
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        if callable(self.answer):
            return self.answer(X)
        return np.tile(np.asarray(self.answer, dtype=float), (len(X), 1))

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Counting(ClassifierMixin, BaseEstimator):
    """A logistic regression that counts, over all its clones, what it is asked to do."""

    n_fits = 0
    rows_asked = 0

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Counting":
        type(self).n_fits += 1
        self.model_ = LogisticRegression(C=self.C).fit(X, y, sample_weight)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        type(self).rows_asked += len(X)
        return self.model_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
