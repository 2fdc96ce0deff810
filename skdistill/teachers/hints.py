"""Hint: what a student's hidden layer is to match, and the check of the parameter `hints`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

_KINDS = ("mse", "cosine", "attention", "relation")


@dataclass(frozen=True)
class Hint:
    """Let a hidden layer of the student match a hidden layer of a teacher.

    Parameters
    ----------
    teacher : int or str, default=0
        The teacher: its place in ``teachers``, counted from 0 or, if negative, from the last, or
        its name; one without a name has that of its type in lower case, as in a Pipeline.
    layer : str, int or None, default=None
        The teacher's layer. For torch modules and skorch nets the dotted name of a submodule, such
        as "net.4", whose output counts. For ``MLPClassifier`` and a student of ours, the number of
        the hidden layer, counted from 0 or, if negative, from the last. None for forests and
        boosters: the leaves into which their trees sort a row (``kind="relation"`` only).
    student_layer : int or str, default=-1
        The student's layer. Of the built-in network the number of the hidden layer, counted as
        above. Of a `student_module`, a key of the dictionary it returns as ``(logits, hidden)``, or
        the dotted name of a submodule.
    kind : {"mse", "cosine", "attention", "relation"}, default="mse"
        How two layers are compared. Wherever the widths differ, "mse" and "cosine" look at the
        student through a linear projection, which is trained with it and is not kept.

        - "mse": mean squared difference of the units, in units of the variance of the teacher's
          layer, so that no scale enters (FitNets, Romero et al., 2015).
        - "cosine": half the squared distance of the two directions, 1 - cosine.
        - "attention": squared distance of the normalised attention maps, the mean square over the
          channels at each place (Zagoruyko & Komodakis, 2017); of layers without places, the
          normalised squares of the units, which must be as many.
        - "relation": which rows of a batch are alike, by the rows of the normalised Gram matrices
          (Tung & Mori, 2019); for trees, by the share of trees that sort two rows into one leaf.
    weight : float, default=1.0
        What the term is multiplied with before it is added to the loss, >= 0. With 0 the hint is
        left out. `alpha` does not touch it. The kinds differ in size: a layer that knows nothing of
        the teacher's has about 1 with "mse" and "cosine", less with "relation".
    channel_axis : int, default=1
        For "attention": the axis of the channels, where the layers have places. 1 for
        convolutions, (n, channels, ...), -1 for sequences, (n, length, channels).

    Raises
    ------
    ValueError
        If a value is not allowed.

    References
    ----------
    .. [1] Romero, Ballas, Kahou, Chassang, Gatta & Bengio (2015). FitNets: Hints for Thin Deep
       Nets.
    .. [2] Zagoruyko & Komodakis (2017). Paying More Attention to Attention.
    .. [3] Tung & Mori (2019). Similarity-Preserving Knowledge Distillation.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdistill import DistilledClassifier, Hint
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MLPClassifier((64,), max_iter=1000, random_state=0)
    >>> teacher = make_pipeline(StandardScaler(), net).fit(X, y)
    >>> hint = Hint(teacher=0, layer=0, student_layer=0, kind="mse", weight=0.5)
    >>> student = DistilledClassifier([teacher], hints=[hint], random_state=0).fit(X, y)
    >>> student.score(X, y) > 0.9
    True
    """

    teacher: int | str = 0
    layer: str | int | None = None
    student_layer: int | str = -1
    kind: str = "mse"
    weight: float = 1.0
    channel_axis: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        rules = {
            "teacher": (_is_integer(self.teacher) or isinstance(self.teacher, str), _PLACE),
            "layer": (self.layer is None or _names_layer(self.layer), f"None, {_LAYER}"),
            "student_layer": (_names_layer(self.student_layer), _LAYER),
            "kind": (isinstance(self.kind, str) and self.kind in _KINDS, f"one of {_KINDS}"),
            "weight": (_is_weight(self.weight), "a finite number >= 0"),
            "channel_axis": (_is_integer(self.channel_axis) and self.channel_axis != 0, _AXIS),
        }
        for name, (holds, words) in rules.items():
            if not holds:
                raise ValueError(
                    f"The {name!r} parameter of Hint must be {words}; got {getattr(self, name)!r}."
                )
        if self.layer is None and self.kind != "relation":
            raise ValueError(
                f"Hint(kind={self.kind!r}) needs the 'layer' of the teacher; without one the "
                "leaves of trees are meant, which kind='relation' compares."
            )


_PLACE = "the number of a teacher or its name"
_LAYER = "the number of a hidden layer, or the dotted name of a submodule"
_AXIS = "an integer other than 0, the axis of the rows"


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _names_layer(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, str) and value != "")


def _is_weight(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value) and value >= 0


class ActiveHint(NamedTuple):
    """A hint that has a weight, the place of its teacher, and how errors name it."""

    hint: Hint
    teacher: int
    where: str


def active_hints(hints: Sequence[Hint], names: Sequence[str]) -> list[ActiveHint]:
    """Return the hints that have a weight; `names` are those of the teachers."""
    active = []
    for i, hint in enumerate(hints):
        if hint.weight == 0:
            continue
        place = hint.teacher
        if isinstance(place, str):
            if place not in names:
                raise ValueError(
                    f"hints[{i}] names the teacher {place!r}; there are {', '.join(names)}."
                )
            place = names.index(place)
        if not -len(names) <= place < len(names):
            raise ValueError(
                f"hints[{i}] names teacher {place}; there are {len(names)}, counted from 0."
            )
        active.append(ActiveHint(hint, int(place) % len(names), f"hints[{i}]"))
    return active


def student_layer(asked: ActiveHint, layers: Sequence[int] | Sequence[str]) -> int | str:
    """Return the student's layer, counted from its first, or raise naming those there are."""
    wanted = asked.hint.student_layer
    by_number = not any(isinstance(name, str) for name in layers)
    if by_number and not isinstance(wanted, str) and -len(layers) <= wanted < len(layers):
        return int(wanted) % len(layers)
    if wanted in layers and isinstance(wanted, str):
        return wanted
    shown = f"are {', '.join(map(str, layers))}, by {'number' if by_number else 'name'}."
    if not layers:
        raise ValueError(
            f"{asked.where} names the student's layer {wanted!r}; the student has no hidden "
            "layers. Pass hidden_layer_sizes with one at least."
        )
    raise ValueError(f"{asked.where} names the student's layer {wanted!r}; its layers {shown}")
