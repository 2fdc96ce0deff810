"""The function that workers run: rows in, log-probabilities of a bundle's teachers out."""

import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import joblib
import numpy as np
from joblib import parallel_config
from threadpoolctl import threadpool_limits

from skdistill.files import BadArtefactError, UnsupportedFormatError, sha256_of
from skdistill.scale.storage import absolute, is_whole, join, open_place, read_whole, write_whole
from skdistill.student import stamp
from skdistill.tables.frames import is_frame
from skdistill.teachers.answers import SharedSetting, check_proba
from skdistill.teachers.asking import Teacher, resolve_averaging
from skdistill.teachers.naming import Named, name_teachers
from skdistill.teachers.pooling import to_proba

FORMAT = 1
_MANIFEST = "manifest.json"
# What the manifest says of a teacher.
_ENTRY = ("name", "label", "file", "sha256")


class Manifest(NamedTuple):
    """What the manifest says: its own digest, the labels, the columns, a file for each teacher."""

    digest: str
    classes: np.ndarray
    feature_names: list[str]
    files: tuple[dict[str, Any], ...]


def write_bundle(
    path: Any, named: Sequence[Named], classes: np.ndarray, feature_names: list[str]
) -> Manifest:
    """Write teachers, then the manifest: a folder holds the old bundle or the new one."""
    fs, folder = open_place(path)
    files = []
    for one in named:
        content = _pickled(one)
        sha256 = sha256_of(content)
        # Named by content, so that the files of an older bundle stay whole until it goes.
        file = f"{sha256[:16]}.joblib"
        write_whole(fs, join(folder, file), content)
        files.append({"name": one.name, "label": one.label, "file": file, "sha256": sha256})
    manifest = json.dumps(
        {
            "skdistill_bundle": FORMAT,
            "classes": {"dtype": classes.dtype.str, "values": classes.tolist()},
            "feature_names": feature_names,
            "teachers": files,
            "versions": stamp(),
        },
        indent=1,
    ).encode()
    old = _old_files(path)
    write_whole(fs, join(folder, _MANIFEST), manifest)
    for file in old - {entry["file"] for entry in files}:
        fs.rm_file(join(folder, file))
    return _parsed(path, manifest)


def read_manifest(path: Any, expected_sha256: str | None = None) -> Manifest:
    """Read the manifest of a folder, and compare its digest."""
    fs, folder = open_place(path)
    if not is_whole(fs, join(folder, _MANIFEST)):
        raise FileNotFoundError(f"There is no teacher bundle in {path}; see TeacherBundle.save.")
    manifest = _parsed(path, read_whole(fs, join(folder, _MANIFEST)))
    if expected_sha256 not in (None, manifest.digest):
        raise BadArtefactError(
            f"The teacher bundle in {path} has the digest {manifest.digest}, expected "
            f"{expected_sha256}: its teachers were changed."
        )
    return manifest


def read_teacher(path: str, entry: dict[str, Any]) -> Any:
    """Unpickle the very bytes whose digest was compared."""
    fs, folder = open_place(path)
    content = read_whole(fs, join(folder, entry["file"]))
    found = sha256_of(content)
    if found != entry["sha256"]:
        raise BadArtefactError(
            f"{entry['label']} in {path}: the SHA-256 of {entry['file']} is {found}, "
            f"expected {entry['sha256']}. It is not the file that was saved and was not loaded."
        )
    return joblib.load(io.BytesIO(content))


def _parsed(path: Any, content: bytes) -> Manifest:
    """Read the bytes of a manifest."""
    place = absolute(path)
    try:
        manifest = json.loads(content)
        version, written = manifest["skdistill_bundle"], manifest["classes"]
        if version != FORMAT:
            raise UnsupportedFormatError(
                f"The teacher bundle in {place} has format {version!r}; this release reads "
                f"{FORMAT}."
            )
        return Manifest(
            digest=sha256_of(content),
            classes=np.array(written["values"], dtype=written["dtype"]),
            feature_names=[str(name) for name in manifest["feature_names"]],
            files=tuple({key: str(entry[key]) for key in _ENTRY} for entry in manifest["teachers"]),
        )
    except BadArtefactError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BadArtefactError(f"The manifest in {place} is damaged: {error!r}.") from error


def _pickled(named: Named) -> bytes:
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


def _old_files(path: Any) -> set[str]:
    """Return the teacher files of the bundle that stands in a folder, if one does."""
    try:
        return {entry["file"] for entry in read_manifest(path).files}
    except (FileNotFoundError, BadArtefactError):
        return set()


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
        columns = log_proba_columns(_load(self.path, self.digest).classes)
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
        bundle = _load(self.path, self.digest)
        frame, array = _both_forms(rows, bundle.feature_names)
        space = resolve_averaging(self.averaging, bundle.named)
        mean: Any = 0.0
        with _ONE_THREAD.use(), parallel_config(backend="sequential"):
            for teacher, weight in zip(bundle.teachers, self.teacher_weights, strict=True):
                if weight > 0:
                    X = frame if takes_frame(teacher.estimator) else array
                    mean = mean + weight * teacher.ask(X, space, first_row=first_row)
        proba = check_proba(to_proba(mean, space), "the mean of the teachers", first_row)
        with np.errstate(divide="ignore"):
            return np.log(proba).astype(np.float32)


class _Loaded(NamedTuple):
    """A bundle whose teachers are loaded."""

    classes: np.ndarray
    feature_names: list[str]
    named: Sequence[Named]
    teachers: Sequence[Teacher]


_loading = threading.Lock()


def _load(path: str, digest: str) -> _Loaded:
    """Return the teachers of a bundle, loaded once a process."""
    with _loading:
        return _load_once(path, digest)


@lru_cache(maxsize=1)
def _load_once(path: str, digest: str) -> _Loaded:
    _, classes, feature_names, files = read_manifest(path, digest)
    named = name_teachers([(entry["name"], read_teacher(path, entry)) for entry in files])
    return _Loaded(classes, feature_names, named, [Teacher(one, classes) for one in named])


def _both_forms(rows: Any, names: list[str]) -> tuple[Any, Any]:
    """Return the features as a DataFrame and as an array: a teacher gets what it was fitted on."""
    import pandas as pd

    if is_frame(rows):
        missing = [name for name in names if name not in rows.columns]
        if missing:
            raise ValueError(f"The rows lack columns that the teachers were fitted on: {missing}.")
        frame = rows[names]
        return frame, frame.to_numpy()
    array = np.asarray(rows)
    if array.ndim != 2 or array.shape[1] != len(names):
        raise ValueError(f"rows must have shape (n, {len(names)}), got {array.shape}.")
    return pd.DataFrame(array, columns=names), array


def takes_frame(estimator: Any) -> bool:
    """Tell whether a teacher was fitted on a DataFrame, or does not say on what."""
    if not hasattr(estimator, "n_features_in_"):
        return True
    return getattr(estimator, "feature_names_in_", None) is not None


def _prepare_one_thread() -> tuple[Callable[[], object], Callable[[], object]]:
    # Without a limit yet: what is to be restored.
    before = threadpool_limits(None)
    return lambda: threadpool_limits(1), before.restore_original_limits


# Bits may depend on the number of threads that numerical libraries use.
_ONE_THREAD = SharedSetting(_prepare_one_thread)
