"""How long, and how much memory, until a student's first answer in a fresh process.

    python benchmarks/startup.py --json startup.json
    python benchmarks/startup.py --processes 11 --hide pandas pyarrow

Contenders: `import sklearn.base` and nothing else, a student from a safetensors file, a
DistilledClassifier from a pickle, and the first of these two with torch and skorch imported, which
is what a model costs that is served as the network it was trained as. scikit-learn imports pandas
where it is installed; `--hide` keeps such packages from all contenders alike.

Seconds run from the start of the interpreter to the first answer; processor seconds, those the
process itself worked, differ less on a busy machine; megabytes are the peak of the resident set.
The contenders run in turn, so that other work on the machine hits all alike; ratios are taken
within a turn, and every figure is the median over turns with the lowest and highest behind it.
Needs Linux, which tells the peak of one process.
"""

import argparse
import json
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from skdistill import DistilledClassifier

PACKAGES = ("skdistill", "numpy", "scikit-learn", "torch", "skorch", "safetensors")
BASE, SAFETENSORS = "import sklearn.base", "student, safetensors"
PICKLE, TORCH = "student, pickle", "student, safetensors, after torch and skorch"
FROM_SAFETENSORS = """
from skdistill import StudentClassifier
student = StudentClassifier.load("student.safetensors")
"""
FROM_PICKLE = """
import pickle
with open("student.pickle", "rb") as file:
    student = pickle.load(file)
"""
PREDICT = """
import numpy as np
assert student.predict_proba(np.load("row.npy")).shape == (1, 2)
"""
CODE = {
    BASE: "import sklearn.base\n",
    SAFETENSORS: FROM_SAFETENSORS + PREDICT,
    PICKLE: FROM_PICKLE + PREDICT,
    TORCH: "import torch, skorch\n" + FROM_SAFETENSORS + PREDICT,
}
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Hidden())
"""
# The peak of getrusage would count what the parent held when it started the child.
REPORT = """
import time
spent = time.process_time()
with open("/proc/self/status") as file:
    peak = next(line for line in file if line.startswith("VmHWM")).split()[1]
print(spent, peak, flush=True)
"""
# What is compared to what, and how much of it is wanted at most.
GOALS = [
    (SAFETENSORS, TORCH, 0.6),
    (PICKLE, TORCH, 0.6),
    (SAFETENSORS, BASE, 1.15),
    (PICKLE, BASE, 1.15),
]

# How many digits of each are worth printing.
MEASURES = {"seconds": 2, "processor seconds": 2, "megabytes": 0}

Turn = dict[str, dict[str, float]]


def write_student(folder: Path) -> None:
    """Write a 20-64-32-2 student in both forms, and a row to ask about."""
    X, y = make_classification(1000, 20, random_state=0)
    classifier = DistilledClassifier(
        [LogisticRegression(max_iter=300).fit(X, y)],
        hidden_layer_sizes=(64, 32),
        numerical_embedding=None,
        augment=None,
        max_epochs=2,
        random_state=0,
    ).fit(X, y)
    classifier.student_.save(folder / "student.safetensors")
    (folder / "student.pickle").write_bytes(pickle.dumps(classifier))
    np.save(folder / "row.npy", X[:1])


def measure(code: str, folder: Path) -> dict[str, float]:
    """Run code in a fresh process; return seconds to its end and its peak in megabytes."""
    start = time.perf_counter()
    command = [sys.executable, "-c", code + REPORT]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answer = process.stdout.readline()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"A process ended with status {process.returncode}.")
    spent, kilobytes = answer.split()
    return {
        "seconds": seconds,
        "processor seconds": float(spent),
        "megabytes": int(kilobytes) * 1024 / 1e6,
    }


def take_turns(n_turns: int, hidden: list[str]) -> list[Turn]:
    """Run all contenders in turn, once more than asked: the first turn fills the disk's cache."""
    hide = HIDE.format(names=hidden)
    with tempfile.TemporaryDirectory() as name:
        write_student(Path(name))
        turns = [
            {contender: measure(hide + code, Path(name)) for contender, code in CODE.items()}
            for _ in range(n_turns + 1)
        ]
    return turns[1:]


def spread(values: list[float], digits: int) -> str:
    """Write a median with the lowest and highest value."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return f"{middle} ({low} to {high})"


def show(turns: list[Turn]) -> None:
    """Print the figures and the ratios."""
    for key, digits in MEASURES.items():
        print(f"\n{key}")
        for name in CODE:
            print(f"  {name:46}{spread([turn[name][key] for turn in turns], digits):>22}")
    for name, other, goal in GOALS:
        print(f"\n{name}, as a share of: {other} (goal: at most {goal})")
        for key in MEASURES:
            ratios = [turn[name][key] / turn[other][key] for turn in turns]
            print(f"  {key:46}{spread(ratios, 2):>22}")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=7, help="turns (default: 7)")
    parser.add_argument("--hide", nargs="*", default=[], metavar="PACKAGE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement")
    options = parser.parse_args()
    turns = take_turns(options.processes, options.hide)
    facts: dict[str, Any] = {name: version(name) for name in PACKAGES}
    facts |= {"python": platform.python_version(), "hidden": options.hide}
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value))
    show(turns)
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "turns": turns}, indent=1))


if __name__ == "__main__":
    main()
