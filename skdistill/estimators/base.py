"""What distilled estimators share beside training: parameters, clones, routing, tags, pickles."""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skdistill.estimators.pickling import (
    PickledTeachers,
    cloned_templates,
    lean_state,
    ready_to_fit,
)
from skdistill.student import DocLink, check_stamp, stamp
from skdistill.tables import TabularEncoder
from skdistill.teachers.naming import is_prefit, is_shared, name_teachers
from skdistill.teachers.progress import CallbackSupportMixin, follow


def side_by_side(members: Callable[[], Sequence[tuple[str, Any]]]) -> Any:
    """Return the block in which scikit-learn draws named estimators side by side.

    scikit-learn has no public way to make one. A public class that draws its members so is asked
    for it by the hook that every estimator may have; where that fails, or naming the members does,
    scikit-learn draws the plain block.
    """
    # Imported late, lest a process that only predicts load a package of trees.
    from sklearn.ensemble import VotingClassifier

    with warnings.catch_warnings():
        # What is wrong with the members is said by fit; drawing is no time for it.
        warnings.simplefilter("ignore")
        return VotingClassifier(list(members()))._sk_visual_block_()


class LeanEstimator(DocLink, CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator):
    """An estimator that copies whole and pickles lean: without what only training needs."""

    def _pickled_state(self) -> dict[str, Any]:
        """Return what a pickle holds."""
        raise NotImplementedError

    def __copy__(self) -> Self:
        """Copy shallowly, teachers included; only pickles leave them behind."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy deeply, teachers included; only pickles leave them behind."""
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Stamp the versions that a pickle depends on."""
        return {**self._pickled_state(), "_versions": stamp()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and compare versions."""
        state = dict(state)
        check_stamp(state, type(self).__name__)
        self.__dict__.update(state)


