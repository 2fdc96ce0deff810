"""One teacher fitted: seeds, weights, and labels as its library takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from traceback import walk_tb
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

from skdistill.tables import Rows, n_rows, take_rows, warn_user
from skdistill.teachers.answers import comes_from, left_as_found, numeric_array
from skdistill.teachers.asking import error_kind
from skdistill.teachers.naming import Entry, is_shared, split_steps


@dataclass(frozen=True)
class TeacherToFit:
    """A teacher whose clones are to be fitted, their seed, and whether they get sample weights."""

    named: Entry
    seed: int
    weighted: bool

    def fit(self, rows: Rows, used: np.ndarray) -> tuple[Entry, np.ndarray | None]:
        """Return a clone fitted on some of the rows, and its labels where it learned codes."""
        weight = rows.weight[used] if self.weighted else None
        X, y = take_rows(rows.X, used), rows.labels[used]
        fitted, own = fit_teacher(self.named, X, y, weight, classes=rows.classes, seed=self.seed)
        return replace(self.named, estimator=fitted), own


def seeded(named: Entry, weighted: bool, rng: np.random.RandomState) -> TeacherToFit:
    """Set every unset random_state of a clone of the teacher; frozen ones stay as they are.

    One that is to get sample weights and takes none is named in a warning.
    """
    seed = int(rng.randint(np.iinfo(np.int32).max))
    if is_shared(named.estimator):
        return TeacherToFit(named, seed, weighted)
    if weighted and _weight_param(named.estimator) is None:
        warn_user(f"{named.label} does not take sample_weight and is fitted without weights.")
        weighted = False
    estimator = clone(named.estimator)
    params = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    for name in sorted(params):
        if f"__{name}".endswith("__random_state") and params[name] is None:
            estimator.set_params(**{name: int(rng.randint(np.iinfo(np.int32).max))})
    return TeacherToFit(replace(named, estimator=estimator), seed, weighted)


def learns_codes(estimator: Any) -> bool:
    """Tell whether a teacher fitted here knows codes 0, 1, ... in place of labels."""
    return comes_from(split_steps(estimator)[1], "skorch", "xgboost")


def fit_teacher(
    named: Entry,
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
    of_skorch = comes_from(last, "skorch")
    name = None if sample_weight is None else _weight_param(estimator)
    weights = {} if name is None else {name: sample_weight}
    y, own_classes = _labels_for(last, y, classes)
    try:
        with _training_of_net(last, seed) if of_skorch else nullcontext():
            table = numeric_array(X, "float32") if of_skorch and last is estimator else X
            estimator.fit(table, y, **weights)
    except Exception as error:
        raise error_kind(error)(
            f"{named.label} failed to fit on {n_rows(X)} rows: {type(error).__name__}: {error}"
        ) from error
    return estimator, own_classes


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


def _weight_param(estimator: Any) -> str | None:
    """Return the name by which `fit` of a teacher takes sample weights; None if it takes none."""
    name, last, prefix = "sample_weight", estimator, ""
    if isinstance(estimator, Pipeline) and get_config()["enable_metadata_routing"]:
        return name if get_routing_for_object(estimator).consumes("fit", [name]) else None
    while isinstance(last, Pipeline):
        prefix += f"{last.steps[-1][0]}__"
        last = last.steps[-1][1]
    return prefix + name if has_fit_parameter(last, name) else None


@contextmanager
def _training_of_net(net: Any, seed: int | None) -> Iterator[None]:
    """Seed torch and restore its state; let a KeyboardInterrupt out, which skorch would hide."""
    import torch

    caught: list[KeyboardInterrupt] = []
    run = net.fit_loop

    def fit_loop(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            if not _stops_early(interrupt):
                caught.append(interrupt)
            raise

    with left_as_found():
        if seed is not None:
            torch.default_generator.manual_seed(seed)
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
