"""partial_fit: what the first batch settles, what later ones add, and where training goes on."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from quick_students import Counting, Fixed, fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skdistill import StudentClassifier, TorchStudent

X, Y = make_data(600)
TEACHER = fitted_teacher(X, Y)
PROBA = TEACHER.predict_proba(X)
BATCHES = [(X[i : i + 100], Y[i : i + 100]) for i in range(0, 600, 100)]


def weights_of(classifier):
    return [array for layer in classifier.student_.layers_ for array in layer.arrays]


def assert_same_student(one, other):
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_teach():
    student = quick([TEACHER])
    for _ in range(20):
        for rows, labels in BATCHES:
            student.partial_fit(rows, labels)
    assert student.score(X, Y) > 0.85
    assert student.n_iter_ == 120
    assert len(student.history_["train_loss"]) == 120
    assert student.history_["train_loss"][-6:].mean() < student.history_["train_loss"][:6].mean()
    assert student.classes_.tolist() == ["no", "yes"]
    assert student.n_features_in_ == 3


def test_the_first_call_must_name_the_classes_unless_the_teachers_do():
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        quick().partial_fit(X, Y)
    with pytest.raises(ValueError, match="classes must be passed"):
        quick([LogisticRegression()], cv=3).partial_fit(X, Y)
    assert quick([TEACHER]).partial_fit(X).classes_.tolist() == ["no", "yes"]
    student = quick().partial_fit(X, Y, classes=["yes", "no"])
    assert student.classes_.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit, was"):
        student.partial_fit(X, Y, classes=["no", "maybe"])
    student.partial_fit(X, Y, classes=["no", "yes"])


def test_a_batch_may_lack_classes_but_not_bring_new_ones():
    student = quick([TEACHER]).partial_fit(X, Y)
    only = Y == "yes"
    student.partial_fit(X[only], Y[only])
    with pytest.raises(ValueError, match=r"not in classes \['no', 'yes'\]: \['perhaps'\]"):
        student.partial_fit(X, np.where(only, "perhaps", "no"))
    fresh = quick([TEACHER]).partial_fit(X[only], Y[only])
    assert fresh.predict_proba(X).shape == (600, 2)


def test_preprocessing_and_bins_are_those_of_the_first_batch():
    student = quick([TEACHER]).partial_fit(*BATCHES[0])
    preprocessor, edges = student.student_.preprocessor_, student.student_.encoding_.edges_
    student.partial_fit(10 * BATCHES[1][0], BATCHES[1][1])
    np.testing.assert_array_equal(student.student_.preprocessor_.mean_, preprocessor.mean_)
    np.testing.assert_allclose(preprocessor.mean_, BATCHES[0][0].mean(axis=0))
    for one, other in zip(student.student_.encoding_.edges_, edges, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_columns_are_refused_and_leave_the_student():
    frame = pd.DataFrame(X, columns=list("abc"))
    student = quick([LogisticRegression().fit(frame, Y)]).partial_fit(frame, Y)
    before = weights_of(student)
    with pytest.raises(ValueError, match="feature names should match"):
        student.partial_fit(frame.rename(columns={"a": "z"}), Y)
    with pytest.raises(ValueError, match="feature names should match"):
        student.partial_fit(frame[["a", "b"]], Y)
    for a, b in zip(weights_of(student), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fold_teachers_of_the_first_batch_label_later_ones():
    Counting.n_fits = Counting.rows_asked = 0
    student = quick([Counting()], cv=4).partial_fit(*BATCHES[0], classes=["no", "yes"])
    assert (Counting.n_fits, Counting.rows_asked) == (4, 100)
    student.partial_fit(*BATCHES[1])
    assert (Counting.n_fits, Counting.rows_asked) == (4, 500)
    folds = student.teachers_[0]
    assert len(folds) == 4
    mean = sum(t.predict_proba(BATCHES[2][0]) for t in folds) / 4
    assert student.calibration_temperature_ != 1.0
    mean = mean ** (1 / student.calibration_temperature_)
    mean /= mean.sum(axis=1, keepdims=True)
    by_hand = copy.deepcopy(student).partial_fit(*BATCHES[2], teacher_proba=mean)
    assert_same_student(student.partial_fit(*BATCHES[2]), by_hand)


@pytest.mark.parametrize("params", [{}, {"cv": "oob"}])
def test_other_ways_to_soft_targets_start_a_stream_too(params):
    forest = RandomForestClassifier(20, oob_score=True, random_state=0)
    student = quick([forest] if params else None, **params)
    for rows, labels in BATCHES[:3]:
        student.partial_fit(rows, labels, classes=["no", "yes"])
    assert student.score(X, Y) > 0.7


def test_given_soft_targets_replace_the_teachers():
    one = quick([TEACHER]).partial_fit(X, Y).partial_fit(X, Y)
    other = quick().partial_fit(X, Y, classes=["no", "yes"], teacher_proba=PROBA)
    other.set_params(numerical_embedding="piecewise_linear").partial_fit(X, Y, teacher_proba=PROBA)
    assert_same_student(one, other)
    with pytest.raises(ValueError, match=r"no teacher that could label this batch"):
        other.partial_fit(X, Y)
    other.set_params(alpha=0.0).partial_fit(X, Y)
    with pytest.raises(ValueError, match="teacher_proba must have shape"):
        other.partial_fit(X, Y, teacher_proba=PROBA[:, :1])


def test_weights_count_and_labels_may_be_missing():
    rows = np.arange(600)
    weight = (rows % 2).astype(float)
    params = {"alpha": 0.5, "batch_size": 1000}
    weighted = quick([TEACHER], **params).partial_fit(X, Y, sample_weight=weight)
    taken = quick([TEACHER], **params).partial_fit(X[1::2], Y[1::2])
    for a, b in zip(weights_of(weighted), weights_of(taken), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    student = taken.partial_fit(X)
    assert student.history_["train_hard_loss"][-1] == 0.0
    with pytest.raises(ValueError, match="requires y to be passed"):
        quick([LogisticRegression()], cv=3).partial_fit(X, classes=["no", "yes"])


def test_training_goes_on_from_fit():
    student = quick([TEACHER], max_epochs=40).fit(X, Y)
    fitted = student.score(X, Y)
    before = student.predict_proba(X)
    student.set_params(learning_rate_init=1e-7).partial_fit(*BATCHES[0])
    np.testing.assert_allclose(student.predict_proba(X), before, atol=1e-3)
    assert not np.array_equal(student.predict_proba(X), before)
    assert student.score(X, Y) == pytest.approx(fitted, abs=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("student_module", [None, "linear", "odd"])
def test_training_goes_on_after_unpickling_if_soft_targets_are_given(dtype, student_module):
    modules = {
        None: None,
        "linear": lambda d, k: nn.Sequential(nn.Linear(d, 6), nn.LayerNorm(6), nn.Linear(6, k)),
        "odd": lambda d, k: nn.Sequential(nn.Linear(d, 6), nn.Softplus(), nn.Linear(6, k)),
    }
    params = {"dtype": dtype, "student_module": modules[student_module], "max_epochs": 20}
    student = quick([TEACHER], learning_rate_init=0.02, **params).fit(X, Y)
    kind = TorchStudent if student_module == "odd" else StudentClassifier
    assert isinstance(student.student_, kind)
    loaded = pickle.loads(pickle.dumps(student))
    with pytest.raises(ValueError, match="left behind"):
        loaded.partial_fit(X, Y)
    before = loaded.predict_proba(X)
    loaded.set_params(learning_rate_init=1e-7).partial_fit(X, Y, teacher_proba=PROBA)
    np.testing.assert_allclose(loaded.predict_proba(X), before, atol=1e-3)
    for _ in range(5):
        loaded.set_params(learning_rate_init=0.01).partial_fit(X, Y, teacher_proba=PROBA)
    assert loaded.score(X, Y) > 0.8


def test_pickles_that_keep_teachers_go_on_by_themselves():
    student = quick([LogisticRegression()], cv=3, keep_teachers=True)
    student.partial_fit(X, Y, classes=["no", "yes"])
    loaded = pickle.loads(pickle.dumps(student))
    assert loaded.partial_fit(X, Y).score(X, Y) > 0.5
    lean = pickle.loads(pickle.dumps(student.set_params(keep_teachers=False)))
    assert not hasattr(lean, "teachers_")
    assert not hasattr(lean, "net_")


def test_training_goes_on_from_the_calibrated_student():
    unsure = Fixed(lambda rows: 0.5 + 0.6 * (TEACHER.predict_proba(rows) - 0.5), ("no", "yes"))
    params = {"augment": "munge", "batch_size": 100, "max_epochs": 10}
    student = quick([unsure], **params).fit(X, Y)
    assert student.calibration_temperature_ < 0.9
    before = student.predict_proba(X)
    Z = torch.as_tensor(student.student_.preprocessor_.transform(X), dtype=torch.float32)
    own = student.net_.module_(Z).softmax(-1).detach().numpy()
    np.testing.assert_allclose(own, before, atol=1e-5)
    slow = {"learning_rate_init": 1e-7, "augment": None}
    loaded = pickle.loads(pickle.dumps(student)).set_params(**slow)
    loaded.partial_fit(X, Y, teacher_proba=PROBA)
    student.set_params(**slow).partial_fit(X, Y)
    for one in (student, loaded):
        np.testing.assert_allclose(one.predict_proba(X), before, atol=1e-4)
        assert one.calibration_temperature_ == 1.0


def test_rules_weigh_by_the_first_batch():
    bad = Fixed((0.5, 0.5), ("no", "yes"))
    student = quick([TEACHER, bad], teacher_weights="validation")
    with pytest.warns(UserWarning, match="did not see X"):
        student.partial_fit(X, Y)
    learnt = student.teacher_weights_
    assert learnt[0] > 0.9
    proba = learnt[0] * PROBA[:100] + learnt[1] * 0.5
    by_hand = copy.deepcopy(student).partial_fit(*BATCHES[0], teacher_proba=proba)
    assert_same_student(student.partial_fit(*BATCHES[0]), by_hand)
    np.testing.assert_array_equal(student.teacher_weights_, learnt)
    alone = quick([TEACHER, bad], alpha=0.0).fit(X, Y)
    alone.set_params(alpha=0.5, teacher_weights="validation")
    with pytest.raises(ValueError, match=r"teacher_weights='validation' compares .* with labels"):
        alone.partial_fit(X, Y)
    alone.set_params(teacher_weights="confidence").partial_fit(X, Y)


def test_a_batch_without_soft_targets_forgets_no_teacher():
    student = quick([LogisticRegression()], cv=3).partial_fit(X, Y, classes=["no", "yes"])
    teachers = student.teachers_
    student.set_params(alpha=0.0).partial_fit(*BATCHES[0])
    assert student.teachers_ is teachers
    assert student.teacher_weights_.tolist() == [1.0]
    student.set_params(alpha=0.5).partial_fit(*BATCHES[1])
    assert student.history_["train_soft_loss"][-1] > 0


def test_the_decoupled_loss_needs_labels_in_every_batch():
    rows, labels = make_data(300, labels=("a", "b", "c"))
    student = quick([fitted_teacher(rows, labels)], loss="dkd").partial_fit(rows, labels)
    with pytest.raises(ValueError, match="there is no y"):
        student.partial_fit(rows)


def test_the_optimiser_goes_on_and_copies_do_not_share_it():
    student = quick([TEACHER]).partial_fit(*BATCHES[0])
    copies = [copy.copy(student), copy.deepcopy(student)]
    student.partial_fit(*BATCHES[1])
    for other in copies:
        assert_same_student(other.partial_fit(*BATCHES[1]), student)


def test_other_modules_keep_their_optimiser_too():
    def module(d, k):
        return nn.Sequential(nn.Linear(d, 6), nn.ReLU(), nn.Linear(6, k))

    student = quick([TEACHER], student_module=module).partial_fit(*BATCHES[0])
    student.partial_fit(*BATCHES[1])
    states = student.net_.optimizer_.state_dict()["state"].values()
    assert [int(state["step"]) for state in states] == [2] * 4


def test_a_clone_starts_afresh():
    student = quick([TEACHER]).partial_fit(X, Y)
    assert_same_student(clone(student).partial_fit(X, Y), student)


def test_synthetic_rows_only_if_asked_for():
    asked = []

    def noisy(table, n, *, sample_weight, random_state):
        asked.append((len(table), n))
        return table[:n] + 0.01

    student = quick([TEACHER], augment=noisy, n_synthetic=20)
    for rows, labels in BATCHES[:2]:
        student.partial_fit(rows, labels)
    assert asked == [(100, 20), (100, 20)]
    plain = quick([TEACHER], augment="auto").partial_fit(X, Y)
    assert_same_student(plain, quick([TEACHER], augment=None).partial_fit(X, Y))


def test_failures_leave_nothing_or_the_student_as_it_was():
    student = quick([TEACHER], learning_rate_init=1e30, dtype="float32", batch_size=10)
    with pytest.raises(FloatingPointError):
        student.partial_fit(X, Y)
    assert not hasattr(student, "classes_")
    student = quick([TEACHER], dtype="float32", batch_size=10).partial_fit(X, Y)
    before = weights_of(student)
    with pytest.raises(FloatingPointError):
        student.set_params(learning_rate_init=1e30).partial_fit(X, Y)
    for a, b in zip(weights_of(student), before, strict=True):
        np.testing.assert_array_equal(a, b)
    student.set_params(learning_rate_init=0.01).partial_fit(X, Y)
    assert np.isfinite(student.predict_proba(X)).all()


def test_early_stopping_has_no_epochs_to_compare():
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        quick([TEACHER], early_stopping=True).partial_fit(X, Y)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu"])
@pytest.mark.parametrize("sizes", [(), (4,), (6, 5)])
def test_a_frozen_network_thaws_with_its_weights(activation, sizes):
    student = quick([TEACHER], activation=activation, hidden_layer_sizes=sizes, max_epochs=3)
    loaded = pickle.loads(pickle.dumps(student.fit(X, Y)))
    loaded.set_params(learning_rate_init=1e-12).partial_fit(X, Y, teacher_proba=PROBA)
    np.testing.assert_allclose(loaded.predict_proba(X), student.predict_proba(X), atol=1e-6)


def test_a_pipeline_may_end_in_a_stream():
    pipeline = make_pipeline(StandardScaler().fit(X), quick([TEACHER]))
    scaled = pipeline[:-1].transform(X)
    assert pipeline[-1].partial_fit(scaled, Y).predict(scaled).shape == (600,)


@pytest.mark.parametrize("max_epochs", [0, True, "auto"])
def test_a_stream_with_epochs_that_are_no_number_leaves_no_student(max_epochs):
    student = quick([TEACHER]).fit(X, Y)
    with pytest.raises(ValueError, match="max_epochs must be None or an integer >= 1"):
        student.fit_stream([(X, TEACHER.predict_proba(X), Y)], max_epochs=max_epochs)
    assert not hasattr(student, "student_")
