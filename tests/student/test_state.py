"""Pickles and skops files of a student: plain arrays, the same answers, one name to trust."""

import copy
import pickle
import pickletools
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import StandardScaler
from students_zoo import TABLES, freeze, make_student, make_table

from skdistill import SkdistillVersionWarning, StudentClassifier


@pytest.mark.parametrize("embedding", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_a_pickle_answers_the_same(table, embedding):
    student, X = make_student(table, embedding=embedding), make_table(table, seed=1, unseen=True)
    for again in (pickle.loads(pickle.dumps(student)), copy.deepcopy(student), copy.copy(student)):
        np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
        np.testing.assert_array_equal(again.predict(X), student.predict(X))


@pytest.mark.parametrize("embedding", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_skops_needs_to_trust_one_name(table, embedding):
    student, X = make_student(table, embedding=embedding), make_table(table, seed=1, unseen=True)
    dumped = skops.io.dumps(student)
    names = ["skdistill.student.StudentClassifier"]
    assert skops.io.get_untrusted_types(data=dumped) == names
    again = skops.io.loads(dumped, trusted=names)
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))


def test_a_pickle_names_no_class_of_ours_but_the_student():
    dumped = pickle.dumps(make_student("mixed", embedding=True), protocol=2)
    found = {arg for op, arg, _ in pickletools.genops(dumped) if op.name == "GLOBAL"}
    assert {name for name in found if name.startswith(("skdistill", "sklearn"))} == {
        "skdistill.student StudentClassifier"
    }


def test_a_preprocessor_of_the_user_stays_what_it_is():
    X = make_table("numbers")
    student = freeze(X, np.array([0, 1]), preprocessor=StandardScaler())
    again = pickle.loads(pickle.dumps(student))
    assert type(again.preprocessor_) is StandardScaler
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))


def test_joblib_memory_maps_a_student(tmp_path):
    student, X = make_student("numbers", embedding=True), make_table("numbers")
    joblib.dump(student, tmp_path / "student.joblib")
    mapped = joblib.load(tmp_path / "student.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(X), student.predict_proba(X))


def test_attributes_of_the_user_are_kept():
    student = make_student()
    student.note = "for the shop in Oslo"
    assert pickle.loads(pickle.dumps(student)).note == student.note


def test_another_version_warns():
    student = make_student()
    state = student.__getstate__()
    state["_versions"] = {**state["_versions"], "numpy": "0.9"}
    with pytest.warns(SkdistillVersionWarning, match=r"StudentClassifier.*numpy 0\.9 \(now"):
        StudentClassifier().__setstate__(state)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, None])
def test_eight_threads_get_the_right_answers(dtype):
    table = "mixed" if dtype is None else "numbers"
    student, X = make_student(table, embedding=True), make_table(table, 500)
    X = X if dtype is None else X.astype(dtype)
    expected = student.predict_proba(X)
    lengths = (1, 2, 40, 300)
    slices = [slice(i % 50, i % 50 + lengths[i % 4]) for i in range(400)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda s: student.predict_proba(X[s]), slices, timeout=60))
    finally:
        sys.setswitchinterval(interval)
    for part, answer in zip(slices, answers, strict=True):
        np.testing.assert_allclose(answer, expected[part], rtol=0, atol=1e-6)


def test_a_fork_after_fit_answers_and_does_not_hang(fresh_process):
    code = """
    import os, signal, warnings
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from skdistill import DistilledClassifier

    X = np.random.default_rng(0).normal(size=(80, 3))
    y = (X[:, 0] > 0).astype(int)
    student = DistilledClassifier(
        [LogisticRegression().fit(X, y)], max_epochs=5, hidden_layer_sizes=(8,), n_bins=4
    ).fit(X, y).student_
    expected = student.predict_proba(X)
    # Python says that a fork of a process with threads may hang; that it does not is the law here.
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if np.array_equal(student.predict_proba(X), expected) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert fresh_process(code).split() == ["0"]
