"""smallest_student: sizes are cross-validated together, and the least that is enough is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import delayed
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from skdistill.estimators import (
    RULES,
    DistilledClassifier,
    fit_arguments,
    read_fold,
    seeded,
    warn_about_prefit,
)
from skdistill.report.metrics import log_loss_by_row
from skdistill.report.size_table import (
    Size,
    SmallestStudent,
    check_tolerance,
    choose_size,
    compare_sizes,
)
from skdistill.tables import Rows, read_rows, take_rows
from skdistill.teachers.progress import live_line, run_counted

# From the widest layer down; the empty one is a student without hidden layers.
_NARROWER: tuple[tuple[int, ...], ...] = ((64,), (32,), (16,), (8,), (4,), ())


def smallest_student(
    estimator: DistilledClassifier,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    tolerance: float | str,
    sizes: Sequence[Sequence[int] | str] | None = None,
    cv: Any = None,
    groups: Any = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
    **params: Any,
) -> SmallestStudent:
    """Find the least network whose cross-validated log-loss is within a tolerance of the best.

    Students of several sizes are cross-validated on the same folds. The one with the fewest
    parameters among those that are good enough is fitted on all rows. Teachers that `fit` would
    fit are fitted once a fold and serve all sizes; fitted ones are asked once a fold.

    Parameters
    ----------
    estimator : DistilledClassifier
        The student with its teachers and every setting but its size. Where a Pipeline is wanted,
        put the found student into it.
    X : array-like or DataFrame of shape (n_samples, n_features)
        Raw rows.
    y : array-like of shape (n_samples,)
        Labels: sizes are compared on them.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights, for the students, the teachers and the log-loss.
    tolerance : float or "1se"
        How much worse than the best size the chosen one may be.

        - a number >= 0: in mean log-loss, in nats. 0 takes the best size. 0.01 is little where
          the log-loss is 0.5, and much where it is 0.05: look at the table.
        - "1se": one standard error of the difference from the best size, paired row by row.
    sizes : sequence of hidden_layer_sizes, default=None
        What is tried: each a sequence of widths, or "auto". None: the estimator's own size, then
        64, 32, 16, 8 and 4 units, as far as they are narrower, and ``()``, a linear student.
        With `hints` each needs the layers that these name.
    cv : int, splitter, iterable or None, default=None
        How the rows are split, as in GridSearchCV.
    groups : array-like of shape (n_samples,), default=None
        Groups for a splitter that takes them.
    n_jobs : int or None, default=None
        Folds that run at once.
    random_state : int, RandomState instance or None, default=None
        Seed of the estimator where its own `random_state` is None.
    verbose : int, default=0
        With 1, one live line counts the folds. The estimator's own `verbose` is for the last fit.
    **params : dict
        Passed on to the estimator's `fit`: ``teacher_proba`` is cut by the folds,
        ``X_unlabeled`` never is. With metadata routing the estimator gets, of these and of the
        weights, what it requests.

    Returns
    -------
    found : SmallestStudent
        The fitted student, its size, and the table of all sizes.

    Raises
    ------
    TypeError
        If the estimator is not a DistilledClassifier, or its `fit` does not take an argument.
    ValueError
        If `tolerance` or a size is not allowed, y is None, the estimator has a `student_module`,
        or every training diverged.

    Warns
    -----
    UserWarning
        If the teachers are fitted already: the log-losses assume that they did not see X.

    See Also
    --------
    DistilledClassifierCV : Searches temperature and alpha.

    Notes
    -----
    The best log-loss is the least of several, so it is a little too low, and what is chosen for
    being within a tolerance of it a little too large. A network of half the size needs a
    temperature and an alpha of its own at times: search them afterwards.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skdistill import DistilledClassifier, smallest_student
    >>> X, y = load_iris(return_X_y=True)
    >>> forest = RandomForestClassifier(20, min_samples_leaf=2, random_state=0)
    >>> student = DistilledClassifier([forest], cv=3, max_epochs=100, random_state=0)
    >>> found = smallest_student(student, X, y, tolerance=0.05, sizes=[(32,), (8,), (2,)], cv=3)
    >>> len(found.rows)
    3
    >>> found.estimator.score(X, y) > 0.9
    True
    """
    _check_estimator(estimator)
    allowed = check_tolerance(tolerance)
    tried = _check_sizes(estimator, _sizes_to_try(estimator) if sizes is None else sizes)
    if y is None:
        raise ValueError(
            "smallest_student requires y to be passed, but the target y is None: sizes are "
            "compared on labels."
        )
    rows = read_rows(X, y, sample_weight)
    weight = None if sample_weight is None else rows.weight
    given = _fit_arguments(estimator, sample_weight=weight, **params)
    if estimator.alpha > 0:
        warn_about_prefit(estimator)
    estimator = seeded(estimator, random_state)
    folded = check_cv(cv, rows.labels, classifier=True)
    splits = list(folded.split(rows.X, rows.labels, groups))
    runs = [delayed(_run_fold)(estimator, rows, given, split, tried) for split in splits]
    with live_line("smallest_student", verbose):
        folds = run_counted("fold", runs, n_jobs)
    table = compare_sizes(tried, splits, folds, rows.weight)
    chosen = choose_size(table, allowed).hidden_layer_sizes
    student = estimator.set_params(hidden_layer_sizes=chosen).fit(rows.X, rows.labels, **given)
    return SmallestStudent(student, chosen, table, tolerance)


def _check_estimator(estimator: Any) -> None:
    """Raise where there is no size to search."""
    if not isinstance(estimator, DistilledClassifier):
        raise TypeError(
            "The 'estimator' parameter of smallest_student must be a DistilledClassifier; got a "
            f"{type(estimator).__name__}. Put the student that was found into the Pipeline, not "
            "the Pipeline into the search."
        )
    if estimator.student_module is not None:
        raise ValueError(
            "smallest_student varies hidden_layer_sizes, which a student_module does not have. "
            "Pass student_module=None, or compare factories in GridSearchCV."
        )


def _fit_arguments(estimator: DistilledClassifier, **params: Any) -> dict[str, Any]:
    """Return what the estimator's `fit` gets; with metadata routing, what it requests."""
    router = MetadataRouter(owner="smallest_student").add(
        estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit")
    )
    return fit_arguments("smallest_student()", router, **params)


