"""Laws of DistilledClassifier: what it learns, what it refuses, what it leaves alone."""

import re

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from quick_students import Counting, Fixed, fitted_teacher, make_data, quick
from sklearn import config_context
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import (
    CallableTeacher,
    DistilledClassifier,
    StudentClassifier,
    TorchStudent,
    TorchTeacher,
)

X, Y = make_data()
X3, Y3 = make_data(labels=("ant", "bee", "cat"))
TEACHER = fitted_teacher(X, Y)
TEACHER3 = fitted_teacher(X3, Y3)


def refuse(X):
    raise AssertionError("must not be asked")


# What it learns


def test_fitted_attributes():
    classifier = quick([TEACHER]).fit(X, Y)
    np.testing.assert_array_equal(classifier.classes_, ["no", "yes"])
    assert classifier.n_features_in_ == 3
    assert not hasattr(classifier, "feature_names_in_")
    assert type(classifier.student_) is StudentClassifier
    assert classifier.n_iter_ == 30
    assert {len(values) for values in classifier.history_.values()} == {30}
    assert classifier.teachers_ == [TEACHER]
    assert isinstance(classifier.net_, skorch.NeuralNet)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    np.testing.assert_array_equal(
        quick([LogisticRegression()], cv=3).fit(frame, Y).feature_names_in_, ["a", "b", "c"]
    )


