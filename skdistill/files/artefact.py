"""The container of a saved student: one safetensors file with a manifest and a digest.

The file holds arrays and, under one key of its metadata, one JSON string: the manifest. Nothing in
it is executable. safetensors itself has no checksum, so the manifest carries one.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

FORMAT = 1

# Far above any student, far below what could exhaust a machine before it is refused.
_LONGEST_HEADER = 1 << 23
_LARGEST_FILE = 1 << 30
_DTYPES = ("F32", "F64")
_KEY = "skdistill"


class BadArtefactError(ValueError):
    """A saved student is damaged, or no saved student at all.

    Nothing was loaded. Take the file again from where it came from.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skdistill import StudentClassifier
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "iris.safetensors"
    ...     n_bytes = path.write_bytes(b"no student")
    ...     StudentClassifier.load(path)
    Traceback (most recent call last):
        ...
    skdistill.files.artefact.BadArtefactError: Not a saved student: its header length is wrong.
    """


class UnsupportedFormatError(BadArtefactError):
    """A saved student has a newer format than this release reads: upgrade skdistill."""


def bad(reason: str) -> NoReturn:
    """Refuse a file."""
    raise BadArtefactError(f"Not a saved student: {reason}.")


def require(truth: bool, reason: str) -> None:
    """Refuse a file where something does not hold."""
    if not truth:
        bad(reason)


def encode(manifest: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of the file: the manifest is stamped with format and digest."""
    from safetensors.numpy import save

    tensors = {name: np.array(tensors[name], order="C") for name in sorted(tensors)}
    stamped = {"format": FORMAT, **manifest}
    content = save(tensors, {_KEY: _canonical({**stamped, "sha256": _digest(stamped, tensors)})})
    header = int.from_bytes(content[:8], "little")
    if header > _LONGEST_HEADER or len(content) > _LARGEST_FILE:
        raise ValueError(
            f"The student is too large for one file: {header} bytes of description (at most "
            f"{_LONGEST_HEADER}), {len(content)} bytes in all (at most {_LARGEST_FILE}). Columns "
            "with very many categories are the usual cause; group the rare ones before fit."
        )
    return content


def decode(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the stamped manifest and the finite tensors of a file, or refuse it."""
    try:
        header, manifest = _header(content)
        tensors = _tensors(header, content)
    except BadArtefactError:
        raise
    except (ValueError, RecursionError) as error:
        bad(f"its header cannot be read ({error})")
    claimed = {key: value for key, value in manifest.items() if key != "sha256"}
    right = manifest.get("sha256") == _digest(claimed, tensors)
    require(right, "its digest does not match, so some byte was changed")
    for name, tensor in tensors.items():
        require(bool(np.isfinite(tensor).all()), f"tensor {name} holds NaN or inf")
    return manifest, tensors


def read_bytes(path: str | os.PathLike[str], expected_sha256: str | None = None) -> bytes:
    """Read a whole file that is no larger than a student's, and compare its digest."""
    expected = expected_sha256.strip().lower() if isinstance(expected_sha256, str) else ""
    if expected_sha256 is not None and not re.fullmatch("[0-9a-f]{64}", expected):
        raise ValueError(
            "expected_sha256 must be 64 hexadecimal digits, as sha256sum prints, got "
            f"{expected_sha256!r}."
        )
    with open(path, "rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    require(len(content) <= _LARGEST_FILE, f"it is larger than {_LARGEST_FILE} bytes")
    if expected and (found := sha256_of(content)) != expected:
        raise BadArtefactError(
            f"The file's SHA-256 is {found}, expected {expected}: it is not the file you meant."
        )
    return content


def sha256_of(content: bytes) -> str:
    """Return the digest of a whole file, as ``sha256sum`` prints it."""
    return hashlib.sha256(content).hexdigest()


def _canonical(value: Any) -> str:
    """Write JSON in the one way that equal values share."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)


def _digest(manifest: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 over manifest and tensors."""
    shapes = [[name, tensors[name].dtype.name, tensors[name].shape] for name in sorted(tensors)]
    digest = hashlib.sha256(_canonical([manifest, shapes]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, refusing a repeated key: readers differ in which one they take."""
    built: dict[str, Any] = {}
    for key, value in pairs:
        require(key not in built, f"its header repeats the key {key[:80]!r}")
        built[key] = value
    return built


def _parse(text: str) -> Any:
    """Read JSON strictly, without the NaN and Infinity that Python reads."""
    return json.loads(
        text,
        object_pairs_hook=_unique,
        parse_constant=lambda name: bad(f"its header holds {name}"),
    )


def _header(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the header says of tensors, and the manifest, whose format version is checked."""
    length = int.from_bytes(content[:8], "little")
    longest = min(_LONGEST_HEADER, len(content) - 8)
    require(2 <= length <= longest, "its header length is wrong")
    header = _parse(content[8 : 8 + length].decode())
    require(isinstance(header, dict), "its header is no JSON object")
    metadata = header.pop("__metadata__", None)
    ours = isinstance(metadata, dict) and set(metadata) == {_KEY}
    require(ours, "it is no safetensors file of skdistill")
    require(isinstance(metadata[_KEY], str), "its manifest is no text")
    manifest = _parse(metadata[_KEY])
    version: Any = manifest.get("format") if isinstance(manifest, dict) else None
    require(type(version) is int, "its manifest has no format version")
    if version > FORMAT:
        raise UnsupportedFormatError(
            f"The file has format {version}, and this release of skdistill reads up to {FORMAT}. "
            "Upgrade skdistill to load it."
        )
    require(version >= 1, f"it has the unknown format {version}")
    return header, manifest


def _tensors(header: dict[str, Any], content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays behind the header."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    for name, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        right = isinstance(dtype, str) and dtype in _DTYPES
        require(right, f"tensor {name[:80]!r} has dtype {dtype!r:.80} and not float32 or float64")
    try:
        tensors = load(content)
    except SafetensorError as error:
        bad(f"safetensors refuses it ({error})")
    require(set(tensors) == set(header), "its tensors are not those of its header")
    return {name: tensors[name] for name in sorted(tensors)}


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write beside the file, flush to disk and rename; a symbolic link is followed."""
    target = os.path.realpath(path)
    beside = f"{target}.{secrets.token_hex(8)}.tmp"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    # An interrupt may come between any two lines, so the file is made where it would be removed.
    try:
        # Unlike tempfile, open gives the file the permissions that the user's umask asks for.
        with os.fdopen(os.open(beside, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    # So that the new name survives a power cut, where the system can do that.
    if os.name == "posix":
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
