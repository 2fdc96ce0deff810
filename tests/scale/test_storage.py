"""Files that are whole or not there, on local and remote file systems."""

import threading
import time
from pathlib import Path

import fsspec
import pytest

from skdistill.scale import storage as _storage
from skdistill.scale.storage import (
    absolute,
    clear_leftovers,
    find_files,
    is_newer,
    is_whole,
    open_place,
    write_whole,
)


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_what_is_written_is_whole(place):
    fs, folder = open_place(place)
    path = f"{folder}/deep/down/file.bin"
    assert not is_whole(fs, path)
    for content in (b"one", b"another", b""):
        write_whole(fs, path, content)
        assert is_whole(fs, path)
        assert fs.cat_file(path) == content


def test_a_local_file_stands_alone(tmp_path):
    fs, folder = open_place(tmp_path)
    write_whole(fs, f"{folder}/file.bin", b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("marker", [None, b"", b"[]", b'{"size": 6}'])
def test_without_its_marker_a_remote_file_is_not_whole(marker):
    fs, path = open_place("memory://markers/file.bin")
    write_whole(fs, path, b"content")
    fs.rm_file(f"{path}.done")
    if marker is not None:
        fs.pipe_file(f"{path}.done", marker)
    assert not is_whole(fs, path)


def test_the_file_that_was_changed_last_is_newer(place, tmp_path):
    fs, folder = open_place(place)
    paths = [f"{folder}/{name}" for name in ("old", "new")]
    for path in paths:
        write_whole(fs, path, b"")
        time.sleep(0.02)
    assert is_newer(fs, paths[1], fs, paths[0])
    assert not is_newer(fs, paths[0], fs, paths[1])
    assert not is_newer(fs, paths[0], fs, paths[0])
    timeless = fsspec.filesystem("data")
    assert not is_newer(timeless, "data:,", fs, paths[0])


def test_leftovers_of_one_file_are_cleared(tmp_path):
    leftover = tmp_path / "a[1].parquet.0123456789abcdef.tmp"
    others = [tmp_path / name for name in ("a[1].parquet", "a1.parquet.0123456789abcdef.tmp")]
    for path in [leftover, *others]:
        path.touch()
    fs, folder = open_place(tmp_path)
    clear_leftovers(fs, f"{folder}/a[1].parquet")
    assert not leftover.exists()
    assert all(path.exists() for path in others)
    clear_leftovers(*open_place("memory://x/file"))


def test_a_write_survives_a_cleaner_that_takes_it_for_a_leftover(tmp_path, monkeypatch):
    fs, folder = open_place(tmp_path)
    path = f"{folder}/file.bin"
    real, n_lost = _storage.write_atomically, []

    def lose_twice(path, content):
        if len(n_lost) < 2:
            n_lost.append(path)
            raise FileNotFoundError(path)
        real(path, content)

    monkeypatch.setattr(_storage, "write_atomically", lose_twice)
    write_whole(fs, path, b"content")
    assert Path(path).read_bytes() == b"content"
    assert len(n_lost) == 2


def test_writers_and_cleaners_side_by_side_leave_one_whole_file(tmp_path):
    fs, folder = open_place(tmp_path)
    path = f"{folder}/file.bin"
    done = threading.Event()

    def clean():
        while not done.is_set():
            clear_leftovers(fs, path)
            done.wait(0.1)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    writers = [
        threading.Thread(target=lambda: [write_whole(fs, path, b"x" * 1000) for _ in range(20)])
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    cleaner.join()
    assert Path(path).read_bytes() == b"x" * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_files_are_found_by_folder_glob_path_and_list(tmp_path):
    hidden = ("_temporary/0/5.parquet", ".6.parquet")
    for name in ("a/1.parquet", "a/b/2.parquet", "3.parquet", "a/4.txt", *hidden):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def names(source):
        return find_files(source, ".parquet")[2]

    assert names(tmp_path) == ["3.parquet", "a/1.parquet", "a/b/2.parquet"]
    assert names(str(tmp_path / "*.parquet")) == ["3.parquet"]
    assert names(tmp_path / "3.parquet") == ["3.parquet"]
    assert names(str(tmp_path / "a/**/*.parquet")) == ["1.parquet", "b/2.parquet"]
    assert names([tmp_path / "a/1.parquet", tmp_path / "3.parquet"]) == ["3.parquet", "a/1.parquet"]
    for nothing in (tmp_path / "none", [], str(tmp_path / "*.csv")):
        with pytest.raises(FileNotFoundError, match="source"):
            names(nothing)
    with pytest.raises(TypeError, match=r"source must be a path, a glob, or a list .* got int"):
        names([tmp_path, 7])


def test_folders_that_a_glob_names_stand_for_their_files(tmp_path):
    for name in ("a.parquet/part-0.parquet", "b.parquet/part-0.parquet", "b.parquet/_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = ["a.parquet/part-0.parquet", "b.parquet/part-0.parquet"]
    for pattern in ("*.parquet", "**/*.parquet"):
        assert find_files(str(tmp_path / pattern), ".parquet")[2] == expected


def test_a_name_may_hold_the_signs_of_a_glob(tmp_path):
    folder = tmp_path / "[2026]"
    folder.mkdir()
    (folder / "a*.parquet").touch()
    assert find_files(folder, ".parquet")[2] == ["a*.parquet"]
    assert find_files(folder / "a*.parquet", ".parquet")[2] == ["a*.parquet"]


def test_files_are_on_one_file_system(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ValueError, match=r"one file system: .*a\.parquet.* and 'memory://b"):
        find_files([tmp_path / "a.parquet", "memory://b.parquet"], ".parquet")


def test_local_paths_mean_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("soft/") == str(tmp_path / "soft")
    assert absolute("memory://soft/") == "memory://soft"
