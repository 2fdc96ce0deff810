"""What a teacher knows beside its answer: hidden layers, and the leaves of its trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_array

from skdistill.student import Forward, StudentClassifier
from skdistill.tables import n_rows, prepare, take_rows
from skdistill.teachers.adapters import TorchTeacher
from skdistill.teachers.answers import comes_from, is_torch_module, left_as_found
from skdistill.teachers.asking import Teacher
from skdistill.teachers.hints import ActiveHint, Hint
from skdistill.teachers.naming import is_shared, split_steps

# Layers are wide: their answers are taken in smaller blocks of rows than probabilities.
_BLOCK_ROWS = 8_192
# The share of common leaves is an average over trees; this many are enough for it.
_MOST_TREES = 100


@dataclass
class HintAnswers:
    """What a teacher's layer says of some rows.

    ``asked`` is the hint. ``values`` has shape (n, ...), float32: activations, for "attention"
    their map, for trees the numbers of the leaves. Rows of the same ``space`` were answered by the
    same fitted teacher and can be compared; rows of space -1 have no answer.
    """

    asked: ActiveHint
    values: np.ndarray
    space: np.ndarray

    def take(self, rows: np.ndarray) -> HintAnswers:
        """Return the answers for some rows."""
        return HintAnswers(self.asked, self.values[rows], self.space[rows])

    @classmethod
    def stack(cls, answers: Sequence[HintAnswers]) -> HintAnswers:
        """Stack the answers of several tables."""
        if len(answers) == 1:
            return answers[0]
        values = np.concatenate([a.values for a in answers])
        return cls(answers[0].asked, values, np.concatenate([a.space for a in answers]))


def check_layer(estimator: Any, label: str, asked: ActiveHint) -> None:
    """Raise if the teacher has no such layer, as far as that can be told before it is fitted."""
    last, hint, label = _student_in(estimator), asked.hint, f"{asked.where} asks {label} for"
    layer, (how, what) = hint.layer, _layers_of(last)
    if how == "module":
        names = [name for name, _ in what.named_modules(remove_duplicate=False) if name]
        found = layer in names
        words = f"; its layers are {', '.join(names) or 'none'}, by their dotted names."
    elif how == "units":
        shown = [f"{i} ({width} units)" for i, width in enumerate(what)]
        n = len(shown)
        found = layer is not None and not isinstance(layer, str) and -n <= layer < n
        words = f"; its hidden layers are {', '.join(shown) or 'none'}, by number."
    elif how == "leaves":
        found = layer is None and hint.kind == "relation"
        words = (
            f" with kind={hint.kind!r}; trees have leaves only: layer=None with kind='relation'."
        )
    elif comes_from(last, "skorch", "skdistill") and not is_shared(last):
        return  # its network comes with `fit`
    else:
        raise ValueError(
            f"{label} a layer, and a {type(last).__name__} shows none. Hints work with torch "
            "modules, skorch nets, MLPClassifier, students of ours, and, with kind='relation', "
            "trees that tell their leaves (apply)."
        )
    if not found:
        raise ValueError(f"{label} layer {layer!r}{words}")


def shows_units(estimator: Any) -> bool:
    """Tell whether the layers go by number and hold units, not places."""
    return _layers_of(_student_in(estimator))[0] == "units"


def _student_in(estimator: Any) -> Any:
    """Return the classifier at the end of a teacher, and of our own ones the student they hold."""
    last = split_steps(estimator)[1]
    if comes_from(last, "skdistill"):
        last = getattr(last, "best_estimator_", last)
        last = getattr(last, "student_", last)
    return last


def _layers_of(last: Any) -> tuple[str, Any]:
    """Return where layers are read: a "module", "units" by their widths, what tells "leaves".

    Teachers of another library get a line here.
    """
    module = last.module if isinstance(last, TorchTeacher) else getattr(last, "module_", None)
    if is_torch_module(module):
        return "module", module
    if isinstance(last, MLPClassifier):
        return "units", np.atleast_1d(last.hidden_layer_sizes)
    if isinstance(last, StudentClassifier):
        linear = [layer for layer in last.layers_ if layer.kind == "linear"]
        return "units", [layer.arrays[0].shape[1] for layer in linear[:-1]]
    if comes_from(last, "lightgbm"):
        return "leaves", partial(last.predict, pred_leaf=True)
    if comes_from(last, "catboost"):
        return "leaves", last.calc_leaf_indexes
    return ("leaves", last.apply) if hasattr(last, "apply") else ("none", None)


def hidden_answers(teacher: Teacher, asked: ActiveHint, X: Any) -> np.ndarray:
    """Ask a teacher for a layer, in blocks of rows; for "attention" return its map."""
    X, hint = teacher.check_input(X), asked.hint
    check_layer(teacher.estimator, teacher.label, asked)
    n = n_rows(X)
    if n <= _BLOCK_ROWS:
        return _ask_block(teacher, hint, X)
    values: np.ndarray | None = None
    for start in range(0, n, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, n))
        block = _ask_block(teacher, hint, take_rows(X, rows))
        if values is None:
            values = np.empty((n, *block.shape[1:]), dtype=np.float32)
        values[rows] = block
    assert values is not None
    return values


def _ask_block(teacher: Teacher, hint: Hint, X: Any) -> np.ndarray:
    """Ask about one block of rows."""
    last = _student_in(teacher.estimator)
    how, what = _layers_of(last)
    if how == "module":
        values = _ask_module(teacher, what, str(hint.layer), X)
    else:
        try:
            X = teacher.prepared(X)
            if how == "leaves":
                leaves = np.asarray(what(X))
                values = _choose(leaves.reshape(len(leaves), -1), _MOST_TREES)
            else:
                ask = _ask_mlp if isinstance(last, MLPClassifier) else _ask_student
                values = ask(last, int(hint.layer or 0), X)
        except Exception as error:
            raise ValueError(
                f"{teacher.label} failed to tell its layer {hint.layer!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
    values = np.asarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{teacher.label} has values in layer {hint.layer!r} that are not finite.")
    return _map_of(values, hint, teacher.label) if hint.kind == "attention" else values


def _map_of(values: np.ndarray, hint: Hint, label: str) -> np.ndarray:
    """Return the attention map, which is smaller than the layer."""
    import torch

    from skdistill.losses import attention_map

    axis = hint.channel_axis
    if values.ndim > 2 and (not -values.ndim < axis < values.ndim):
        raise ValueError(
            f"channel_axis={axis} is no axis of the channels in layer {hint.layer!r} of {label}, "
            f"whose rows have the shape {values.shape[1:]}."
        )
    return attention_map(torch.from_numpy(values), channel_axis=axis).numpy()


def _ask_module(teacher: Teacher, module: Any, name: str, X: Any) -> np.ndarray:
    """Run the teacher with a forward hook on one of its submodules."""
    record: list[np.ndarray] = []

    def keep(part: Any, inputs: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple | list) else output
        # A copy, as the layer behind may work in place.
        record.append(tensor.detach().float().cpu().numpy().copy())

    # The module may be shared by clones in other threads, whose rows are not to be recorded.
    with left_as_found([module]), ExitStack() as on_exit:
        on_exit.callback(module.get_submodule(name).register_forward_hook(keep).remove)
        teacher.ask(X)
    n, n_recorded = n_rows(X), sum(map(len, record))
    if n_recorded != n:
        raise ValueError(
            f"{teacher.label}: layer {name!r} gave {n_recorded} rows for {n}. A hint needs a layer "
            "that is called once in a forward pass and keeps the rows apart."
        )
    return np.concatenate(record)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}


def _ask_mlp(net: MLPClassifier, layer: int, X: Any) -> np.ndarray:
    """Run scikit-learn's network up to a hidden layer."""
    h = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
    for i in range(layer % (len(net.coefs_) - 1) + 1):
        h = _ACTIVATIONS[net.activation](h @ net.coefs_[i] + net.intercepts_[i])
    return h


