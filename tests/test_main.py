"""The command line: what a file says, or why it is refused."""

import hashlib
import json
import subprocess
import sys

import pytest
from students_zoo import make_student

from skdistill.__main__ import main


@pytest.fixture
def saved(tmp_path):
    make_student("mixed", embedding=True, labels="str").save(tmp_path / "student")
    return tmp_path / "student"


def test_inspect_prints_the_manifest_as_json(saved, capsys):
    assert main(["inspect", str(saved)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["file"]["bytes"] == saved.stat().st_size
    assert shown["file"]["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert shown["manifest"]["classes"] == {"dtype": "str", "values": ["no", "so-so", "yes"]}
    assert shown["manifest"]["feature_names"][0] == "age"
    assert shown["manifest"]["format"] == 1
    assert shown["tensors"]["layers.0.bias"] == "float32 [8]"


def test_inspect_checks_the_digest_of_the_file(saved, capsys):
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert main(["inspect", str(saved), "--sha256", digest]) == 0
    assert main(["inspect", str(saved), "--sha256", "0" * 64]) == 1
    assert "it is not the file you meant" in capsys.readouterr().err


def test_inspect_refuses_a_bad_file_in_words(saved, tmp_path, capsys):
    damaged = bytearray(saved.read_bytes())
    damaged[-1] ^= 1
    saved.write_bytes(damaged)
    assert main(["inspect", str(saved)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        f"{saved}: Not a saved student: its digest does not match, so some byte was changed.\n"
    )
    assert main(["inspect", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "inspect" in capsys.readouterr().err


def test_the_module_runs_and_loads_neither_torch_nor_sklearn(saved, fresh_process):
    code = """
    from skdistill.__main__ import main
    assert main(["inspect", sys.argv[1]]) == 0
    """
    assert '"format": 1' in fresh_process(code, saved, forbid=("torch", "sklearn", "scipy"))
    command = [sys.executable, "-m", "skdistill", "inspect", str(saved.parent)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 1
    assert "directory" in process.stderr
