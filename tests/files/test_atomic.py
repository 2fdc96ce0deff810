"""Writing a file: whole after a crash, and nothing beside it."""

import os
import stat

import numpy as np
import pytest
from students_zoo import make_student

from skdistill import StudentClassifier
from skdistill.files import write_atomically


def test_save_replaces_a_file_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "student"
    for seed in (0, 1):
        student = make_student(seed=seed)
        student.save(path)
        loaded = StudentClassifier.load(path)
        np.testing.assert_array_equal(loaded.layers_[0].arrays[0], student.layers_[0].arrays[0])
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_permissions_follow_the_umask(tmp_path):
    target = tmp_path / "folder" / "student"
    target.parent.mkdir()
    (tmp_path / "link").symlink_to(target)
    old = os.umask(0o027)
    try:
        make_student().save(tmp_path / "link")
    finally:
        os.umask(old)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_failed_rename_leaves_the_old_file_and_nothing_beside(tmp_path):
    (tmp_path / "student").mkdir()
    with pytest.raises(OSError, match="student"):
        write_atomically(tmp_path / "student", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["student"]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, fresh_process):
    path = tmp_path / "student"
    make_student().save(path)
    old = path.read_bytes()
    code = """
    import resource
    from skdistill import StudentClassifier
    student = StudentClassifier.load(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        student.save(sys.argv[1])
    except OSError as error:
        print(type(error).__name__)
    """
    assert fresh_process(code, path).split() == ["OSError"]
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
