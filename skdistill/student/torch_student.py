"""TorchStudent: a student whose network cannot be frozen to NumPy."""

from typing import Any, NoReturn, Self

import numpy as np

from skdistill.student.base import BaseStudent


class TorchStudent(BaseStudent):
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

    module_: Any

    _condition = "trained"

    @classmethod
    def _freeze(cls, *, module: Any, **described: Any) -> Self:
        """Build a student around a trained module; see :meth:`BaseStudent._with`."""
        self = cls._with(**described)
        self.module_ = module.cpu().eval()
        return self

    @property
    def n_parameters_(self) -> int:
        """Number of trained numbers in the network."""
        return sum(p.numel() for p in self.module_.parameters())

    def _logits(self, X: Any) -> np.ndarray:
        """Return the logits of raw rows."""
        import torch

        _, Z = self._prepare(X)
        floating = [p.dtype for p in self.module_.parameters() if p.is_floating_point()]
        # A copy: the module may work in place, and the rows may be the caller's own.
        rows = torch.tensor(Z, dtype=floating[0] if floating else None)
        with torch.inference_mode():
            output = self.module_(rows)
            logits = output[0] if isinstance(output, tuple | list) else output
        return logits.double().numpy()

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
