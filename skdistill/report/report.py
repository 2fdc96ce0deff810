"""distillation_report: a student beside its teachers and a plain student, on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score
from sklearn.utils import assert_all_finite, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skdistill.report.compared import (
    Classifier,
    ComparedModel,
    find_student,
    find_teachers,
    plain_student,
)
from skdistill.report.cost import Speed, count_bytes, count_parameters, measure_speed, total
from skdistill.report.metrics import (
    agreement_score,
    expected_calibration_error,
    log_loss_by_row,
    multiclass_brier_score,
    predictive_kl,
)
from skdistill.report.verdict import Comparison, compare, notes_on, notes_on_times
from skdistill.report.view import DistillationReport, ReportRow
from skdistill.tables import as_table, n_rows

_FEWEST_RESAMPLES = 100


def distillation_report(
    student: Classifier,
    X: Any,
    y: ArrayLike,
    *,
    X_train: Any = None,
    y_train: ArrayLike | None = None,
    baseline: Classifier | None = None,
    teachers: Sequence[Any] | None = None,
    n_bootstrap: int = 1000,
    random_state: Any = None,
) -> DistillationReport:
    """Compare a student with its teachers and with a plain student, on rows none of them saw.

    Distilling pays where the student is better than the same network trained on labels alone, the
    *plain student*. The report sets both beside each teacher and the teachers' ensemble: scores
    on the labels, likeness to the ensemble, size and speed, and the share of the gap between
    plain student and ensemble that the student recovered,
    ``(student - plain) / (ensemble - plain)``.

    Parameters
    ----------
    student : estimator
        A fitted :class:`DistilledClassifier`, a Pipeline that ends in one, a fitted search over
        one (:class:`DistilledClassifierCV`, ``GridSearchCV``), or a :class:`StudentClassifier`
        together with `teachers`.
    X : array-like or DataFrame of shape (n_samples, n_features)
        Held-out rows, which neither student nor teachers saw. Of a Pipeline the steps before the
        student are applied first; teachers get what they got in `fit`, and no row of the table
        counts these steps.
    y : array-like of shape (n_samples,)
        Their labels, at least two of those that the student knows.
    X_train, y_train : array-like, default=None
        The rows that the student learned from. A plain student is trained on them: a clone of the
        distilled one with ``alpha=0`` and with early stopping, so that it is as good as labels
        make it.
    baseline : classifier, default=None
        A fitted classifier to stand in for the plain student, instead of `X_train` and `y_train`.
        It gets X as it is passed.
    teachers : list of teachers or of (name, teacher), default=None
        Fitted teachers. None: those that the student kept from `fit`. A student that was loaded
        from a pickle or a file kept none.
    n_bootstrap : int, default=1000
        Resamples of the rows behind each interval, at least 100.
    random_state : int, RandomState or None, default=None
        Seeds the resamples, and the plain student if the student's own `random_state` is None.

    Returns
    -------
    report : DistillationReport
        Print it, or show it in a notebook.

    Raises
    ------
    NotFittedError
        If the student, a teacher or the baseline is not fitted.
    TypeError
        If there is no distilled classifier in `student`, or a teacher or the baseline has no
        ``predict_proba``.
    ValueError
        If there are no teachers, labels do not match, y holds fewer than two classes, or
        arguments exclude each other; the message names them.

    See Also
    --------
    DistillationDisplay : Draws quality against latency and size.
    skdistill.metrics : The scores, one by one.

    Notes
    -----
    *Scores.* ROC AUC is that of the second class, or the mean over the classes in y, each against
    the rest. ECE has 15 bins of equal width. Agreement and KL compare with the ensemble, which is
    put together with the student's own ``averaging`` and ``teacher_weights`` and not calibrated.
    A cross-fitted teacher answers by the mean of its fold clones. Where `fit` calibrated the
    targets of cross-fitted teachers, a row "calibrated ensemble" tells what that alone changes.

    *Verdict.* Intervals are 95 % percentile bootstrap intervals over rows, the same rows for all
    models. They cover the choice of rows, and not that of seeds: another seed of the student moves
    the numbers too. "Better" and "worse" mean that the interval leaves zero out. No share is given
    unless the gap between ensemble and plain student is positive, beyond two paired standard
    errors, and its interval leaves zero out: a share of nothing is no number.

    *Size.* Bytes are those of the file that ``StudentClassifier.save`` writes, and of a pickle for
    anything else. Parameters are the learned numbers; a tree has two for each split and one for
    each class of each leaf. A dash stands where a number cannot be told.

    *Speed.* ``predict_proba`` of one row, called in turn on rows of X after one call to warm up,
    for half a second; then on blocks of at most 16,384 rows for a quarter of a second. Threads are
    those that each model takes by itself. Other work on the machine shows in these numbers, in
    long calls more than in short ones; a note says so where it was much.

    References
    ----------
    .. [1] Stanton, Izmailov, Kirichenko, Alemi & Wilson (2021). Does Knowledge Distillation
       Really Work?
    .. [2] Efron & Tibshirani (1993). An Introduction to the Bootstrap.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import train_test_split
    >>> from skdistill import DistilledClassifier, distillation_report
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> forest = RandomForestClassifier(20, min_samples_leaf=3, random_state=0)
    >>> forest = forest.fit(X_train, y_train)
    >>> student = DistilledClassifier([("forest", forest)], max_epochs=20, random_state=0)
    >>> student = student.fit(X_train, y_train)
    >>> report = distillation_report(
    ...     student, X_test, y_test, X_train=X_train, y_train=y_train, random_state=0
    ... )
    >>> [row.name for row in report.rows]
    ['forest', 'ensemble', 'plain student', 'distilled student']
    >>> report.row("ensemble").agreement
    1.0
    """
    found = find_student(student)
    classes = found.model.classes_
    train = _check_arguments(X_train, y_train, baseline, n_bootstrap)
    X = as_table(X)
    y = _check_labels(y, n_rows(X), classes)
    rng = check_random_state(random_state)
    prepared = found.prepare(X)
    teacher_ensemble = find_teachers(found, prepared, teachers)
    plain = plain_student(
        found, X, baseline=baseline, train=train, teachers=teachers, random_state=rng
    )
    *each, ensemble = teacher_ensemble.ask(prepared)
    distilled = found.ask(prepared)
    calibrated = teacher_ensemble.calibrated(ensemble)
    models = [m for m in (*each, ensemble, calibrated, plain, distilled) if m is not None]
    speeds = _speeds(models)
    return DistillationReport(
        rows=_rows(models, speeds, ensemble.proba, y, classes),
        comparisons=_compare(distilled, ensemble, plain, y, classes, n_bootstrap, rng),
        notes=(
            *notes_on(found, teacher_ensemble, plain, trained=train is not None),
            *notes_on_times(models, speeds),
        ),
        n_rows=len(y),
        n_classes=len(classes),
    )


def _check_arguments(
    X_train: Any, y_train: Any, baseline: Classifier | None, n_bootstrap: Any
) -> tuple[Any, Any] | None:
    """Return the training rows, if there are any, or raise where arguments exclude each other."""
    if not isinstance(n_bootstrap, Integral) or n_bootstrap < _FEWEST_RESAMPLES:
        raise ValueError(
            f"n_bootstrap must be an integer of at least {_FEWEST_RESAMPLES}, got {n_bootstrap!r}."
        )
    if (X_train is None) != (y_train is None):
        given, missing = ("y_train", "X_train") if X_train is None else ("X_train", "y_train")
        raise ValueError(f"{given} was passed without {missing}. Pass both, or neither.")
    if X_train is None:
        return None
    if baseline is not None:
        raise ValueError(
            "baseline and X_train, y_train were passed, and each of them gives the plain student. "
            "Pass the fitted baseline alone, or the rows on which a plain student is trained."
        )
    return X_train, y_train


def _check_labels(y: Any, n: int, classes: np.ndarray) -> np.ndarray:
    """Return y as labels of the student, of at least two kinds."""
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    if len(y) != n:
        raise ValueError(f"X has {n} rows and y has {len(y)} labels; pass one label for each row.")
    known = set(classes.tolist())
    strange = [label for label in np.unique(y).tolist() if label not in known]
    if strange:
        raise ValueError(
            f"y holds {strange[:20]}, which the student does not know: its classes_ are "
            f"{classes.tolist()[:20]}. Pass y as the labels of fit, not encoded."
        )
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"y holds one class only, {np.unique(y).tolist()}: held-out rows of at least two "
            "classes are needed to compare classifiers."
        )
    return y


def _speeds(models: Sequence[ComparedModel]) -> list[Speed]:
    """Time every model; a single teacher is its own ensemble and is timed once."""
    known: dict[int, Speed] = {}
    for model in models:
        key = id(model.predict_proba)
        if key not in known:
            known[key] = measure_speed(model.predict_proba, model.X)
    return [known[id(model.predict_proba)] for model in models]


def _rows(
    models: Sequence[ComparedModel],
    speeds: Sequence[Speed],
    ensemble: np.ndarray,
    y: np.ndarray,
    classes: np.ndarray,
) -> tuple[ReportRow, ...]:
    """Return the numbers of every model."""
    return tuple(
        ReportRow(
            name=model.name,
            role=model.role,
            **_scores(model.proba, ensemble, y, classes),
            n_parameters=total(count_parameters(part) for part in model.parts),
            n_bytes=total(count_bytes(part) for part in model.parts),
            latency_p50=speed.p50,
            latency_p99=speed.p99,
            rows_per_second=speed.rows_per_second,
        )
        for model, speed in zip(models, speeds, strict=True)
    )


def _scores(
    proba: np.ndarray, ensemble: np.ndarray, y: np.ndarray, classes: np.ndarray
) -> dict[str, float]:
    """Return the scores of one model on the labels and against the ensemble."""
    return {
        "accuracy": float(_correct(proba, y, classes).mean()),
        "log_loss": float(log_loss_by_row(y, proba, labels=classes).mean()),
        "roc_auc": _roc_auc(proba, y, classes),
        "brier": multiclass_brier_score(y, proba, labels=classes),
        "ece": expected_calibration_error(y, proba, labels=classes),
        "agreement": agreement_score(ensemble, proba),
        "kl": predictive_kl(ensemble, proba),
    }


def _correct(proba: np.ndarray, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return 1 for each row whose largest probability is that of its label, else 0."""
    return (classes[proba.argmax(axis=1)] == y).astype(np.float64)


def _roc_auc(proba: np.ndarray, y: np.ndarray, classes: np.ndarray) -> float:
    """Return the area under the curve, of several classes the mean over those that y holds."""
    if len(classes) == 2:
        return float(roc_auc_score(y == classes[1], proba[:, 1]))
    held = [k for k, label in enumerate(classes) if (y == label).any()]
    return float(np.mean([roc_auc_score(y == classes[k], proba[:, k]) for k in held]))


def _compare(
    distilled: ComparedModel,
    ensemble: ComparedModel,
    plain: ComparedModel | None,
    y: np.ndarray,
    classes: np.ndarray,
    n_bootstrap: int,
    rng: np.random.RandomState,
) -> dict[str, Comparison]:
    """Compare the student with ensemble and plain student by accuracy and by log-loss."""
    by_row = {
        "accuracy": lambda proba: _correct(proba, y, classes),
        "log_loss": lambda proba: -log_loss_by_row(y, proba, labels=classes),
    }
    return {
        metric: compare(
            gains(distilled.proba),
            gains(ensemble.proba),
            None if plain is None else gains(plain.proba),
            n_bootstrap=n_bootstrap,
            rng=rng,
        )
        for metric, gains in by_row.items()
    }
