"""What all tests share: profiles for hypothesis, and a fresh process to run code in."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable

import hypothesis
import pytest

# Figures are drawn, never shown.
os.environ.setdefault("MPLBACKEND", "agg")
# The tables are small: threads would wait for each other, and for those of the other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure, and a test that passes today passes tomorrow.
hypothesis.settings.register_profile("skdistill", deadline=None, derandomize=True)
_MANY = {"deadline": None, "max_examples": 1_000, "suppress_health_check": hypothesis.HealthCheck}
hypothesis.settings.register_profile("thorough", derandomize=True, **_MANY)
# Other examples each time: a search for what nobody thought of.
hypothesis.settings.register_profile("search", **_MANY)
hypothesis.settings.load_profile("skdistill")

_FORBID = """
import sys

class _Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} must not be imported here")

sys.meta_path.insert(0, _Forbidden())
"""


@pytest.fixture(scope="session")
def fresh_process() -> Callable[..., str]:
    """Run code in a new interpreter, where importing a forbidden package raises."""

    def run(code: str, *arguments: object, forbid: tuple[str, ...] = (), timeout: int = 120) -> str:
        code = _FORBID.format(names=forbid) + textwrap.dedent(code)
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run