def _sizes_to_try(estimator: DistilledClassifier) -> list[Size]:
    """Return the estimator's own size, and the narrower ones that have the layers of its hints."""
    own = estimator.hidden_layer_sizes
    widest = np.inf if isinstance(own, str) else max(own, default=0)
    narrower = [sizes for sizes in _NARROWER if max(sizes, default=0) < widest]
    return [own, *(sizes for sizes in narrower if _missing_layer(estimator, sizes) is None)]


def _missing_layer(estimator: DistilledClassifier, sizes: Size) -> Any:
    """Return a layer that a hint names and a student of this size has not, if there is one."""
    n = 2 if isinstance(sizes, str) else len(sizes)
    layers = [h.student_layer for h in estimator.hints or () if h.weight > 0]
    return next((x for x in layers if isinstance(x, str) or not -n <= x < n), None)


def _check_sizes(estimator: DistilledClassifier, sizes: Any) -> list[Size]:
    """Return the sizes as tuples or "auto", each once, or raise naming the one not allowed."""
    allowed, words = RULES["hidden_layer_sizes"]
    try:
        listed = [] if isinstance(sizes, str) else list(sizes)
    except TypeError:
        listed = []
    if not listed:
        raise ValueError(
            "The 'sizes' parameter of smallest_student must be a non-empty sequence of "
            f"hidden_layer_sizes, such as [(64,), (16,), ()]; got {sizes!r}."
        )
    for size in listed:
        if not allowed(size):
            raise ValueError(
                f"Each of the 'sizes' of smallest_student must be {words}; got {size!r}."
            )
    tried = list(dict.fromkeys(s if isinstance(s, str) else tuple(map(int, s)) for s in listed))
    # Before a teacher is asked.
    for size in tried:
        missing = _missing_layer(estimator, size)
        if missing is not None:
            raise ValueError(
                f"A hint names the student's layer {missing!r}, which hidden_layer_sizes={size!r} "
                "has not. Leave that size out of 'sizes', or name another layer."
            )
    return tried


def _run_fold(
    estimator: DistilledClassifier,
    rows: Rows,
    params: dict[str, Any],
    split: tuple[np.ndarray, np.ndarray],
    sizes: Sequence[Size],
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each size the log-loss of every row held out, and the number of parameters."""
    assert rows.classes is not None
    train, test = split
    X_test, y_test = take_rows(rows.X, test), rows.labels[test]
    # What teachers answer, and how columns are prepared, does not depend on the size.
    run = read_fold(estimator, rows, params, train)
    training = run.prepare()
    losses = np.full((len(sizes), len(test)), np.nan)
    n_parameters = np.zeros(len(sizes), dtype=int)
    for i, size in enumerate(sizes):
        student = run.of_size(size).train_student(training)
        if student is not None:
            # A fold may lack a class that is held out.
            column = np.searchsorted(rows.classes, student.classes_)
            proba = np.zeros((len(test), len(rows.classes)))
            proba[:, column] = student.predict_proba(X_test)
            losses[i] = log_loss_by_row(y_test, proba, labels=rows.classes)
            n_parameters[i] = student.n_parameters_
    return losses, n_parameters
