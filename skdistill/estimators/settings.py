"""The parameters of a distilled estimator, checked, and sorted by who uses them."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np

from skdistill.estimators.pickling import TRAINING_ONLY, LeftBehind
from skdistill.teachers.hints import ActiveHint, Hint, student_layer
from skdistill.teachers.naming import (
    Entry,
    TeachersLeftBehind,
    is_prefit,
    is_self,
    is_smooth,
)
from skdistill.teachers.sources import TeacherSpec
from skdistill.training.spec import StudentSpec


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _real(low: float, high: float, *, closed: str) -> tuple[Callable[[Any], bool], str]:
    """Return the test and the words for a finite number in an interval."""
    left, right = closed in ("left", "both"), closed in ("right", "both")

    def allowed(value: Any) -> bool:
        if not _is_real(value) or not math.isfinite(value):
            return False
        above = value >= low if left else value > low
        return above and (value <= high if right else value < high)

    words = f"a finite number in {'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
    return allowed, words


def _integer(low: int) -> tuple[Callable[[Any], bool], str]:
    """Return the test and the words for an integer with a lower bound."""
    return (
        lambda value: (
            isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low
        ),
        f"an integer >= {low}",
    )


def _choice(*options: Any) -> tuple[Callable[[Any], bool], str]:
    """Return the test and the words for one of a few values."""
    return (
        lambda value: any(value is o or (type(value) is type(o) and value == o) for o in options),
        "one of " + ", ".join(repr(o) for o in options),
    )


def _either(*rules: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    """Return the test and the words for a value that satisfies any of the rules."""
    return lambda value: any(test(value) for test, _ in rules), " or ".join(w for _, w in rules)


def _is_device(value: Any) -> bool:
    """Tell whether torch can put a tensor there."""
    import torch

    try:
        torch.empty(0, device=value)
    except (AssertionError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _kinds_in(entry: Any) -> list[type]:
    """Return the classes of a callback, which may stand as (name, callback) or as a class."""
    callback = entry[-1] if isinstance(entry, tuple) and entry else entry
    return list((callback if isinstance(callback, type) else type(callback)).__mro__)


# NumPy's type is called bool_ before NumPy 2.
_boolean = (lambda value: type(value).__name__ in ("bool", "bool_"), "a bool")
_callable = (callable, "a callable")
_sizes = (
    lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(size, Integral) and int(size) >= 1 for size in value)
    ),
    "a sequence of integers >= 1 (empty for a linear student)",
)
_transformer = (
    lambda value: (
        hasattr(value, "fit") and hasattr(value, "transform") and not isinstance(value, type)
    ),
    "a transformer",
)
_infinity = math.inf

# skorch's early stopping raises KeyboardInterrupt, and the learning rate has a schedule already.
_NOT_CALLBACKS = ("EarlyStopping", "LRScheduler")
_callbacks = (
    lambda value: (
        value is None
        or (
            isinstance(value, list | tuple)
            and not any(
                kind.__name__ in _NOT_CALLBACKS for entry in value for kind in _kinds_in(entry)
            )
        )
    ),
    "None or a list of skorch callbacks without EarlyStopping (set early_stopping=True) and "
    "LRScheduler (the rate follows a cosine)",
)

RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    # The square of the temperature must stay finite in float32.
    "temperature": _real(1e-6, 1e9, closed="both"),
    "alpha": _real(0, 1, closed="both"),
    "averaging": _choice("auto", "logits", "proba"),
    "loss": _either(_choice("kl", "mse", "dkd"), _callable),
    "hints": (
        lambda value: (
            value is None
            or (isinstance(value, list | tuple) and all(isinstance(h, Hint) for h in value))
        ),
        "None or a list of Hint, as [Hint(...)]",
    ),
    "self_distillation": _real(0, 1, closed="left"),
    "calibration": _choice("auto", None),
    "hidden_layer_sizes": _either(_choice("auto"), _sizes),
    "activation": _choice("relu", "tanh", "gelu", "silu"),
    "dropout": _either(_choice("auto"), _real(0, 1, closed="left")),
    "student_module": _either(_choice(None), _callable),
    "preprocessor": _either(_choice("auto", None), _transformer),
    "numerical_embedding": _choice("auto", "piecewise_linear", None),
    "n_bins": _integer(1),
    "augment": _either(_choice("auto", "munge", None), _callable),
    "n_synthetic": _either(_choice("auto"), _integer(0)),
    "max_epochs": _either(_choice("auto"), _integer(1)),
    "batch_size": _integer(1),
    "learning_rate_init": _real(0, _infinity, closed="neither"),
    "weight_decay": _real(0, _infinity, closed="left"),
    "early_stopping": _boolean,
    "validation_fraction": _real(0, 1, closed="neither"),
    "n_iter_no_change": _integer(1),
    "device": (_is_device, "a device that torch can use here, such as 'cpu' or 'cuda'"),
    "callbacks": _callbacks,
    "dtype": _choice("auto", "float32", "float64"),
    "keep_teachers": _boolean,
    "verbose": _either(_boolean, _integer(0)),
}


def check_parameters(owner: str, params: dict[str, Any], skip: Collection[str] = ()) -> None:
    """Raise a ValueError that names the first parameter with a value that is not allowed."""
    for name, value in params.items():
        if name in RULES and name not in skip and not RULES[name][0](value):
            raise ValueError(
                f"The {name!r} parameter of {owner} must be {RULES[name][1]}; got {value!r}."
            )


# Training that goes on from a network and given soft targets has no use for these.
_UNUSED_WHEN_CONTINUING = ("cv", "memory", "student_module")


@dataclass(frozen=True)
class Settings:
    """What the constructor was given: about the teachers, the student, and the rows between them.

    Attributes
    ----------
    owner : str
        The name of the estimator, for errors.
    teachers : TeacherSpec
    student : StudentSpec
    preprocessor, numerical_embedding, n_bins
        What the student reads of X.
    early_stopping, validation_fraction
        Whether rows are held out, and how many.
    """

    owner: str
    teachers: TeacherSpec
    student: StudentSpec
    preprocessor: Any
    numerical_embedding: str | None
    n_bins: int
    early_stopping: bool
    validation_fraction: float

    @classmethod
    def read(cls, owner: str, params: dict[str, Any], *, teachers_needed: bool = True) -> Self:
        """Check the parameters, and that none that is needed was left behind by pickling."""
        skip = () if teachers_needed else _UNUSED_WHEN_CONTINUING
        _refuse_left_behind(params, skip, teachers_needed)
        check_parameters(owner, params, skip)
        own = {"owner", "teachers", "student"}
        settings = cls(
            owner=owner,
            teachers=_picked(TeacherSpec, params),
            student=_picked(StudentSpec, params),
            **{f.name: params[f.name] for f in fields(cls) if f.name not in own},
        )
        settings.check_self_taught()
        return settings

    @property
    def self_taught(self) -> bool:
        """Whether the student is its own teacher."""
        return is_self(self.teachers.teachers)

    @property
    def has_hints(self) -> bool:
        """Whether there is a hint with a weight."""
        return any(hint.weight > 0 for hint in self.teachers.hints or ())

    def bins_beside(self, named: Sequence[Entry]) -> int | None:
        """Return the bins of a column, or None where the network sees numbers as they are."""
        if self.numerical_embedding is None or self.student.student_module is not None:
            return None
        smooth = bool(named) and all(is_smooth(n.estimator) for n in named)
        return None if smooth and self.numerical_embedding == "auto" else self.n_bins

    def for_batches(self) -> "Settings":
        """Return the settings of a batch, where synthetic rows are made only if asked for."""
        if self.teachers.augment != "auto":
            return self
        return replace(self, teachers=replace(self.teachers, augment=None))

    def refuse_hints(self, method: str) -> None:
        """Raise where rows come piece by piece, and no layer of a teacher with them."""
        if self.has_hints:
            raise ValueError(
                f"{method} does not support hints: the layers of the teachers are not part of "
                "what it is given. Pass hints=None, or use fit."
            )

    def check_hints(self, hints: Sequence[ActiveHint]) -> None:
        """Raise, before a teacher is asked, where a hint names a layer that the network has not."""
        sizes = self.student.hidden_layer_sizes
        if self.student.student_module is None:
            layers = range(2 if isinstance(sizes, str) else len(sizes))
            for asked in hints:
                student_layer(asked, layers)

    def check_self_taught(self, **given: Any) -> None:
        """Raise where a student without teachers has nobody to learn from, or is given theirs."""
        if not self.self_taught:
            return
        if self.student.alpha > 0 and self.student.self_distillation == 0:
            raise ValueError(
                "teachers='self' needs self_distillation > 0: with 0 nobody teaches the student. "
                "Pass self_distillation=0.5, or alpha=0 for a plain student."
            )
        of_teachers = {
            "teacher_weights": self.teachers.teacher_weights,
            "hints": self.teachers.hints if self.has_hints else None,
            **given,
        }
        for name, value in of_teachers.items():
            if value is not None:
                raise ValueError(
                    f"{name} has no place beside teachers='self', where a row's target is its own "
                    f"label and the student's earlier answer. Pass teachers=[...], or {name}=None."
                )

    def check_without_labels(self, teacher_proba: Any) -> None:
        """Raise where nothing but labels could teach."""
        if self.self_taught:
            reason = "teachers='self' takes the labels as its first targets"
        elif self.early_stopping:
            reason = "early_stopping=True compares the epochs on labels"
        elif not is_prefit(self.teachers.cv):
            reason = f"cv={self.teachers.cv!r} fits the teachers inside fit"
        elif self.teachers.teachers is None and teacher_proba is None:
            reason = "only prefit teachers can label rows"
        else:
            return
        raise ValueError(
            f"{self.owner} requires y to be passed, but the target y is None: {reason}. "
            "Pass y, or prefit teachers with early_stopping=False."
        )

    def check_loss(self, labelled: bool, classes: np.ndarray) -> None:
        """Raise where the decoupled loss has nothing to decouple, before any teacher is asked."""
        if self.student.loss != "dkd" or (labelled and len(classes) > 2):
            return
        reason = (
            f"there are {len(classes)} classes, so beside the label's a single one is left"
            if labelled
            else "there is no y"
        )
        raise ValueError(
            f"loss='dkd' splits the divergence by the label's class, and {reason}. Use loss='kl'."
        )


def _picked(kind: type[Any], params: dict[str, Any]) -> Any:
    """Make a specification of the parameters that bear the names of its fields."""
    return kind(**{f.name: params[f.name] for f in fields(kind)})


def _refuse_left_behind(params: dict[str, Any], skip: tuple[str, ...], teachers: bool) -> None:
    """Raise where a value that is needed was left behind by pickling."""
    left = [params[name] for name in TRAINING_ONLY if name not in skip]
    left = [value for value in left if isinstance(value, LeftBehind)]
    if teachers and isinstance(params["teachers"], TeachersLeftBehind):
        also = ", ".join(value.parameter for value in left)
        words = f" Left behind too, and to be set again: {also}." if left else ""
        raise ValueError(params["teachers"].refusal() + words)
    if left:
        raise ValueError(left[0].refusal())
