"""The examples run as scripts and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.slow


def run(name):
    """Run an example in a process of its own and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_first_student():
    printed = run("plot_1_first_student.py")
    assert printed.count("distilled student") == 2
    assert printed.count("log-loss gap from the plain student") == 2
    assert "loaded without torch: 899 equal predictions" in printed


def test_the_reference_experiment_is_reproduced():
    printed = run("plot_2_reference_experiment.py")
    assert "a teacher has 46,658 parameters, the student 3,490" in printed
    assert "the ensemble is 160x its size" in printed
    accuracy = {
        name: float(value)
        for name, value in re.findall(
            r"^(.*?) +[\d,]+ parameters +accuracy ([\d.]+)%", printed, re.M
        )
    }
    assert accuracy["distilled student"] >= 97.4
    assert accuracy["distilled student"] >= accuracy["plain student"] + 0.3


def test_a_report_says_whether_it_was_worth_it():
    printed = run("plot_9_was_it_worth_it.py")
    assert "2,000 held-out rows, 2 classes" in printed
    assert re.search(r"accuracy +better than the plain student, \+0\.0\d+ \[\+", printed)
    assert re.search(r"log-loss +better than the plain student, \+0\.0\d+ \[\+", printed)