def test_probabilities_agree_with_each_other():
    classifier = quick([TEACHER3]).fit(X3, Y3)
    proba = classifier.predict_proba(X3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_allclose(np.log(proba), classifier.predict_log_proba(X3), atol=1e-12)
    np.testing.assert_array_equal(classifier.classes_[proba.argmax(axis=1)], classifier.predict(X3))


def test_long_training_reaches_the_teacher():
    classifier = quick([TEACHER], alpha=1.0, temperature=1.0, max_epochs=600).fit(X, Y)
    difference = classifier.predict_proba(X) - TEACHER.predict_proba(X)
    assert np.abs(difference).max() < 0.05


def test_without_soft_term_no_teacher_is_asked():
    silent = Fixed(refuse, ["no", "yes"])
    plain = quick([silent], alpha=0.0, augment="munge").fit(X, Y)
    for other in (
        quick([TEACHER], alpha=0.0, temperature=9.0),
        quick(alpha=0.0),
        quick([LogisticRegression()], alpha=0.0, cv=3),
    ):
        np.testing.assert_array_equal(plain.predict_proba(X), other.fit(X, Y).predict_proba(X))
    assert not np.allclose(plain.predict_proba(X), quick([TEACHER]).fit(X, Y).predict_proba(X))


def test_without_hard_term_labels_do_not_matter():
    wrong = np.where(Y == "no", "yes", "no")
    soft = quick([TEACHER], alpha=1.0).fit(X, Y)
    with pytest.warns(UserWarning, match="agree with y"):
        flipped = quick([TEACHER], alpha=1.0).fit(X, wrong)
    np.testing.assert_array_equal(soft.predict_proba(X), flipped.predict_proba(X))


def test_infinite_temperature_is_uniform_over_the_classes_with_mass():
    answers = {"uniform": [0.9, 0.09, 0.01], "two": [0.9, 0.1, 0.0]}
    for target, answer in answers.items():
        teacher = Fixed(answer, ["ant", "bee", "cat"])
        student = quick(
            [teacher], alpha=1.0, temperature=1e4, max_epochs=400, loss=uniform_loss(target)
        )
        with pytest.warns(UserWarning, match="agree with y"):
            student.fit(X3, Y3)


def uniform_loss(target):
    """Return a loss that checks the tempered target it is given, and goes on."""
    from skdistill import losses

    expected = {"uniform": [1 / 3, 1 / 3, 1 / 3], "two": [0.5, 0.5, 0]}[target]

    def loss(student_logits, target_proba, y, *, temperature):
        tempered = losses.temper(target_proba, temperature)
        torch.testing.assert_close(
            tempered, torch.tensor([expected] * len(y)).to(tempered), atol=1e-3, rtol=0
        )
        return losses.kl_divergence(student_logits, target_proba, temperature=temperature)

    return loss


def test_two_equal_teachers_equal_one_and_order_does_not_matter():
    other = GaussianNB().fit(X, Y)
    one = quick([TEACHER]).fit(X, Y).predict_proba(X)
    twins = quick([TEACHER, fitted_teacher(X, Y)]).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(one, twins, atol=1e-6)
    ab = quick([TEACHER, other]).fit(X, Y).predict_proba(X)
    ba = quick([other, TEACHER]).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(ab, ba, atol=1e-6)


def test_permuted_class_columns_give_the_same_student():
    order = [2, 0, 1]
    classes = TEACHER3.classes_[order]
    permuted = Fixed(lambda X: TEACHER3.predict_proba(X)[:, order], classes)
    np.testing.assert_allclose(
        quick([permuted]).fit(X3, Y3).predict_proba(X3),
        quick([TEACHER3]).fit(X3, Y3).predict_proba(X3),
        atol=1e-6,
    )


WEIGHT = np.random.default_rng(1).integers(0, 4, size=len(X)).astype(float)


@pytest.mark.parametrize("numerical_embedding", ["piecewise_linear", None])
def test_weights_are_repetitions_for_prefit_teachers(numerical_embedding):
    repeated = np.repeat(np.arange(len(X)), WEIGHT.astype(int))
    params = {"numerical_embedding": numerical_embedding, "teachers": [TEACHER]}
    weighted = quick(**params).fit(X, Y, sample_weight=WEIGHT)
    copied = quick(**params).fit(X[repeated], Y[repeated])
    np.testing.assert_allclose(weighted.predict_proba(X), copied.predict_proba(X), atol=1e-6)
    scaled = quick(**params).fit(X, Y, sample_weight=7 * WEIGHT)
    np.testing.assert_allclose(weighted.predict_proba(X), scaled.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("teacher", [LogisticRegression(), GaussianNB()], ids=str)
def test_weights_are_repetitions_under_explicit_splits(teacher):
    splits = list(KFold(3).split(X))
    repeated = np.repeat(np.arange(len(X)), WEIGHT.astype(int))
    copies = [tuple(np.flatnonzero(np.isin(repeated, rows)) for rows in s) for s in splits]
    weighted = quick([teacher], cv=splits).fit(X, Y, sample_weight=WEIGHT)
    copied = quick([teacher], cv=copies).fit(X[repeated], Y[repeated])
    np.testing.assert_allclose(weighted.predict_proba(X), copied.predict_proba(X), atol=1e-5)


def test_a_class_of_weight_zero_keeps_its_column():
    weight = (Y3 != "bee").astype(float)
    classifier = quick([TEACHER3]).fit(X3, Y3, sample_weight=weight)
    assert classifier.predict_proba(X3).shape == (len(X3), 3)


@pytest.mark.parametrize("alpha", [0.1, 0.7, 1.0])
def test_soft_only_rows_do_not_change_what_alpha_means(alpha):
    # A copy of every row leaves both means alone: were alpha to shift, so would the student.
    alone = quick([TEACHER], alpha=alpha).fit(X, Y)
    with_copies = quick([TEACHER], alpha=alpha).fit(X, Y, X_unlabeled=X)
    np.testing.assert_allclose(
        with_copies.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-6
    )


def test_cross_fitting_inside_fit_learns_nothing_from_noise():
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(400, 5)), rng.integers(2, size=400)
    student = quick([KNeighborsClassifier(3)], alpha=1.0, cv=3, max_epochs=100)
    with pytest.warns(UserWarning, match="The teachers are worse than a plain student"):
        scores = cross_val_score(student, noise, labels, cv=5)
    assert abs(scores.mean() - 0.5) < 0.06


def test_decoupling_needs_labels_and_three_classes():
    def refuse(X):
        raise AssertionError

    asked = CallableTeacher(refuse, np.unique(Y))
    with pytest.raises(ValueError, match=r"loss='dkd'.*there are 2 classes.*Use loss='kl'"):
        quick([asked], loss="dkd").fit(X, Y)
    with pytest.raises(ValueError, match=r"loss='dkd'.*there is no y"):
        quick([CallableTeacher(refuse, [0, 1, 2])], loss="dkd").fit(X)
    X3, y3 = make_data(labels=("a", "b", "c"))
    student = quick([fitted_teacher(X3, y3)], loss="dkd", augment="munge").fit(X3, y3)
    assert student.score(X3, y3) > 0.8


@pytest.mark.parametrize("rule", ["validation", "confidence"])
def test_teachers_are_weighed_by_a_rule(rule):
    X3, y3 = make_data(labels=("a", "b", "c"))
    teachers = [LogisticRegression(), DecisionTreeClassifier(max_depth=1)]
    student = quick(teachers, cv=3, teacher_weights=rule).fit(X3, y3)
    assert student.teacher_weights_.sum() == pytest.approx(1)
    assert (student.teacher_weights_[0] > 0.6) == (rule == "validation")
    equal = quick(teachers, cv=3).fit(X3, y3)
    assert not np.array_equal(student.predict_proba(X3), equal.predict_proba(X3))
    np.testing.assert_array_equal(equal.teacher_weights_, [0.5, 0.5])
    with pytest.raises(ValueError, match=f"teacher_weights='{rule}' compares the teachers with y"):
        quick([fitted_teacher(X3, y3)], teacher_weights=rule).fit(X3)


def test_weights_learnt_from_fitted_teachers_are_warned_of():
    teachers = [TEACHER, fitted_teacher(X[:50], Y[:50])]
    with pytest.warns(UserWarning, match="assumes that they did not see X"):
        quick(teachers, teacher_weights="validation").fit(X, Y)
    with pytest.raises(ValueError, match="teacher_proba stands in their place"):
        quick(teachers, teacher_weights="validation").fit(X, Y, teacher_proba=np.full((90, 2), 0.5))


def test_honest_targets_are_calibrated():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, 4))
    label = (rows.sum(axis=1) + rng.normal(size=800) > 0).astype(int)
    # So much penalised that it ranks well and is never sure.
    shy = LogisticRegression(C=3e-3)
    for cv, teacher in ((3, shy), ("oob", BaggingClassifier(shy, 20, random_state=0))):
        mild, sharp = (
            quick([teacher], cv=cv, calibration=c, alpha=1.0).fit(rows, label)
            for c in (None, "auto")
        )
        assert mild.calibration_temperature_ == 1
        assert sharp.calibration_temperature_ < 0.8
        losses = [log_loss(label, s.predict_proba(rows)) for s in (mild, sharp)]
        assert losses[1] < losses[0] - 0.02


