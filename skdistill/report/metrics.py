"""The scores of ``skdistill.metrics``, what they accept, and the error of a weighted mean."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from sklearn.utils.validation import check_array, check_consistent_length

Floats = NDArray[np.float64]

# What scikit-learn's log-loss takes a probability of 0 for.
_LEAST = np.finfo(np.float64).eps


def _mean(rows: NDArray, sample_weight: ArrayLike | None) -> float:
    """Return the weighted mean over rows."""
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return float(np.average(rows, weights=weight))


def check_pair(teacher_proba: ArrayLike, student_proba: ArrayLike) -> tuple[Floats, Floats]:
    """Return teacher's and student's probabilities of one shape."""
    teacher = check_array(teacher_proba, dtype=np.float64, input_name="teacher_proba")
    student = check_array(student_proba, dtype=np.float64, input_name="student_proba")
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher_proba has shape {teacher.shape} and student_proba {student.shape}; both must "
            "be (n_samples, n_classes) for the same rows and the same classes."
        )
    return teacher, student


def check_labelled(
    y_true: ArrayLike, y_proba: ArrayLike, labels: ArrayLike | None
) -> tuple[Floats, NDArray[np.intp]]:
    """Return probabilities, and the column of each row's label."""
    proba = check_array(y_proba, dtype=np.float64, input_name="y_proba")
    y = np.asarray(y_true)
    check_consistent_length(y, proba)
    names = np.unique(y) if labels is None else np.asarray(labels)
    if len(names) != proba.shape[1]:
        raise ValueError(
            f"y_proba has {proba.shape[1]} columns but there are {len(names)} labels "
            f"{names.tolist()}. Pass labels=classifier.classes_."
        )
    order = np.argsort(names)
    codes = order[np.searchsorted(names, y, sorter=order).clip(max=len(names) - 1)]
    strange = np.unique(y[names[codes] != y])
    if len(strange):
        raise ValueError(f"y_true holds {strange.tolist()}, which are not in {names.tolist()}.")
    return proba, codes


def check_n_bins(n_bins: int) -> None:
    """Raise where there is no bin to count in."""
    if n_bins < 1:
        raise ValueError(f"n_bins must be 1 or more, got {n_bins!r}.")


