"""TeacherBundle: fitted teachers as files that workers can trust."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from skdistill.scale.labeller import (
    Manifest,
    TeacherLabeller,
    read_manifest,
    read_teacher,
    takes_frame,
    write_bundle,
)
from skdistill.scale.storage import absolute
from skdistill.teachers.asking import Teacher
from skdistill.teachers.naming import name_teachers
from skdistill.teachers.pooling import weights_without_labels

_LABEL_KINDS = "biufU"


@dataclass(frozen=True, eq=False)
class TeacherBundle:
    """Fitted teachers in a folder: one joblib file each, and a manifest with their SHA-256.

    A joblib file is code that runs when it is loaded. Every file is compared with the manifest
    before it is unpickled, and the manifest with the digest that a labeller carries: a worker
    loads exactly the teachers that were saved, or raises.

    Attributes
    ----------
    path : str
        The folder, an absolute local path or an fsspec URL.
    digest : str
        SHA-256 of the manifest, and by it of every file.
    classes : ndarray of shape (n_classes,)
        The labels of the columns of soft targets, sorted.
    feature_names : list of str
        The columns of a table that the teachers are asked about, in their order.
    teacher_names : list of str
        The teachers.

    See Also
    --------
    label_parquet : Labels the rows of Parquet files.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill.distributed import TeacherBundle
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bundle = TeacherBundle.save(
    ...         [teacher], folder, classes=[0, 1, 2], feature_names=list(X.columns)
    ...     )
    ...     labelled = bundle.labeller()(X.head(2))
    >>> list(labelled.columns[-3:])
    ['log_proba_0', 'log_proba_1', 'log_proba_2']
    """

    path: str
    digest: str
    classes: np.ndarray
    feature_names: list[str]
    teacher_names: list[str]
    _files: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @classmethod
    def save(cls, teachers: Any, path: Any, *, classes: Any, feature_names: Any) -> Self:
        """Write fitted teachers to a folder.

        The manifest is written last, so that a folder holds the old bundle or the new one.

        Parameters
        ----------
        teachers : list of teachers or of (name, teacher)
            What `DistilledClassifier` takes as `teachers`, fitted.
        path : str or path-like
            A folder: a local path, or an fsspec URL such as "s3://bucket/teachers".
        classes : array-like of shape (n_classes,)
            The labels. Soft targets have their columns in sorted order.
        feature_names : list of str
            The columns of a table that the teachers are asked about, in the order in which they
            were fitted.

        Returns
        -------
        bundle : TeacherBundle

        Raises
        ------
        NotFittedError
            If a teacher is not fitted.
        TypeError
            If a teacher is no classifier, or the labels are no strings or numbers.
        ValueError
            If a teacher knows other classes or columns, or cannot be pickled.
        """
        classes, names = _checked_classes(classes), [str(name) for name in feature_names]
        named = name_teachers(teachers, fitted=True)
        for one in named:
            _check_columns(Teacher(one, classes), names)
        return cls._of(path, write_bundle(path, named, classes, names))

    @classmethod
    def load(cls, path: Any, expected_sha256: str | None = None) -> Self:
        """Read the manifest of a folder; the teachers are loaded when they are asked.

        Parameters
        ----------
        path : str or path-like
            What :meth:`save` was given.
        expected_sha256 : str, default=None
            The `digest` of the bundle that is meant.

        Returns
        -------
        bundle : TeacherBundle

        Raises
        ------
        FileNotFoundError
            If the folder holds no bundle.
        BadArtefactError
            If it is damaged, or is not the bundle that is meant.
        """
        return cls._of(path, read_manifest(path, expected_sha256))

    @classmethod
    def _of(cls, path: Any, manifest: Manifest) -> Self:
        """Make the bundle from its manifest."""
        digest, classes, feature_names, files = manifest
        names = [entry["name"] for entry in files]
        return cls(absolute(path), digest, classes, feature_names, names, files)

    def teachers(self) -> list[tuple[str, Any]]:
        """Load the teachers.

        Returns
        -------
        teachers : list of (name, teacher)
            As `DistilledClassifier` takes them.

        Raises
        ------
        BadArtefactError
            If a file is not the one that was saved; it is not unpickled then.
        """
        return [(entry["name"], read_teacher(self.path, entry)) for entry in self._files]

    def labeller(self, *, averaging: str = "auto", teacher_weights: Any = None) -> TeacherLabeller:
        """Return a small picklable function that labels rows, for any engine.

        Parameters
        ----------
        averaging : {"auto", "logits", "proba"}, default="auto"
            The space in which teachers are averaged, as in `DistilledClassifier`.
        teacher_weights : array-like of shape (n_teachers,), default=None
            Weights >= 0; None: equal. Rows have no labels here by which a rule could weigh.

        Returns
        -------
        labeller : TeacherLabeller
        """
        if averaging not in ("auto", "logits", "proba"):
            raise ValueError(
                f"averaging must be one of 'auto', 'logits', 'proba'; got {averaging!r}."
            )
        weights = weights_without_labels(teacher_weights, len(self._files))
        return TeacherLabeller(self.path, self.digest, averaging, tuple(weights.tolist()))


def _checked_classes(classes: Any) -> np.ndarray:
    """Return the labels as a sorted array that JSON can hold."""
    array = np.asarray(classes)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.tolist()):
        array = array.astype(str)
    if array.ndim != 1 or len(array) < 2 or array.dtype.kind not in _LABEL_KINDS:
        raise TypeError(
            f"classes must be a list of at least two strings, integers, booleans or floats; got "
            f"{classes!r}."
        )
    if len(np.unique(array)) < len(array):
        raise ValueError(f"classes must hold each label once; got {classes!r}.")
    return np.sort(array)


def _check_columns(teacher: Teacher, names: list[str]) -> None:
    """Raise where a teacher was fitted on other columns than those it will be asked about."""
    import pandas as pd

    if takes_frame(teacher.estimator):
        teacher.check_input(pd.DataFrame(columns=names))
    else:
        teacher.check_input(np.empty((0, len(names))))
