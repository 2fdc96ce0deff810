"""Checks that scores and displays share: probabilities, and the column of each label."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, check_consistent_length

Floats = NDArray[np.float64]


def check_proba(proba: ArrayLike, name: str) -> Floats:
    """Return probabilities as finite float64 of shape (n, k)."""
    return check_array(proba, dtype=np.float64, input_name=name)


def check_proba_pair(teacher_proba: ArrayLike, student_proba: ArrayLike) -> tuple[Floats, Floats]:
    """Return teacher's and student's probabilities of one shape."""
    teacher = check_proba(teacher_proba, "teacher_proba")
    student = check_proba(student_proba, "student_proba")
    if teacher.shape != student.shape:
        raise ValueError(
            f"teacher_proba has shape {teacher.shape} and student_proba {student.shape}; both must "
            "be (n_samples, n_classes) for the same rows and the same classes."
        )
    return teacher, student


def label_codes(y_true: ArrayLike, proba: Floats, labels: ArrayLike | None) -> NDArray[np.intp]:
    """Return the column of each row's label."""
    y = np.asarray(y_true)
    check_consistent_length(y, proba)
    names = np.unique(y) if labels is None else np.asarray(labels)
    if len(names) != proba.shape[1]:
        raise ValueError(
            f"y_proba has {proba.shape[1]} columns but there are {len(names)} labels "
            f"{names.tolist()}. Pass labels=classifier.classes_."
        )
    order = np.argsort(names)
    place = np.searchsorted(names[order], y).clip(max=len(names) - 1)
    codes = order[place]
    strange = np.unique(y[names[codes] != y])
    if len(strange):
        raise ValueError(f"y_true holds {strange.tolist()}, which are not in {names.tolist()}.")
    return codes


def check_n_bins(n_bins: int) -> None:
    """Raise where there is no bin to count in."""
    if n_bins < 1:
        raise ValueError(f"n_bins must be 1 or more, got {n_bins!r}.")