def _ask_student(student: StudentClassifier, layer: int, X: Any) -> np.ndarray:
    """Run a frozen student up to a hidden layer, its activation included."""
    Z = prepare(X, student.preprocessor_)
    if student.encoding_ is not None:
        Z = student.encoding_.encode(Z)
    linear = [i for i, part in enumerate(student.layers_) if part.kind == "linear"]
    layers = student.layers_[: linear[layer % (len(linear) - 1) + 1]]
    return Forward(layers, np.dtype(np.float64))(np.array(Z, dtype=np.float64))


def reads_units(teacher: Teacher, asked: ActiveHint, X: Any) -> bool:
    """Tell whether an attention map of this layer is one of units, with no places."""
    whole = asked._replace(hint=replace(asked.hint, kind="relation"))
    return hidden_answers(teacher, whole, take_rows(X, np.array([0]))).ndim == 2


def answers_of_folds(
    teachers: Sequence[Teacher], fold: np.ndarray, asked: ActiveHint, X: Any
) -> HintAnswers:
    """Give each row what the teacher says of it that did not see it: the one of its fold."""
    if len(teachers) == 1 and not fold.any():
        return HintAnswers(asked, hidden_answers(teachers[0], asked, X), fold)
    rows = {i: np.flatnonzero(fold == i) for i in np.unique(fold[fold >= 0])}
    answers = {i: hidden_answers(teachers[i], asked, take_rows(X, r)) for i, r in rows.items()}
    if asked.hint.layer is None:
        # Boosting may have stopped at another number of trees on each fold.
        fewest = min(a.shape[1] for a in answers.values())
        answers = {i: _choose(a, fewest) for i, a in answers.items()}
    shapes = {a.shape[1:] for a in answers.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"{teachers[0].label} has a layer {asked.hint.layer!r} of different shapes on "
            f"different folds: {sorted(shapes)}. A hint needs equal ones."
        )
    values = np.zeros((len(fold), *shapes.pop()), dtype=np.float32)
    for i, answer in answers.items():
        values[rows[i]] = answer
    return HintAnswers(asked, values, fold)


def _choose(leaves: np.ndarray, n: int) -> np.ndarray:
    """Return the leaves in some of the trees, from first to last."""
    n = min(n, leaves.shape[1])
    return leaves[:, np.linspace(0, leaves.shape[1] - 1, n).astype(int)]
