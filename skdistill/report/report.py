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

from skdistill.report import metrics
from skdistill.report.compared import (
    Classifier,
    ComparedModel,
    ask_student,
    find_student,
    find_teachers,
    plain_student,
)
from skdistill.report.cost import Speed, count_bytes, count_parameters, measure_speed, total
from skdistill.report.verdict import compare, notes_on
from skdistill.report.view import COMPARED, DistillationReport, ReportRow
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
    _check_arguments(X_train, y_train, baseline, n_bootstrap)
    X = as_table(X)
    y = _check_labels(y, n_rows(X), classes)
    rng = check_random_state(random_state)
    prepared = found.prepare(X)
    taught = find_teachers(found, prepared, teachers)
    plain, on_plain = plain_student(found, X, baseline, X_train, y_train, teachers, rng)
    *each, ensemble = taught.ask(prepared)
    distilled = ask_student("distilled", found.model, prepared)
    calibrated = taught.calibrated(ensemble)
    models = [m for m in (*each, ensemble, calibrated, plain, distilled) if m is not None]
    # A single teacher is its own ensemble and is timed once.
    timed = {id(m.predict_proba): m for m in models}
    speeds = {key: measure_speed(m.predict_proba, m.X) for key, m in timed.items()}
    pairs = [(m, speeds[id(m.predict_proba)]) for m in models]
    gains = [_gains(m.proba, y, classes) for m in (distilled, ensemble, plain) if m is not None]
    return DistillationReport(
        rows=tuple(_row(model, speed, ensemble.proba, y, classes) for model, speed in pairs),
        comparisons={
            score: compare(*(g[score] for g in gains), n_bootstrap=n_bootstrap, rng=rng)
            for score in COMPARED
        },
        notes=notes_on(found, taught, on_plain, pairs),
        n_rows=len(y),
        n_classes=len(classes),
    )


def _check_arguments(X_train: Any, y_train: Any, baseline: Any, n_bootstrap: Any) -> None:
    """Raise where arguments exclude each other, or resamples are too few."""
    if not isinstance(n_bootstrap, Integral) or n_bootstrap < _FEWEST_RESAMPLES:
        raise ValueError(
            f"n_bootstrap must be an integer of at least {_FEWEST_RESAMPLES}, got {n_bootstrap!r}."
        )
    if (X_train is None) != (y_train is None):
        given, missing = ("y_train", "X_train") if X_train is None else ("X_train", "y_train")
        raise ValueError(f"{given} was passed without {missing}. Pass both, or neither.")
    if X_train is not None and baseline is not None:
        raise ValueError(
            "baseline and X_train, y_train were passed, and each of them gives the plain student. "
            "Pass the fitted baseline alone, or the rows on which a plain student is trained."
        )


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


def _row(
    model: ComparedModel, speed: Speed, ensemble: np.ndarray, y: np.ndarray, classes: np.ndarray
) -> ReportRow:
    """Return the numbers of one model, on the labels and against the ensemble."""
    proba, gains = model.proba, _gains(model.proba, y, classes)
    # Of two classes the area is that of the second, of more the mean over those that y holds.
    held = [1] if len(classes) == 2 else [k for k, c in enumerate(classes) if (y == c).any()]
    return ReportRow(
        name=model.name,
        role=model.role,
        accuracy=float(gains["accuracy"].mean()),
        log_loss=float(-gains["log_loss"].mean()),
        roc_auc=float(np.mean([roc_auc_score(y == classes[k], proba[:, k]) for k in held])),
        brier=metrics.multiclass_brier_score(y, proba, labels=classes),
        ece=metrics.expected_calibration_error(y, proba, labels=classes),
        agreement=metrics.agreement_score(ensemble, proba),
        kl=metrics.predictive_kl(ensemble, proba),
        n_parameters=total(count_parameters(part) for part in model.parts),
        n_bytes=total(count_bytes(part) for part in model.parts),
        latency_p50=speed.p50,
        latency_p99=speed.p99,
        rows_per_second=speed.rows_per_second,
    )


def _gains(proba: np.ndarray, y: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Return what is compared, one value a row: more is better."""
    correct = classes[proba.argmax(axis=1)] == y
    losses = metrics.log_loss_by_row(y, proba, labels=classes)
    return {"accuracy": correct.astype(np.float64), "log_loss": -losses}
