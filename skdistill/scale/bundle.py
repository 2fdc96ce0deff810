"""TeacherBundle: fitted teachers as files that workers can trust, and the function they run."""

import io
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import joblib
import numpy as np

from skdistill.files import BadArtefactError, UnsupportedFormatError, sha256_of
from skdistill.scale.storage import absolute, is_whole, open_place, write_whole
from skdistill.student import stamp
from skdistill.tables import is_frame
from skdistill.teachers.answers import check_proba
from skdistill.teachers.asking import Teacher, resolve_averaging
from skdistill.teachers.naming import Entry, name_teachers
from skdistill.teachers.pooling import to_proba, weights_without_labels
from skdistill.training.threads import one_thread

FORMAT, _MANIFEST = 1, "manifest.json"
# What the manifest says of a teacher.
_ENTRY = ("name", "label", "file", "sha256")


def log_proba_columns(classes: Any) -> list[str]:
    """Return the names of the columns that hold the log-probabilities of the classes."""
    return [f"log_proba_{label}" for label in np.asarray(classes).tolist()]


@dataclass(frozen=True)
class TeacherLabeller:
    """Asks the teachers of a bundle for log-probabilities; made by ``TeacherBundle.labeller``.

    It holds a path and a digest, so that it travels to workers as a few hundred bytes. The
    teachers are loaded from their files once a process, checked before they are unpickled, and
    asked with one thread: workers are what runs side by side. The answer to a row depends on the
    row and the rows it is asked with, never on the worker.

    Parameters
    ----------
    path : str
        The folder of the bundle.
    digest : str
        Its digest.
    averaging : {"auto", "logits", "proba"}
        The space in which teachers are averaged.
    teacher_weights : tuple of float
        One for each teacher; they sum to 1.
    """

    path: str
    digest: str
    averaging: str
    teacher_weights: tuple[float, ...]

    def __call__(self, rows: Any) -> Any:
        """Return a DataFrame with one column more for each class.

        Parameters
        ----------
        rows : DataFrame of shape (n, n_columns)
            Rows that have the bundle's features among their columns.

        Returns
        -------
        labelled : DataFrame of shape (n, n_columns + n_classes)
            The same rows and, as float32, ``log_proba_<class>``; -inf for probability 0.
        """
        log_proba = self.log_proba(rows)
        columns = log_proba_columns(_load(self.path, self.digest)[0].classes)
        return rows.assign(**dict(zip(columns, log_proba.T, strict=True)))

    def log_proba(self, rows: Any, *, first_row: int = 0) -> np.ndarray:
        """Return the logarithm of the teachers' mean probability.

        Parameters
        ----------
        rows : DataFrame, or array-like of shape (n, n_features)
            A DataFrame has the bundle's features among its columns, an array has them in order.
        first_row : int, default=0
            The number of the first row, for errors.

        Returns
        -------
        log_proba : ndarray of shape (n, n_classes), float32
            -inf for probability 0.

        Raises
        ------
        BadArtefactError
            If the teachers on disk are not those that were saved.
        ValueError
            If a column is missing, or a teacher's answer is no probability.
        """
        with _loading:
            bundle, named, teachers = _load(self.path, self.digest)
        frame, array = _both_forms(rows, bundle.feature_names)
        space = resolve_averaging(self.averaging, named)
        mean: Any = 0.0
        # Bits may depend on the number of threads that numerical libraries use.
        with one_thread(), joblib.parallel_config(backend="sequential"):
            for teacher, weight in zip(teachers, self.teacher_weights, strict=True):
                if weight > 0:
                    X = frame if _takes_frame(teacher.estimator) else array
                    mean = mean + weight * teacher.ask(X, space, first_row=first_row)
        proba = check_proba(to_proba(mean, space), "the mean of the teachers", first_row)
        with np.errstate(divide="ignore"):
            return np.log(proba).astype(np.float32)


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
    _files: tuple[tuple[str, ...], ...] = field(default=(), repr=False)

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
        frame, array = _both_forms(np.empty((0, len(names))), names)
        for one in named:
            Teacher(one, classes, frame if _takes_frame(one.estimator) else array)
        fs, folder = open_place(path)
        files = []
        for one in named:
            content = _pickled(one)
            sha256 = sha256_of(content)
            # Named by content, so that the files of an older bundle stay whole until it goes.
            file = f"{sha256[:16]}.joblib"
            write_whole(fs, f"{folder}/{file}", content)
            files.append({"name": one.name, "label": one.label, "file": file, "sha256": sha256})
        manifest = {
            "skdistill_bundle": FORMAT,
            "classes": {"dtype": classes.dtype.str, "values": classes.tolist()},
            "feature_names": names,
            "teachers": files,
            "versions": stamp(),
        }
        content = json.dumps(manifest, indent=1).encode()
        old: set[str] = set()
        with suppress(FileNotFoundError, BadArtefactError):
            old = {file for _, _, file, _ in cls.load(path)._files}
        write_whole(fs, f"{folder}/{_MANIFEST}", content)
        for file in old - {entry["file"] for entry in files}:
            fs.rm_file(f"{folder}/{file}")
        return cls._of(path, content)

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
        fs, folder = open_place(path)
        if not is_whole(fs, f"{folder}/{_MANIFEST}"):
            raise FileNotFoundError(
                f"There is no teacher bundle in {path}; see TeacherBundle.save."
            )
        bundle = cls._of(path, fs.cat_file(f"{folder}/{_MANIFEST}"))
        if expected_sha256 not in (None, bundle.digest):
            raise BadArtefactError(
                f"The teacher bundle in {path} has the digest {bundle.digest}, expected "
                f"{expected_sha256}: its teachers were changed."
            )
        return bundle

    @classmethod
    def _of(cls, path: Any, content: bytes) -> Self:
        """Make the bundle from the bytes of its manifest."""
        place = absolute(path)
        try:
            manifest = json.loads(content)
            version, labels = manifest["skdistill_bundle"], manifest["classes"]
            if version != FORMAT:
                raise UnsupportedFormatError(
                    f"The teacher bundle in {place} has format {version!r}; this release reads "
                    f"{FORMAT}."
                )
            files = tuple(tuple(str(one[key]) for key in _ENTRY) for one in manifest["teachers"])
            return cls(
                path=place,
                digest=sha256_of(content),
                classes=np.array(labels["values"], dtype=labels["dtype"]),
                feature_names=[str(name) for name in manifest["feature_names"]],
                teacher_names=[name for name, *_ in files],
                _files=files,
            )
        except BadArtefactError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise BadArtefactError(f"The manifest in {place} is damaged: {error!r}.") from error

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
        fs, folder = open_place(self.path)
        teachers = []
        for name, label, file, sha256 in self._files:
            content = fs.cat_file(f"{folder}/{file}")
            if (found := sha256_of(content)) != sha256:
                raise BadArtefactError(
                    f"{label} in {self.path}: the SHA-256 of {file} is {found}, expected "
                    f"{sha256}. It is not the file that was saved and was not loaded."
                )
            # The very bytes whose digest was compared.
            teachers.append((name, joblib.load(io.BytesIO(content))))
        return teachers

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
    if array.ndim != 1 or len(array) < 2 or array.dtype.kind not in "biufU":
        raise TypeError(
            f"classes must be a list of at least two strings, integers, booleans or floats; got "
            f"{classes!r}."
        )
    if len(np.unique(array)) < len(array):
        raise ValueError(f"classes must hold each label once; got {classes!r}.")
    return np.sort(array)