@pytest.mark.parametrize(
    ("teacher", "cv"),
    [(RandomForestClassifier(15, random_state=0), "oob"), (KNeighborsClassifier(), 5)],
    ids=["few votes", "neighbours"],
)
def test_votes_that_scatter_are_not_softened(teacher, cv):
    X_all, y_all = make_classification(1200, 10, n_informative=5, flip_y=0.3, random_state=0)
    student = quick([teacher], cv=cv, alpha=1.0, max_epochs=5)
    student.fit(X_all[:600], y_all[:600])
    assert student.calibration_temperature_ <= 1
    # The same temperature labels further rows, whose mean over folds is less sure still.
    plain = quick([teacher], cv=cv, alpha=1.0, max_epochs=5, calibration=None)
    plain.fit(X_all[:600], y_all[:600])
    losses = [log_loss(y_all[600:], s.predict_proba(X_all[600:])) for s in (student, plain)]
    assert losses[0] < losses[1] + 0.01


def test_a_student_of_teachers_that_are_worse_is_left_alone():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1500, 4))
    label = (rows[:, 0] * rows[:, 1] + 0.5 * rows[:, 2] > 0).astype(int)
    weak = LogisticRegression().fit(rows[:500], label[:500])
    with pytest.warns(UserWarning, match="The teachers are worse"):
        student = quick([weak], augment="munge", hidden_layer_sizes=(32,), max_epochs=100).fit(
            rows[500:], label[500:]
        )
    assert student.calibration_temperature_ == 1


def test_a_student_of_fitted_teachers_is_no_less_sure_than_a_plain_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, 4))
    label = (rows.sum(axis=1) + rng.normal(size=800) > 0).astype(int)
    sure = LogisticRegression().fit(rows, label)
    shy = CallableTeacher(lambda X: 0.3 + 0.4 * sure.predict_proba(X), [0, 1])
    mild, sharp = (
        quick([shy], augment="munge", calibration=c).fit(rows, label) for c in (None, "auto")
    )
    assert mild.calibration_temperature_ == 1
    assert 0.25 <= sharp.calibration_temperature_ < 0.8
    z, own = (np.log(s.predict_proba(rows[:50])) for s in (mild, sharp))
    scaled = (z[:, 1] - z[:, 0]) / sharp.calibration_temperature_
    np.testing.assert_allclose(own[:, 1] - own[:, 0], scaled, rtol=1e-4, atol=1e-4)
    taught_well = quick([sure], augment="munge").fit(rows, label)
    assert taught_well.calibration_temperature_ > 0.9


def test_teachers_that_cannot_help_are_said():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 3))
    label = (rows[:, 0] + 0.3 * rng.normal(size=600) > 0).astype(int)
    # It saw labels that hang on another column.
    fooled = LogisticRegression().fit(rows, (rows[:, 1] + 0.3 * rows[:, 0] > 0).astype(int))
    with pytest.warns(
        UserWarning, match=r"The teachers are worse.*On 120 held-out rows.*alpha=0"
    ) as told:
        quick([fooled]).fit(rows, label)
    assert told[0].filename == __file__
    quick([fooled], calibration=None).fit(rows, label)
    quick([fitted_teacher(rows, label)]).fit(rows, label)
    blind = make_pipeline(FunctionTransformer(lambda X: X[:, 1:]), LogisticRegression())
    with pytest.warns(UserWarning, match="The teachers are worse than a plain student"):
        quick([blind], cv=3, max_epochs=100).fit(rows, label)


