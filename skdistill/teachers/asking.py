"""One fitted teacher, asked: its answers in the order of the student's classes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import NotFittedError

from skdistill.tables.frames import n_rows
from skdistill.teachers.adapters import CallableTeacher, TorchTeacher
from skdistill.teachers.alignment import (
    align_columns,
    check_finite,
    check_proba,
    check_shape,
    columns_by_label,
    take_columns,
)
from skdistill.teachers.libraries import comes_from, is_torch_module, left_as_found, numeric_array
from skdistill.teachers.naming import WAY_TO_FIT, Named, known_classes, split_steps
from skdistill.teachers.pooling import PROBA_FLOOR

__all__ = ["Teacher", "as_teacher", "error_kind"]


class Teacher:
    """A fitted teacher, asked for the columns of the student's classes.

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
    """

    def __init__(
        self, named: Named, classes: Any, *, own_classes: Any = None, allow_missing: bool = False
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
        """Bring probabilities, or NaN, of its own classes into the order of the student's."""
        aligned = take_columns(proba, self._columns)
        return aligned if space == "proba" else np.log(np.clip(aligned, PROBA_FLOOR, 1.0))

    def ask(self, X: Any, space: str = "proba", *, first_row: int = 0) -> np.ndarray:
        """Return probabilities or logits (n, n_classes); errors count rows from `first_row`.

        The logits of a teacher that knows only probabilities are ``log(clip(proba, 1e-7, 1))``.
        """
        outputs = self._outputs(self.check_input(X), first_row)
        if self.native == "logits":
            logits = check_finite(outputs, self.label, first_row)[:, self._columns]
            return logits if space == "logits" else softmax(logits, axis=1)
        proba = check_proba(outputs, self.label, first_row, self._advice())
        return self.align(proba, space)

    def check_input(self, X: Any) -> Any:
        """Return X in the teacher's order of columns, or raise where it was fitted on others."""
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
            raise error_kind(error)(
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
        """Pass a copy of X through the steps before the classifier at the end."""
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


def error_kind(error: Exception) -> type[Exception]:
    """Return the type under which a teacher's error is passed on."""
    kind_of_type = isinstance(error, TypeError) and not isinstance(error, ValueError)
    return TypeError if kind_of_type else ValueError


def _own_copy(X: Any) -> Any:
    """Return rows that a teacher may overwrite, as a scaler with copy=False does."""
    return X.copy() if hasattr(X, "copy") else X


def as_teacher(
    named: Named,
    classes: Any,
    X: Any = None,
    *,
    own_classes: Any = None,
    allow_missing: bool = False,
) -> Teacher:
    """Return a teacher ready to be asked, checked against the rows it will be asked about.

    `own_classes` are the labels of its columns, where it learned codes in their place; with
    `allow_missing` it may lack some classes, as one that was fitted on a part of the rows.
    """
    teacher = Teacher(named, classes, own_classes=own_classes, allow_missing=allow_missing)
    if X is not None:
        teacher.check_input(X)
    return teacher
