"""What a pickle holds: plain parameters, unfitted teachers, placeholders for the rest."""

import pickle
import pickletools
import sys
from dataclasses import dataclass
from typing import Any, Self

from sklearn.base import clone

from skdistill.teachers.naming import TeachersLeftBehind, is_prefit, is_shared, split_steps
from skdistill.teachers.progress import CALLBACKS

# What a lean pickle leaves behind besides fitted teachers; each of these only shapes training.
TRAINING_ONLY = ("hints", "loss", "student_module", "callbacks", "augment", "cv", "memory")


@dataclass(frozen=True, repr=False)
class LeftBehind:
    """What stands in a parameter after unpickling when its value only shaped training."""

    parameter: str
    type_name: str

    @classmethod
    def unless_plain(cls, parameter: str, value: Any) -> Any:
        """Return a plain value itself, and a placeholder for anything else."""
        if isinstance(value, str | int | None | LeftBehind):
            return value
        return cls(parameter, type(value).__name__)

    def refusal(self) -> str:
        """Say why fit cannot run, and what to do."""
        return (
            f"The value of {self.parameter} ({self.type_name}) was left behind when this estimator "
            "was pickled: a pickle holds the student, which predicts without it. To fit again, set "
            f"it with set_params({self.parameter}=...), or pickle with keep_teachers=True."
        )

    def __repr__(self) -> str:
        """Name what was left behind."""
        return f"<{self.parameter} left behind by pickling: {self.type_name}>"


def lean_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a fitted estimator without what only training needs."""
    fitted_by_training = ("teachers_", "_source", CALLBACKS)
    kept = {k: v for k, v in state.items() if k not in fitted_by_training}
    return kept | lean_parameters(state)


def lean_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that only shape training, as a lean pickle holds them."""
    lean = {name: LeftBehind.unless_plain(name, params[name]) for name in TRAINING_ONLY}
    return {**lean, "teachers": _lean_teachers(params["teachers"], params["cv"])}


def _lean_teachers(teachers: Any, cv: Any) -> Any:
    """Return words as they are, unfitted teachers packed, and a placeholder for fitted ones."""
    if teachers is None or isinstance(teachers, str | PickledTeachers):
        return teachers
    if is_prefit(cv) or not isinstance(teachers, list | tuple) or any(map(_as_it_is, teachers)):
        return TeachersLeftBehind.from_teachers(teachers)
    templates = cloned_templates(teachers)
    if any(map(_holds_fitted, templates)):
        return TeachersLeftBehind.from_teachers(teachers)
    try:
        return PickledTeachers.pack(templates)
    except Exception:
        # A template that cannot be pickled, such as one that holds a lambda.
        return TeachersLeftBehind.from_teachers(teachers)


@dataclass(frozen=True, repr=False)
class PickledTeachers:
    """Unfitted teachers in a pickle, which is read without the packages that these come from.

    Attributes
    ----------
    content : bytes
        Their own pickle.
    packages : frozenset of str
        What unpickling them imports.
    shown : TeachersLeftBehind
        Their names and types.
    """

    content: bytes
    packages: frozenset[str]
    shown: TeachersLeftBehind

    @classmethod
    def pack(cls, teachers: Any) -> Self:
        """Pickle unfitted teachers."""
        content = pickle.dumps(teachers, protocol=2, fix_imports=False)
        # This protocol writes the module of each object as the first word of one instruction.
        globals_ = [a for op, a, _ in pickletools.genops(content) if op.name == "GLOBAL"]
        packages = frozenset(str(name).split()[0].partition(".")[0] for name in globals_)
        return cls(content, packages, TeachersLeftBehind.from_teachers(teachers))

    @property
    def at_hand(self) -> bool:
        """Whether this process has imported all that they need."""
        return all(name in sys.modules for name in self.packages)

    def unpack(self) -> Any:
        """Return the teachers."""
        return pickle.loads(self.content)

    def __repr__(self) -> str:
        """Name the teachers."""
        return f"<unfitted teachers, as pickled: {', '.join(self.shown.descriptions)}>"


def _split(entry: Any) -> tuple[Any, Any]:
    """Return the name, or None, and the teacher of an entry of `teachers`."""
    return entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)


def _as_it_is(entry: Any) -> bool:
    """Tell whether an entry is used as it is in every `cv` mode."""
    return is_shared(_split(entry)[1])


def _holds_fitted(entry: Any) -> bool:
    """Tell whether a template has a fitted teacher inside, which its clones share."""
    template = _split(entry)[1]
    inside = [template, *template.get_params(deep=True).values()]
    return any(is_shared(v) or (_is_ours(v) and is_prefit(getattr(v, "cv", None))) for v in inside)


def _cloned(entry: Any) -> Any:
    """Return an entry with a clone of its teacher."""
    name, teacher = _split(entry)
    return clone(teacher, safe=False) if name is None else (name, clone(teacher, safe=False))


def cloned_templates(teachers: Any) -> Any:
    """Return teachers that `fit` will clone as clones, and those that it uses as they are."""
    if not isinstance(teachers, list | tuple):
        return teachers
    return type(teachers)([entry if _as_it_is(entry) else _cloned(entry) for entry in teachers])


def ready_to_fit(teachers: Any) -> Any:
    """Return the teachers, students of ours that `fit` will clone as clones, which keep theirs."""
    if not isinstance(teachers, list | tuple):
        return teachers
    return [_cloned(t) if _is_ours(t) and not _as_it_is(t) else t for t in teachers]


def _is_ours(entry: Any) -> bool:
    """Tell whether an entry ends in an estimator of this package."""
    kinds = type(split_steps(_split(entry)[1])[1]).__mro__
    return any(kind.__module__.startswith("skdistill.") for kind in kinds)
