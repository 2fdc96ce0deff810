"""What the searches over a DistilledClassifier share: its seed, its warning, its arguments."""

import warnings
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import process_routing

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.teachers.naming import is_self

__all__ = ["cut_arguments", "fit_arguments", "seeded", "warn_about_prefit"]

# Arguments of the estimator's fit; those by row are cut by the folds, X_unlabeled never is.
_BY_ROW = ("sample_weight", "teacher_proba")
_PASSED_ON = (*_BY_ROW, "X_unlabeled")


def fit_arguments(caller: str, router: Any, **params: Any) -> dict[str, Any]:
    """Return what the estimator's `fit` gets; with metadata routing, what it requests."""
    unknown = sorted(set(params) - set(_PASSED_ON))
    if unknown:
        raise TypeError(
            f"{caller} got an unexpected argument {unknown[0]!r}; the estimator's fit takes "
            f"{', '.join(_PASSED_ON)}."
        )
    given = {k: v for k, v in params.items() if v is not None}
    if get_config()["enable_metadata_routing"]:
        return dict(process_routing(router, "fit", **given)["estimator"]["fit"])
    return given


def warn_about_prefit(estimator: DistilledClassifier, *, stacklevel: int) -> None:
    """Say that scores with prefit teachers hold only if these did not see X."""
    asked = estimator.teachers is not None and not is_self(estimator.teachers)
    if estimator._is_prefit() and asked:
        warnings.warn(
            "The teachers are fitted already (cv='prefit'): the scores assume that they did "
            "not see X, otherwise candidates that follow them look better than they are. Pass "
            "cv=5 to the estimator to have the teachers fitted inside each fold.",
            UserWarning,
            stacklevel=stacklevel,
        )


def seeded(estimator: DistilledClassifier, random_state: Any) -> DistilledClassifier:
    """Return a clone with an integer seed, so that its candidates share their draws."""
    estimator = clone(estimator)
    own = estimator.random_state
    if not isinstance(own, int | np.integer):
        rng = check_random_state(random_state if own is None else own)
        estimator.set_params(random_state=int(rng.randint(np.iinfo(np.int32).max)))
    return estimator


def cut_arguments(params: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Return the arguments of fit for some rows."""
    cut = dict(params)
    for name in _BY_ROW:
        if name in cut:
            cut[name] = np.asarray(cut[name])[rows]
    return cut
