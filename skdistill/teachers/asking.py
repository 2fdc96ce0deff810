"""One teacher, asked or fitted: its answers in the order of the student's classes."""

from __future__ import annotations

import dis
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn import get_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

from skdistill.tables.frames import n_rows
from skdistill.teachers.adapters import (
    CallableTeacher,
    TorchTeacher,
    is_torch_module,
    left_as_found,
    numeric_array,
)
from skdistill.teachers.alignment import (
    align_columns,
    check_finite,
    check_proba,
    check_shape,
    columns_by_label,
    take_columns,
)
from skdistill.teachers.naming import WAY_TO_FIT, Named, known_classes, split_steps
from skdistill.teachers.pooling import PROBA_FLOOR

__all__ = ["Teacher", "as_teacher", "comes_from", "fit_teacher", "learns_codes"]


class Teacher:
    """A fitted teacher, asked for the columns of the student's classes.

    Parameters
    ----------
    named : Named
        The teacher and how errors name it.
    classes : array-like of shape (n_classes,)
        The classes of the student, in order.
    own_classes : array-like, default=None
        The labels of the teacher's columns; None: what the teacher itself says.
    allow_missing : bool, default=False
        Whether it may lack some classes, which then get probability 0: a teacher that was fitted
        on a part of the rows.

    Attributes
    ----------
    label, name : str
        How it is named.
    estimator : object
        The teacher.
    last : object
        The classifier at its end, where it is a Pipeline.
    native : {"logits", "proba"}
        The space in which it answers.

    Raises
    ------
    ValueError
        If its labels do not match the classes.
    """

    def __init__(
        self,
        named: Named,
        classes: Any,
        *,
        own_classes: Any = None,
        allow_missing: bool = False,
    ) -> None:
        self.name, self.label, self.estimator = named.name, named.label, named.estimator
        self.classes = np.asarray(classes)
        self._before, self.last = split_steps(named.estimator)
        if isinstance(self.last, TorchTeacher):
            self.last.check_params()
        self.native = self.last.output if isinstance(self.last, TorchTeacher) else "proba"
        own = known_classes(self.estimator) if own_classes is None else own_classes
        self._columns = np.arange(len(self.classes))  # a bare module: by position
        self._column_classes = self.classes if own is None else own
        if own is not None:
            self._columns = align_columns(
                own, self.classes, self.label, allow_missing=allow_missing
            )

    def align(self, proba: np.ndarray, space: str = "proba") -> np.ndarray:
        """Bring probabilities of the teacher's own classes into the order of the student's.

        Parameters
        ----------
        proba : ndarray of shape (n, n_own_classes)
            Rows sum to 1, or are NaN and stay so.
        space : {"proba", "logits"}, default="proba"
            What to return; logits are ``log(clip(proba, 1e-7, 1))``.

        Returns
        -------
        answer : ndarray of shape (n, n_classes), float64
            Columns in the order of the student's classes.
        """
        aligned = take_columns(proba, self._columns)
        return aligned if space == "proba" else np.log(np.clip(aligned, PROBA_FLOOR, 1.0))

    def ask(self, X: Any, space: str = "proba", *, first_row: int = 0) -> np.ndarray:
        """Ask for soft labels.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Rows as they were passed to `fit`.
        space : {"proba", "logits"}, default="proba"
            What to return. The logits of a teacher that knows only probabilities are
            ``log(clip(proba, 1e-7, 1))``.
        first_row : int, default=0
            The number of the first row, for errors.

        Returns
        -------
        answer : ndarray of shape (n, n_classes), float64
            Columns in the order of the student's classes. Probabilities sum to 1 in every row.

        Raises
        ------
        ValueError
            If X does not fit the teacher, the teacher fails, or its answer is unusable.
        NotFittedError
            If a part of the teacher is not fitted.
        """
        outputs = self._outputs(self.check_input(X), first_row)
        if self.native == "logits":
            logits = check_finite(outputs, self.label, first_row)[:, self._columns]
            return logits if space == "logits" else softmax(logits, axis=1)
        proba = check_proba(outputs, self.label, first_row, self._advice())
        return self.align(proba, space)

    def check_input(self, X: Any) -> Any:
        """Check X against what the teacher was fitted on.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Rows.

        Returns
        -------
        X : same type as X
            Columns in the teacher's order where both have names.

        Raises
        ------
        ValueError
            If the number of columns or the names differ.
        """
        X = self._check_names(X)
        expected = getattr(self.estimator, "n_features_in_", None)
        shape = X.shape if hasattr(X, "shape") else np.shape(X)
        if expected is not None and len(shape) == 2 and shape[1] != expected:
            raise ValueError(
                f"{self.label} was fitted on {expected} features, X has {shape[1]}. Teachers get "
                "X as it is passed to fit."
            )
        return X

    def _check_names(self, X: Any) -> Any:
        """Return X with the columns in the teacher's order, or raise where names differ."""
        own = getattr(self.estimator, "feature_names_in_", None)
        names = list(getattr(X, "columns", []))
        if own is None or not names or not all(isinstance(name, str) for name in names):
            return X
        expected = [str(name) for name in own]
        if names == expected:
            return X
        missing = [name for name in expected if name not in set(names)]
        unexpected = [name for name in names if name not in set(expected)]
        if not missing and not unexpected and len(names) == len(expected):
            return X[expected]
        if comes_from(self.last, "lightgbm", "xgboost") and all(
            re.fullmatch(r"(Column_|f)\d+", name) for name in expected
        ):  # made up by the library, which was fitted on an array
            return X
        raise ValueError(
            f"{self.label} was fitted on other columns. Missing in X: {missing}. Not known to the "
            f"teacher: {unexpected}."
        )

    def _outputs(self, X: Any, first_row: int) -> np.ndarray:
        """Ask the teacher: (n, number of its own classes), values unchecked."""
        n = n_rows(X)
        try:
            outputs = self._raw_outputs(X)
        except NotFittedError as error:
            raise NotFittedError(f"{self.label} is not fitted: {error} {WAY_TO_FIT}") from error
        except Exception as error:
            raise _same_kind(error)(
                f"{self.label} failed on rows {first_row}:{first_row + n}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return check_shape(outputs, n, len(self._column_classes), self.label)

    def _raw_outputs(self, X: Any) -> np.ndarray:
        """Ask in the way that leaves the teacher as it was found."""
        if isinstance(self.last, (TorchTeacher, CallableTeacher)):
            return self.last._outputs(self.prepared(X))
        if not comes_from(self.last, "skorch"):
            return columns_by_label(
                self.estimator.predict_proba(_own_copy(X)), self._column_classes
            )
        modules = [value for value in vars(self.last).values() if is_torch_module(value)]
        parameter = next(self.last.module_.parameters(), None)
        is_double = parameter is not None and str(parameter.dtype) == "torch.float64"
        table = numeric_array(self.prepared(X), "float64" if is_double else "float32")
        with left_as_found(modules):
            return columns_by_label(self.last.predict_proba(table), None)

    def prepared(self, X: Any) -> Any:
        """Pass a copy of X through the steps before the last one.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Rows.

        Returns
        -------
        X : array-like or DataFrame
            What the classifier at the end sees.
        """
        X = _own_copy(X)
        for step in self._before:
            X = step.transform(X)
        return X

    def _advice(self) -> str:
        """Say what is usually wrong when a skorch net returns no probabilities."""
        if not comes_from(self.last, "skorch"):
            return ""
        return (
            " A skorch net returns raw outputs when its criterion is not CrossEntropyLoss; set its "
            "predict_nonlinearity, for example to torch.nn.Softmax(dim=-1)."
        )


def _same_kind(error: Exception) -> type[Exception]:
    """Return the type under which a teacher's error is passed on."""
    kind_of_type = isinstance(error, TypeError) and not isinstance(error, ValueError)
    return TypeError if kind_of_type else ValueError


def _own_copy(X: Any) -> Any:
    """Return rows that a teacher may overwrite, as a scaler with copy=False does."""
    return X.copy() if hasattr(X, "copy") else X


def comes_from(estimator: Any, *packages: str) -> bool:
    """Say whether a class of the estimator lives in one of the packages, without importing them.

    Parameters
    ----------
    estimator : object
        Anything.
    *packages : str
        Names of packages, such as "skorch".

    Returns
    -------
    comes_from : bool
        Base classes count too.
    """
    return any(kind.__module__.partition(".")[0] in packages for kind in type(estimator).__mro__)


def learns_codes(estimator: Any) -> bool:
    """Say whether a teacher that `fit_teacher` fitted knows codes 0, 1, ... in place of labels.

    Parameters
    ----------
    estimator : object
        A teacher; of a Pipeline the last step counts.

    Returns
    -------
    learns_codes : bool
        True for XGBoost and skorch.
    """
    return comes_from(split_steps(estimator)[1], "skorch", "xgboost")


def as_teacher(
    named: Named,
    classes: Any,
    X: Any = None,
    *,
    own_classes: Any = None,
    allow_missing: bool = False,
) -> Teacher:
    """Make the adapter of a fitted teacher and check it before any work is done.

    Parameters
    ----------
    named : Named
        The teacher.
    classes : array-like of shape (n_classes,)
        The classes of the student, in order.
    X : array-like or DataFrame of shape (n, n_features), default=None
        Rows that the teacher will be asked about; None: they are checked when it is asked.
    own_classes : array-like, default=None
        The labels of the teacher's columns, as `fit_teacher` returns them.
    allow_missing : bool, default=False
        Whether it may lack some classes: a teacher that was fitted on a part of the rows.

    Returns
    -------
    teacher : Teacher
        Ready to be asked.

    Raises
    ------
    ValueError
        If its labels do not match the classes, or X does not fit it.
    """
    teacher = Teacher(named, classes, own_classes=own_classes, allow_missing=allow_missing)
    if X is not None:
        teacher.check_input(X)
    return teacher


def fit_teacher(
    named: Named,
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    classes: np.ndarray | None = None,
    seed: int | None = None,
    **fit_params: Any,
) -> tuple[Any, np.ndarray | None]:
    """Fit a clone of a teacher.

    XGBoost and skorch learn codes 0, 1, ... in place of labels; the labels are kept beside them.

    Parameters
    ----------
    named : Named
        The teacher; its estimator stays untouched.
    X : array-like or DataFrame of shape (n, n_features)
        Rows. A skorch net gets them as a float32 array.
    y : ndarray of shape (n,)
        Labels.
    sample_weight : ndarray of shape (n,), default=None
        Weights. A teacher that takes none is fitted without, with a warning.
    classes : ndarray of shape (n_classes,), default=None
        The classes that a skorch net's outputs stand for, sorted; None: those in y. The rows may
        lack some of them.
    seed : int, default=None
        Seeds torch while a skorch net is fitted; its global random state is left as it was.
    **fit_params : dict
        Passed on to the teacher's `fit`.

    Returns
    -------
    fitted : object
        The fitted clone.
    own_classes : ndarray or None
        The labels of its columns where it learned codes; None: it knows them itself.

    Raises
    ------
    ValueError
        If the fit fails; the error names the teacher.
    """
    estimator = clone(named.estimator)
    last = split_steps(estimator)[1]
    if sample_weight is not None:
        fit_params |= _weight_params(named, estimator, sample_weight)
    y, own_classes = _labels_for(last, y, classes)
    try:
        _fit(estimator, last, X, y, fit_params, seed)
    except Exception as error:
        raise _same_kind(error)(
            f"{named.label} failed to fit on {n_rows(X)} rows: {type(error).__name__}: {error}"
        ) from error
    return estimator, own_classes


def _fit(
    estimator: Any, last: Any, X: Any, y: np.ndarray, fit_params: dict[str, Any], seed: int | None
) -> None:
    """Fit in place; a skorch net without touching torch's global random state."""
    if not comes_from(last, "skorch"):
        estimator.fit(X, y, **fit_params)
        return
    if last is estimator:
        X = numeric_array(X, "float32")
    with left_as_found([]), _interruptible(last):
        _seed_torch(seed)
        estimator.fit(X, y, **fit_params)


def _labels_for(
    last: Any, y: np.ndarray, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return y as the last step learns it, and the labels of its columns if these are codes."""
    if comes_from(last, "xgboost"):
        own_classes, codes = np.unique(y, return_inverse=True)
        return codes, own_classes
    if comes_from(last, "skorch"):
        own_classes = np.unique(y) if classes is None else np.asarray(classes)
        binary = any(kind.__name__ == "NeuralNetBinaryClassifier" for kind in type(last).__mro__)
        # Binary cross-entropy computes with the labels, cross-entropy indexes with them.
        codes = np.searchsorted(own_classes, y).astype(np.float32 if binary else np.int64)
        return codes, own_classes
    return y, None


def _weight_params(named: Named, estimator: Any, sample_weight: np.ndarray) -> dict[str, Any]:
    """Return the weights under the name the teacher takes them by, or warn that it takes none."""
    name, last = "sample_weight", estimator
    if isinstance(estimator, Pipeline) and get_config()["enable_metadata_routing"]:
        if get_routing_for_object(estimator).consumes("fit", [name]):
            return {name: sample_weight}
    else:
        prefix = ""
        while isinstance(last, Pipeline):
            prefix += f"{last.steps[-1][0]}__"
            last = last.steps[-1][1]
        if has_fit_parameter(last, name):
            return {prefix + name: sample_weight}
    warnings.warn(
        f"{named.label} does not take sample_weight and is fitted without weights.",
        UserWarning,
        stacklevel=3,
    )
    return {}


def _seed_torch(seed: int | None) -> None:
    """Seed torch's generator, if a seed is given."""
    if seed is not None:
        import torch

        torch.default_generator.manual_seed(seed)


@contextmanager
def _interruptible(net: Any) -> Iterator[None]:
    """Let a KeyboardInterrupt out of a skorch net's fit, which would hide it."""
    caught: list[KeyboardInterrupt] = []
    run = net.fit_loop

    def fit_loop(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            if not _stops_early(interrupt):
                caught.append(interrupt)
            raise

    try:
        vars(net)["fit_loop"] = fit_loop
        yield
    finally:
        vars(net).pop("fit_loop", None)
    if caught:
        raise caught[0]


def _stops_early(interrupt: KeyboardInterrupt) -> bool:
    """Say whether skorch's EarlyStopping raised it: that is how it ends a training."""
    trace = interrupt.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    module = str(frame.f_globals.get("__name__"))
    # Ctrl-C may arrive in these lines too, but is not raised by them.
    raised = dis.opname[frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    ends = module.startswith("skorch.callbacks.") and frame.f_code.co_name == "on_epoch_end"
    return raised and ends
