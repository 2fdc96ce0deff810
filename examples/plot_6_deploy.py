"""
Ship the student
================

A trained student leaves the lab as one of three files: safetensors for Python, ONNX for everything
else, a pickle for a colleague with the same environment. This example writes all three, reads them
where neither torch nor a teacher is at hand, damages one, and compares latency and size with the
teacher's. It needs the extras ``skdistill[onnx,plot]``.
"""

# %%
# A teacher and its student
# -------------------------
# The teacher is what one would serve otherwise: a forest and boosted trees that vote.

import hashlib
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skdistill import BadArtefactError, DistilledClassifier, StudentClassifier

X, y = load_breast_cancer(return_X_y=True)
X = X.astype(np.float32)  # what the ONNX file takes; here no digit that matters is lost
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
teacher = VotingClassifier(
    [
        ("forest", RandomForestClassifier(300, min_samples_leaf=2, random_state=0)),
        ("boosting", HistGradientBoostingClassifier(random_state=0)),
    ],
    voting="soft",
).fit(X_train, y_train)
classifier = DistilledClassifier(
    [teacher], hidden_layer_sizes=(64, 32), max_epochs=100, random_state=0
).fit(X_train, y_train)
for name, model in {"teacher": teacher, "student": classifier}.items():
    proba = model.predict_proba(X_test)
    print(f"{name}: held-out log-loss {log_loss(y_test, proba):.4f}")

# %%
# Three files
# -----------
# The safetensors file holds arrays and one JSON text. Its digest, kept where nobody who can
# change the file can write, makes sure that it is the file that was sent.

folder = tempfile.TemporaryDirectory()
paths = {
    name: Path(folder.name) / name
    for name in ("teacher.pickle", "student.pickle", "student.safetensors", "student.onnx")
}
paths["teacher.pickle"].write_bytes(pickle.dumps(teacher))
paths["student.pickle"].write_bytes(pickle.dumps(classifier))
classifier.student_.save(paths["student.safetensors"])
classifier.student_.to_onnx(paths["student.onnx"])
digest = hashlib.sha256(paths["student.safetensors"].read_bytes()).hexdigest()
for name, path in paths.items():
    print(f"{name:20}{path.stat().st_size:>12,} bytes")

# %%
# A process without torch
# -----------------------
# In a fresh process, the first lines make sure that nobody imports what must not be needed.

FORBID = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not wanted here")

sys.meta_path.insert(0, Forbidden())
import numpy as np
X, proba = np.load("X.npy"), np.load("proba.npy")
"""


def run_without(names, code, *arguments):
    """Run code in a fresh process, in the folder of the files, and print what it prints."""
    command = [sys.executable, "-c", FORBID.format(names=names) + code, *arguments]
    process = subprocess.run(
        command, cwd=folder.name, capture_output=True, text=True, timeout=120, check=False
    )
    if process.returncode:
        raise RuntimeError(process.stderr)
    print(process.stdout, end="")


np.save(Path(folder.name) / "X.npy", X_test)
np.save(Path(folder.name) / "proba.npy", classifier.predict_proba(X_test))
run_without(
    ("torch", "skorch"),
    """
import pickle
from skdistill import StudentClassifier

student = StudentClassifier.load("student.safetensors", expected_sha256=sys.argv[1])
assert np.array_equal(student.predict_proba(X), proba)
with open("student.pickle", "rb") as file:
    assert np.array_equal(pickle.load(file).predict_proba(X), proba)
print(f"safetensors and pickle, without torch: {len(X)} equal answers from each")
""",
    digest,
)

# %%
# The ONNX file needs less: onnxruntime and NumPy, not even scikit-learn or skdistill.

run_without(
    ("torch", "skorch", "sklearn", "skdistill", "onnx"),
    """
import onnxruntime

session = onnxruntime.InferenceSession("student.onnx")
labels, answer = session.run(None, {"X": X})
assert np.array_equal(labels, proba.argmax(axis=1))
assert np.allclose(answer, proba, rtol=0, atol=1e-6)
print(f"ONNX, without skdistill: {len(X)} equal labels, probabilities within 1e-6")
""",
)

# %%
# One wrong bit
# -------------
# A file of numbers with one wrong bit would still load and answer. This one does not.

damaged = bytearray(paths["student.safetensors"].read_bytes())
damaged[-1000] ^= 1
(Path(folder.name) / "damaged.safetensors").write_bytes(damaged)
try:
    StudentClassifier.load(Path(folder.name) / "damaged.safetensors")
except BadArtefactError as error:
    print(f"BadArtefactError: {error}")

# %%
# One row at a time
# -----------------
# The four take turns, so that other work on the machine hits all alike. All run on one thread.

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(paths["student.onnx"], options)
from_pickle = pickle.loads(paths["student.pickle"].read_bytes())
from_safetensors = StudentClassifier.load(paths["student.safetensors"])
calls = {
    "teacher": teacher.predict_proba,
    "student, pickle": from_pickle.predict_proba,
    "student, safetensors": from_safetensors.predict_proba,
    "student, ONNX": lambda row: session.run(["probabilities"], {"X": row}),
}
times = {name: [] for name in calls}
for turn in range(60):
    row = X_test[turn : turn + 1]
    for name, call in calls.items():
        n_calls = 1 if name == "teacher" else 20
        start = perf_counter()
        for _ in range(n_calls):
            call(row)
        times[name].append(1e6 * (perf_counter() - start) / n_calls)
microseconds = {name: median(values) for name, values in times.items()}
kilobytes = {
    name: path.stat().st_size / 1000 for name, path in zip(calls, paths.values(), strict=True)
}
for name in calls:
    print(f"{name:22}{microseconds[name]:10,.0f} us a row{kilobytes[name]:10,.0f} kB")

# %%
# The axes are logarithmic: each line of the grid is ten times the one before.

figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
panels = {"Time for one row (µs)": microseconds, "Size of the file (kB)": kilobytes}
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    for position, value in enumerate(values.values()):
        marker, colour = ("s", "black") if position == 0 else ("o", "tab:blue")
        ax.axhline(position, color="0.85", linestyle=":", zorder=0)
        ax.plot(value, position, marker, color=colour, markersize=9)
        ax.annotate(
            *(f"{value:,.0f}", (value, position), (10, 0)),
            textcoords="offset points",
            va="center",
            backgroundcolor="white",
        )
    low, high = min(values.values()) / 3, 10 * max(values.values())
    ticks = 10.0 ** np.arange(np.ceil(np.log10(low)), np.log10(high))
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.set_title(title)
    ax.grid(axis="x", color="0.85")
    ax.set_axisbelow(True)
    ax.minorticks_off()
    ax.tick_params(length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
axes[0].set_yticks(range(len(calls)), list(calls))
axes[0].set_ylim(len(calls) - 0.5, -0.5)
folder.cleanup()
plt.show()

# %%
# A service over HTTP stands in ``examples/serve.py``, the other languages in the guide to ONNX, and
# what each file does and does not promise in the page on security.
