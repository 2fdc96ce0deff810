"""The same seed gives the same weights: whatever runs the jobs, in any process, on any platform."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from quick_students import fitted_teacher, make_data, quick
from sklearn.naive_bayes import GaussianNB

X, Y = make_data()
TEACHER = fitted_teacher(X, Y)

spec = importlib.util.spec_from_file_location(
    "golden", Path(__file__).parent / "golden/make_fit.py"
)
assert spec is not None
assert spec.loader is not None
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)
# How far a fit may be from the golden one. Other kernels of OpenBLAS, torch and NumPy moved these
# probabilities by 1e-16 where training is in float64 and by 2e-8 in float32, one thread or two by
# nothing; the last bit of every number of X and of the teacher, moved at random, by 1e-16 and 4e-8.
# The bounds leave room for what adds up on platforms that were not tried.
BOUNDS = dict.fromkeys(golden.FITS, 1e-06) | {"float64": 1e-12}


@pytest.mark.parametrize("name", golden.FITS)
def test_a_fit_gives_the_golden_probabilities(name):
    expected = np.array(json.loads(golden.FILE.read_text())[name])
    proba = golden.proba_of(name, *golden.rows())[: len(expected)]
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba, expected, rtol=0, atol=BOUNDS[name])


CODE = """
import hashlib, sys, torch
torch.set_num_threads(int(sys.argv[2]))
sys.path.insert(0, sys.argv[1])
from test_determinism import digest_of_fits
print(digest_of_fits())
"""


def digest_of_fits() -> str:
    """Return one digest of the weights of some fits."""
    digest = hashlib.sha256()
    for params in ({}, {"cv": 2}, {"augment": "munge", "batch_size": 32, "dropout": 0.1}):
        teacher = GaussianNB() if "cv" in params else TEACHER
        student = quick([teacher], max_epochs=5, **params).fit(X, Y.astype(object)).student_
        for layer in student.layers_:
            for array in layer.arrays:
                digest.update(array.tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_fresh_processes_give_the_same_weights():
    """Whatever the hash seed and the number of threads."""
    found = set()
    for seed, threads in (("0", "1"), ("1", "2"), ("random", "2")):
        command = [sys.executable, "-c", CODE, str(Path(__file__).parent), threads]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        environment["OPENBLAS_NUM_THREADS"] = threads
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        found.add(process.stdout)
    assert found == {digest_of_fits() + "\n"}


@pytest.mark.parametrize(
    "backend",
    [
        "threading",
        pytest.param("loky", marks=pytest.mark.slow),
        pytest.param("multiprocessing", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_jobs_at_once_give_the_same_student(backend):
    one = quick([GaussianNB()], cv=3, max_epochs=5).fit(X, Y).predict_proba(X)
    with joblib.parallel_config(backend):
        two = quick([GaussianNB()], cv=3, max_epochs=5, n_jobs=2).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(one, two)


def test_fits_at_once_in_threads_give_what_each_gives_alone():
    def fit(seed: int) -> np.ndarray:
        student = quick([TEACHER], max_epochs=10, augment="munge", random_state=seed)
        return student.fit(X, Y).predict_proba(X)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fit, range(8)))
    for seed, proba in enumerate(found):
        np.testing.assert_array_equal(proba, fit(seed))


@pytest.mark.parametrize(
    "container",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X.tolist(),
        lambda X: X.astype(object),
        pd.DataFrame,
    ],
    ids=["columns first", "strided", "lists", "objects", "frame"],
)
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_containers_of_the_same_rows_give_the_same_student(container):
    """Up to the order in which a sum is taken along columns."""
    expected = quick([GaussianNB()], cv=2, max_epochs=5).fit(X, Y).predict_proba(X)
    student = quick([GaussianNB()], cv=2, max_epochs=5).fit(container(X), Y)
    proba = student.predict_proba(container(X))
    np.testing.assert_allclose(proba, expected, rtol=0, atol=1e-12)
