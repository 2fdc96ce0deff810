"""Adapters that let what is no scikit-learn classifier teach: torch modules and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from skdistill.student import DocLink
from skdistill.tables import SUM_TOLERANCE, n_rows, warn_user
from skdistill.teachers.answers import (
    check_finite,
    check_proba,
    check_shape,
    columns_by_label,
    is_torch_module,
    left_as_found,
    numeric_array,
)

_FEWEST_ROWS_TO_JUDGE = 20


class TorchTeacher(DocLink, ClassifierMixin, BaseEstimator):
    """A trained torch module as a scikit-learn classifier.

    The module is used as it is: never trained, never moved, never copied. It is asked in
    evaluation mode and left as it was found, its `training` flags and torch's global random
    state included.

    Parameters
    ----------
    module : torch.nn.Module
        Maps a float tensor (n, n_features) to (n, n_classes), or to (n,) or (n, 1) for two
        classes: the logit or the probability of the second class. Of a tuple or list the first
        item is used, of a dict the item "logits".
    classes : array-like of shape (n_classes,), default=None
        The labels of the module's columns, in their order. With None the columns are taken to be
        the sorted labels, and `predict` returns their numbers.
    output : {"logits", "proba"}, default="logits"
        What the module returns.
    batch_size : int, default=65536
        The number of rows moved to the module's device at a time.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        `classes` as an array; absent with `classes=None`.

    See Also
    --------
    CallableTeacher : A function that returns probabilities, as a classifier.

    Notes
    -----
    X is cast to the dtype of the module's first floating-point parameter. A module trained on
    scaled inputs goes into ``make_pipeline(fitted_scaler, TorchTeacher(module))``.

    Examples
    --------
    >>> import torch
    >>> from skdistill.teachers import TorchTeacher
    >>> module = torch.nn.Linear(2, 2)
    >>> with torch.no_grad():
    ...     _ = module.weight.copy_(torch.eye(2)), module.bias.zero_()
    >>> teacher = TorchTeacher(module, classes=["no", "yes"])
    >>> teacher.predict([[0.0, 1.0], [2.0, 0.0]])
    array(['yes', 'no'], dtype='<U3')
    """

    # The address that pickles name, whichever file of the room holds the class.
    __module__ = "skdistill.teachers"

    def __init__(
        self,
        module: Any,
        classes: Any = None,
        *,
        output: str = "logits",
        batch_size: int = 65536,
    ) -> None:
        self.module = module
        self.classes = classes
        self.output = output
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Do nothing: the module is trained already.

        Parameters
        ----------
        X, y, **params : ignored
            Present so that the teacher can stand where a classifier stands.

        Returns
        -------
        self : TorchTeacher
            The same object, unchanged.
        """
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The labels of the columns."""
        if self.classes is None:
            raise AttributeError("TorchTeacher has no classes_: it was made with classes=None.")
        return np.asarray(self.classes)

    def logits(self, X: Any) -> np.ndarray:
        """Return the module's logits.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Numbers.

        Returns
        -------
        logits : ndarray of shape (n, n_classes), float64
            A binary logit z becomes the columns [0, z].

        Raises
        ------
        TypeError
            If the module returns probabilities, or X is not numeric.
        ValueError
            If an output is not finite or has another shape.
        """
        if self.output == "proba":
            raise TypeError(
                'TorchTeacher(output="proba") has no logits: its module returns probabilities. '
                "Use predict_proba."
            )
        return check_finite(self._outputs(X), "TorchTeacher")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Numbers.

        Returns
        -------
        proba : ndarray of shape (n, n_classes), float64
            Rows sum to 1.
        """
        if self.output == "proba":
            return check_proba(self._outputs(X), "TorchTeacher")
        return softmax(self.logits(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of the largest output.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Numbers.

        Returns
        -------
        y : ndarray of shape (n,)
            Labels, or column numbers with `classes=None`.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return codes if self.classes is None else self.classes_[codes]

    def check_params(self) -> None:
        """Raise if a parameter cannot be used."""
        if not is_torch_module(self.module):
            raise TypeError(
                f"TorchTeacher needs a torch.nn.Module, got {type(self.module).__name__}. Wrap a "
                "function in CallableTeacher(function, classes)."
            )
        if self.output not in ("logits", "proba"):
            raise ValueError(
                f'TorchTeacher: output must be "logits" or "proba", got {self.output!r}.'
            )
        if isinstance(self.batch_size, bool) or not self.batch_size >= 1:
            raise ValueError(
                f"TorchTeacher: batch_size must be an integer of at least 1, got "
                f"{self.batch_size!r}."
            )

    def _outputs(self, X: Any) -> np.ndarray:
        """Ask the module in batches: (n, n_classes), values unchecked."""
        import torch

        self.check_params()
        like = next(
            (p for p in self.module.parameters() if p.is_floating_point()),
            torch.empty(0),
        )
        table = numeric_array(X, "float64" if like.dtype == torch.float64 else "float32")
        answers = []
        with left_as_found([self.module]), torch.inference_mode():
            self.module.eval()
            for start in range(0, max(len(table), 1), self.batch_size):
                # torch.tensor copies: from_numpy warns about arrays that are read-only.
                batch = torch.tensor(table[start : start + self.batch_size])
                values = _first_output(self.module(batch.to(like.device, like.dtype)))
                answers.append(self._both_columns(values.cpu().double().numpy(), len(batch)))
        n_classes = None if self.classes is None else len(self.classes_)
        outputs = check_shape(np.concatenate(answers), len(table), n_classes, "TorchTeacher")
        if self.output == "logits":
            self._warn_if_proba(outputs)
        return outputs

    def _both_columns(self, values: np.ndarray, n: int) -> np.ndarray:
        """Turn the single output of a binary module into two columns."""
        if values.ndim == 0 and n == 1:  # a module that squeezes, asked for one row
            values = values.reshape(1)
        if values.shape not in ((n,), (n, 1)):
            return check_shape(values, n, None, "TorchTeacher")
        second = values.reshape(n)
        first = np.zeros_like(second) if self.output == "logits" else 1 - second
        return np.column_stack([first, second])

    def _warn_if_proba(self, logits: np.ndarray) -> None:
        """Warn once when what was declared to be logits looks like probabilities."""
        if getattr(self, "_has_warned", False) or not len(logits) or not (logits >= 0).all():
            return
        binary = logits.shape[1] == 2 and not logits[:, 0].any() and logits.max() <= 1
        sums_to_one = (np.abs(logits.sum(axis=1) - 1) < SUM_TOLERANCE).all()
        if sums_to_one or (binary and len(logits) >= _FEWEST_ROWS_TO_JUDGE):
            self._has_warned = True
            warn_user(
                f"The module {type(self.module).__name__} is declared to return logits, but its "
                'outputs look like probabilities. If they are, use TorchTeacher(module, output="'
                'proba"): a second softmax would flatten them.'
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was said: a teacher that has warned is in `memory` what it was before."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_has_warned"}

    def __sklearn_is_fitted__(self) -> bool:
        """Say that the module is trained already."""
        return True

    def __sklearn_clone__(self) -> Self:
        """Return the object itself: a clone shares the module."""
        return self


class CallableTeacher(DocLink, ClassifierMixin, BaseEstimator):
    """Any function from X to probabilities as a scikit-learn classifier.

    Parameters
    ----------
    function : callable
        Maps X, as it was passed to `fit`, to probabilities of shape (n, n_classes). A DataFrame
        whose columns are the classes may have them in any order.
    classes : array-like of shape (n_classes,)
        The labels of the columns, in their order.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        `classes` as an array.

    See Also
    --------
    TorchTeacher : A torch module as a classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.teachers import CallableTeacher
    >>> teacher = CallableTeacher(lambda X: np.column_stack([1 - X, X]), classes=["no", "yes"])
    >>> teacher.predict(np.array([[0.9], [0.2]]))
    array(['yes', 'no'], dtype='<U3')
    """

    # The address that pickles name, whichever file of the room holds the class.
    __module__ = "skdistill.teachers"

    def __init__(self, function: Callable[[Any], Any], classes: Any) -> None:
        self.function = function
        self.classes = classes

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Do nothing: the function needs no fit.

        Parameters
        ----------
        X, y, **params : ignored
            Present so that the teacher can stand where a classifier stands.

        Returns
        -------
        self : CallableTeacher
            The same object, unchanged.
        """
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The labels of the columns."""
        return np.asarray(self.classes)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            What the function takes.

        Returns
        -------
        proba : ndarray of shape (n, n_classes), float64
            Rows sum to 1.

        Raises
        ------
        ValueError
            If what the function returns are no probabilities of these classes.
        """
        outputs = check_shape(self._outputs(X), n_rows(X), len(self.classes_), "CallableTeacher")
        return check_proba(outputs, "CallableTeacher")

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            What the function takes.

        Returns
        -------
        y : ndarray of shape (n,)
            Labels.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _outputs(self, X: Any) -> np.ndarray:
        """Call the function: columns in the order of classes, values unchecked."""
        return columns_by_label(self.function(X), self.classes_)

    def __sklearn_is_fitted__(self) -> bool:
        """Say that there is nothing to fit."""
        return True

    def __sklearn_clone__(self) -> Self:
        """Return the object itself: a clone shares the function."""
        return self


def _first_output(output: Any) -> Any:
    """Return the tensor among what a module returned."""
    if isinstance(output, Mapping):
        if "logits" not in output:
            raise TypeError(
                f'The module returned a dict with the keys {list(output)}; "logits" is needed.'
            )
        output = output["logits"]
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not hasattr(output, "cpu"):
        raise TypeError(f"The module returned {type(output).__name__}, expected a tensor.")
    if output.is_complex():
        raise TypeError("The module returned complex numbers, expected real ones.")
    return output
