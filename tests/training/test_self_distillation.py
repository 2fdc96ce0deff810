"""Laws of self-distillation: the targets of every epoch, on every path, and what is refused."""

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from quick_students import Counting, fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn
from training_zoo import ENCODING, SPEC, make_mlp, targets_of, training_set

from skdistill import (
    DistilledClassifierCV,
    Hint,
    StudentClassifier,
    TeachersLeftBehind,
    distillation_report,
    losses,
)
from skdistill.training import stream as _stream
from skdistill.training import trainer as _trainer
from skdistill.training.batches import Epochs
from skdistill.training.net import train
from skdistill.training.objective import Objective

X, Y = make_data()
X3, Y3 = make_data(labels=("ant", "bee", "cat"))
EYE = np.eye(2)[np.unique(Y, return_inverse=True)[1]]
TEACHER = fitted_teacher(X, Y)
PROBA = TEACHER.predict_proba(X)


class Watching(Callback):
    """A callback, which sends training down the path that shows batches."""


def trained(module, training, objective=None, *, constant_rate=False, **changes):
    objective = objective or Objective(3.0, 0.7)
    spec = replace(SPEC, **changes)
    return train(module, objective, training, spec, seed=3, constant_rate=constant_rate)


def self_taught(weight=0.5, **params):
    return quick("self", self_distillation=weight, **params)


def weights_of(student):
    return np.concatenate([a.ravel() for layer in student.student_.layers_ for a in layer.arrays])


def assert_same_student(one, other):
    np.testing.assert_array_equal(weights_of(one), weights_of(other))


def unlike(one, other):
    return np.abs(weights_of(one) - weights_of(other)).max() > 1e-3


# --- the targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [16, 50])
@pytest.mark.parametrize("shape", [{}, {"encoding": ENCODING}], ids=["plain", "embedding"])
def test_without_teachers_it_is_the_published_method(shape, batch_size):
    training = training_set()
    one_hot = np.eye(3)[training.label]
    training = replace(training, proba=one_hot, soft_weight=np.ones(50))
    ours, theirs = make_mlp(**shape), make_mlp(**shape)
    settings = {"max_epochs": 5, "batch_size": batch_size, "self_distillation": 0.8}
    objective = Objective(1.0, 1.0)
    trained(ours, training, objective, constant_rate=True, **settings)

    rows, labels = torch.tensor(training.X), torch.tensor(one_hot)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.02, weight_decay=0.01)
    order = torch.Generator().manual_seed(3)
    for epoch in range(1, 6):
        share = 0.8 * epoch / 5
        with torch.no_grad():
            past = labels if epoch == 1 else theirs(rows).softmax(1)
        target = (1 - share) * labels + share * past
        whole = batch_size == 50
        shuffled = torch.arange(50) if whole else torch.randperm(50, generator=order)
        for batch in shuffled.tensor_split(-(-50 // batch_size)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(theirs(rows[batch]), target[batch]).backward()
            optimizer.step()
    torch.testing.assert_close(ours.theta, theirs.theta, rtol=0, atol=1e-11)


@pytest.mark.parametrize("teachers", ["self", [TEACHER]], ids=["self", "teachers"])
def test_the_target_of_an_epoch_is_the_documented_mixture(teachers):
    seen = []

    def spy(student_logits, target_proba, y, *, temperature):
        proba = student_logits.detach().softmax(1).numpy()
        seen.append((proba.copy(), target_proba.numpy().copy()))
        return losses.kl_divergence(student_logits, target_proba, temperature=temperature)

    # In one batch and without dropout, the student of the epoch before is the one that is trained.
    settings = {"loss": spy, "max_epochs": 8, "temperature": 3.0, "calibration": None}
    quick(teachers, self_distillation=0.6, **settings).fit(X, Y)
    first = EYE if teachers == "self" else PROBA
    assert len(seen) == 8
    np.testing.assert_allclose(seen[0][1], first)
    for t, (before, target) in enumerate(seen[1:], start=2):
        share = 0.6 * t / 8
        np.testing.assert_allclose(target, (1 - share) * first + share * before, atol=1e-12)


def test_alpha_and_self_distillation_multiply_where_labels_are_the_targets():
    # At temperature 1 both terms are cross-entropies, so what counts is the mixed target.
    one, other = self_taught(0.8, alpha=0.5), self_taught(0.4, alpha=1.0)
    np.testing.assert_allclose(
        weights_of(one.fit(X, Y)), weights_of(other.fit(X, Y)), rtol=0, atol=1e-6
    )


def test_later_parts_of_an_epoch_are_answered_with_the_weights_it_began_with():
    training = training_set()
    module = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)
    ).double()
    rows, targets = torch.tensor(training.X), targets_of(training)

    class Halves(Epochs):
        def _read(self):
            for half in torch.arange(50).split([20, 30]):
                yield rows[half], targets.take(half.numpy())

    batches = Halves((rows, targets), module, 10, 3, self_distillation=0.9)
    for epoch in range(1, 4):
        module.eval()
        with torch.no_grad():
            before = module(rows).softmax(1)
        module.train()
        for part, half in zip(batches.parts(), torch.arange(50).split([20, 30]), strict=True):
            share = 0.3 * epoch if epoch > 1 else 0.0
            expected = (1 - share) * targets.proba[half] + share * before[half].numpy()
            np.testing.assert_allclose(part.targets.proba, expected, rtol=1e-12)
            np.testing.assert_array_equal(part.targets.label, targets.label[half])
            assert module.training
            # A step: other weights, and other running means in the normalisation.
            state = copy.deepcopy(module.state_dict())
            module(part.X)
            with torch.no_grad():
                module[0].weight.add_(1.0)
            assert not torch.equal(state["0.weight"], module.state_dict()["0.weight"])
    assert module[1].num_batches_tracked == 6


