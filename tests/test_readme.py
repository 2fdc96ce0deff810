"""README's code runs, and its commands are the ones that CI runs."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"<!-- command: (\S+) -->\n```bash\n(.*)\n```\n", README))


@pytest.mark.slow
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_ci_begins_with_both_commands():
    """Its lines up to the first that runs one, with bash saying what it would run."""
    setup, _, steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8").partition("set -x\n")
    script = setup + 'bash() { echo "$2"; }\n' + "\n".join(steps.splitlines()[:2])
    script = script.replace("${BASH_SOURCE[0]}", ".ci/run")
    said = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert list(COMMANDS) == ["main-job", "tests"]
    assert said.stdout.splitlines() == list(COMMANDS.values())