def _pickled(named: Entry) -> bytes:
    """Return a teacher as the bytes of a joblib file."""
    buffer = io.BytesIO()
    try:
        joblib.dump(named.estimator, buffer)
    except Exception as error:
        raise ValueError(
            f"{named.label} cannot be pickled: {type(error).__name__}: {error}. Functions must be "
            "importable by name: define them in a module, not in the script or as a lambda."
        ) from error
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _load(path: str, digest: str) -> tuple[TeacherBundle, Sequence[Entry], Sequence[Teacher]]:
    """Return the teachers of a bundle, loaded once a process."""
    bundle = TeacherBundle.load(path, digest)
    named = name_teachers(bundle.teachers())
    return bundle, named, [Teacher(one, bundle.classes) for one in named]


def _both_forms(rows: Any, names: list[str]) -> tuple[Any, Any]:
    """Return the features as a DataFrame and as an array: a teacher gets what it was fitted on."""
    import pandas as pd

    if is_frame(rows):
        if missing := [name for name in names if name not in rows.columns]:
            raise ValueError(f"The rows lack columns that the teachers were fitted on: {missing}.")
        return rows[names], rows[names].to_numpy()
    array = np.asarray(rows)
    if array.ndim != 2 or array.shape[1] != len(names):
        raise ValueError(f"rows must have shape (n, {len(names)}), got {array.shape}.")
    return pd.DataFrame(array, columns=names), array


def _takes_frame(estimator: Any) -> bool:
    """Tell whether a teacher was fitted on a DataFrame, or does not say on what."""
    names = getattr(estimator, "feature_names_in_", None)
    return names is not None or not hasattr(estimator, "n_features_in_")


_loading = threading.Lock()
