"""Teachers on disk: checked before they are unpickled, loaded once, asked with one thread."""

import json
import pickle
import threading

import numpy as np
import pytest
import torch
from cluster_teachers import (
    CLASSES,
    COLUMNS,
    make_frame,
    make_teachers,
    save_bundle,
    teacher_of,
    threads,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_info, threadpool_limits

from skdistill import BadArtefactError, CallableTeacher, TorchTeacher, UnsupportedFormatError
from skdistill.distributed import TeacherBundle, TeacherLabeller
from skdistill.training.threads import one_thread

ROWS = make_frame(50)


class Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a tampered file was unpickled",))


def mean_log_proba(teachers, weights):
    frame = ROWS[COLUMNS]
    answers = [teachers[0].predict_proba(frame), teachers[1].predict_proba(frame.to_numpy())]
    with np.errstate(divide="ignore"):
        return np.log(sum(w * p for w, p in zip(weights, answers, strict=True)))


def test_the_labeller_gives_the_log_of_the_mean_probability(tmp_path):
    bundle = save_bundle(tmp_path)
    expected = mean_log_proba(make_teachers(), [0.5, 0.5])
    found = bundle.labeller().log_proba(ROWS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    weighted = bundle.labeller(teacher_weights=[1, 3]).log_proba(ROWS)
    np.testing.assert_allclose(weighted, mean_log_proba(make_teachers(), [0.25, 0.75]), rtol=1e-6)


def test_the_labeller_adds_columns_and_travels_as_a_few_bytes(tmp_path):
    labeller = save_bundle(tmp_path).labeller()
    packed = pickle.dumps(labeller)
    assert len(packed) < 600
    labelled = pickle.loads(packed)(ROWS)
    assert list(labelled.columns) == [*ROWS.columns, "log_proba_no", "log_proba_yes"]
    assert labelled.index.equals(ROWS.index)
    np.testing.assert_array_equal(
        labelled[["log_proba_no", "log_proba_yes"]], labeller.log_proba(ROWS)
    )


def test_arrays_have_the_features_in_order(tmp_path):
    labeller = save_bundle(tmp_path).labeller()
    array = ROWS[COLUMNS].to_numpy()
    np.testing.assert_array_equal(labeller.log_proba(array), labeller.log_proba(ROWS))
    shuffled = ROWS[["c", "y", "a", "b"]]
    np.testing.assert_array_equal(labeller.log_proba(shuffled), labeller.log_proba(ROWS))
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(50, 2\)"):
        labeller.log_proba(array[:, :2])
    with pytest.raises(ValueError, match=r"lack columns .*\['b'\]"):
        labeller.log_proba(ROWS[["a", "c"]])


def test_probability_zero_is_minus_infinity(tmp_path):
    sure = [t for t in make_teachers() if not isinstance(t, LogisticRegression)]
    sure[0].set_params(max_depth=None).fit(ROWS[COLUMNS].to_numpy(), ROWS["y"])
    bundle = TeacherBundle.save(sure, tmp_path, classes=CLASSES, feature_names=COLUMNS)
    log_proba = bundle.labeller().log_proba(ROWS)
    assert np.isneginf(log_proba).any()
    np.testing.assert_allclose(np.exp(log_proba).sum(axis=1), 1)


def test_modules_are_averaged_as_logits(tmp_path):
    torch.manual_seed(0)
    modules = [TorchTeacher(torch.nn.Linear(3, 2), classes=CLASSES) for _ in range(2)]
    bundle = TeacherBundle.save(modules, tmp_path, classes=CLASSES, feature_names=COLUMNS)
    X = torch.tensor(ROWS[COLUMNS].to_numpy(), dtype=torch.float32)
    with torch.no_grad():
        mean = sum(m.module(X) for m in modules) / 2
    np.testing.assert_allclose(
        bundle.labeller().log_proba(ROWS), mean.log_softmax(1).numpy(), atol=1e-6
    )


def test_loading_gives_the_bundle_and_its_teachers(tmp_path):
    saved = save_bundle(tmp_path / "one")
    loaded = TeacherBundle.load(tmp_path / "one", expected_sha256=saved.digest)
    assert loaded.digest == saved.digest == save_bundle(tmp_path / "two").digest
    assert loaded.feature_names == COLUMNS
    assert loaded.classes.tolist() == CLASSES
    assert loaded.teacher_names == ["logisticregression", "decisiontreeclassifier"]
    for (_, teacher), original in zip(loaded.teachers(), make_teachers(), strict=True):
        array = (
            ROWS[COLUMNS] if hasattr(original, "feature_names_in_") else ROWS[COLUMNS].to_numpy()
        )
        np.testing.assert_array_equal(teacher.predict_proba(array), original.predict_proba(array))


def test_other_teachers_have_another_digest_and_replace_the_old_files(tmp_path):
    old = save_bundle(tmp_path, seed=0)
    new = save_bundle(tmp_path, seed=1)
    assert old.digest != new.digest
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(BadArtefactError, match=r"has the digest .* its teachers were changed"):
        old.labeller().log_proba(ROWS)


def test_a_remote_file_system_holds_a_bundle_too():
    bundle = save_bundle("memory://teachers/here")
    loaded = TeacherBundle.load("memory://teachers/here")
    assert loaded.digest == bundle.digest
    assert loaded.labeller().log_proba(ROWS).shape == (50, 2)


def test_a_tampered_teacher_is_refused_before_it_is_unpickled(tmp_path):
    bundle = save_bundle(tmp_path)
    victim = sorted(tmp_path.glob("*.joblib"))[0]
    victim.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BadArtefactError, match=rf"{victim.name} is .*was not loaded"):
        bundle.labeller().log_proba(ROWS)
    with pytest.raises(BadArtefactError, match="not the file that was saved"):
        TeacherBundle.load(tmp_path).teachers()


def test_a_tampered_manifest_is_refused_by_its_digest(tmp_path):
    bundle = save_bundle(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["classes"]["values"].reverse()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadArtefactError, match="its teachers were changed"):
        bundle.labeller().log_proba(ROWS)
    with pytest.raises(BadArtefactError, match=bundle.digest):
        TeacherBundle.load(tmp_path, expected_sha256=bundle.digest)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"skdistill_bundle": 1, "classes": 3}'])
