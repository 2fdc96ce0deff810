"""Files of every release load in this one and answer as they did when they were made."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from students_zoo import feeds_of

from skdistill import StudentClassifier

FIXTURES = Path(__file__).parent / "fixtures"
# A fixture is never edited.
DIGESTS = dict(
    reversed(line.split("  ")) for line in (FIXTURES / "SHA256SUMS").read_text().splitlines()
)
STUDENTS = [name.removesuffix(".safetensors") for name in DIGESTS if name.endswith(".safetensors")]


def read(student):
    """Return rows, as they were asked, and the answers."""
    answer = json.loads((FIXTURES / f"{student}.json").read_text())
    if student.endswith("mixed"):
        rows = pd.DataFrame(answer["rows"], columns=["age", "colour", "member", "grade"])
        rows = rows.astype({"age": float, "grade": pd.CategoricalDtype([1.0, 2.5])})
    else:
        rows = np.array(answer["rows"], dtype=np.float64)
    return rows, np.array(answer["labels"]), np.array(answer["proba"])


@pytest.mark.parametrize("name", DIGESTS)
def test_no_fixture_was_edited(name):
    assert hashlib.sha256((FIXTURES / name).read_bytes()).hexdigest() == DIGESTS[name]


def test_every_fixture_is_listed():
    found = {p.relative_to(FIXTURES).as_posix() for p in FIXTURES.glob("*/*") if p.suffix != ".pyc"}
    assert found == set(DIGESTS)


@pytest.mark.parametrize("student", STUDENTS)
def test_safetensors_of_every_release_answer_as_before(student):
    X, labels, proba = read(student)
    path = FIXTURES / f"{student}.safetensors"
    loaded = StudentClassifier.load(path, expected_sha256=DIGESTS[f"{student}.safetensors"])
    np.testing.assert_allclose(loaded.predict_proba(X), proba, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(loaded.predict(X), labels)


@pytest.mark.parametrize("student", STUDENTS)
def test_onnx_of_every_release_answers_as_before(student):
    X, labels, proba = read(student)
    session = onnxruntime.InferenceSession(FIXTURES / f"{student}.onnx")
    answer = session.run(None, feeds_of(X, session.get_inputs()))
    np.testing.assert_allclose(answer[1], proba, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(answer[0], labels)
