"""Threads, forks, jobs, workers and files: one test for each row of the fault table."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from quick_students import Fixed, fitted_teacher, make_data, quick
from sklearn.model_selection import cross_val_score
from threadpoolctl import threadpool_info

from skdistill import BadArtefactError, CallableTeacher, StudentClassifier
from skdistill.distributed import LabellingError, TeacherBundle, label_parquet

LABELS = ("no", "yes")
X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


@pytest.fixture(scope="module")
def student():
    return quick([TEACHER]).fit(X, Y).student_


@pytest.fixture
def saved(student, tmp_path):
    student.save(tmp_path / "student")
    return tmp_path / "student"


def threads():
    return torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]


def test_threads_that_predict_at_once(student):
    """While another student trains, too."""
    expected = student.predict_proba(X)
    with ThreadPoolExecutor(8) as pool:
        training = pool.submit(lambda: quick([TEACHER]).fit(X, Y).predict_proba(X))
        answers = list(pool.map(lambda _: student.predict_proba(X), range(100)))
        assert all(np.array_equal(answer, expected) for answer in answers)
        np.testing.assert_allclose(training.result(), expected, atol=1e-6)


def test_a_fit_in_a_fork_after_torch_had_threads(fresh_process):
    code = """
    import os, signal, warnings
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from skdistill import DistilledClassifier

    X = np.random.default_rng(0).normal(size=(3000, 30))
    y = X[:, 0] > 0
    model = DistilledClassifier(
        [LogisticRegression().fit(X, y)], max_epochs=1, augment=None, random_state=0
    )
    torch.set_num_threads(2)
    torch.ones(500, 500) @ torch.ones(500, 500)
    torch.ones(10**6).exp()
    expected = model.fit(X, y).predict_proba(X)
    # Python says that such a fork may hang; that it does not is the law here.
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if np.array_equal(model.fit(X, y).predict_proba(X), expected) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert fresh_process(code).split() == ["0"]


def test_thread_settings_are_restored(student):
    before = threads()
    quick([TEACHER]).fit(X, Y).predict(X)
    with pytest.raises(FloatingPointError):
        quick([TEACHER], learning_rate_init=1e300, hidden_layer_sizes=(8, 8)).fit(X, Y)
    assert threads() == before


def test_what_a_deployed_pickle_weighs():
    heavy = Fixed(TEACHER.predict_proba, LABELS)
    heavy.ballast_ = np.zeros(1_000_000)
    assert len(pickle.dumps(quick([heavy]).fit(X, Y))) < 20_000


def test_a_worker_that_fails_raises_here():
    def fail(X):
        raise MemoryError("no memory left")

    classifier = quick([CallableTeacher(fail, LABELS)])
    with pytest.raises(ValueError, match=r"teacher 0 .*failed on rows 0:.*no memory left"):
        cross_val_score(classifier, X, Y, cv=2, error_score="raise")


def nan_where_negative(X):
    proba = np.full((len(X), 2), 0.5)
    proba[np.asarray(X)[:, 0] < 0] = np.nan
    return proba


def test_a_partition_that_fails_is_named(tmp_path):
    """Its neighbours are labelled."""
    import pandas as pd

    (tmp_path / "rows").mkdir()
    for name, sign in (("good", 1), ("bad", -1)):
        frame = pd.DataFrame(sign * np.abs(X), columns=["a", "b", "c"])
        frame.to_parquet(tmp_path / "rows" / f"{name}.parquet")
    teachers = [CallableTeacher(nan_where_negative, LABELS)]
    bundle = TeacherBundle.save(
        teachers, tmp_path / "teachers", classes=LABELS, feature_names=["a", "b", "c"]
    )
    with pytest.raises(LabellingError, match="1 of 2 files could not be labelled") as caught:
        label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    ((path, reason),) = caught.value.failures.items()
    assert path.endswith("bad.parquet")
    assert "nan in row 0" in reason
    assert (tmp_path / "soft" / "good.parquet").exists()


# Files


def test_a_full_disk_while_saving(saved, fresh_process):
    """The old file survives, and nothing is left beside it."""
    before = saved.read_bytes()
    code = """
    import resource
    from skdistill import StudentClassifier
    student = StudentClassifier.load(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    try:
        student.save(sys.argv[1])
    except OSError as error:
        print("refused")
    """
    assert fresh_process(code, saved).split() == ["refused"]
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"", "header length is wrong"),
        (lambda content: content[:-5], "Not a saved student"),
        (lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "digest"),
        (lambda content: content + b"more", "Not a saved student"),
        (lambda content: pickle.dumps({"weights": 1}), "Not a saved student"),
    ],
    ids=["empty", "cut short", "a flipped bit", "something appended", "a pickle"],
)
def test_damaged_files(damage, words, saved):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(BadArtefactError, match=words):
        StudentClassifier.load(saved)


def test_a_whole_file_that_is_another_one(saved):
    with pytest.raises(BadArtefactError, match="it is not the file you meant"):
        StudentClassifier.load(saved, expected_sha256="0" * 64)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        StudentClassifier.load(tmp_path / "none")