# What it is given


@pytest.mark.parametrize("labels", [("no", "yes"), (1, 2), (False, True), (1.0, 2.0)], ids=str)
def test_labels_of_any_kind(labels):
    X, y = make_data(labels=labels)
    for classifier in (quick([fitted_teacher(X, y)]), quick([LogisticRegression()], cv=3), quick()):
        predicted = classifier.fit(X, y).predict(X)
        assert predicted.dtype == y.dtype
        assert (predicted == y).mean() > 0.8


def test_encoded_labels_are_aligned_by_position():
    code = np.unique(Y3, return_inverse=True)[1]
    np.testing.assert_array_equal(
        quick([TEACHER3]).fit(X3, code).predict_proba(X3),
        quick([TEACHER3]).fit(X3, Y3).predict_proba(X3),
    )


def test_without_labels_it_learns_from_the_teachers_alone():
    for teacher in (TEACHER, TorchTeacher(torch.nn.Linear(3, 2), ["no", "yes"])):
        unlabeled = quick([teacher], alpha=0.3).fit(X)
        with_labels = quick([teacher], alpha=1.0)
        np.testing.assert_array_equal(unlabeled.classes_, ["no", "yes"])
        if teacher is TEACHER:
            np.testing.assert_array_equal(
                unlabeled.predict_proba(X), with_labels.fit(X, Y).predict_proba(X)
            )


@pytest.mark.parametrize(
    "classifier",
    [quick(), quick([LogisticRegression()], cv=3), quick([TEACHER], early_stopping=True)],
    ids=["default", "cross-fitted", "early stopping"],
)
def test_without_labels_something_must_teach(classifier):
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        classifier.fit(X)


def test_without_labels_a_teacher_must_name_the_classes():
    with pytest.raises(ValueError, match="none of them knows its labels"):
        quick([torch.nn.Linear(3, 2)]).fit(X)
    with pytest.raises(ValueError, match="Without y the classes must come from the teachers"):
        quick().fit(X, teacher_proba=np.full((len(X), 2), 0.5))


def test_given_probabilities_stand_for_the_teachers():
    proba = TEACHER.predict_proba(X)
    asked = quick([TEACHER]).fit(X, Y).predict_proba(X)
    silent = Fixed(refuse, ["no", "yes"])
    for classifier in (quick(), quick([silent]), quick([LogisticRegression()], cv=3)):
        given = classifier.fit(X, Y, teacher_proba=proba).predict_proba(X)
        np.testing.assert_allclose(given, asked, atol=1e-12)
    without_y = quick([silent]).fit(X, teacher_proba=proba)
    np.testing.assert_array_equal(without_y.classes_, ["no", "yes"])


def test_given_probabilities_cannot_label_extra_rows():
    proba = TEACHER.predict_proba(X)
    with pytest.raises(ValueError, match="X_unlabeled needs teachers"):
        quick().fit(X, Y, teacher_proba=proba, X_unlabeled=X)
    with pytest.raises(ValueError, match="augment='munge' needs teachers"):
        quick(augment="munge").fit(X, Y, teacher_proba=proba)
    quick([TEACHER], augment="munge").fit(X, Y, teacher_proba=proba, X_unlabeled=X)
    quick(augment="auto").fit(X, Y, teacher_proba=proba)


def test_unlabeled_rows_teach():
    far = X + np.array([3.0, 0, 0])
    teacher = CallableTeacher(
        lambda X: np.column_stack([X[:, 0] < 2, X[:, 0] >= 2]).astype(float) * 0.9 + 0.05, [0, 1]
    )
    y = (X[:, 0] >= 0).astype(int)
    params = {"alpha": 1.0, "max_epochs": 200}
    without = quick([teacher], **params).fit(X, y)
    with_far = quick([teacher], **params).fit(X, y, X_unlabeled=far)
    right, before = ((s.predict(far) == (far[:, 0] >= 2)).mean() for s in (with_far, without))
    assert right > 0.95
    assert before < 0.9


def test_cross_fitted_teachers_label_unlabeled_rows():
    classifier = quick([GaussianNB()], cv=3).fit(X, Y, X_unlabeled=make_data(30, seed=5)[0])
    assert classifier.score(X, Y) > 0.8


