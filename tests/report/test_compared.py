"""Laws of who is compared: students found in what holds them, teachers asked as in fit."""

import pickle

import numpy as np
import pytest
import torch
from quick_students import Fixed, fitted_teacher, make_data, quick
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistilledClassifierCV, TorchTeacher
from skdistill.report.compared import find_student, plain_student
from skdistill.report.ensemble import find_teachers


@pytest.fixture(scope="module")
def data():
    return make_data(90)


@pytest.fixture(scope="module")
def teachers(data):
    forest = RandomForestClassifier(5, min_samples_leaf=3, random_state=0)
    return [("linear", fitted_teacher(*data)), ("forest", forest.fit(*data))]


@pytest.fixture(scope="module")
def student(data, teachers):
    return quick(teachers, teacher_weights=[3, 1]).fit(*data)


def proba_by_role(student, X, teachers=None):
    found = find_student(student)
    return {model.name: model.proba for model in find_teachers(found, X, teachers).ask(X)}


def test_the_ensemble_has_the_weights_that_fit_learnt(data):
    X, y = data
    few = RandomForestClassifier(3, max_depth=1, random_state=0)
    fitted = quick([LogisticRegression(), few], cv=3, teacher_weights="validation").fit(X, y)
    heavy, light = fitted.teacher_weights_
    assert heavy > light + 0.1
    proba = proba_by_role(fitted, X)
    by_hand = heavy * proba["logisticregression"] + light * proba["randomforestclassifier"]
    np.testing.assert_allclose(proba["ensemble"], by_hand, atol=1e-12)
    # Other teachers than those of fit: the rule has no labels here.
    one = proba_by_role(fitted, X, [fitted_teacher(X, y)])
    assert set(one) >= {"logisticregression", "ensemble"}


def test_a_student_is_found_in_what_holds_it(data, teachers):
    X, y = data
    model = quick(teachers, max_epochs=2)
    fitted = model.fit(X, y)
    holders = [
        fitted,
        fitted.student_,
        FrozenEstimator(fitted),
        make_pipeline(StandardScaler(), fitted),
        make_pipeline(make_pipeline(StandardScaler()), make_pipeline(fitted)),
    ]
    for holder in holders:
        assert find_student(holder).model in (fitted, fitted.student_)
    grid = GridSearchCV(model, {"alpha": [0.5]}, cv=2).fit(X, y)
    assert find_student(grid).model is grid.best_estimator_
    search = DistilledClassifierCV(
        quick([LogisticRegression()], cv=2, max_epochs=2), temperatures=[1], alphas=[1], cv=2
    )
    search.fit(X, y)
    assert find_student(search).model is search.best_estimator_


def test_steps_before_the_student_are_applied(data, student):
    X, _ = data
    scaler = StandardScaler().fit(X)
    found = find_student(make_pipeline(scaler, student))
    np.testing.assert_array_equal(found.prepare(X), scaler.transform(X))
    assert find_student(student).prepare(X) is X


@pytest.mark.parametrize("make", [lambda s: s, lambda s: make_pipeline(StandardScaler(), s)])
def test_an_unfitted_student_is_refused(make):
    with pytest.raises(NotFittedError):
        find_student(make(quick()))


def test_other_classifiers_are_refused(data):
    with pytest.raises(TypeError, match=r"with teachers=\[...\]; got a LogisticRegression"):
        find_student(fitted_teacher(*data))
    with pytest.raises(TypeError, match="got a str"):
        find_student("student")


def test_the_ensemble_has_the_students_weights(data, teachers, student):
    X, _ = data
    found = proba_by_role(student, X)
    linear, forest = (teacher.predict_proba(X) for _, teacher in teachers)
    assert list(found) == ["linear", "forest", "ensemble"]
    np.testing.assert_allclose(found["linear"], linear)
    np.testing.assert_allclose(found["forest"], forest)
    np.testing.assert_allclose(found["ensemble"], 0.75 * linear + 0.25 * forest)


