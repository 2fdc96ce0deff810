"""Training that goes on batch after batch: what the first settles, and how later ones use it."""

import copy
from typing import Any

import numpy as np

from skdistill._roster import known_classes, name_teachers
from skdistill._rows import Rows
from skdistill._targets import Ensemble, SoftTargets
from skdistill._torch_student import TorchStudent

__all__ = ["check_batch_classes", "first_classes", "label_batch", "trainable_module"]


def first_classes(teachers: Any, classes: Any) -> np.ndarray:
    """Return the sorted classes for the first batch: as given, or as prefit teachers know them."""
    if classes is None and teachers is not None:
        known = [known_classes(named.estimator) for named in name_teachers(teachers)]
        classes = next((k for k in known if k is not None), None)
    if classes is None:
        raise ValueError(
            "classes must be passed on the first call to partial_fit: a batch may lack some."
        )
    return np.unique(np.asarray(classes))


def check_batch_classes(classes: Any, before: np.ndarray) -> None:
    """Raise where a later batch comes with other classes than the first."""
    if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), before):
        raise ValueError(
            f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {before!r}"
        )


def label_batch(
    rows: Rows, ensemble: Ensemble | None, fitted: list[Any], weights: np.ndarray | None
) -> SoftTargets:
    """Return the soft targets of a later batch, from teachers weighed as they are."""
    known = np.ones(len(rows.weight), dtype=bool)
    if rows.teacher_proba is not None:
        return SoftTargets(rows.teacher_proba, known, ensemble, fitted, weights)
    if ensemble is None:
        raise ValueError(
            "There is no teacher that could label this batch: none was kept when the student was "
            "trained. Pass teacher_proba, or prefit teachers, or alpha=0."
        )
    proba = ensemble.predict_proba(rows.X)
    return SoftTargets(proba, known, ensemble, fitted, weights, ensemble.temperature)


def trainable_module(student: Any, dropout: float, seed: int) -> Any:
    """Return a student's network with its weights, to be trained further."""
    from torch import nn

    from skdistill._mlp import ACTIVATIONS, StudentMLP
    from skdistill._modules import torch_layer

    if isinstance(student, TorchStudent):
        return copy.deepcopy(student.module_)
    kinds = [layer.kind for layer in student.layers_]
    activations = set(kinds[1::2])
    ours = set(kinds[::2]) == {"linear"} and len(activations) <= 1 and activations <= {*ACTIVATIONS}
    if not ours or len(kinds) % 2 == 0:
        return nn.Sequential(*map(torch_layer, student.layers_))
    weights = [layer.arrays for layer in student.layers_[::2]]
    module = StudentMLP(
        len(weights[0][0]) if student.encoding_ is None else len(student.encoding_.edges_),
        len(student.classes_),
        hidden_layer_sizes=[weight.shape[1] for weight, _ in weights[:-1]],
        activation=next(iter(activations), "relu"),
        dropout=dropout,
        encoding=student.encoding_,
        seed=seed,
    )
    module.set_weights(weights)
    return module
