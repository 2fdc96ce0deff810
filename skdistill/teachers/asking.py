"""Teachers asked, one alone or many together: answers in the order of the student's classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from inspect import isclass, ismodule
from typing import Any

import joblib
import numpy as np
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_memory

from skdistill.tables import n_rows, take_rows
from skdistill.teachers.adapters import CallableTeacher, TorchTeacher
from skdistill.teachers.answers import (
    PROBA_FLOOR,
    check_finite,
    check_proba,
    check_shape,
    columns_by_label,
    comes_from,
    is_torch_module,
    left_as_found,
    numeric_array,
)
from skdistill.teachers.naming import WAY_TO_FIT, Entry, split_steps
from skdistill.teachers.pooling import to_proba
from skdistill.teachers.progress import stage

# Teachers are asked in blocks of rows, so that memory does not grow with teachers times rows.
BATCH_ROWS = 65_536
# The column of a class that a teacher lacks.
_MISSING = -1
_MAX_LABELS_SHOWN = 20


class Teacher:
    """A fitted teacher, asked for the columns of the student's classes.

    `own_classes` are the labels of its columns, where it learned codes in their place; with
    `allow_missing` it may lack some classes, as one that was fitted on a part of the rows. It is
    checked against the columns of X, if X is given.

    Attributes
    ----------
    label : str
        How errors name it.
    estimator : object
        The teacher.
    last : object
        The classifier at its end, where it is a Pipeline.
    native : {"logits", "proba"}
        The space in which it answers.
    """

    def __init__(
        self,
        named: Entry,
        classes: Any,
        X: Any = None,
        *,
        own_classes: Any = None,
        allow_missing: bool = False,
    ) -> None:
        self.label, self.estimator = named.label, named.estimator
        self.classes = np.asarray(classes)
        self._before, self.last = split_steps(named.estimator)
        self._is_skorch = comes_from(self.last, "skorch")
        self.native = "proba"
        if isinstance(self.last, TorchTeacher):
            self.last.check_params()
            self.native = self.last.output
        own = getattr(self.estimator, "classes_", None) if own_classes is None else own_classes
        if own is None:  # a bare module: by position
            self._own_classes, self._columns = self.classes, np.arange(len(self.classes))
        else:
            self._own_classes = own
            self._columns = align_columns(
                own, self.classes, self.label, allow_missing=allow_missing
            )
        if X is not None:
            self.check_input(X)

    def align(self, proba: np.ndarray, space: str = "proba") -> np.ndarray:
        """Bring probabilities, or NaN, of its own classes into the order of the student's."""
        aligned = take_columns(proba, self._columns)
        return aligned if space == "proba" else np.log(np.clip(aligned, PROBA_FLOOR, 1.0))

    def ask(self, X: Any, space: str = "proba", *, first_row: int = 0) -> np.ndarray:
        """Return probabilities or logits (n, n_classes); errors count rows from `first_row`.

        The logits of a teacher that knows only probabilities are ``log(clip(proba, 1e-7, 1))``.
        """
        X, label = self.check_input(X), self.label
        n = n_rows(X)
        try:
            outputs = self._outputs(X)
        except NotFittedError as error:
            raise NotFittedError(f"{label} is not fitted: {error} {WAY_TO_FIT}") from error
        except Exception as error:
            raise error_kind(error)(
                f"{label} failed on rows {first_row}:{first_row + n}: "
                f"{type(error).__name__}: {error}"
            ) from error
        outputs = check_shape(outputs, n, len(self._own_classes), label)
        if self.native == "logits":
            logits = check_finite(outputs, label, first_row)[:, self._columns]
            return logits if space == "logits" else softmax(logits, axis=1)
        advice = (
            " A skorch net returns raw outputs when its criterion is not CrossEntropyLoss; set its "
            "predict_nonlinearity, for example to torch.nn.Softmax(dim=-1)."
        )
        proba = check_proba(outputs, label, first_row, advice if self._is_skorch else "")
        return self.align(proba, space)

    def check_input(self, X: Any) -> Any:
        """Return X in the teacher's order of columns, or raise where it was fitted on others."""
        own = getattr(self.estimator, "feature_names_in_", None)
        names = list(getattr(X, "columns", []))
        if own is not None and names and all(isinstance(name, str) for name in names):
            X = self._reordered(X, names, [str(name) for name in own])
        expected = getattr(self.estimator, "n_features_in_", None)
        shape = X.shape if hasattr(X, "shape") else np.shape(X)
        if expected is not None and len(shape) == 2 and shape[1] != expected:
            raise ValueError(
                f"{self.label} was fitted on {expected} features, X has {shape[1]}. Teachers get "
                "X as it is passed to fit."
            )
        return X

    def _reordered(self, X: Any, names: list[str], expected: list[str]) -> Any:
        """Return a frame with the columns in the teacher's order, or raise where names differ."""
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

    def _outputs(self, X: Any) -> np.ndarray:
        """Ask in the way that leaves the teacher as it was found; values are unchecked."""
        if isinstance(self.last, (TorchTeacher, CallableTeacher)):
            return self.last._outputs(self.prepared(X))
        if not self._is_skorch:
            return columns_by_label(self.estimator.predict_proba(_own_copy(X)), self._own_classes)
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


def error_kind(error: Exception) -> type[Exception]:
    """Return the type under which a teacher's error is passed on."""
    kind_of_type = isinstance(error, TypeError) and not isinstance(error, ValueError)
    return TypeError if kind_of_type else ValueError


def _own_copy(X: Any) -> Any:
    """Return rows that a teacher may overwrite, as a scaler with copy=False does."""
    return X.copy() if hasattr(X, "copy") else X


