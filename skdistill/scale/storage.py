"""Files on any file system, local or remote, that are whole or not there."""

import glob
import json
import os
from contextlib import suppress
from posixpath import commonpath, dirname
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from skdistill.files import write_atomically

# A write that another driver cleaned away as a leftover is made again, so many times at most.
_ATTEMPTS = 10


def open_place(path: Any) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path or URL, and the path on it."""
    fs, place = fsspec.core.url_to_fs(str(path))
    return fs, place.rstrip("/")


def absolute(path: Any) -> str:
    """Return a path that means the same in a process that was started in another folder."""
    fs, place = open_place(path)
    return place if isinstance(fs, LocalFileSystem) else str(path).rstrip("/")


def find_files(source: Any, suffix: str) -> tuple[AbstractFileSystem, list[str], list[str]]:
    """Find the files that a path, folder, glob or list of them names.

    A folder stands for all files below it that end in `suffix`; names that begin with a dot or an
    underscore are left out, as engines keep unfinished files there. Returned are the file system,
    the sorted paths, and the same relative to the folder they have in common.
    """
    sources = list(source) if isinstance(source, list | tuple) else [source]
    strange = [one for one in sources if not isinstance(one, str | os.PathLike)]
    if strange:
        raise TypeError(
            f"source must be a path, a glob, or a list of them; got {type(strange[0]).__name__}."
        )
    if not sources:
        raise FileNotFoundError("source is an empty list; name at least one file.")
    found: set[str] = set()
    places = [open_place(one) for one in sources]
    fs = places[0][0]
    for one, (own, place) in zip(sources, places, strict=True):
        if type(own) is not type(fs):
            raise ValueError(
                f"source must name files of one file system: {sources[0]!r} and {one!r} are on two."
            )
        paths = _files_at(fs, place, suffix)
        if not paths:
            raise FileNotFoundError(f"source names no file that ends in {suffix}: {one!r}.")
        found.update(paths)
    paths = sorted(found)
    alone = len(sources) == 1 and fs.isdir(places[0][1])
    root = places[0][1] if alone else commonpath([dirname(p) for p in paths])
    return fs, paths, [p[len(root) :].lstrip("/") for p in paths]


def _files_at(fs: AbstractFileSystem, place: str, suffix: str) -> list[str]:
    """Return the files that a path or glob names; folders, those of a glob too, with their own."""
    if fs.isdir(place):
        return [p for p in fs.find(place) if p.endswith(suffix) and not _hidden(p, place)]
    # A name may hold the signs of a glob itself.
    if fs.exists(place):
        return [place]
    if not any(sign in place for sign in "*?["):
        return []
    paths = []
    for path, details in fs.glob(place, detail=True).items():
        if _hidden(path.rpartition("/")[2], ""):
            continue
        inside = details["type"] == "directory"
        # "**" names folders beside the files in them.
        paths += _files_at(fs, path, suffix) if inside and path.endswith(suffix) else []
        paths += [] if inside else [path]
    return paths


def _hidden(path: str, folder: str) -> bool:
    """Tell whether a file, or a folder on the way to it, has a name that engines keep."""
    return any(name[:1] in ("_", ".") for name in path[len(folder) :].split("/"))


def write_whole(fs: AbstractFileSystem, path: str, content: bytes) -> None:
    """Write a file such that a reader that asks `is_whole` never takes a part for the whole.

    On a local file system it is written beside and renamed. Elsewhere, where renaming is copying
    or does not exist, a second file with the suffix ".done" says when, and how long, it is whole.
    """
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    if isinstance(fs, LocalFileSystem):
        _write_beside(path, content)
        return
    marker = f"{path}.done"
    if fs.exists(marker):
        fs.rm_file(marker)
    fs.pipe_file(path, content)
    fs.pipe_file(marker, json.dumps({"size": len(content)}).encode())


def _write_beside(path: str, content: bytes) -> None:
    """Write and rename; again where another driver took the unnamed file for a leftover."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            return write_atomically(path, content)
        except FileNotFoundError:
            if not attempts_left:
                raise


def is_whole(fs: AbstractFileSystem, path: str) -> bool:
    """Tell whether a file was written to its end."""
    if isinstance(fs, LocalFileSystem):
        return fs.exists(path)
    marker = f"{path}.done"
    if not fs.exists(path) or not fs.exists(marker):
        return False
    try:
        return bool(json.loads(fs.cat_file(marker))["size"] == fs.size(path))
    except (ValueError, KeyError, TypeError):
        return False


def is_newer(fs: AbstractFileSystem, path: str, other_fs: AbstractFileSystem, other: str) -> bool:
    """Tell whether a file was changed after another; False where a store keeps no times."""
    try:
        return bool(fs.modified(path) > other_fs.modified(other))
    except NotImplementedError:
        return False


def clear_leftovers(fs: AbstractFileSystem, path: str) -> None:
    """Remove what writers that were killed left beside a file."""
    if not isinstance(fs, LocalFileSystem):
        return
    for leftover in fs.glob(f"{glob.escape(path)}.{'[0-9a-f]' * 16}.tmp"):
        with suppress(FileNotFoundError):  # another driver was faster
            fs.rm_file(leftover)