class BaseDistilled(LeanEstimator):
    """An estimator that distils teachers, and predicts by the student that `fit` leaves."""

    teachers: Any
    cv: Any
    preprocessor: Any
    keep_teachers: bool

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether there is a student; cheaper than scikit-learn's search of the attributes."""
        return "student_" in self.__dict__

    def _fitted_student(self) -> Any:
        """Return the student; scikit-learn's check costs more than a prediction."""
        if "student_" not in self.__dict__:
            check_is_fitted(self)
        return self.student_

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; unfitted teachers whose packages are not loaded yet stay packed."""
        super().__setstate__(state)
        if isinstance(self.teachers, PickledTeachers) and self.teachers.at_hand:
            self._unpack_teachers()

    def _unpack_teachers(self) -> None:
        """Make unfitted teachers of a pickle the list that they were."""
        if isinstance(self.teachers, PickledTeachers):
            self.teachers = self.teachers.unpack()

    @contextmanager
    def _attempt(self, X: Any = None, y: Any = None) -> Iterator[None]:
        """Show the progress of a fit; one that fails leaves nothing that looks fitted."""
        with all_or_nothing(self), follow(self, X, y):
            yield

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of named teachers that `fit` clones.

        Returns
        -------
        params : dict
            Names and values.
        """
        params = super().get_params(deep=False)
        if not deep:
            return params
        preprocessor = params["preprocessor"]
        if hasattr(preprocessor, "get_params") and not isinstance(preprocessor, type):
            inner = preprocessor.get_params(deep=True)
            params |= {f"preprocessor__{key}": value for key, value in inner.items()}
        for name, teacher in self._cloned_teachers().items():
            params[name] = teacher
            inner = teacher.get_params(deep=True)
            params |= {f"{name}__{key}": value for key, value in inner.items()}
        return params

    def _cloned_teachers(self) -> dict[str, Any]:
        """Return the named teachers whose parameters matter: those that `fit` clones."""
        if is_prefit(self.cv) or not isinstance(self.teachers, list | tuple):
            return {}
        entries = [t for t in self.teachers if isinstance(t, tuple) and len(t) == 2]
        return {
            name: teacher
            for name, teacher in entries
            if isinstance(name, str) and hasattr(teacher, "get_params") and not is_shared(teacher)
        }

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``name__parameter`` sets one of a named teacher.

        A teacher may be shared with other estimators, so it is never changed: its entry is
        replaced by a changed clone.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : estimator
            The estimator itself.
        """
        own = {
            k: v for k, v in params.items() if k.partition("__")[0] in self.get_params(deep=False)
        }
        if len(own) < len(params):
            self._unpack_teachers()
        super().set_params(**own)
        named = self._cloned_teachers()
        replaced: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for key in [key for key in params if key not in own]:
            name, delimiter, parameter = key.partition("__")
            if name not in named:
                raise ValueError(self._unknown_parameter(key, sorted(named)))
            if delimiter:
                nested.setdefault(name, {})[parameter] = params[key]
            else:
                replaced[name] = params[key]
        for name, inner in nested.items():
            replaced[name] = clone(replaced.get(name, named[name])).set_params(**inner)
        if replaced:
            self.teachers = [
                (entry[0], replaced[entry[0]])
                if isinstance(entry, tuple) and entry[0] in replaced
                else entry
                for entry in self.teachers
            ]
        return self

    def _unknown_parameter(self, key: str, named: list[str]) -> str:
        """Say which parameters there are; those of teachers exist only when `fit` clones them."""
        hint = (
            "Parameters of teachers can be set when they are named, as ('forest', forest), and "
            "fitted inside fit: with cv=5, not cv='prefit'."
        )
        return (
            f"Invalid parameter {key!r} for estimator {type(self).__name__}. Valid parameters are: "
            f"{sorted(self.get_params(deep=False)) + named!r}. {hint}"
        )

    def get_metadata_routing(self) -> MetadataRouter:
        """Get the metadata routing: our own requests, and those of the teachers that `fit` fits.

        Returns
        -------
        routing : MetadataRouter
            Routing information.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        if isinstance(self.teachers, list | tuple) and not is_prefit(self.cv):
            mapping = MethodMapping().add(caller="fit", callee="fit")
            for named in name_teachers(self.teachers):
                if hasattr(named.estimator, "get_metadata_routing"):
                    router.add(**{named.name: named.estimator}, method_mapping=mapping)
        return router

    def __sklearn_clone__(self) -> Self:
        """Clone the parameters, and share the teachers that `fit` uses as they are."""
        self._unpack_teachers()
        shell = copy.copy(self)
        shell.teachers = None
        new = BaseEstimator.__sklearn_clone__(shell)
        new.teachers = self.teachers if is_prefit(self.cv) else cloned_templates(self.teachers)
        return new

    def __sklearn_tags__(self) -> Tags:
        """Tell which inputs are taken: those that the preprocessing and every teacher take."""
        tags = super().__sklearn_tags__()
        parts = [_input_tags(part) for part in self._readers_of_x()]
        tags.input_tags.allow_nan = all(p.allow_nan for p in parts)
        tags.input_tags.string = all(p.string for p in parts)
        tags.input_tags.categorical = all(p.categorical for p in parts)
        return tags

    def _readers_of_x(self) -> list[Any]:
        """Return what reads raw X: the preprocessing and the teachers."""
        own = self.preprocessor
        readers: list[Any] = [TabularEncoder() if isinstance(own, str) else own]
        if isinstance(self.teachers, list | tuple):
            readers += [t[1] if isinstance(t, tuple) and len(t) == 2 else t for t in self.teachers]
        return readers

    # The hook by which an estimator says how it is drawn, and the only one.
    @available_if(lambda self: bool(self.teachers) and isinstance(self.teachers, list | tuple))
    def _sk_visual_block_(self) -> Any:
        """Draw the teachers side by side."""
        return side_by_side(lambda: [(n.name, n.estimator) for n in name_teachers(self.teachers)])

    def _pickled_state(self) -> dict[str, Any]:
        """Return what a pickle holds.

        * unfitted, or ``keep_teachers=True``: every parameter, so that workers can fit. A fitted
          student among the teachers would leave its own teachers behind; where `fit` will clone
          it anyway, its clone is pickled instead;
        * fitted: the student and the parameters that are plain values. Fitted teachers and
          everything else that only shapes training is replaced by a placeholder.

        The trained net is never pickled.
        """
        state = {k: v for k, v in self.__dict__.items() if k != "net_"}
        if "student_" in state and not self.keep_teachers:
            return lean_state(state)
        if not is_prefit(self.cv):
            state["teachers"] = ready_to_fit(self.teachers)
        return state


@contextmanager
def all_or_nothing(estimator: BaseEstimator) -> Iterator[None]:
    """Delete every fitted attribute first, and again if what runs inside fails."""
    _forget(estimator)
    try:
        yield
    except BaseException:
        _forget(estimator)
        raise


@contextmanager
def unchanged_if_failed(estimator: BaseEstimator) -> Iterator[dict[str, Any]]:
    """Yield the state as it is, and restore it if what runs inside fails or is interrupted."""
    before = dict(estimator.__dict__)
    try:
        yield before
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def _forget(estimator: BaseEstimator) -> None:
    """Delete what `fit` sets; the names of parameters and of what scikit-learn keeps differ."""
    state = estimator.__dict__
    for name in [n for n in state if n == "_source" or (n[-1] == "_" and n[0] != "_")]:
        del state[name]


def _input_tags(part: Any) -> Any:
    """Return the input tags of a teacher or transformer; without tags it takes numbers only."""
    try:
        return get_tags(part).input_tags
    except (AttributeError, TypeError):
        return get_tags(BaseEstimator()).input_tags
