"""StudentClassifier: the frozen student, NumPy arrays and nothing else."""

import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skdistill.student.base import BaseStudent
from skdistill.student.forward import Forward, Layer, OneRow
from skdistill.tables import Lines, PiecewiseLinearEncoding, TabularEncoder

if TYPE_CHECKING:
    import onnx
    import torch


# The mean is folded into the weights only below this ratio of |mean| to standard deviation: above
# it the cancellation costs more digits than there are to spare.
_FOLDABLE_MEAN = {np.dtype(np.float32): 10.0, np.dtype(np.float64): 1e4}
# Scales are folded only below this and above one over it, lest weights overflow or vanish.
_FOLDABLE_SCALE = 1e15
# Where the arithmetic overflows, inputs are taken as this many standard deviations from the mean.
_FAR = 1e6
# What makes a TabularEncoder, apart from the names of the columns, which the student has.
_ENCODER = ("numeric", "category_columns", "has_missing", "mean", "scale", "categories")
_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))


class StudentClassifier(BaseStudent):
    """The classifier that is deployed: frozen arrays, NumPy arithmetic, no torch.

    It is made by :class:`~skdistill.DistilledClassifier` as ``student_`` and holds the weights of
    the trained network, what it needs to prepare raw rows (scaling, bins, categories) and the
    class labels. It is a fitted scikit-learn classifier: it can be a teacher, the last step of a
    Pipeline, wrapped in ``FrozenEstimator``, or calibrated. It has no constructor parameters and
    cannot be fitted.

    The weights are float32. The arithmetic follows the input: float32 rows are answered in
    float32, everything else in float64.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, in the order of the columns of :meth:`predict_proba`.
    n_features_in_ : int
        Number of raw input columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the input columns, where the classifier was fitted on a DataFrame.
    n_parameters_ : int
        Number of trained numbers in the network.
    preprocessor_ : transformer or None
        What the network sees of X.
    encoding_ : PiecewiseLinearEncoding or None
        The bins of the numerical embedding.
    layers_ : list of Layer
        The network behind them.

    See Also
    --------
    DistilledClassifier : Trains the student.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill import DistilledClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
    >>> student = DistilledClassifier([teacher], random_state=0).fit(X, y).student_
    >>> student.predict_proba(X[:2]).shape
    (2, 3)
    """

    # The address that skops files and pickles name, whichever file of the room holds the class.
    __module__ = "skdistill.student"

    encoding_: PiecewiseLinearEncoding | None
    layers_: list[Layer]

    _condition = "frozen"

    @classmethod
    def _freeze(
        cls, *, encoding: PiecewiseLinearEncoding | None, layers: list[Layer], **described: Any
    ) -> Self:
        """Build a student from trained arrays, rounding the weights to float32 once."""
        self = cls._with(**described)
        self.encoding_ = encoding
        with np.errstate(over="ignore"):
            self.layers_ = [
                Layer(layer.kind, tuple(np.asarray(a, dtype=np.float32) for a in layer.arrays))
                for layer in layers
            ]
        if not all(np.isfinite(a).all() for layer in self.layers_ for a in layer.arrays):
            raise FloatingPointError(
                "The trained weights are not finite numbers of float32: training diverged. Lower "
                "learning_rate_init, and check the columns of X for extreme values."
            )
        self._build_forwards()
        return self

    def _build_forwards(self) -> None:
        """Prepare the forward from raw rows and from prepared rows, once for each dtype."""
        self._takes_raw = self.preprocessor_ is None or (
            type(self.preprocessor_) is TabularEncoder and self.preprocessor_.is_affine_
        )
        self._prepared = {d: Forward(self._encoding_and_layers(), d) for d in _DTYPES}
        self._raw: dict[Any, Forward] = {}
        if self._takes_raw and not hasattr(self, "feature_names_in_"):
            self._raw = {d: self._fold(d) for d in _DTYPES}

    def _encoding_and_layers(self) -> list[Layer]:
        """Return all that comes behind the preprocessing."""
        encoding = self.encoding_
        return [*([] if encoding is None else [Layer("encode", encoding.lines)]), *self.layers_]

    def _fold(self, dtype: np.dtype) -> Forward:
        """Return the forward from raw rows, with the scaling folded in where it loses no digits."""
        if self.preprocessor_ is None:
            return self._prepared[dtype]
        mean, scale = self.preprocessor_.mean_, self.preprocessor_.scale_
        folds = (np.abs(mean) < _FOLDABLE_MEAN[dtype] * scale) & (scale < _FOLDABLE_SCALE)
        folds &= scale > 1 / _FOLDABLE_SCALE
        match self._encoding_and_layers():
            case [Layer("encode", Lines() as lines), *rest] if folds.all():
                slope = lines.slope / scale[lines.column]
                offset = lines.offset - mean[lines.column] * slope
                first = Layer("encode", lines._replace(slope=slope, offset=offset))
            case [Layer("linear", (weight, bias)), *rest] if folds.all():
                weight = weight.astype(np.float64) / scale[:, None]
                first = Layer("linear", (weight, bias.astype(np.float64) - mean @ weight))
            case rest:
                first = Layer("standardise", (mean, scale))
        return Forward([first, *rest], dtype)

    @property
    def n_parameters_(self) -> int:
        """Number of trained numbers in the network."""
        return sum(a.size for layer in self.layers_ for a in layer.arrays if a.ndim)

    def _logits(self, X: Any) -> np.ndarray:
        """Return the logits of raw rows: fast if X is a plain array, else with every check."""
        if (
            type(X) is np.ndarray
            and (forward := self._raw.get(X.dtype)) is not None
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and len(X)
            # vdot and not dot, which warns of an overflow.
            and np.vdot(X, X) < forward.safe_square
        ):
            # A vector goes through NumPy faster than a matrix of one row.
            return forward.apply(X[0])[None] if len(X) == 1 else forward(X)
        return self._checked_logits(X)

    def _checked_logits(self, X: Any) -> np.ndarray:
        """Return the logits of any input, with scikit-learn's checks and messages."""
        X, Z = self._prepare(X)
        dtype = np.dtype(np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64)
        forward = self._prepared[dtype]
        with np.errstate(over="ignore", invalid="ignore"):
            logits = forward(np.ascontiguousarray(Z, dtype))
            # Not finite, or so large that their differences are not.
            far = ~(np.abs(logits) < np.finfo(logits.dtype).max / 4).all(axis=1)
            if far.any():
                # In float64, because weights near the end of float32 leave it by themselves.
                wide = self._prepared[_DTYPES[1]](np.clip(Z[far], -_FAR, _FAR, dtype=np.float64))
                wide -= wide.max(axis=1, keepdims=True)
                logits[far] = np.maximum(wide, -np.finfo(logits.dtype).max / 4)
        return logits

    def compile(self) -> OneRow:
        """Return a callable that answers one raw row, without any check.

        Returns
        -------
        predict_one : OneRow
            Maps a float array of shape (n_features_in_,) to probabilities of shape (n_classes,).
            It does not look for NaN, inf, a wrong width or column names.

        Raises
        ------
        TypeError
            If rows need more preparation than scaling: categories, missing values, or a
            preprocessor of the user's own. ``predict_proba`` serves them.
        """
        if not self._takes_raw:
            raise TypeError(
                "compile() serves students whose rows are plain numbers; this one prepares its "
                f"rows by a {type(self.preprocessor_).__name__} with categories, missing values or "
                "steps of its own. Use predict_proba."
            )
        return OneRow({dtype: self._fold(dtype) for dtype in _DTYPES})

    def to_torch(self) -> "torch.nn.Module":
        """Return the student as a torch module in float64 with the same weights.

        Returns
        -------
        module : torch.nn.Sequential
            Maps rows to logits. The rows are raw where the preprocessing is only a scaling, which
            is then the first layer; otherwise they are what ``preprocessor_.transform`` returns.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistilledClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
        >>> student = DistilledClassifier([teacher], random_state=0).fit(X, y).student_
        >>> logits = student.to_torch()(torch.tensor(X))
        >>> bool(abs(logits.softmax(1).detach().numpy() - student.predict_proba(X)).max() < 1e-6)
        True
        """
        from skdistill.training.network import to_torch_module

        return to_torch_module(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the student in one safetensors file, which holds nothing executable.

        The file is written beside its final place and renamed, so that a crash leaves the old
        file whole. Every later release of skdistill loads it, and equal students made with equal
        versions give equal files.

        Parameters
        ----------
        path : str or path-like
            Where to; an existing file is replaced.

        Raises
        ------
        TypeError
            If the preprocessor is not our own, or the class labels are not strings, integers,
            booleans or floats.
        ValueError
            If :meth:`load` would refuse the file: the student is too large, or not finite.
        OSError
            If the file cannot be written.

        See Also
        --------
        load : Load the file.
        to_onnx : A file for other languages.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from skdistill import DistilledClassifier, StudentClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
        >>> student = DistilledClassifier([teacher], random_state=0).fit(X, y).student_
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     student.save(Path(folder) / "iris.safetensors")
        ...     loaded = StudentClassifier.load(Path(folder) / "iris.safetensors")
        >>> bool((loaded.predict_proba(X) == student.predict_proba(X)).all())
        True
        """
        from skdistill.files import pack, write_atomically

        write_atomically(path, pack(self.__getstate__()))

    @classmethod
    def load(cls, path: str | os.PathLike[str], expected_sha256: str | None = None) -> Self:
        """Load a student from a file that :meth:`save` wrote.

        Loading runs no code from the file. The file's own digest finds damage; it does not find
        forgery, because whoever forges a file can compute a digest too. `expected_sha256` does.

        Parameters
        ----------
        path : str or path-like
            The file.
        expected_sha256 : str, default=None
            Digest of the whole file, as ``sha256sum`` prints it.

        Returns
        -------
        student : StudentClassifier

        Raises
        ------
        BadArtefactError
            If the file is damaged, is not the expected one, or is no saved student.
        UnsupportedFormatError
            If a newer release wrote it; this is a BadArtefactError.
        """
        from skdistill.files import read_bytes, unpack

        student = cls()
        student.__setstate__(unpack(read_bytes(path, expected_sha256)))
        return student

    def to_onnx(
        self, path: str | os.PathLike[str] | None = None, *, quantize: bool = False
    ) -> "onnx.ModelProto":
        """Return the student as one self-contained ONNX model: raw rows in, labels out.

        See :func:`skdistill.onnx.to_onnx` for the inputs and outputs of the model.

        Parameters
        ----------
        path : str or path-like, default=None
            Where to save the model as well; written like :meth:`save` writes.
        quantize : bool, default=False
            Whether to store the weights as 8-bit integers.

        Returns
        -------
        model : onnx.ModelProto

        Raises
        ------
        ImportError
            If the extra ``skdistill[onnx]`` is not installed.
        TypeError
            If the preprocessor is not our own.
        """
        from skdistill.files.onnx import to_onnx

        return to_onnx(self, path, quantize=quantize)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the student as plain arrays, lists and strings, without what follows from them."""
        made = ("_prepared", "_raw", "_takes_raw")
        state = {k: v for k, v in super().__getstate__().items() if k not in made}
        if type(encoder := self.preprocessor_) is TabularEncoder:
            state["preprocessor_"] = {name: getattr(encoder, f"{name}_") for name in _ENCODER}
        if (encoding := self.encoding_) is not None:
            # Slopes and offsets follow from the edges.
            edges = list(encoding.edges_)
            state["encoding_"] = {"n_bins": int(encoding.n_bins), "edges": edges}
        state["layers_"] = [[layer.kind, *layer.arrays] for layer in self.layers_]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the student and what follows from its parts."""
        super().__setstate__(state)
        if isinstance(state["preprocessor_"], dict):
            self.preprocessor_ = encoder = TabularEncoder()
            for name, value in state["preprocessor_"].items():
                setattr(encoder, f"{name}_", value)
            encoder.n_features_in_ = self.n_features_in_
            if hasattr(self, "feature_names_in_"):
                encoder.feature_names_in_ = np.asarray(self.feature_names_in_, dtype=object)
        self.layers_ = [Layer(kind, tuple(arrays)) for kind, *arrays in state["layers_"]]
        # Numbers near the ends of their range are no reason to warn: predicting handles them.
        with np.errstate(over="ignore", invalid="ignore"):
            if state["encoding_"] is not None:
                self.encoding_ = PiecewiseLinearEncoding.from_edges(**state["encoding_"])
            self._build_forwards()