def agreement_score(
    teacher_proba: ArrayLike, student_proba: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Return the share of rows on which teacher and student name the same class.

    Parameters
    ----------
    teacher_proba, student_proba : array-like of shape (n_samples, n_classes)
        Probabilities, columns in the same order. Of equal columns the first counts.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        Top-1 agreement, from 0 to 1.

    Raises
    ------
    ValueError
        With different shapes.

    References
    ----------
    Stanton, Izmailov, Kirichenko, Alemi and Wilson, "Does Knowledge Distillation Really Work?",
    NeurIPS 2021.

    Examples
    --------
    >>> from skdistill.metrics import agreement_score
    >>> agreement_score([[0.9, 0.1], [0.4, 0.6]], [[0.6, 0.4], [0.7, 0.3]])
    0.5
    """
    teacher, student = check_pair(teacher_proba, student_proba)
    return _mean(teacher.argmax(axis=1) == student.argmax(axis=1), sample_weight)


def predictive_kl(
    teacher_proba: ArrayLike, student_proba: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    r"""Return the mean divergence of the student's probabilities from the teacher's.

    .. math:: \frac{1}{n} \sum_i \sum_j q_{ij} \log (q_{ij} / p_{ij})

    with teacher `q` and student `p`. Classes the teacher excludes add nothing. Like the log-loss
    of scikit-learn, student probabilities below 2.2e-16 count as that.

    Parameters
    ----------
    teacher_proba, student_proba : array-like of shape (n_samples, n_classes)
        Probabilities, columns in the same order.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        In nats; 0 where both agree.

    Raises
    ------
    ValueError
        With different shapes.

    References
    ----------
    Stanton, Izmailov, Kirichenko, Alemi and Wilson, "Does Knowledge Distillation Really Work?",
    NeurIPS 2021.

    Examples
    --------
    >>> from skdistill.metrics import predictive_kl
    >>> round(predictive_kl([[1.0, 0.0]], [[0.5, 0.5]]), 4)
    0.6931
    """
    teacher, student = check_pair(teacher_proba, student_proba)
    by_class = rel_entr(teacher.clip(min=0), student.clip(min=_LEAST))
    return _mean(by_class.sum(axis=1), sample_weight)


def log_loss_by_row(
    y_true: ArrayLike, y_proba: ArrayLike, *, labels: ArrayLike | None = None
) -> Floats:
    """Return the log-loss of every row, whose mean is ``sklearn.metrics.log_loss``.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels.
    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities; those below 2.2e-16 count as that.
    labels : array-like of shape (n_classes,), default=None
        The label of each column; ``None`` takes the sorted labels of `y_true`.

    Returns
    -------
    ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    ValueError
        When labels and columns do not match.

    Examples
    --------
    >>> from skdistill.metrics import log_loss_by_row
    >>> log_loss_by_row(["no", "yes"], [[0.9, 0.1], [0.4, 0.6]]).round(4)
    array([0.1054, 0.5108])
    """
    proba, codes = check_labelled(y_true, y_proba, labels)
    return -np.log(np.maximum(proba[np.arange(len(codes)), codes], _LEAST))


def multiclass_brier_score(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Return the Brier score for any number of classes.

    .. math:: \frac{1}{n} \sum_i \sum_j (p_{ij} - [y_i = j])^2

    halved for two classes, which is what ``sklearn.metrics.brier_score_loss`` returns.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels.
    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities.
    labels : array-like of shape (n_classes,), default=None
        The label of each column; ``None`` takes the sorted labels of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        From 0 (certain and right) to 1 for two classes, to 2 for more.

    Raises
    ------
    ValueError
        When labels and columns do not match.

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability", 1950.

    Examples
    --------
    >>> from skdistill.metrics import multiclass_brier_score
    >>> round(multiclass_brier_score([0, 1], [[0.9, 0.1], [0.4, 0.6]]), 4)
    0.085
    """
    proba, codes = check_labelled(y_true, y_proba, labels)
    wanted = np.eye(proba.shape[1])[codes]
    half = 0.5 if proba.shape[1] == 2 else 1.0
    return _mean(half * np.square(proba - wanted).sum(axis=1), sample_weight)


def expected_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 15,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Return how far confidence is from accuracy, over bins of equal width.

    .. math:: \sum_b w_b \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    where the confidence of a row is its largest probability and :math:`w_b` the share of rows in
    the bin. The estimate is biased upwards on few rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels.
    y_proba : array-like of shape (n_samples, n_classes)
        Probabilities.
    n_bins : int, default=15
        Bins of (0, 1].
    labels : array-like of shape (n_classes,), default=None
        The label of each column; ``None`` takes the sorted labels of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        When labels and columns do not match, or with `n_bins` below 1.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> from skdistill.metrics import expected_calibration_error
    >>> proba = [[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.75, 0.25]]
    >>> expected_calibration_error([0, 0, 0, 1], proba)
    0.0
    >>> expected_calibration_error([0, 0, 1, 1], proba)
    0.25
    """
    check_n_bins(n_bins)
    proba, codes = check_labelled(y_true, y_proba, labels)
    correct = proba.argmax(axis=1) == codes
    confidence = proba.max(axis=1)
    weight = np.ones(len(proba)) if sample_weight is None else np.asarray(sample_weight, float)
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0, n_bins - 1)
    surplus = np.bincount(bins, weights=weight * (correct - confidence), minlength=n_bins)
    return float(np.abs(surplus).sum() / weight.sum())


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, groups: ArrayLike | None = None
) -> tuple[float, float]:
    """Return the mean of ``a - b`` over rows and its paired standard error.

    Parameters
    ----------
    a, b : array-like of shape (n_samples,)
        One value a row of two models, on the same rows.
    groups : array-like of shape (n_samples,), default=None
        Names rows that are not independent, such as one test row under several seeds. Their
        differences count as one observation.

    Returns
    -------
    difference : float
        Mean of ``a - b``.
    standard_error : float
        Of that mean.

    Raises
    ------
    ValueError
        With fewer than two independent rows, or with lengths that differ.

    Examples
    --------
    >>> from skdistill.metrics import paired_difference
    >>> paired_difference([1, 1, 0, 1], [0, 1, 0, 0])
    (0.5, 0.288...)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    check_consistent_length(first, second, groups)
    n_rows = len(first if groups is None else np.unique(groups))
    if n_rows < 2:
        raise ValueError(f"A standard error needs at least 2 independent rows, got {n_rows}.")
    return mean_and_error(first - second, groups=groups)


def mean_and_error(
    values: Floats, weight: Floats | None = None, groups: ArrayLike | None = None
) -> tuple[float, float]:
    """Return the weighted mean and its standard error; rows of a group are one observation."""
    mean = np.average(values, weights=weight)
    share = 1 / len(values) if weight is None else weight / weight.sum()
    parts = share * (values - mean)
    if groups is not None:
        parts = np.bincount(np.unique(groups, return_inverse=True)[1], weights=parts)
    n = len(parts)
    return float(mean), float(np.sqrt(n / max(n - 1, 1) * np.square(parts).sum()))


def gap_recovered(student: ArrayLike, plain: ArrayLike, ensemble: ArrayLike) -> float:
    r"""Return the share of the gap between a plain student and the teachers that was closed.

    .. math:: (\mathrm{student} - \mathrm{plain}) / (\mathrm{ensemble} - \mathrm{plain})

    It is the same for a score and for a loss. Where the gap is small against its standard error
    (:func:`paired_difference`) the share says nothing.

    Parameters
    ----------
    student, plain, ensemble : float or array-like of shape (n_samples,)
        A score or loss of the distilled student, of the same student trained on labels alone, and
        of the teachers together; or one value a row, of which the mean is taken.

    Returns
    -------
    float
        0: as good as the plain student; 1: as good as the teachers; more: better than them.

    Raises
    ------
    ValueError
        When there is no gap.

    Examples
    --------
    >>> from skdistill.metrics import gap_recovered
    >>> round(gap_recovered(0.972, 0.965, 0.978), 3)
    0.538
    """
    ours, floor, ceiling = (
        float(np.asarray(score, dtype=np.float64).mean()) for score in (student, plain, ensemble)
    )
    if ceiling == floor:
        raise ValueError(
            "Plain student and ensemble have the same score: there is no gap to recover."
        )
    return (ours - floor) / (ceiling - floor)
