"""One row at a time: the forward without checks, for servers."""

from typing import Any

import numpy as np

from skdistill.student.forward import Forward, softmax

__all__ = ["OneRow"]


class OneRow:
    """A callable from one raw row to its class probabilities, made by ``student.compile()``.

    Nothing is checked: the row must be a float array of shape (n_features,) in the order of the
    columns of `fit`. Each dtype has its own arithmetic. NaN gives NaN, a wrong width raises NumPy's
    own error, and inf may give an ordinary answer. It holds no state, so threads may share it.

    Parameters
    ----------
    forwards : dict of dtype to Forward
        The network from raw rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill import DistilledClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
    >>> student = DistilledClassifier([teacher], random_state=0).fit(X, y).student_
    >>> predict_one = student.compile()
    >>> bool(abs(predict_one(X[0]) - student.predict_proba(X[:1])[0]).max() < 1e-12)
    True
    """

    def __init__(self, forwards: dict[Any, Forward]) -> None:
        self._forwards = forwards

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the class probabilities of one row.

        Parameters
        ----------
        x : ndarray of shape (n_features,), float32 or float64
            The row.

        Returns
        -------
        proba : ndarray of shape (n_classes,), dtype of x
        """
        return softmax(self._forwards[x.dtype].apply(x))
