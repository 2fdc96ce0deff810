"""The files of a teacher bundle: joblib files, and a manifest with their digests.

A joblib file is code that runs when it is loaded, so nothing is unpickled before its digest is
compared.
"""

import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np

from skdistill.files import BadArtefactError, UnsupportedFormatError, sha256_of
from skdistill.scale.storage import absolute, is_whole, join, open_place, read_whole, write_whole
from skdistill.student import stamp
from skdistill.teachers.naming import Named

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