# --- the paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [training_set(), training_set(held=20)], ids=["", "held"])
def test_the_paths_agree(training):
    mine = [make_mlp(activation="tanh", hidden_layer_sizes=(6,)) for _ in range(3)]
    theirs = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for linear, (weight, bias) in zip(theirs[::2], mine[0].pairs(mine[0].theta), strict=True):
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias)

    def kl(student_logits, target_proba, y, *, temperature):
        return losses.kl_divergence(student_logits, target_proba, temperature=temperature)

    settings = {"self_distillation": 0.8, "max_epochs": 12}
    trained(mine[0], training, **settings)
    trained(mine[1], training, callbacks=[Watching()], **settings)
    trained(mine[2], training, Objective(3.0, 0.7, kl), **settings)
    trained(theirs, training, **settings)
    rows = torch.tensor(training.X)
    for other in (mine[1], mine[2], theirs):
        torch.testing.assert_close(other(rows), mine[0](rows), rtol=0, atol=1e-10)


PATHS = {
    "array": {},
    "watched": {"callbacks": [Watching()]},
    "mse": {"loss": "mse"},
    "dkd": {"loss": "dkd"},
    "module": {"student_module": lambda d, k: nn.Sequential(nn.Linear(d, 5), nn.Linear(5, k))},
    "dropout": {"dropout": 0.3, "batch_size": 32, "dtype": "float32"},
    "stopped": {"early_stopping": True, "n_iter_no_change": 2},
}


@pytest.mark.parametrize("path", PATHS)
def test_a_vanishing_weight_gives_the_student_of_none_to_the_bit(path):
    teachers = [fitted_teacher(X3, Y3)]
    plain, vanishing, half = (
        quick(teachers, self_distillation=weight, **PATHS[path]).fit(X3, Y3)
        for weight in (0.0, 1e-300, 0.5)
    )
    assert_same_student(plain, vanishing)
    assert unlike(plain, half)


def test_off_it_has_no_part():
    plain = quick([TEACHER]).fit(X, Y)
    # Nor where no soft term would carry it.
    hard = quick([TEACHER], self_distillation=0.5, alpha=0.0).fit(X, Y)
    own = self_taught(alpha=0.0).fit(X, Y)
    assert_same_student(hard, quick([TEACHER], alpha=0.0).fit(X, Y))
    assert_same_student(hard, own)
    assert_same_student(hard, self_taught(0.0, alpha=0.0).fit(X, Y))
    assert unlike(plain, quick([TEACHER], self_distillation=0.9).fit(X, Y))


