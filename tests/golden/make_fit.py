"""Make the golden probabilities of a fit: python tests/golden/make_fit.py.

Run it again only when a change is meant to change what a fit learns.
"""

import json
from pathlib import Path

import numpy as np

from skdistill import CallableTeacher, DistilledClassifier

FILE = Path(__file__).parent / "fit.json"
# Each takes another way through training; none calls a solver of another package. None has dropout:
# which units torch leaves out at a seed differs between its releases.
FITS = {
    "float64": {"dtype": "float64"},
    "float32": {"dtype": "float32", "batch_size": 32},
    "embedded": {"numerical_embedding": "piecewise_linear", "batch_size": 32},
    "synthetic": {"augment": "munge", "n_synthetic": 60},
    "calibrated": {"calibration": "auto", "batch_size": 32},
}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return rows and labels; the draws of PCG64 are the same on every platform."""
    rng = np.random.default_rng(20)
    X = rng.integers(-(2**20), 2**20, size=(120, 3)) / 2**19
    return X, np.digitize(X[:, 0] + 0.5 * X[:, 1] * X[:, 2], [-0.5, 0.5])


def teach(X: np.ndarray) -> np.ndarray:
    """Return the teacher's probabilities."""
    score = X[:, 0] + 0.5 * X[:, 1] * X[:, 2]
    logits = np.column_stack([-2 * score, 1 - np.abs(score), 2 * score])
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


def proba_of(name: str, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fit a student and return its float64 probabilities."""
    params = {"hidden_layer_sizes": (8,), "max_epochs": 20, "n_bins": 4, "random_state": 0}
    defaults = {"augment": None, "calibration": None, "numerical_embedding": None, "dropout": 0.0}
    teacher = CallableTeacher(teach, [0, 1, 2])
    student = DistilledClassifier([teacher], **{**params, **defaults, **FITS[name]})
    return student.fit(X, y).predict_proba(X)


if __name__ == "__main__":
    X, y = rows()
    made = {name: proba_of(name, X, y)[:20].tolist() for name in FITS}
    FILE.write_text(json.dumps(made, indent=1) + "\n")
