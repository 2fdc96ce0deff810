"""What both students share: they answer raw rows from logits, and cannot be fitted."""

from importlib.metadata import version
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill.student.forward import log_softmax, softmax
from skdistill.tables import TabularEncoder, Transformer, as_table, prepare, warn_user

_STAMPED = ("skdistill", "scikit-learn", "numpy")


class SkdistillVersionWarning(UserWarning):
    """A pickle was made with other versions than the ones that read it.

    Pickles are promised for equal versions only. Use
    ``student_.save(path)`` for a file that later releases read.
    """


def stamp() -> dict[str, str]:
    """Return the versions a pickle depends on."""
    return {name: version(name) for name in _STAMPED}


def check_stamp(state: dict[str, Any], type_name: str) -> None:
    """Take the stamp out of an unpickled state and warn where it differs from today's versions."""
    changed = [
        f"{name} {made_with} (now {version(name)})"
        for name, made_with in state.pop("_versions", {}).items()
        if name in _STAMPED and made_with != version(name)
    ]
    if changed:
        warn_user(
            f"This {type_name} was pickled with {', '.join(changed)}. Its predictions are promised "
            "for equal versions only; fit it again, or keep the student in a file made by save().",
            SkdistillVersionWarning,
        )


class DocLink:
    """Link the HTML representation to our documentation."""

    # scikit-learn's developer guide tells other packages to set these two, underscores
    # notwithstanding.
    _doc_link_module = "skdistill"
    _doc_link_template = (
        "https://skdistill.readthedocs.io/en/latest/generated/skdistill.{estimator_name}.html"
    )


class BaseStudent(DocLink, ClassifierMixin, BaseEstimator):
    """A trained classifier: its labels, its preprocessing, and a network that gives logits."""

    classes_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray
    preprocessor_: Any

    # Why it cannot be fitted.
    _condition: ClassVar[str]

    @classmethod
    def _with(
        cls,
        *,
        classes: np.ndarray,
        n_features_in: int,
        feature_names_in: np.ndarray | None,
        preprocessor: Transformer | None,
    ) -> Self:
        """Build a student that has no network yet."""
        self = cls()
        self.classes_ = classes
        self.n_features_in_ = n_features_in
        if feature_names_in is not None:
            self.feature_names_in_ = feature_names_in
        self.preprocessor_ = preprocessor
        return self

    def _logits(self, X: Any) -> np.ndarray:
        """Return the logits of raw rows, in an array of their own."""
        raise NotImplementedError

    def _prepare(self, X: Any) -> tuple[Any, np.ndarray]:
        """Return checked raw rows, and what the network sees of them."""
        check_is_fitted(self)
        X = as_table(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        return X, prepare(X, self.preprocessor_)

    def fit(self, X: Any, y: Any = None) -> NoReturn:
        """Refuse: a trained student cannot be fitted.

        Parameters
        ----------
        X : ignored
        y : ignored

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            f"A {type(self).__name__} is {self._condition} and cannot be fitted. Fit a "
            "DistilledClassifier, or wrap the student in sklearn.frozen.FrozenEstimator where a "
            "meta-estimator calls fit."
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features_in_)
            Raw rows, as they were passed to ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        return self.classes_[self._logits(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features_in_)
            Raw rows, as they were passed to ``fit``.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; from a StudentClassifier float32 for float32 rows,
            else float64.

        Raises
        ------
        ValueError
            If X has another width or other names than in ``fit``, holds inf, or holds NaN although
            ``fit`` saw no missing value.
        """
        return softmax(self._logits(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the class probabilities.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features_in_)
            Raw rows, as they were passed to ``fit``.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
        """
        return log_softmax(self._logits(X))

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether this is a student that training has made."""
        return hasattr(self, "classes_")

    def __sklearn_clone__(self) -> Self:
        """Return the student itself: there is nothing to fit again."""
        return self

    def __sklearn_tags__(self) -> Tags:
        """Tell which inputs the preprocessing takes."""
        tags = super().__sklearn_tags__()
        mixed = type(getattr(self, "preprocessor_", None)) is TabularEncoder
        tags.input_tags.string = mixed
        tags.input_tags.categorical = mixed
        tags.input_tags.allow_nan = mixed and self.preprocessor_.allow_missing_
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the student with the versions that made it."""
        return {**self.__dict__, "_versions": stamp()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compare versions and restore the student."""
        state = dict(state)
        check_stamp(state, type(self).__name__)
        self.__dict__.update(state)