@pytest.mark.parametrize("is_one_group", [True, False])
def test_a_stream_gives_the_student_of_the_rows_in_memory(monkeypatch, is_one_group):
    monkeypatch.setattr(_stream.TrainingStream, "is_one_group", is_one_group)
    params = {"self_distillation": 0.7, "calibration": None, "batch_size": 32}
    fitted = quick([TEACHER], **params).fit(X, Y, teacher_proba=PROBA)
    streamed = quick([TEACHER], **params).fit_stream([(X, PROBA, Y)])
    assert_same_student(fitted, streamed)


def test_a_stream_of_many_shards_is_refined_too():
    shards = [(X[i::6], PROBA[i::6], Y[i::6]) for i in range(6)]
    params = {"batch_size": 8, "random_state": 0}
    students = [quick(self_distillation=w, **params).fit_stream(shards) for w in (0.0, 0.8, 0.8)]
    assert_same_student(students[1], students[2])
    assert unlike(students[0], students[1])


def test_the_planned_epochs_count_where_training_stops_early():
    training = training_set(held=40)
    settings = {"max_epochs": 200, "self_distillation": 0.8, "learning_rate_init": 0.1}
    stopped = trained(make_mlp(), training, n_iter_no_change=3, **settings)
    whole = trained(make_mlp(), training, n_iter_no_change=200, **settings)
    n = len(stopped.history)
    assert n < 200 == len(whole.history)
    assert stopped.history[:, "train_loss"] == whole.history[:n, "train_loss"]


def test_of_one_epoch_there_is_none_before_and_that_is_said():
    with pytest.warns(UserWarning, match=r"self_distillation=0.5 has no part: .* max_epochs"):
        taught = self_taught(max_epochs=1, alpha=1.0).fit(X, Y)
    np.testing.assert_allclose(
        weights_of(taught), weights_of(quick("self", alpha=0, max_epochs=1).fit(X, Y)), atol=1e-7
    )
    with pytest.warns(UserWarning, match="has no part"):
        quick(self_distillation=0.5).fit_stream([(X, PROBA, Y)], max_epochs=1)


def test_weights_act_as_repeated_rows():
    counts = np.random.default_rng(0).integers(0, 3, size=len(X))
    rows = np.repeat(np.arange(len(X)), counts)
    weighed = self_taught(0.7).fit(X, Y, sample_weight=counts)
    repeated = self_taught(0.7).fit(X[rows], Y[rows])
    np.testing.assert_allclose(weights_of(weighed), weights_of(repeated), rtol=0, atol=1e-6)


def test_the_control_and_the_plain_baseline_learn_from_labels_alone(monkeypatch):
    inner, settings = _trainer.train, []

    def watch(module, objective, training, own, **kwargs):
        settings.append((float(objective.alpha), own.self_distillation))
        return inner(module, objective, training, own, **kwargs)

    monkeypatch.setattr(_trainer, "train", watch)
    student = quick([TEACHER], self_distillation=0.5, batch_size=32, augment="munge").fit(X, Y)
    assert settings == [(0.9, 0.5), (0.0, 0.0)]
    distillation_report(student, X, Y, X_train=X, y_train=Y, n_bootstrap=100)
    assert settings[2:] == [(0.0, 0.0)]


# --- teachers="self" -----------------------------------------------------------------------------


def test_its_own_teacher_asks_and_keeps_nobody():
    student = self_taught(cv=5, averaging="logits", augment="auto").fit(X, Y)
    assert student.teachers_ == []
    assert student.teacher_weights_ is None
    assert student.calibration_temperature_ == 1.0
    assert student.score(X, Y) > 0.8
    # None of these has a part.
    assert_same_student(student, self_taught(calibration=None).fit(X, Y))
    params = student.get_params()
    assert params["teachers"] == "self"
    assert params["self_distillation"] == 0.5
    assert clone(student).teachers == "self"
    assert self_taught().__sklearn_tags__().input_tags.string
    assert "self" in student._repr_html_()
    assert str(student.get_metadata_routing()) == str(quick([TEACHER]).get_metadata_routing())


