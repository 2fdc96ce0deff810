"""What the searches over a DistilledClassifier share: arguments of fit, seeds, folds."""

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import process_routing

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.estimators.distil import Distillation, read_distillation
from skdistill.tables import Rows, take_rows, warn_user
from skdistill.teachers.naming import is_prefit, is_self
from skdistill.teachers.progress import track

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


def warn_about_prefit(estimator: DistilledClassifier) -> None:
    """Say that scores with prefit teachers hold only if these did not see X."""
    asked = estimator.teachers is not None and not is_self(estimator.teachers)
    if is_prefit(estimator.cv) and asked:
        warn_user(
            "The teachers are fitted already (cv='prefit'): the scores assume that they did "
            "not see X, otherwise candidates that follow them look better than they are. Pass "
            "cv=5 to the estimator to have the teachers fitted inside each fold."
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


def read_fold(
    estimator: DistilledClassifier, rows: Rows, params: dict[str, Any], train: np.ndarray
) -> Distillation:
    """Read the rows of a fold as `fit` reads its own."""
    X, y = take_rows(rows.X, train), rows.labels[train]
    return read_distillation(clone(estimator), X, y, **cut_arguments(params, train))


@dataclass
class Fold:
    """What a fold gave: a score for each candidate, and the seconds of one."""

    scores: np.ndarray
    fit_seconds: float
    score_seconds: float


def run_fold(
    estimator: DistilledClassifier,
    rows: Rows,
    params: dict[str, Any],
    split: tuple[np.ndarray, np.ndarray],
    candidates: Sequence[dict[str, float]],
    scorer: Any,
    *,
    weigh: bool,
) -> Fold:
    """Train the students of all candidates on one fold and score them on the rest."""
    train, test = split
    start = time.perf_counter()
    students = _train_candidates(estimator, rows, params, train, candidates)
    fitted = time.perf_counter()
    held_out, labels = take_rows(rows.X, test), rows.labels[test]
    scored = {}
    if weigh and _takes_weights(scorer):
        scored = {"sample_weight": rows.weight[test]}
    scores: dict[int, float] = {}
    for student in students:
        # Candidates with alpha=0 share one student; one whose training diverged has none.
        if student is None:
            scores[id(student)] = float("nan")
        elif id(student) not in scores:
            scores[id(student)] = float(scorer(student, held_out, labels, **scored))
    done = time.perf_counter()
    n = len(candidates)
    values = np.array([scores[id(student)] for student in students])
    return Fold(values, (fitted - start) / n, (done - fitted) / n)


def _takes_weights(scorer: Any) -> bool:
    """Tell whether a scorer, or the metric inside it, takes sample weights."""
    # Where scikit-learn keeps the metric of a scorer; there is no public way to it.
    metric = getattr(scorer, "_score_func", scorer)
    parameters = inspect.signature(metric).parameters
    return "sample_weight" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


def _train_candidates(
    estimator: DistilledClassifier,
    rows: Rows,
    params: dict[str, Any],
    train: np.ndarray,
    candidates: Sequence[dict[str, float]],
) -> list[Any]:
    """Return one fitted student a candidate, from stacks where that is possible."""
    if not _stackable(estimator):
        shown = track("candidate", candidates, len(candidates))
        return [_fit_alone(estimator, candidate, rows, params, train) for candidate in shown]
    students: list[Any] = [None] * len(candidates)
    for soft in (False, True):
        numbers = [i for i, c in enumerate(candidates) if (c["alpha"] > 0) == soft]
        # Without the soft term temperature has no part: one student serves all.
        different = numbers if soft else numbers[:1]
        if not different:
            continue
        trained = _train_stack(
            read_fold(estimator, rows, params, train), [candidates[i] for i in different], soft=soft
        )
        for place, i in enumerate(numbers):
            students[i] = trained[place if soft else 0]
    return students


def _fit_alone(
    estimator: DistilledClassifier,
    candidate: dict[str, float],
    rows: Rows,
    params: dict[str, Any],
    train: np.ndarray,
) -> Any:
    """Fit one candidate by itself and keep its student; None if its training diverged."""
    alone = clone(estimator).set_params(**candidate, verbose=0)
    X, y = take_rows(rows.X, train), rows.labels[train]
    try:
        return alone.fit(X, y, **cut_arguments(params, train)).student_
    except FloatingPointError:
        return None


def _stackable(estimator: DistilledClassifier) -> bool:
    """Tell whether candidates can share one stacked network."""
    return (
        estimator.student_module is None
        and isinstance(estimator.loss, str)
        and not estimator.callbacks
    )


def _train_stack(run: Distillation, candidates: list[dict[str, float]], *, soft: bool) -> list[Any]:
    """Label and prepare the rows once and train a student for each candidate on them."""
    training = run.prepare(soft=soft)
    control = run.train_control(training)
    pairs = [(c["temperature"], c["alpha"]) for c in candidates]
    stack = run.trainer.fit_stack(training, pairs, run.seeds.network)
    return [run.frozen(trained, control) for trained in stack]
