"""README's code runs, and its commands are the ones that CI runs."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"<!-- command: (\S+) -->\n```bash\n(.*?)\n```\n", README, re.DOTALL))


@pytest.mark.slow
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_ci_runs_both_commands_and_no_other():
    assert list(COMMANDS) == ["main-job", "tests"]
    assert dict(re.findall(r"^(\w+)=\$\(readme (\S+)\)$", CI, re.MULTILINE)) == {
        "main_job": "main-job",
        "tests": "tests",
    }
    assert re.findall(r'bash -c "\$(\w+)"$', CI, re.MULTILINE) == ["main_job", "tests"]


@pytest.mark.parametrize("name", COMMANDS)
def test_ci_takes_the_command_as_it_stands(name):
    (function,) = re.findall(r"^readme\(\) .*$", CI, re.MULTILINE)
    process = subprocess.run(
        ["bash", "-c", f"{function}\nreadme {name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == COMMANDS[name] + "\n"
    assert "\n" not in COMMANDS[name]
