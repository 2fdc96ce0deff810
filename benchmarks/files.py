"""What the files of a student weigh, what they withstand, and what 8-bit weights cost.

    python benchmarks/files.py --json files.json
    python benchmarks/files.py sizes damage

sizes: bytes of each form of a 20-64-32-2 student, the one of the reference experiment.
damage: copies of its safetensors and its ONNX file with one flipped bit: how many are refused, how
many answer as before, how many answer otherwise.
weights: held-out log-loss of students 64-32 as ONNX with float weights, with 8-bit weights, and
with onnxruntime's dynamic range, which rounds the activations too; and by how much a row's
probabilities then depend on the other rows of its batch.
"""

import argparse
import json
import logging
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import skops.io
from onnxruntime.quantization import quantize_dynamic
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skdistill import BadArtefactError, DistilledClassifier, StudentClassifier

PACKAGES = ("skdistill", "numpy", "scikit-learn", "onnx", "onnxruntime", "safetensors", "skops")
N_FLIPS = 400
DATA: dict[str, tuple[Callable[..., Any], str | None]] = {
    "breast cancer": (load_breast_cancer, None),
    "digits": (load_digits, None),
    "digits, embedding": (load_digits, "piecewise_linear"),
    "wine, embedding": (load_wine, "piecewise_linear"),
}


def reference_student() -> tuple[DistilledClassifier, np.ndarray]:
    """Return a classifier with a 20-64-32-2 student and float32 rows to ask it about."""
    X, y = make_classification(
        5000, 20, n_informative=10, n_redundant=5, random_state=42
    )  # fmt: skip
    classifier = DistilledClassifier(
        [LogisticRegression(max_iter=300).fit(X, y)],
        hidden_layer_sizes=(64, 32),
        numerical_embedding=None,
        augment=None,
        max_epochs=2,
        random_state=0,
    )
    return classifier.fit(X, y), X[:100].astype(np.float32)


def measure_sizes() -> dict[str, int]:
    """Return the bytes of each form."""
    classifier, _ = reference_student()
    student = classifier.student_
    with tempfile.TemporaryDirectory() as folder:
        student.save(Path(folder) / "student")
        safetensors = (Path(folder) / "student").stat().st_size
    return {
        "safetensors": safetensors,
        "ONNX": student.to_onnx().ByteSize(),
        "ONNX, 8-bit weights": student.to_onnx(quantize=True).ByteSize(),
        "pickle of the student": len(pickle.dumps(student)),
        "pickle of the DistilledClassifier": len(pickle.dumps(classifier)),
        "skops": len(skops.io.dumps(student)),
    }


def ask_onnx(content: bytes, X: np.ndarray) -> np.ndarray:
    """Return the probabilities that onnxruntime finds."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options).run(["probabilities"], {"X": X})[0]


def ask_safetensors(content: bytes, X: np.ndarray) -> np.ndarray:
    """Return the probabilities of a loaded student; refused is refused in our own words."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "student").write_bytes(content)
        return StudentClassifier.load(Path(folder) / "student").predict_proba(X)


def measure_damage() -> dict[str, dict[str, int]]:
    """Flip one bit a copy and count what becomes of it."""
    classifier, X = reference_student()
    student, rng = classifier.student_, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        student.save(Path(folder) / "student")
        safetensors = (Path(folder) / "student").read_bytes()
    forms: dict[str, tuple[bytes, Callable[..., np.ndarray], type[Exception]]] = {
        "safetensors": (safetensors, ask_safetensors, BadArtefactError),
        # onnxruntime's errors have no family but this.
        "ONNX": (student.to_onnx().SerializeToString(), ask_onnx, Exception),
    }
    counts = {}
    for name, (content, ask, refusal) in forms.items():
        expected, count = ask(content, X), Counter[str]()
        for _ in range(N_FLIPS):
            damaged = bytearray(content)
            damaged[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
            try:
                answer = ask(bytes(damaged), X)
            except refusal:
                count["refused"] += 1
            else:
                count["as before" if np.array_equal(answer, expected) else "otherwise"] += 1
        counts[name] = {key: count[key] for key in ("refused", "as before", "otherwise")}
    return counts


def measure_weights() -> dict[str, dict[str, float]]:
    """Return log-losses and bytes with float weights, 8-bit weights and dynamic range."""
    logging.getLogger().setLevel(logging.ERROR)
    table = {}
    for name, (load, embedding) in DATA.items():
        X, y = load(return_X_y=True)
        X = X.astype(np.float32)
        X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
        forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=0).fit(X, y)
        student = DistilledClassifier(
            [forest], hidden_layer_sizes=(64, 32), numerical_embedding=embedding, random_state=0
        )
        student = student.fit(X, y).student_
        whole, small = (student.to_onnx(quantize=q).SerializeToString() for q in (False, True))
        dynamic = dynamic_range(student)
        loss = log_loss(y_test, ask_onnx(whole, X_test))
        alone = np.concatenate([ask_onnx(dynamic, X_test[i : i + 1]) for i in range(50)])
        table[name] = {
            "log-loss": loss,
            "8-bit": log_loss(y_test, ask_onnx(small, X_test)) - loss,
            "dynamic": log_loss(y_test, ask_onnx(dynamic, X_test)) - loss,
            "moved by the batch": float(np.abs(alone - ask_onnx(dynamic, X_test)[:50]).max()),
            "bytes": len(whole),
            "bytes, 8-bit": len(small),
        }
    return table


def dynamic_range(student: StudentClassifier) -> bytes:
    """Return the student as onnxruntime's own quantiser leaves it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("whole.onnx", "dynamic.onnx")]
        student.to_onnx(paths[0])
        quantize_dynamic(*paths)
        return paths[1].read_bytes()


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "sizes": measure_sizes,
    "damage": measure_damage,
    "weights": measure_weights,
}


def show(name: str, result: dict[str, Any]) -> None:
    """Print a table, one line a row."""
    print(f"\n{name}")
    for row, value in result.items():
        cells = value if isinstance(value, dict) else {"bytes": value}
        text = ", ".join(
            f"{key} {cell:,}" if isinstance(cell, int) else f"{key} {cell:.4f}"
            for key, cell in cells.items()
        )
        print(f"  {row:36}{text}")


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measures", nargs="*", help=f"of {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    versions = {name: version(name) for name in PACKAGES}
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    results = {}
    for name in options.measures or MEASURES:
        results[name] = MEASURES[name]()
        show(name, results[name])
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, **results}, indent=1))


if __name__ == "__main__":
    main()
