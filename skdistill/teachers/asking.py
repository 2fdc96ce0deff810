"""One teacher, asked or fitted: its answers in the order of the student's classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from traceback import walk_tb
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn import get_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

from skdistill.tables.frames import n_rows, take_rows
from skdistill.tables.rows import Rows, warn_user
from skdistill.teachers.adapters import CallableTeacher, TorchTeacher
from skdistill.teachers.answers import (
    PROBA_FLOOR,
    align_columns,
    check_finite,
    check_proba,
    check_shape,
    columns_by_label,
    comes_from,
    is_torch_module,
    left_as_found,
    numeric_array,
    take_columns,
)
from skdistill.teachers.naming import WAY_TO_FIT, Named, is_frozen, known_classes, split_steps


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


@dataclass(frozen=True)
class TeacherToFit:
    """A teacher whose clones are to be fitted, their seed, and whether they get sample weights."""

    named: Named
    seed: int
    weighted: bool

    def fit(self, rows: Rows, used: np.ndarray) -> tuple[Named, np.ndarray | None]:
        """Return a clone fitted on some of the rows, and its labels where it learned codes."""
        weight = rows.weight[used] if self.weighted and (rows.weight != 1).any() else None
        X, y = take_rows(rows.X, used), rows.labels[used]
        fitted, own = fit_teacher(self.named, X, y, weight, classes=rows.classes, seed=self.seed)
        return replace(self.named, estimator=fitted), own


def seeded(named: Named, weighted: bool, rng: np.random.RandomState) -> TeacherToFit:
    """Set every unset random_state of a clone of the teacher; frozen ones stay as they are."""
    seed = int(rng.randint(np.iinfo(np.int32).max))
    if is_frozen(named.estimator):
        return TeacherToFit(named, seed, weighted)
    estimator = clone(named.estimator)
    params = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    unset = [
        name
        for name in sorted(params)
        if (name == "random_state" or name.endswith("__random_state")) and params[name] is None
    ]
    if unset:
        estimator.set_params(**{name: int(rng.randint(np.iinfo(np.int32).max)) for name in unset})
    return TeacherToFit(replace(named, estimator=estimator), seed, weighted)


def learns_codes(estimator: Any) -> bool:
    """Tell whether a teacher fitted here knows codes 0, 1, ... in place of labels."""
    return comes_from(split_steps(estimator)[1], "skorch", "xgboost")


def fit_teacher(
    named: Named,
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None = None,
    *,
    classes: np.ndarray | None = None,
    seed: int | None = None,
) -> tuple[Any, np.ndarray | None]:
    """Return a fitted clone, and the labels of its columns where it learned codes.

    `classes` are what the outputs of a skorch net stand for, None: the labels in y; `seed` seeds
    torch while such a net is fitted, and its global random state is left as it was.
    """
    estimator = clone(named.estimator)
    last = split_steps(estimator)[1]
    fit_params = {}
    if sample_weight is not None:
        fit_params = _weight_params(named, estimator, sample_weight)
    y, own_classes = _labels_for(last, y, classes)
    try:
        _fit(estimator, last, X, y, fit_params, seed)
    except Exception as error:
        raise error_kind(error)(
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
    with left_as_found(), _interruptible(last):
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
    warn_user(f"{named.label} does not take sample_weight and is fitted without weights.")
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
    """Tell whether skorch's EarlyStopping raised it, as it does when its patience has run out."""
    from skorch.callbacks import EarlyStopping

    *_, (frame, _) = walk_tb(interrupt.__traceback__)
    if frame.f_code is not EarlyStopping.on_epoch_end.__code__:
        return False
    callback = frame.f_locals["self"]
    return bool(callback.misses_ == callback.patience)
