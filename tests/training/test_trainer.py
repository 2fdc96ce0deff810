"""The trainer: stacks that are cut, training that goes on, the control, and what is warned of."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from quick_students import Fixed, fitted_teacher, make_data, quick
from sklearn.exceptions import ConvergenceWarning
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback
from torch import nn
from training_zoo import PAIRS, SPEC, training_set

from skdistill import Hint, StudentClassifier, TorchStudent, losses
from skdistill.teachers.hints import ActiveHint
from skdistill.training import trainer as _trainer
from skdistill.training.data import HintTargets
from skdistill.training.objective import Objective, Targets
from skdistill.training.trainer import StudentTrainer


def with_synthetic(n=600, n_synthetic=300, **changes):
    training = training_set(n)
    label = training.label.copy()
    label[n - n_synthetic :] = -1
    weight = training.hard_weight * (label >= 0)
    return replace(
        training,
        label=label,
        hard_weight=weight,
        n_fit=n - n_synthetic,
        n_synthetic=n_synthetic,
        **changes,
    )


def with_hint(training, kind="mse"):
    values = np.random.default_rng(0).normal(size=(len(training.X), 4)) + 1
    asked = ActiveHint(Hint(layer=0, student_layer=0, kind=kind), 0, "hints[0]")
    layer = HintTargets(asked, values, np.ones(len(values)), None)
    return replace(training, hidden=[layer])


def squared(student_logits, target_proba, y, *, temperature):
    return (student_logits - target_proba).square().sum(-1)


def assert_same(one, other):
    for ours, theirs in zip(one.layers, other.layers, strict=True):
        for a, b in zip(ours.arrays, theirs.arrays, strict=True):
            np.testing.assert_array_equal(a, b)
    for name, values in one.history.items():
        np.testing.assert_allclose(values, other.history[name], rtol=1e-5)


def assert_alike(one, other):
    for ours, theirs in zip(one.layers, other.layers, strict=True):
        for a, b in zip(ours.arrays, theirs.arrays, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
    for name, values in one.history.items():
        np.testing.assert_allclose(values, other.history[name], rtol=1e-9)


# The paths


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd", squared])
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3, "self_distillation": 0.5}], ids=str)
def test_a_callback_that_looks_at_batches_changes_nothing_but_the_rounding(loss, changes):
    spec = replace(SPEC, loss=loss, **changes)
    for data in (training_set(), with_hint(training_set())):
        plain = StudentTrainer(spec).fit(data, 3)
        hooked = StudentTrainer(replace(spec, callbacks=[Callback()])).fit(data, 3)
        assert_alike(plain, hooked)
        assert ("train_hint_loss" in plain.history) == bool(data.hidden)


def test_torch_trains_a_stack_and_its_hints_as_numpy_does():
    for data, pairs in ((training_set(), PAIRS), (with_hint(training_set()), PAIRS[:1])):
        plain = StudentTrainer(SPEC).fit_stack(data, pairs, 3)
        hooked = StudentTrainer(replace(SPEC, callbacks=[Callback()])).fit_stack(data, pairs, 3)
        for one, other in zip(plain, hooked, strict=True):
            assert_alike(one, other)


# Stacks


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2}], ids=str)
def test_a_cut_stack_holds_the_students_of_the_whole_to_the_bit(monkeypatch, loss, changes):
    trainer = StudentTrainer(replace(SPEC, loss=loss, dtype="float32", **changes))
    data = training_set(100)
    whole = trainer.fit_stack(data, PAIRS, 3)
    monkeypatch.setitem(_trainer._STACK_BYTES, "cpu", 1)
    alone = trainer.fit_stack(data, PAIRS, 3)
    for one, other, (temperature, alpha) in zip(whole, alone, PAIRS, strict=True):
        assert_same(one, other)
        spec = replace(trainer.spec, temperature=temperature, alpha=alpha)
        assert_same(one, StudentTrainer(spec).fit(data, 3))


def test_students_with_targets_or_projections_of_their_own_are_trained_one_by_one():
    own = replace(SPEC, self_distillation=0.5)
    for spec, data in ((own, training_set()), (SPEC, with_hint(training_set()))):
        stack = StudentTrainer(spec).fit_stack(data, PAIRS[:2], 3)
        assert stack[0].net is not stack[1].net
        alone = StudentTrainer(replace(spec, temperature=3.0, alpha=0.7)).fit(data, 3)
        assert_same(stack[1], alone)


def test_a_student_that_diverged_is_none():
    first, second = StudentTrainer(SPEC).fit_stack(training_set(), [(1.0, 0.5), (1e-320, 0.5)], 3)
    assert second is None
    assert first.freeze(4).classes_.tolist() == [0, 1, 2]


# What is asked in vain


def test_a_soft_term_needs_a_row_that_carries_it():
    data = replace(training_set(), soft_weight=np.zeros(50))
    for train in (
        lambda: StudentTrainer(SPEC).fit(data, 0),
        lambda: StudentTrainer(SPEC).fit_stack(data, PAIRS, 0),
        lambda: StudentTrainer(SPEC).fit_further(data, 0, student=None),
    ):
        with pytest.raises(ValueError, match=r"asks for soft targets, and no row"):
            train()
    assert StudentTrainer(replace(SPEC, alpha=0.0)).fit(data, 0).n_iter == 6


def test_warnings_point_at_the_call():
    with pytest.warns(ConvergenceWarning, match="training diverged") as caught:
        StudentTrainer(replace(SPEC, learning_rate_init=1e6, loss="mse")).fit(training_set(), 0)
    assert [w.filename for w in caught] == [__file__]
    with pytest.warns(UserWarning, match="self_distillation=0.5 has no part") as caught:
        StudentTrainer(replace(SPEC, self_distillation=0.5, max_epochs=1)).fit(training_set(), 0)
    assert [w.filename for w in caught] == [__file__]


# Training that goes on


@pytest.mark.parametrize(
    "make", [None, lambda n, k: nn.Sequential(nn.Linear(n, 5), nn.Linear(5, k))]
)
def test_further_rows_are_learned_by_a_copy_from_the_moments_that_were_left(make):
    trainer = StudentTrainer(replace(SPEC, student_module=make, dtype="float64", batch_size=50))
    data = training_set()
    first = trainer.fit(data, 0, one_pass=True)
    assert first.n_iter == 1
    before = copy.deepcopy(first.net.module_.state_dict())
    further = trainer.fit_further(data, 1, student=first.freeze(4), net=first.net)
    again = trainer.fit_further(data, 1, student=first.freeze(4), net=first.net)
    assert_same(further, again)
    for name, values in first.net.module_.state_dict().items():
        assert torch.equal(values, before[name])
    # Two steps of Adam on all rows, which is what two epochs at a constant rate are.
    both = replace(trainer.spec, max_epochs=2)
    module = _trainer.build_module(both, data, 0)
    objective = Objective(both.temperature, both.alpha, both.loss)
    net = _trainer.train(module, objective, data, both, seed=0, constant_rate=True)
    assert_same_module(further.net.module_, net.module_)


def assert_same_module(one, other):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_without_a_net_training_goes_on_from_the_student():
    trainer, data = StudentTrainer(SPEC), training_set()
    student = trainer.fit(data, 0).freeze(4)
    further = StudentTrainer(replace(SPEC, learning_rate_init=1e-12)).fit_further(
        data, 1, student=student
    )
    np.testing.assert_allclose(
        further.freeze(4).predict_proba(data.X), student.predict_proba(data.X), atol=1e-6
    )


# The control, and calibration


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"student_module": nn.Linear}, with_synthetic()),
        ({"batch_size": 600}, with_synthetic()),
        ({}, with_synthetic(n_synthetic=600)),
    ],
    ids=["own module", "one batch", "no labels"],
)
def test_there_is_no_control(changes, data):
    assert StudentTrainer(replace(SPEC, **changes)).fit_control(data, 0) is None


def test_a_control_that_diverges_is_none():
    spec = replace(SPEC, learning_rate_init=1e200)
    assert StudentTrainer(spec).fit_control(with_synthetic(), 0) is None


def test_calibration_divides_the_logits_and_what_training_goes_on_from():
    data, trainer = with_synthetic(), StudentTrainer(replace(SPEC, max_epochs=3))
    trained = trainer.fit(data, 0)
    control = replace(trainer.fit_control(data, 0), confidence=0.99)
    control = replace(control, teacher_log_loss=control.log_loss)
    raw = trained.net.module_(torch.tensor(data.X)).detach()
    own = trained.calibrated(control)
    assert own.calibration_temperature < 1
    divided = own.net.module_(torch.tensor(data.X)).detach()
    torch.testing.assert_close(divided, raw / own.calibration_temperature)
    log_proba = own.freeze(4).predict_log_proba(data.X)
    np.testing.assert_allclose(log_proba, divided.log_softmax(1).numpy(), atol=1e-5)
    assert trained.calibration_temperature == 1


def test_what_cannot_be_frozen_stays_a_module():
    class Sine(nn.Linear):
        def forward(self, X):
            return torch.sin(super().forward(X))

    data = training_set()
    trained = StudentTrainer(replace(SPEC, student_module=Sine)).fit(data, 0)
    student = trained.freeze(4)
    assert type(student) is TorchStudent
    assert student.module_ is not trained.net.module_
    assert trained.calibrated(None) is trained
    assert type(StudentTrainer(SPEC).fit(data, 0).freeze(4)) is StudentClassifier


def test_the_trained_student_has_the_loss_that_was_recorded():
    data = training_set()
    trained = StudentTrainer(replace(SPEC, learning_rate_init=1e-12)).fit(data, 0)
    logits = trained.net.module_(torch.tensor(data.X))
    rows = losses.kl_divergence(logits, torch.tensor(data.proba), temperature=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        soft = (torch.tensor(data.soft_weight) * rows).mean().item()
    np.testing.assert_allclose(trained.history["train_soft_loss"], soft, rtol=1e-8)


X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_a_rate_that_is_too_high(loss, early_stopping, rate):
    """Whatever it does to the network, the student is good, or a warning says that it is not."""
    rows, labels = make_data(labels=("no", "perhaps", "yes"))
    student = quick(
        [fitted_teacher(rows, labels)],
        loss=loss,
        early_stopping=early_stopping,
        learning_rate_init=rate,
        hidden_layer_sizes=(8, 8),
        max_epochs=20,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.fit(rows, labels)
    good = student.score(rows, labels) > 1 / 3
    said = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    assert good or said
    assert all(f"Lower learning_rate_init={rate}" in str(w.message) for w in said)
    assert all(w.filename == __file__ for w in said)


def test_far_worse_than_equal_probabilities():
    student = quick([TEACHER], loss="mse", learning_rate_init=1e6, max_epochs=3)
    with pytest.warns(ConvergenceWarning, match=r"The student's loss is .*, and equal .* have"):
        student.fit(X, Y)


def test_units_that_died():
    """No unit answers any row: each gets the biases of the last layer."""

    def loss(student_logits, target_proba, y, *, temperature):
        return 1e9 * student_logits.square().sum(-1)

    student = quick([TEACHER], loss=loss, learning_rate_init=1e6, max_epochs=5)
    with pytest.warns(ConvergenceWarning, match="gives every row the same answer"):
        student.fit(X, Y)
    assert (student.predict_proba(X) == student.predict_proba(X)[:1]).all()


@pytest.mark.parametrize(
    "params",
    [
        {"max_epochs": 1},
        {"max_epochs": 1, "learning_rate_init": 1e-9},
        {"temperature": 1e9, "alpha": 1.0, "max_epochs": 1},
        {"temperature": 1e9, "alpha": 0.5},
        {"temperature": 1e4, "alpha": 1.0},
    ],
    ids=str,
)
def test_the_untrained_and_the_hot_are_let_be(params):
    quick([TEACHER], **params).fit(X, Y)


def test_rows_that_are_all_alike_have_one_answer():
    quick(alpha=0.0, max_epochs=2).fit(np.ones_like(X), Y)


@pytest.mark.parametrize(("alpha", "said"), [(1.0, 0), (0.5, 1)])
def test_one_answer_where_there_is_one_to_learn(alpha, said):
    """A teacher's one answer can be learned by units that died, labels cannot."""

    def loss(student_logits, target_proba, y, *, temperature):
        return 1e9 * student_logits.square().sum(-1)

    student = quick([Fixed([0.3, 0.7])], loss=loss, learning_rate_init=1e6, alpha=alpha)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.fit(X, (Y == "yes").astype(int))
    assert (student.predict_proba(X) == student.predict_proba(X)[:1]).all()
    assert sum(issubclass(w.category, ConvergenceWarning) for w in caught) == said