def test_unlabeled_rows_pass_by_the_steps_of_a_pipeline():
    shift = FunctionTransformer(lambda X: X + 100)
    teacher = fitted_teacher(X + 100, Y)
    pipeline = make_pipeline(shift, quick([teacher]))
    with pytest.warns(UserWarning, match=r"wholly outside their range.*transform_input"):
        pipeline.fit(X, Y, distilledclassifier__X_unlabeled=X)
    with config_context(enable_metadata_routing=True):
        student = quick([teacher]).set_fit_request(X_unlabeled=True)
        make_pipeline(shift, student, transform_input=["X_unlabeled"]).fit(X, Y, X_unlabeled=X)


# Metadata routing


@pytest.mark.parametrize("routing", [False, True])
def test_metadata_reach_fit(routing):
    proba, weight = TEACHER.predict_proba(X), np.ones(len(X))
    extra = make_data(30, seed=4)[0]
    metadata = {"sample_weight": weight, "teacher_proba": proba, "X_unlabeled": extra}
    with config_context(enable_metadata_routing=routing):
        student = quick([TEACHER])
        if routing:
            student.set_fit_request(sample_weight=True, teacher_proba=True, X_unlabeled=True)
            student.set_score_request(sample_weight=True)
        search = GridSearchCV(student, {"alpha": [0.5]}, cv=2).fit(X, Y, **metadata)
        assert search.score(X, Y) > 0.8
        if not routing:
            metadata = {f"distilledclassifier__{k}": v for k, v in metadata.items()}
        assert make_pipeline(student).fit(X, Y, **metadata).score(X, Y) > 0.8


@pytest.mark.parametrize("cv", [3, "oob"])
def test_requests_of_teachers_are_respected(cv):
    class Spy(RandomForestClassifier):
        weights = ()

        def fit(self, X, y, sample_weight=None):
            type(self).weights += (sample_weight,)
            return super().fit(X, y, sample_weight)

    weight = np.where(np.arange(len(X)) % 2, 1.0, 2.0)
    with config_context(enable_metadata_routing=True):
        for asks in (True, False):
            Spy.weights = ()
            teacher = Spy(20).set_fit_request(sample_weight=asks)
            quick([teacher], cv=cv).fit(X, Y, sample_weight=weight)
            assert Spy.weights
            assert all((w is not None) == asks for w in Spy.weights)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            quick([Spy(20)], cv=cv).fit(X, Y, sample_weight=weight)
        quick([Spy(20)], cv=cv).fit(X, Y)
    Spy.weights = ()
    quick([Spy(20)], cv=cv).fit(X, Y, sample_weight=weight)
    assert all(w is not None for w in Spy.weights)


@pytest.mark.parametrize("routing", [False, True])
def test_the_default_teacher_gets_the_weights(routing):
    weight = np.where(np.arange(len(X)) % 2, 1.0, 2.0)
    with config_context(enable_metadata_routing=routing):
        quick(max_epochs=2).fit(X, Y, sample_weight=weight)


def test_teachers_that_take_no_weights_are_named():
    with pytest.warns(
        UserWarning, match=r"teacher 0 \(KNeighborsClassifier\) does not take sample"
    ):
        quick([KNeighborsClassifier()], cv=2).fit(X, Y, sample_weight=WEIGHT)


# How targets are made


@pytest.mark.parametrize(
    "cv",
    [
        None,
        2,
        KFold(2, shuffle=True, random_state=0),
        ShuffleSplit(2, random_state=0),
        RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
        [(np.arange(45), np.arange(45, 90))],
    ],
    ids=str,
)
def test_any_splitter(cv):
    classifier = quick([LogisticRegression(), ("bayes", GaussianNB())], cv=cv).fit(X, Y)
    assert classifier.score(X, Y) > 0.8
    assert all(isinstance(folds, list) for folds in classifier.teachers_)


def test_out_of_bag_targets():
    forest = RandomForestClassifier(30)
    classifier = quick([forest], cv="oob").fit(X, Y)
    assert classifier.score(X, Y) > 0.8
    assert not hasattr(forest, "classes_")
    with pytest.raises(ValueError, match=r"teacher 0 \(GaussianNB\) has no oob_score"):
        quick([GaussianNB()], cv="oob").fit(X, Y)


@pytest.mark.parametrize(
    "teacher",
    [FrozenEstimator(TEACHER), CallableTeacher(TEACHER.predict_proba, ["no", "yes"])],
    ids=lambda t: type(t).__name__,
)
@pytest.mark.parametrize("cv", [3, "oob"])
def test_frozen_teachers_warn_that_they_may_have_seen_the_rows(teacher, cv):
    with pytest.warns(UserWarning, match="soft targets are not out-of-fold"):
        classifier = quick([teacher], cv=cv).fit(X, Y)
    assert classifier.teachers_ == [teacher]