def align_columns(
    teacher_classes: Any, classes: Any, label: str, *, allow_missing: bool = False
) -> np.ndarray:
    """Return a teacher's column for each class, or raise where its labels do not match.

    By value when the teacher knows every class, or may lack some, whose column is then -1.
    Otherwise by position when the classes are the integers 0..k-1 and the teacher has k classes:
    meta-estimators hand out y encoded that way, in sorted order of the labels.
    """
    if isinstance(teacher_classes, list) and any(np.ndim(value) for value in teacher_classes):
        raise ValueError(
            f"{label} predicts {len(teacher_classes)} outputs; a teacher must be a classifier of "
            "one."
        )
    own, wanted = np.asarray(teacher_classes).ravel().tolist(), np.asarray(classes)
    # A dict compares in Python's way (1 == 1.0 == True, never "1"), which NumPy does not.
    column_of = {value: column for column, value in enumerate(own)}
    if len(column_of) != len(own):
        raise ValueError(f"{label} has the same class twice: {_shown(own)}.")
    columns = np.array([column_of.get(value, _MISSING) for value in wanted.tolist()], np.int64)
    if allow_missing or (columns != _MISSING).all():
        return columns
    if wanted.dtype.kind in "iu" and np.array_equal(wanted, np.arange(len(own))):
        return np.argsort(np.asarray(own))
    raise ValueError(
        f"{label} and the classes to learn do not match: the teacher knows {_shown(own)}, the "
        f"classes are {_shown(wanted.tolist())}. Use the labels the teacher was fitted on, or name "
        "the columns of its probabilities with CallableTeacher(teacher.predict_proba, classes=...)."
    )


def _shown(labels: list[Any]) -> str:
    """Write a list of labels, cut where it is long."""
    if len(labels) <= _MAX_LABELS_SHOWN:
        return str(labels)
    return f"{labels[:_MAX_LABELS_SHOWN]} and {len(labels) - _MAX_LABELS_SHOWN} more"


def take_columns(proba: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Keep the columns asked for, 0 for a class of column -1, and renormalise.

    A row with no mass left is uniform, one of NaN stays NaN.
    """
    kept = np.where(columns == _MISSING, 0.0, proba[:, columns])
    mass = kept.sum(axis=1, keepdims=True)
    uniform = np.full_like(kept, 1.0 / kept.shape[1])
    return np.divide(kept, mass, out=uniform, where=mass != 0)


def resolve_averaging(averaging: str, named: Sequence[Entry]) -> str:
    """Return the space in which teachers are averaged; logits only where every teacher has them."""
    if averaging != "auto":
        return averaging
    last_steps = [split_steps(n.estimator)[1] for n in named]
    native = all(isinstance(t, TorchTeacher) and t.output == "logits" for t in last_steps)
    return "logits" if native else "proba"


class Ensemble:
    """The weighted mean of teachers' probabilities or logits, given at a temperature.

    Cross-fitting sets ``calibration_temperature``. With ``memory`` answers are read from there
    where the content of teacher and rows is that of an earlier question; content that cannot be
    seen is asked anew.
    """

    def __init__(
        self, teachers: Sequence[Teacher], weights: np.ndarray, averaging: str, memory: Any = None
    ) -> None:
        self.teachers = [t for t, w in zip(teachers, weights, strict=True) if w > 0]
        self.weights = weights[weights > 0]
        self.averaging = averaging
        self.memory = memory
        self.calibration_temperature = 1.0

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the ensemble's probabilities for raw rows."""
        return to_proba(self.mean(X), self.averaging, self.calibration_temperature)

    def mean(self, X: Any) -> np.ndarray:
        """Return the weighted mean in the space of `averaging`, asking in blocks of rows."""
        n, space = n_rows(X), self.averaging
        starts = range(0, max(n, 1), BATCH_ROWS)
        n_answers = len(starts) * len(self.teachers)
        mean = np.zeros((n, len(self.teachers[0].classes)))
        with stage("answer", n_answers) if n_answers > 1 else nullcontext() as shown:
            for start in starts:
                rows = slice(start, min(start + BATCH_ROWS, n))
                block = X if len(starts) == 1 else take_rows(X, np.arange(rows.start, rows.stop))
                for teacher, weight in zip(self.teachers, self.weights, strict=True):
                    memory = None if _is_known_by_name(teacher.last) else self.memory
                    key = (teacher.estimator, teacher.classes, block, space)
                    ask = partial(teacher.ask, block, space, first_row=start)
                    mean[rows] += weight * remembered(memory, key, ask)
                    if shown is not None:
                        shown.done()
        return mean


def _is_known_by_name(teacher: Any) -> bool:
    """Tell whether this wraps a function, of which a hash sees the name and not what it reads."""
    if not isinstance(teacher, CallableTeacher):
        return False
    function: Any = teacher.function
    while isinstance(function, partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    # A bound method is hashed with the object that it is bound to; classes and modules are names.
    bound = owner is not None and not isclass(owner) and not ismodule(owner)
    return hasattr(function, "__name__") and not bound


def remembered(memory: Any, key: Any, compute: Callable[[], Any]) -> Any:
    """Compute a result, or read it from memory by the content of the key."""
    try:
        digest = None if memory is None else joblib.hash(key)
    except Exception:  # what a hash cannot see, such as a lambda, is computed each time
        digest = None
    if digest is None:
        return compute()
    return check_memory(memory).cache(_computed, ignore=["compute"])(digest, compute)


def _computed(digest: str, compute: Callable[[], Any]) -> Any:
    """Compute what memory keeps under the digest, so that a large key is hashed once."""
    return compute()