def test_a_stream_is_judged_too():
    shards = [(X, TEACHER.predict_proba(X), Y)]
    student = quick([TEACHER], learning_rate_init=1e6, loss="mse", max_epochs=3)
    with pytest.warns(ConvergenceWarning, match="training diverged"):
        student.fit_stream(shards)


def test_a_loss_of_the_users_own_is_not_compared():
    def loss(student_logits, target_proba, y, *, temperature):
        return (student_logits - 50).square().sum(-1)

    quick([TEACHER], loss=loss, alpha=1.0, max_epochs=1).fit(X, Y)


def test_one_batch_is_not_judged():
    """A class that arrives late, or a row with a wrong label, is no divergence."""
    student = quick([TEACHER], alpha=0.0).fit(X, np.zeros(len(X), dtype=int) + (X[:, 0] > 0))
    for _ in range(5):
        student.partial_fit(X[X[:, 0] > 1][:2], [0, 0])


def test_saturated_answers_that_are_alike_are_seen():
    """At such a temperature the logits differ by millions, and one class has all of every row."""
    rows, labels = make_data(labels=("no", "perhaps", "yes"))
    teacher = DecisionTreeClassifier(random_state=0).fit(rows, labels)
    student = quick([teacher], temperature=1e6, alpha=1.0, augment=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.fit(rows, labels)
    alike = len(np.unique(student.predict_proba(rows), axis=0)) == 1
    said = any("the same answer" in str(w.message) for w in caught)
    assert said == alike


def test_rounding_at_a_huge_temperature_is_no_divergence():
    """T²·KL of nearly equal answers is noise there, hundreds of nats in float64."""
    objective = Objective(1e9, 1.0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        proba, logits = rng.dirichlet([1, 1], size=1), rng.normal(size=(1, 2)) / 100
        targets = Targets(proba, np.zeros(1, dtype=int), np.ones(1), np.ones(1))
        assert objective.worse_than_uniform(logits, targets) is None