def test_the_ensemble_is_averaged_in_the_students_space(data, teachers):
    X, y = data
    student = quick(teachers, averaging="logits", max_epochs=2).fit(X, y)
    found = proba_by_role(student, X)
    np.testing.assert_allclose(found["forest"], teachers[1][1].predict_proba(X))
    logs = [np.log(np.clip(t.predict_proba(X), 1e-7, 1)) for _, t in teachers]
    expected = np.exp(np.mean(logs, axis=0))
    np.testing.assert_allclose(found["ensemble"], expected / expected.sum(axis=1, keepdims=True))


def test_modules_are_averaged_in_logits(data):
    X, _ = data
    torch.manual_seed(0)
    modules = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    student = quick([TorchTeacher(m, [0, 1]) for m in modules], max_epochs=2).fit(X)
    logits = [TorchTeacher(module).logits(X) for module in modules]
    mean = np.exp(np.mean(logits, axis=0))
    found = proba_by_role(student, X)
    np.testing.assert_allclose(found["ensemble"], mean / mean.sum(axis=1, keepdims=True))


def test_a_cross_fitted_teacher_answers_by_the_mean_of_its_folds(data):
    X, y = data
    student = quick([LogisticRegression()], cv=3, max_epochs=2).fit(X, y)
    (folds,) = student.teachers_
    expected = np.mean([fold.predict_proba(X) for fold in folds], axis=0)
    found = proba_by_role(student, X)
    np.testing.assert_allclose(found["logisticregression"], expected)
    np.testing.assert_allclose(found["ensemble"], expected)


def test_the_default_teacher_is_compared_too(data):
    X, y = data
    student = quick(max_epochs=2).fit(X, y)
    found = proba_by_role(student, X)
    (folds,) = student.teachers_
    expected = np.mean([fold.predict_proba(X) for fold in folds], axis=0)
    np.testing.assert_allclose(found["default teacher"], expected)


def test_folds_of_a_teacher_that_learns_codes_keep_their_labels():
    xgboost = pytest.importorskip("xgboost")
    X, y = make_data(90, labels=(2, 1))
    booster = xgboost.XGBClassifier(n_estimators=5)
    student = quick([booster], cv=3, max_epochs=2).fit(X, y)
    found = proba_by_role(student, X)["ensemble"]
    assert (student.classes_[found.argmax(axis=1)] == y).mean() > 0.8


def test_answers_follow_the_students_classes(data):
    X, _ = data
    y = np.where(X[:, 0] > 0, "b", "a")
    student = quick([Fixed([0.9, 0.1], classes=["b", "a"])], alpha=1.0, max_epochs=2)
    with pytest.warns(UserWarning, match="The teachers agree with y"):
        student.fit(X, y)
    np.testing.assert_allclose(proba_by_role(student, X)["ensemble"][0], [0.1, 0.9])


def test_teachers_that_are_passed_take_the_place_of_those_kept(data, student):
    X, y = data
    other = MLPClassifier((3,), max_iter=2000, random_state=0).fit(X, y)
    found = proba_by_role(student, X, [("other", other), ("linear", fitted_teacher(X, y))])
    assert list(found) == ["other", "linear", "ensemble"]
    bare = proba_by_role(student.student_, X, [other])
    np.testing.assert_allclose(bare["ensemble"], other.predict_proba(X))


def test_a_student_without_teachers_says_how_to_pass_them(data, student):
    X, y = data
    way_out = r"Pass teachers=\[...\]"
    with pytest.raises(ValueError, match=f"A StudentClassifier holds no teachers. {way_out}"):
        proba_by_role(student.student_, X)
    left = r"left behind when it was pickled: linear: LogisticRegression, forest: .*\. "
    with pytest.raises(ValueError, match=left + way_out):
        proba_by_role(pickle.loads(pickle.dumps(student)), X)
    plain = quick([fitted_teacher(X, y)], alpha=0, max_epochs=2).fit(X, y)
    with pytest.raises(ValueError, match=f"No teacher was asked .* alpha=0, .*{way_out}"):
        proba_by_role(plain, X)
    default = pickle.loads(pickle.dumps(quick(max_epochs=2).fit(X, y)))
    with pytest.raises(ValueError, match=f"left behind when it was pickled. {way_out}"):
        proba_by_role(default, X)


