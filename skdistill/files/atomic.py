"""Writing a file so that a crash leaves the old one or the new one, whole."""

import os
import secrets
from contextlib import suppress


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
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    """Make the new name of a file survive a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
