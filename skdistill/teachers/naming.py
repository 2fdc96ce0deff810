"""The parameter `teachers` -> named and checked entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skdistill.student import StudentClassifier, TorchStudent
from skdistill.tables import warn_user
from skdistill.teachers.adapters import TorchTeacher
from skdistill.teachers.answers import comes_from, is_torch_module


@dataclass(frozen=True, repr=False)
class TeachersLeftBehind:
    """What stands in `teachers` after unpickling: the names of what was not pickled.

    Parameters
    ----------
    descriptions : tuple of str
        One for each teacher, such as "forest: RandomForestClassifier".

    Examples
    --------
    >>> from skdistill.teachers import TeachersLeftBehind
    >>> TeachersLeftBehind(("forest: RandomForestClassifier",))
    <teachers left behind by pickling: forest: RandomForestClassifier>
    """

    # The address that pickles name, whichever file of the room holds the class.
    __module__ = "skdistill.teachers"

    descriptions: tuple[str, ...]

    @classmethod
    def from_teachers(cls, teachers: Any) -> Self:
        """Describe a list of teachers, whatever it holds.

        Parameters
        ----------
        teachers : object
            The value of the parameter `teachers`.

        Returns
        -------
        placeholder : TeachersLeftBehind
            The descriptions of its entries.
        """
        if isinstance(teachers, TeachersLeftBehind):
            return cls(teachers.descriptions)
        entries = teachers if isinstance(teachers, (list, tuple)) else [teachers]
        pairs = [e if isinstance(e, tuple) and len(e) == 2 else ("", e) for e in entries]
        described = (f"{name}: {type(teacher).__name__}" for name, teacher in pairs)
        return cls(tuple(text.removeprefix(": ") for text in described))

    def refusal(self) -> str:
        """Say why there is nothing to fit from, and what to do.

        Returns
        -------
        message : str
            The words of the error that `fit` raises.
        """
        return (
            "The teachers of this estimator were left behind when it was pickled "
            f"({', '.join(self.descriptions)}): a pickle holds the student, which predicts "
            "without them. To fit again, give it teachers with set_params(teachers=[...]), or "
            "pickle it with keep_teachers=True. If a parallel tool pickled a fitted estimator on "
            "its way to a worker, hand that tool clone(estimator): a clone is not fitted and "
            "keeps its teachers."
        )

    def __repr__(self) -> str:
        """Name what was left behind."""
        return f"<teachers left behind by pickling: {', '.join(self.descriptions)}>"


WAY_TO_FIT = (
    "Fit it first, pass cv=5 to have it fitted inside fit, or, when the teachers come from a "
    "param_grid, whose values scikit-learn clones, wrap it in FrozenEstimator."
)

_SMOOTH = (
    "skorch.",
    "sklearn.discriminant_analysis",
    "sklearn.gaussian_process",
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.neural_network",
    "sklearn.svm",
    "torch.",
)


@dataclass(frozen=True)
class Entry:
    """One entry of `teachers`.

    Attributes
    ----------
    name : str
        The name it was given, or one made from its type.
    estimator : object
        The teacher; a bare torch module stands wrapped in a TorchTeacher.
    label : str
        How errors name it: 'teacher 1 "forest" (RandomForestClassifier)', counted from 0.
    """

    name: str
    estimator: Any
    label: str


def name_teachers(
    teachers: Any, *, reserved: Collection[str] = (), fitted: bool = False
) -> list[Entry]:
    """Check the parameter `teachers` and name its entries, by none of the names that are reserved.

    With `fitted` each must be fitted already.
    """
    entries = [_split_entry(number, entry) for number, entry in enumerate(_listed(teachers))]
    named: list[Entry] = []
    first: dict[int, Entry] = {}
    for name, (given, teacher) in zip(_unique_names(entries, reserved), entries, strict=True):
        shown = "" if given is None else f' "{given}"'
        label = f"teacher {len(named)}{shown} ({_type_name(teacher)})"
        entry = Entry(name, _checked(teacher, label), label)
        inner = teacher.estimator if isinstance(teacher, FrozenEstimator) else teacher
        before = first.setdefault(id(inner), entry)
        if before is not entry:
            warn_user(
                f"{before.label} and {label} are the same object, which doubles its vote; "
                "use teacher_weights for that."
            )
        named.append(entry)
    for entry in named if fitted else ():
        _check_fitted(entry)
    return named


def _listed(teachers: Any) -> Sequence[Any]:
    """Return the non-empty list, or raise with the way out."""
    rule = "teachers must be a non-empty list of fitted classifiers"
    pairs = f"{rule} or of (name, classifier) pairs"
    if isinstance(teachers, TeachersLeftBehind):
        raise ValueError(teachers.refusal())
    if isinstance(teachers, str):
        raise TypeError(
            f"{pairs}, got {teachers!r}. The only word that may stand there is 'self', in "
            "DistilledClassifier."
        )
    if not isinstance(teachers, (list, tuple)):
        one = hasattr(teachers, "predict_proba") or is_torch_module(teachers)
        way_out = f" Pass a list with one entry: teachers=[{_type_name(teachers)}(...)]."
        raise TypeError(f"{pairs}, got {_type_name(teachers)}." + (way_out if one else ""))
    if not teachers:
        raise ValueError(f"{pairs}, got an empty one.")
    if isinstance(teachers, tuple) and isinstance(teachers[0], str):
        raise TypeError(f"{rule}, got one pair. Pass teachers=[(name, classifier)].")
    return teachers


def _split_entry(number: int, entry: Any) -> tuple[str | None, Any]:
    """Return the name given, or None, and the teacher."""
    if not isinstance(entry, (tuple, list)):
        return None, entry
    if isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        raise TypeError(
            f"teacher {number} must be a classifier or a pair (name, classifier), got {entry!r}."
        )
    return entry


def _unique_names(
    entries: Sequence[tuple[str | None, Any]], reserved: Collection[str]
) -> list[str]:
    """Name every entry, in scikit-learn's way: the type in lower case, numbered where needed."""
    given = Counter(name for name, _ in entries if name is not None)
    for chosen, times in given.items():
        reasons = {
            "is given twice": times > 1,
            'holds "__"': "__" in chosen,
            "is a parameter of the estimator": chosen in reserved,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        if reason is not None:
            raise ValueError(f'The teacher name "{chosen}" {reason}; choose another.')
    types = Counter(_type_name(teacher).lower() for name, teacher in entries if name is None)
    taken, names = {*given, *reserved}, []
    for name, teacher in entries:
        if name is None:
            stem = _type_name(teacher).lower()
            candidates = chain([stem] * (types[stem] == 1), (f"{stem}-{i}" for i in count(1)))
            name = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        names.append(name)
    return names


def _type_name(teacher: Any) -> str:
    """Return the name of the type, or of the class itself when a class was passed."""
    return teacher.__name__ if isinstance(teacher, type) else type(teacher).__name__


def _checked(teacher: Any, label: str) -> Any:
    """Return a teacher, a bare module wrapped, or raise where it gives no probabilities."""
    if isinstance(teacher, type):
        raise TypeError(f"{label} is a class; pass an instance, {teacher.__name__}(...).")
    if teacher is None:
        raise TypeError(f"{label} is None; leave it out.")
    if isinstance(teacher, str):
        raise TypeError(
            f"{label} is the word {teacher!r}. teachers='self' stands without a list; beside "
            "teachers, self_distillation=0.5 does the same."
        )
    if is_torch_module(teacher):
        return TorchTeacher(teacher)
    kind = _estimator_type(teacher)
    if kind not in (None, "classifier"):
        raise TypeError(f"{label} is a {kind}; teachers must be classifiers.")
    last = split_steps(teacher)[1]
    # A stack says that it has no predict_proba until it is fitted, where its last classifier is
    # the default one.
    default_stack = getattr(last, "final_estimator", last) is None and hasattr(
        type(last), "predict_proba"
    )
    if not hasattr(teacher, "predict_proba") and not default_stack:
        raise TypeError(f"{label} has no predict_proba. {_way_to_proba(teacher, last)}")
    return teacher


def _estimator_type(teacher: Any) -> str | None:
    """Return "classifier", "regressor", ... or None where the teacher does not say."""
    if not hasattr(teacher, "__sklearn_tags__"):
        # Private, but the only word of classes that were written before scikit-learn had tags.
        return getattr(teacher, "_estimator_type", None)
    try:
        return get_tags(teacher).estimator_type
    except (AttributeError, TypeError, ValueError):  # a step or a base class without tags
        return None


def _way_to_proba(teacher: Any, last: Any) -> str:
    """Say how something without predict_proba can become a teacher."""
    if is_torch_module(last):
        return "Wrap the module in TorchTeacher(module, classes) before it goes into the Pipeline."
    if callable(teacher) and not hasattr(teacher, "fit"):
        return "Wrap the function in CallableTeacher(function, classes)."
    if not hasattr(teacher, "predict"):
        return "Teachers are fitted classifiers, torch modules and wrapped functions."
    return "Calibrate it: CalibratedClassifierCV(FrozenEstimator(teacher)).fit(X, y)."


def split_steps(estimator: Any) -> tuple[list[Any], Any]:
    """Return the transformers and the classifier inside Pipelines and FrozenEstimators."""
    before = []
    while isinstance(estimator, (Pipeline, FrozenEstimator)):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
            continue
        if len(estimator.steps) > 1:
            before.append(estimator[:-1])
        estimator = estimator.steps[-1][1]
    return before, estimator


def is_self(teachers: Any) -> bool:
    """Tell whether the student is to be its own teacher."""
    return isinstance(teachers, str) and teachers == "self"


def is_prefit(cv: Any) -> bool:
    """Tell whether the parameter `cv` says that the teachers are fitted already."""
    return isinstance(cv, str) and cv == "prefit"


def is_shared(teacher: Any) -> bool:
    """Tell whether a teacher is used as it is in every `cv` mode, because clones share it.

    True for FrozenEstimator, TorchTeacher, CallableTeacher, a bare torch module, any other
    estimator whose clone is itself, and a Pipeline that ends in one.
    """
    while isinstance(teacher, Pipeline):
        teacher = teacher.steps[-1][1]
    hook = getattr(type(teacher), "__sklearn_clone__", None)
    if hook in (None, BaseEstimator.__sklearn_clone__):
        return is_torch_module(teacher)
    return hook(teacher) is teacher


def is_smooth(teacher: Any) -> bool:
    """Tell whether a teacher's answers change smoothly with its inputs, judged by its family.

    Torch modules, skorch nets and scikit-learn's networks, linear and kernel models, discriminant
    analysis, Gaussian processes and naive Bayes do; so do students that see numbers as they are.
    """
    last = split_steps(teacher)[1]
    last = getattr(last, "student_", last)
    if isinstance(last, StudentClassifier):
        return last.encoding_ is None
    if hasattr(last, "numerical_embedding") and comes_from(last, "skdistill"):
        return _will_be_smooth(last)
    families = [kind.__module__ for kind in type(last).__mro__]
    return isinstance(last, TorchTeacher | TorchStudent) or any(
        family.startswith(_SMOOTH) for family in families
    )


def _will_be_smooth(unfitted: Any) -> bool:
    """Tell whether a DistilledClassifier that is yet to be fitted will see numbers as they are."""
    if unfitted.numerical_embedding is None or unfitted.student_module is not None:
        return True
    entries = unfitted.teachers if isinstance(unfitted.teachers, (list, tuple)) else []
    teachers = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    wanted = unfitted.numerical_embedding == "auto" and bool(teachers)
    return wanted and all(is_smooth(teacher) for teacher in teachers)


def _check_fitted(named: Entry) -> None:
    """Raise a NotFittedError that names the teacher and the way out, if it is not fitted."""
    try:
        check_is_fitted(named.estimator)
        return
    except NotFittedError:
        fitted = False
    except (AttributeError, TypeError):  # no fit, or no tags
        fitted = True
    # CatBoost's way, where scikit-learn does not know the type.
    last = split_steps(named.estimator)[1]
    is_fitted = getattr(last, "is_fitted", None)
    if callable(is_fitted) and not hasattr(last, "__sklearn_is_fitted__"):
        fitted = bool(is_fitted())
    if not fitted:
        raise NotFittedError(f"{named.label} is not fitted. {WAY_TO_FIT}")


def labels_known_to(named: Sequence[Entry]) -> np.ndarray | None:
    """Return the sorted labels of the first teacher that knows its labels; None if none does."""
    known = (getattr(teacher.estimator, "classes_", None) for teacher in named)
    classes = next((labels for labels in known if labels is not None), None)
    return None if classes is None else np.unique(np.asarray(classes))