def test_teachers_that_do_not_fit_are_refused(data, student):
    X, y = data
    with pytest.raises(NotFittedError, match=r"teacher 0 .* is not fitted"):
        proba_by_role(student.student_, X, [LogisticRegression()])
    with pytest.raises(ValueError, match="do not match: the teacher knows"):
        proba_by_role(student.student_, X, [fitted_teacher(X, np.where(y == "no", "maybe", y))])
    with pytest.raises(ValueError, match="1 finite numbers >= 0"):
        proba_by_role(student, X, [fitted_teacher(X, y)])


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["linear", "forest"]),
        ({"cv": 2}, ["frozen"]),
        ({"cv": "oob"}, ["frozen"]),
    ],
)
def test_teachers_that_answered_as_they_were_are_named(data, teachers, params, names):
    X, y = data
    if params:
        cloned = RandomForestClassifier(30, random_state=0)
        teachers = [("forest", cloned), ("frozen", FrozenEstimator(teachers[0][1]))]
        with pytest.warns(UserWarning, match="not out-of-fold"):
            student = quick(teachers, max_epochs=2, **params).fit(X, y)
    else:
        student = quick(teachers, max_epochs=2).fit(X, y)
    assert find_teachers(find_student(student), X).in_sample == names
    bare = find_student(student.student_)
    assert find_teachers(bare, X, [fitted_teacher(X, y)]).in_sample == []


def test_the_plain_student_is_the_same_network_on_labels_alone(data, teachers, student):
    X, y = data
    plain = plain_student(find_student(student), X, train=(X, y))
    twin = quick(teachers, alpha=0.0, early_stopping=True).fit(X, y)
    np.testing.assert_allclose(plain.proba, twin.predict_proba(X))
    (model,) = plain.parts
    assert model.student_.n_parameters_ == student.student_.n_parameters_
    assert student.alpha > 0


def test_the_plain_student_of_a_lean_pickle_is_trained_with_the_teachers_passed(data, teachers):
    X, y = data
    student = quick(teachers, augment="munge", n_synthetic=20, loss="mse", max_epochs=3)
    student.set_params(numerical_embedding="auto").fit(X, y)
    lean = pickle.loads(pickle.dumps(student))
    plain = plain_student(find_student(lean), X, train=(X, y), teachers=teachers)
    expected = plain_student(find_student(student), X, train=(X, y))
    np.testing.assert_allclose(plain.proba, expected.proba)


def test_the_plain_student_learns_behind_the_steps_of_a_pipeline(data, teachers, student):
    X, y = data
    scaler = StandardScaler().fit(X)
    plain = plain_student(find_student(make_pipeline(scaler, student)), X, train=(X, y))
    Z = scaler.transform(X)
    expected = plain_student(find_student(student), Z, train=(Z, y))
    np.testing.assert_allclose(plain.proba, expected.proba)


def test_a_seed_makes_the_plain_student_reproducible(data, teachers):
    X, y = data
    unseeded = find_student(quick(teachers, random_state=None, max_epochs=2).fit(X, y))
    first, second = (
        plain_student(unseeded, X, train=(X, y), random_state=7).proba for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_bare_student_cannot_have_a_plain_one_trained(data, student):
    with pytest.raises(ValueError, match=r"does not hold the settings .* fitted baseline="):
        plain_student(find_student(student.student_), data[0], train=data)


def test_training_rows_must_hold_the_students_labels(data, student):
    X, y = data
    with pytest.raises(ValueError, match=r"y_train holds the labels \['maybe', 'no'\]"):
        plain_student(find_student(student), X, train=(X, np.where(y == "yes", "maybe", y)))


def test_a_baseline_is_the_plain_student(data, student):
    X, y = data
    baseline = fitted_teacher(X, y)
    plain = plain_student(find_student(student), X, baseline=baseline)
    np.testing.assert_allclose(plain.proba, baseline.predict_proba(X))
    with pytest.raises(NotFittedError, match=r"baseline \(LogisticRegression\) is not fitted"):
        plain_student(find_student(student), X, baseline=LogisticRegression())
    with pytest.raises(TypeError, match=r"baseline \(StandardScaler\) has no predict_proba"):
        plain_student(find_student(student), X, baseline=StandardScaler())


def test_with_neither_rows_nor_baseline_there_is_no_plain_student(data, student):
    assert plain_student(find_student(student), data[0]) is None