def test_beside_teachers_no_labels_are_needed():
    student = quick([TEACHER], self_distillation=0.5).fit(X)
    assert unlike(student, quick([TEACHER]).fit(X))
    extra, _ = make_data(seed=1)
    assert quick([TEACHER], self_distillation=0.5).fit(X, Y, X_unlabeled=extra).score(X, Y) > 0.8
    net = MLPClassifier((8,), max_iter=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(X, Y)
    hints = [Hint(layer=0, student_layer=0, kind="mse")]
    hinted = quick([net], hints=hints, self_distillation=0.9).fit(X, Y)
    assert unlike(hinted, quick([net], hints=hints).fit(X, Y))
    assert unlike(hinted, quick([net], self_distillation=0.9).fit(X, Y))
    folds = quick([LogisticRegression()], cv=3, self_distillation=0.5).fit(X, Y)
    assert unlike(folds, quick([LogisticRegression()], cv=3).fit(X, Y))


@pytest.mark.parametrize(
    ("params", "given", "words"),
    [
        ({"self_distillation": 0.0}, {}, r"needs self_distillation > 0: .* or alpha=0 for a plain"),
        ({"teacher_weights": [1.0]}, {}, r"teacher_weights has no place beside teachers='self'"),
        ({"hints": [Hint(layer=0)]}, {}, r"hints has no place beside teachers='self'"),
        ({}, {"teacher_proba": PROBA}, r"teacher_proba has no place .* or teacher_proba=None"),
        ({}, {"X_unlabeled": X}, r"X_unlabeled has no place .* Pass teachers=\[...\]"),
        ({"augment": "munge"}, {}, r"augment='munge' needs teachers that label synthetic rows"),
        ({}, {"y": None}, r"y is None: teachers='self' takes the labels as its first targets"),
        ({"self_distillation": 1.0}, {}, r"'self_distillation' .* number in \[0, 1\); got 1.0"),
    ],
)
def test_what_its_own_teacher_cannot_use_is_refused(params, given, words):
    student = self_taught().set_params(**params)
    with pytest.raises(ValueError, match=words):
        student.fit(**{"X": X, "y": Y, **given})
    assert not hasattr(student, "student_")


def test_other_words_are_no_teachers():
    with pytest.raises(TypeError, match=r"got 'myself'\. The only word .* is 'self'"):
        quick("myself", self_distillation=0.5).fit(X, Y)
    with pytest.raises(ValueError, match="got an empty one"):
        quick([], self_distillation=0.5).fit(X, Y)


def test_the_shards_of_a_stream_hold_the_targets():
    with pytest.raises(ValueError, match=r"no place in fit_stream: .* Pass teachers=None"):
        self_taught().fit_stream([(X, PROBA, Y)])


def test_batches_have_no_epoch_before():
    student = self_taught()
    assert not hasattr(student, "partial_fit")
    with pytest.raises(AttributeError) as caught:
        student.partial_fit(X, Y, classes=["no", "yes"])
    assert "self_distillation=0.5" in str(caught.value.__cause__)
    assert "Pass self_distillation=0" in str(caught.value.__cause__)
    student.fit(X, Y)
    student.set_params(self_distillation=0.0)
    with pytest.raises(ValueError, match="needs self_distillation > 0"):
        student.partial_fit(X, Y)
    before = weights_of(student)
    assert not np.array_equal(before, weights_of(student.set_params(alpha=0).partial_fit(X, Y)))
    first = quick("self", alpha=0).partial_fit(X, Y, classes=["no", "yes"])
    assert_same_student(first, quick([TEACHER], alpha=0).partial_fit(X, Y))
    with pytest.raises(ValueError, match="classes must be passed"):
        quick("self", alpha=0).partial_fit(X, Y)


def test_a_report_says_that_there_are_no_teachers():
    student = self_taught().fit(X, Y)
    with pytest.raises(ValueError, match=r"teachers='self'.* Pass teachers="):
        distillation_report(student, X, Y)
    report = distillation_report(
        student, X, Y, X_train=X, y_train=Y, teachers=[TEACHER], n_bootstrap=100
    )
    # They answered no row of its training set.
    assert "Used as they were" not in str(report)


# --- files ---------------------------------------------------------------------------------------


def test_a_lean_pickle_keeps_the_word_and_can_be_fitted_again():
    student = self_taught().fit(X, Y)
    lean = pickle.loads(pickle.dumps(student))
    assert lean.teachers == "self"
    np.testing.assert_array_equal(lean.predict_proba(X), student.predict_proba(X))
    assert_same_student(lean.fit(X, Y), student)
    with_teachers = pickle.loads(pickle.dumps(quick([TEACHER], self_distillation=0.5).fit(X, Y)))
    assert isinstance(with_teachers.teachers, TeachersLeftBehind)
    assert with_teachers.self_distillation == 0.5


def test_the_student_is_saved_as_any_other(tmp_path):
    student = self_taught().fit(X, Y)
    student.student_.save(tmp_path / "student.safetensors")
    loaded = StudentClassifier.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    session = onnxruntime.InferenceSession(student.student_.to_onnx().SerializeToString())
    _, proba = session.run(None, {session.get_inputs()[0].name: X.astype(np.float32)})
    np.testing.assert_allclose(proba, student.predict_proba(X), atol=1e-5)


# --- searches ------------------------------------------------------------------------------------


def test_it_stands_in_a_grid():
    grid = [{"self_distillation": [0.3, 0.9]}, {"alpha": [0.0]}]
    search = GridSearchCV(self_taught(), grid, cv=3, scoring="neg_log_loss", error_score="raise")
    search.fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    assert search.best_estimator_.teachers == "self"
    beside = GridSearchCV(
        make_pipeline(StandardScaler(), quick([FrozenEstimator(TEACHER)], preprocessor=None)),
        {"distilledclassifier__self_distillation": [0.0, 0.5]},
        cv=3,
        scoring="neg_log_loss",
        error_score="raise",
    ).fit(X, Y)
    assert len(set(beside.cv_results_["mean_test_score"])) == 2


@pytest.mark.parametrize("teachers", ["self", [LogisticRegression()]], ids=["self", "teachers"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_search_finds_the_scores_of_a_grid_search(teachers, dtype):
    cv = {} if teachers == "self" else {"cv": 3}
    student = quick(teachers, self_distillation=0.8, max_epochs=8, dtype=dtype, **cv)
    student.set_params(batch_size=16)
    with warnings.catch_warnings():
        # With teachers="self" nobody is prefit, and nothing is said of it.
        warnings.simplefilter("error")
        ours = DistilledClassifierCV(
            student, temperatures=[1, 4], alphas=[0, 0.5, 1], cv=3, scoring="neg_log_loss"
        ).fit(X, Y)
    theirs = GridSearchCV(
        student,
        {"temperature": [1, 4], "alpha": [0, 0.5, 1]},
        cv=3,
        scoring="neg_log_loss",
    ).fit(X, Y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-6
    )


@pytest.mark.parametrize("shape", [{}, {"dropout": 0.3, "encoding": ENCODING}])
def test_a_stack_of_one_trains_the_very_student(shape):
    training = training_set(500)
    settings = {"self_distillation": 0.8, "dtype": "float32", "max_epochs": 20}
    stack = trained(
        make_mlp(n_students=1, **shape),
        training,
        Objective([3.0], [0.7]),
        **settings,
    )
    alone = trained(make_mlp(**shape), training, **settings)
    assert torch.equal(stack.module_.theta[0], alone.module_.theta)


def test_the_search_asks_the_teachers_once_a_fold():
    Counting.n_fits = 0
    student = quick([Counting()], cv=2, self_distillation=0.5, max_epochs=3)
    search = DistilledClassifierCV(
        student, temperatures=[1, 2, 4], alphas=[0.5, 1], cv=3, refit=False
    )
    search.fit(X, Y)
    assert Counting.n_fits == 3 * 2
