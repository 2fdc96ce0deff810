"""Checks of constructor parameters: the name, the value, what is allowed."""

import math
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from typing import Any

from skdistill.teachers.hints import Hint

__all__ = ["check_parameters"]


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