def test_cross_fit_is_kept_in_memory(tmp_path):
    Counting.n_fits = 0
    params = {"cv": 3, "memory": str(tmp_path), "random_state": 0}
    quick([Counting()], **params).fit(X, Y)
    quick([Counting()], temperature=7.0, alpha=0.2, **params).fit(X, Y)
    assert Counting.n_fits == 3


def test_teachers_behind_a_scaler_warn():
    teacher = RandomForestClassifier(20, random_state=0).fit(X + 1000, Y)
    with pytest.warns(UserWarning, match="Were the teachers fitted on X as it arrives here"):
        make_pipeline(StandardScaler(), quick([teacher])).fit(X + 1000, Y)


@pytest.mark.parametrize("averaging", ["auto", "proba", "logits"])
@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_losses_and_averages(loss, averaging):
    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0, 0, 0], [3, 1.5, 0]]))
        module.bias.zero_()
    teachers = [TEACHER, module]
    classifier = quick(teachers, loss=loss, averaging=averaging, teacher_weights=[1, 2])
    assert classifier.fit(X, Y).score(X, Y) > 0.85


def test_a_callable_loss_is_the_loss():
    from skdistill import losses

    def kl(student_logits, target_proba, y, *, temperature):
        return losses.kl_divergence(student_logits, target_proba, temperature=temperature)

    np.testing.assert_allclose(
        quick([TEACHER], loss=kl).fit(X, Y).predict_proba(X),
        quick([TEACHER]).fit(X, Y).predict_proba(X),
        atol=1e-6,
    )


def test_synthetic_rows():
    for augment in ("auto", "munge", lambda X, n, **kwargs: X[np.arange(n) % len(X)]):
        classifier = quick([TEACHER], augment=augment, n_synthetic=200).fit(X, Y)
        assert classifier.score(X, Y) > 0.8
    np.testing.assert_array_equal(
        quick([TEACHER], augment="munge", n_synthetic=0).fit(X, Y).predict_proba(X),
        quick([TEACHER]).fit(X, Y).predict_proba(X),
    )


def test_early_stopping_keeps_the_best_epoch():
    classifier = quick(
        [TEACHER], early_stopping=True, max_epochs=300, n_iter_no_change=5, alpha=0.0
    ).fit(X, Y)
    losses = classifier.history_["valid_loss"]
    assert classifier.n_iter_ < 300
    assert len(losses) - 1 - losses.argmin() == 5


def test_rows_held_out_of_a_frame_may_be_read_only():
    frame = pd.DataFrame(X)
    frame.to_numpy().flags.writeable = False
    torch.set_warn_always(True)
    try:
        params = {"preprocessor": None, "numerical_embedding": None, "dtype": "float32"}
        quick("self", alpha=0.0, early_stopping=True, **params).fit(frame, Y)
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu"])
def test_shapes_of_the_student(activation):
    for sizes in ((), (4,), [6, 5]):
        classifier = quick(
            [TEACHER], hidden_layer_sizes=sizes, activation=activation, dropout=0.1
        ).fit(X, Y)
        assert classifier.score(X, Y) > 0.8


def test_no_unit_is_left_out_where_rows_are_to_spare():
    rows, labels = make_data(280)
    teachers = [fitted_teacher(rows, labels)]
    small = {"numerical_embedding": None, "hidden_layer_sizes": (4,), "batch_size": 64}
    for n, dropout in ((260, 0.0), (259, 0.1)):
        # (3 + 1) * 4 + (4 + 1) * 2 = 26 parameters
        classifier = quick(teachers, max_epochs=1, **small).fit(rows[:n], labels[:n])
        assert classifier.net_.module_.dropout == dropout
        stream = [(rows[:n], teachers[0].predict_proba(rows[:n]))]
        assert classifier.fit_stream(stream).net_.module_.dropout == dropout
    assert classifier.set_params(batch_size=300).fit(rows, labels).net_.module_.dropout == 0.0


# Teachers of other packages


def skorch_net():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    return skorch.NeuralNetClassifier(
        lambda: module.apply(reset), criterion=torch.nn.CrossEntropyLoss, lr=0.5, verbose=0
    )


def reset(module):
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


def boosters():
    import catboost
    import lightgbm
    import xgboost

    quiet = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
    return [
        xgboost.XGBClassifier(n_estimators=10, n_jobs=1),
        lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1, min_child_samples=3),
        catboost.CatBoostClassifier(iterations=10, **quiet),
    ]