def test_a_damaged_manifest_is_named(tmp_path, content):
    save_bundle(tmp_path)
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(BadArtefactError, match=r"manifest in .* is damaged"):
        TeacherBundle.load(tmp_path)
    save_bundle(tmp_path)
    assert TeacherBundle.load(tmp_path).teacher_names


def test_a_newer_format_is_refused(tmp_path):
    save_bundle(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"skdistill_bundle": 1', '"skdistill_bundle": 2'))
    with pytest.raises(UnsupportedFormatError, match="has format 2; this release reads 1"):
        TeacherBundle.load(tmp_path)


def test_no_bundle_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no teacher bundle"):
        TeacherBundle.load(tmp_path)


@pytest.mark.parametrize("classes", [[0, 1], ["no", "yes"], [False, True], [0.0, 1.0]])
def test_labels_keep_their_type(tmp_path, classes):
    teacher = LogisticRegression().fit(
        ROWS[COLUMNS], np.asarray(classes)[(ROWS["y"] == "yes").astype(int)]
    )
    TeacherBundle.save([teacher], tmp_path, classes=classes, feature_names=COLUMNS)
    loaded = TeacherBundle.load(tmp_path).classes
    assert loaded.dtype == np.asarray(classes).dtype
    assert loaded.tolist() == classes


def test_classes_are_sorted_whatever_their_order(tmp_path):
    good = {"teachers": make_teachers(), "feature_names": COLUMNS}
    one = TeacherBundle.save(path=tmp_path / "one", classes=CLASSES, **good)
    other = TeacherBundle.save(path=tmp_path / "two", classes=CLASSES[::-1], **good)
    assert one.digest == other.digest
    assert other.classes.tolist() == sorted(CLASSES)


def test_what_cannot_be_a_bundle_is_refused(tmp_path):
    good = {"classes": CLASSES, "feature_names": COLUMNS}
    with pytest.raises(NotFittedError, match="teacher 0"):
        TeacherBundle.save([LogisticRegression()], tmp_path, **good)
    with pytest.raises(TypeError, match="is a regressor"):
        TeacherBundle.save([Ridge()], tmp_path, **good)
    teachers = make_teachers()
    with pytest.raises(ValueError, match=r"Missing in X: \['c'\]"):
        TeacherBundle.save(teachers, tmp_path, classes=CLASSES, feature_names=["a", "b"])
    with pytest.raises(ValueError, match="was fitted on 3 features, X has 2"):
        TeacherBundle.save(teachers[1:], tmp_path, classes=CLASSES, feature_names=["a", "b"])
    with pytest.raises(ValueError, match="do not match"):
        TeacherBundle.save(teachers, tmp_path, classes=["a", "b"], feature_names=COLUMNS)
    with pytest.raises(ValueError, match="each label once"):
        TeacherBundle.save(teachers, tmp_path, classes=["no", "no"], feature_names=COLUMNS)
    with pytest.raises(TypeError, match="classes must be a list"):
        TeacherBundle.save(teachers, tmp_path, classes=[("a",), ("b",)], feature_names=COLUMNS)
    with pytest.raises(ValueError, match=r"cannot be pickled: .*importable by name"):
        TeacherBundle.save([teacher_of(lambda X: X)], tmp_path, **good)
    with pytest.raises(ValueError, match="averaging must be one of"):
        save_bundle(tmp_path).labeller(averaging="median")
    with pytest.raises(ValueError, match=r"teacher_weights must be None, .* 2 finite numbers"):
        save_bundle(tmp_path).labeller(teacher_weights=[1])
    with pytest.raises(ValueError, match=r"teacher_weights='validation' compares .* with labels"):
        save_bundle(tmp_path).labeller(teacher_weights="validation")


def test_teachers_are_asked_with_one_thread_and_settings_are_restored(tmp_path):
    before = [pool["num_threads"] for pool in threadpool_info()]
    bundle = save_bundle(tmp_path, teacher_of(threads))
    assert bundle.labeller().log_proba(ROWS).shape == (50, 2)
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_labelling_and_training_that_overlap_restore_the_threads(tmp_path):
    asked, training = threading.Event(), threading.Event()

    def wait(X):
        asked.set()
        assert training.wait(30)
        return threads(X)

    labeller = save_bundle(tmp_path, teacher_of(threads)).labeller()
    with threadpool_limits(None):
        # Set in a thread that has ended: OpenBLAS obeys one living thread alone.
        setter = threading.Thread(
            target=threadpool_limits, kwargs={"limits": 2, "user_api": "blas"}
        )
        setter.start()
        setter.join()
        before = [pool["num_threads"] for pool in threadpool_info()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CallableTeacher, "_outputs", lambda self, X: wait(X))
            labelling = threading.Thread(target=labeller.log_proba, args=(ROWS,))
            labelling.start()
            assert asked.wait(30)
            with one_thread():
                training.set()
                labelling.join()
            assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_teachers_are_loaded_once_a_process(tmp_path):
    bundle = save_bundle(tmp_path)
    first = bundle.labeller().log_proba(ROWS)
    for file in tmp_path.iterdir():
        file.unlink()
    again = TeacherLabeller(bundle.path, bundle.digest, "auto", (0.5, 0.5))
    np.testing.assert_array_equal(again.log_proba(ROWS), first)
