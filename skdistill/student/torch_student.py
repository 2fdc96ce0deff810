"""TorchStudent: a student whose network cannot be frozen to NumPy."""

from typing import Any, NoReturn, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from skdistill.student.html_repr import DocLink
from skdistill.student.versions import check_stamp, stamp
from skdistill.tables.encoder import TabularEncoder, as_table, check_matrix

__all__ = ["TorchStudent"]


class TorchStudent(DocLink, ClassifierMixin, BaseEstimator):
    """A trained student whose network is the user's own and needs torch to predict.

    It is made by :class:`~skdistill.DistilledClassifier` as ``student_`` when ``student_module``
    holds layers other than Linear, ReLU, Tanh, GELU, SiLU, Dropout, BatchNorm1d, LayerNorm and
    Sequential. It has no constructor parameters and cannot be fitted.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, in the order of the columns of :meth:`predict_proba`.
    n_features_in_ : int
        Number of raw input columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the input columns, where the classifier was fitted on a DataFrame.
    module_ : torch.nn.Module
        The trained network, in evaluation mode.
    preprocessor_ : transformer or None
        What the network sees of X.
    n_parameters_ : int
        Number of trained numbers in the network.

    See Also
    --------
    StudentClassifier : The frozen student, which needs NumPy only.
    """

    classes_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray
    preprocessor_: Any
    module_: Any

    @classmethod
    def _freeze(
        cls,
        *,
        classes: np.ndarray,
        n_features_in: int,
        feature_names_in: np.ndarray | None,
        preprocessor: Any,
        module: Any,
    ) -> Self:
        """Build a student around a trained module."""
        self = cls()
        self.classes_ = classes
        self.n_features_in_ = n_features_in
        if feature_names_in is not None:
            self.feature_names_in_ = feature_names_in
        self.preprocessor_ = preprocessor
        self.module_ = module.cpu().eval()
        return self

    @property
    def n_parameters_(self) -> int:
        """Number of trained numbers in the network."""
        return sum(p.numel() for p in self.module_.parameters())

    def fit(self, X: Any, y: Any = None) -> NoReturn:
        """Refuse: a trained student cannot be fitted.

        Parameters
        ----------
        X : ignored
        y : ignored

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            "A TorchStudent is trained and cannot be fitted. Fit a DistilledClassifier, or wrap "
            "the student in sklearn.frozen.FrozenEstimator where a meta-estimator calls fit."
        )

    def _logits(self, X: Any) -> np.ndarray:
        """Return the logits of raw rows."""
        import torch

        X = as_table(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        Z = X if self.preprocessor_ is None else self.preprocessor_.transform(X)
        Z = check_matrix(Z, self.preprocessor_)
        floating = [p.dtype for p in self.module_.parameters() if p.is_floating_point()]
        # A copy: the module may work in place, and the rows may be the caller's own.
        rows = torch.tensor(Z, dtype=floating[0] if floating else None)
        with torch.inference_mode():
            output = self.module_(rows)
            logits = output[0] if isinstance(output, tuple | list) else output
        return logits.double().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features_in_)
            Raw rows, as they were passed to ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        return self.classes_[self._logits(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features_in_)
            Raw rows, as they were passed to ``fit``.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the class probabilities.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features_in_)
            Raw rows, as they were passed to ``fit``.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        logits = self._logits(X)
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def to_torch(self) -> Any:
        """Return the trained module: it maps prepared rows to logits.

        Returns
        -------
        module : torch.nn.Module
        """
        return self.module_

    def save(self, path: Any) -> NoReturn:
        """Refuse: a network that is code cannot go into a file of arrays.

        Parameters
        ----------
        path : ignored

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(self._no_file("save"))

    def to_onnx(self, path: Any = None, *, quantize: bool = False) -> NoReturn:
        """Refuse: only torch knows how to convert the user's own network.

        Parameters
        ----------
        path : ignored
        quantize : ignored

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(self._no_file("to_onnx"))

    def _no_file(self, method: str) -> str:
        """Say why there is no file and what to do instead."""
        return (
            f"A TorchStudent has no {method}: its network ({type(self.module_).__name__}) is the "
            "user's own code. Export student_.to_torch() with torch.onnx.export or keep its "
            "state_dict; or build student_module from Linear, ReLU, Tanh, GELU, SiLU, Dropout, "
            "BatchNorm1d, LayerNorm and Sequential, which freeze into a StudentClassifier."
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Tell that the student is always fitted."""
        return hasattr(self, "module_")

    def __sklearn_clone__(self) -> Self:
        """Return the student itself: there is nothing to fit again."""
        return self

    def __sklearn_tags__(self) -> Tags:
        """Tell which inputs the preprocessing takes."""
        tags = super().__sklearn_tags__()
        mixed = type(getattr(self, "preprocessor_", None)) is TabularEncoder
        tags.input_tags.string = mixed
        tags.input_tags.categorical = mixed
        tags.input_tags.allow_nan = mixed and self.preprocessor_.allow_missing_
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the student with the versions that made it."""
        return {**self.__dict__, "_versions": stamp()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the student and compare versions."""
        state = dict(state)
        check_stamp(state, type(self).__name__)
        self.__dict__.update(state)