@pytest.mark.parametrize("teacher", boosters(), ids=lambda t: type(t).__name__)
def test_boosters_teach_string_labels(teacher):
    assert quick([teacher], cv=3).fit(X, Y).score(X, Y) > 0.8
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    assert quick([teacher], cv=2).fit(frame, Y).score(frame, Y) > 0.8
    if type(teacher).__name__ == "XGBClassifier":
        fitted = teacher.fit(X, Y == "yes")
        student = quick([fitted]).fit(X, np.where(Y == "yes", 1, 0))
        assert student.score(X, np.where(Y == "yes", 1, 0)) > 0.8
    else:
        assert quick([teacher.fit(X, Y)]).fit(X, Y).score(X, Y) > 0.8


def test_skorch_nets_teach_string_labels():
    net = skorch_net()
    student = quick([net], cv=3)
    first = student.fit(X, Y).predict_proba(X)
    assert student.score(X, Y) > 0.8
    torch.manual_seed(7)
    np.testing.assert_array_equal(first, student.fit(X, Y).predict_proba(X))
    code = (Y == "yes").astype(int)
    net.fit(X.astype(np.float32), code)
    assert quick([net]).fit(X, code).score(X, code) > 0.8


@pytest.mark.parametrize(
    "params", [{"augment": "munge", "batch_size": 64}, {"dropout": 0.3}], ids=str
)
def test_equal_seeds_give_equal_students(params):
    a, b = (quick([TEACHER], **params).fit(X, Y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    other = quick([TEACHER], **{**params, "random_state": 1}).fit(X, Y).predict_proba(X)
    assert not np.array_equal(a, other)


# X forks


def mixed_frame():
    frame = pd.DataFrame(X, columns=["a", "b", "c"], copy=True)
    frame["colour"] = pd.Categorical(np.where(X[:, 0] > 0, "red", "blue"))
    frame["flag"] = X[:, 1] > 0
    frame.loc[3, "a"] = np.nan
    return frame


def test_teachers_get_the_frame_as_it_is():
    frame = mixed_frame()
    seen = []

    def answer(X):
        seen.append(X)
        return np.column_stack([X["colour"] == "blue", X["colour"] == "red"]) * 0.8 + 0.1

    quick([CallableTeacher(answer, ["no", "yes"])]).fit(frame, Y)
    pd.testing.assert_frame_equal(seen[0], frame)


@pytest.mark.parametrize("augment", [None, "munge"])
def test_mixed_types(augment):
    frame = mixed_frame()
    numbers = make_pipeline(SimpleImputer(), LogisticRegression())
    pick = FunctionTransformer(lambda X: X[["colour"]])
    colours = make_pipeline(pick, OneHotEncoder(), LogisticRegression())
    drop = make_pipeline(FunctionTransformer(lambda X: X[["a", "b"]]), numbers)
    teachers = [drop.fit(frame, Y), colours.fit(frame, Y)]
    classifier = quick(teachers, augment=augment).fit(frame, Y)
    assert classifier.score(frame, Y) > 0.8
    assert quick(teachers, cv=2, augment=augment).fit(frame, Y).score(frame, Y) > 0.8
    unknown = frame.assign(colour="green")
    assert np.isfinite(classifier.predict_proba(unknown)).all()


def test_one_missing_value_anywhere_is_taken():
    frame = mixed_frame()
    for params in ({}, {"early_stopping": True}):
        for seed in range(3):
            classifier = quick(random_state=seed, max_epochs=2).set_params(**params)
            assert np.isfinite(classifier.fit(frame, Y).predict_proba(frame)).all()


def test_the_preprocessor_is_for_the_student_alone():
    seen = []

    def answer(X):
        seen.append(X.max())
        return TEACHER.predict_proba(X)

    double = FunctionTransformer(lambda X: X * 1e6)
    classifier = quick([CallableTeacher(answer, ["no", "yes"])], preprocessor=double).fit(X, Y)
    assert seen[0] == X.max()
    assert classifier.student_.preprocessor_ is not double
    scaled = quick([TEACHER], preprocessor=StandardScaler()).fit(X, Y)
    np.testing.assert_allclose(
        scaled.predict_proba(X), quick([TEACHER]).fit(X, Y).predict_proba(X), atol=1e-6
    )
    raw = quick([TEACHER], preprocessor=None).fit(X, Y)
    assert raw.student_.preprocessor_ is None
    assert raw.score(X, Y) > 0.8


# The student's own network


def small_net(*layers, width=6):
    def factory(n_features, n_classes):
        return torch.nn.Sequential(
            torch.nn.Linear(n_features, width), *layers, torch.nn.Linear(width, n_classes)
        )

    return factory


KNOWN = {
    "norms": (torch.nn.BatchNorm1d(6), torch.nn.GELU(), torch.nn.LayerNorm(6), torch.nn.Tanh()),
    "plain": (torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.SiLU()),
    "nested": (torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Identity()),),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_known_layers_are_frozen(kind):
    classifier = quick([TEACHER], student_module=small_net(*KNOWN[kind])).fit(X, Y)
    student = classifier.student_
    assert type(student) is StudentClassifier
    rows = torch.tensor(student.preprocessor_.transform(X)).to(
        next(classifier.net_.module_.parameters())
    )
    with torch.no_grad():
        expected = classifier.net_.module_(rows).softmax(1).numpy()
        again = student.to_torch()(torch.tensor(X)).softmax(1).numpy()
    np.testing.assert_allclose(student.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_allclose(student.predict_proba(X), again, atol=1e-6)


class Skip(torch.nn.Module):
    """A layer that nothing but torch can run."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.inner = torch.nn.Linear(n_features, n_features)
        self.last = torch.nn.Linear(n_features, n_classes)

    def forward(self, X):
        return self.last(X + torch.relu(self.inner(X)))


def test_unknown_layers_stay_in_torch():
    import pickle

    classifier = quick([TEACHER], student_module=Skip).fit(X, Y)
    assert type(classifier.student_) is TorchStudent
    assert classifier.score(X, Y) > 0.8
    loaded = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert classifier.student_.n_parameters_ == 3 * 3 + 3 + 3 * 2 + 2


def test_to_torch_gives_the_same_probabilities():
    for params in ({}, {"numerical_embedding": None}, {"preprocessor": None}):
        classifier = quick([TEACHER3], **params).fit(X3, Y3)
        with torch.no_grad():
            proba = classifier.student_.to_torch()(torch.tensor(X3)).softmax(1).numpy()
        np.testing.assert_allclose(proba, classifier.predict_proba(X3), atol=1e-6)


def test_student_module_must_return_a_module():
    with pytest.raises(TypeError, match="student_module must be a callable"):
        quick([TEACHER], student_module=lambda n_features, n_classes: "net").fit(X, Y)


# What it refuses


def test_one_class_of_positive_weight_and_labels_too_few():
    with pytest.raises(ValueError, match="one class among the rows with a positive sample_weight"):
        quick([TEACHER]).fit(X, Y, sample_weight=Y == "no")
    with pytest.raises(ValueError, match="X has 90, y has 89"):
        quick([TEACHER]).fit(X, Y[:-1])


def test_teachers_that_fail_to_fit_are_named():
    with pytest.raises(ValueError, match=r"teacher 0 \(LogisticRegression\) failed to fit"):
        quick([LogisticRegression(C=-1)], cv=2).fit(X, Y)


def test_the_default_teacher_needs_nothing_but_data():
    X, y = load_iris(return_X_y=True)
    classifier = DistilledClassifier(random_state=0, max_epochs=150, learning_rate_init=0.02)
    assert classifier.fit(X, y).score(X, y) > 0.94
    assert len(classifier.teachers_) == 1
    assert len(classifier.teachers_[0]) == 5
    assert re.search("ExtraTrees", repr(classifier.teachers_))


def test_a_soft_term_that_no_row_carries_is_refused():
    weight = np.ones(len(X))
    held_out = np.arange(0, len(X), 3)
    weight[held_out] = 0
    train = np.setdiff1d(np.arange(len(X)), held_out)
    student = quick([LogisticRegression()], cv=[(train, held_out)], alpha=1)
    with pytest.raises(ValueError, match="no row with a positive weight has one"):
        student.fit(X, Y, sample_weight=weight)


def test_a_teacher_fitted_again_in_place_is_asked_again():
    nearest = KNeighborsClassifier(15).fit(X, Y)
    quick([nearest], alpha=1).fit(X, Y)
    other = np.where(np.arange(len(Y)) == 11, Y[0] if Y[11] != Y[0] else Y[-1], Y)
    nearest.fit(X, other)
    again = quick([nearest], alpha=1).fit(X, Y).predict_proba(X)
    fresh = quick([KNeighborsClassifier(15).fit(X, other)], alpha=1).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(again, fresh)


def test_rows_of_weight_zero_are_out_of_every_bag():
    sizes = []

    class Watched(RandomForestClassifier):
        def fit(self, X, y):
            sizes.append(len(X))
            return super().fit(X, y)

    weight = np.where(np.arange(len(X)) % 2 == 0, 0.0, 1.0)
    with pytest.warns(UserWarning, match="does not take sample_weight"):
        quick([Watched(50)], cv="oob").fit(X, Y, sample_weight=weight * 2)
    assert sizes == [int((weight > 0).sum())]
