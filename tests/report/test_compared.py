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
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistilledClassifierCV, TorchTeacher, distillation_report

X, Y = make_data(90)


@pytest.fixture(scope="module")
def teachers():
    forest = RandomForestClassifier(5, min_samples_leaf=3, random_state=0)
    return [("linear", fitted_teacher(X, Y)), ("forest", forest.fit(X, Y))]


@pytest.fixture(scope="module")
def student(teachers):
    return quick(teachers, teacher_weights=[3, 1]).fit(X, Y)


def report(student, X=X, y=Y, **params):
    return distillation_report(student, X, y, n_bootstrap=100, random_state=0, **params)


def losses(student, X=X, y=Y, **params):
    """Return the log-loss of each model, which stands for its answers."""
    return {row.name: row.log_loss for row in report(student, X, y, **params).rows}


def loss_of(proba, y=Y):
    return pytest.approx(log_loss(y, proba), rel=1e-9)


# The student


def test_a_student_is_found_in_what_holds_it(teachers, student):
    scaler = StandardScaler().fit(X)
    behind = quick(teachers, max_epochs=2).fit(scaler.transform(X), Y)
    for holder, held in (
        (student.student_, student),
        (FrozenEstimator(student), student),
        (make_pipeline(student), student),
        (pickle.loads(pickle.dumps(student)), student),
    ):
        expected = loss_of(held.predict_proba(X))
        assert losses(holder, teachers=teachers)["distilled student"] == expected
    for holder in (
        make_pipeline(scaler, behind),
        make_pipeline(make_pipeline(scaler), make_pipeline(behind)),
    ):
        found = losses(holder)
        assert found["distilled student"] == loss_of(holder.predict_proba(X))
        # What stands before the student stands before its teachers.
        assert found["linear"] == loss_of(teachers[0][1].predict_proba(scaler.transform(X)))


def test_a_student_is_found_in_a_search(teachers):
    grid = GridSearchCV(quick(teachers, max_epochs=2), {"alpha": [0.5]}, cv=2).fit(X, Y)
    inner = quick([LogisticRegression()], cv=2, max_epochs=2)
    search = DistilledClassifierCV(inner, temperatures=[1], alphas=[1], cv=2).fit(X, Y)
    for holder in (grid, search):
        assert losses(holder)["distilled student"] == loss_of(holder.predict_proba(X))


def test_an_unfitted_student_is_refused():
    for holder in (quick(), make_pipeline(StandardScaler(), quick()), GridSearchCV(quick(), {})):
        with pytest.raises(NotFittedError):
            report(holder)


def test_other_classifiers_are_refused():
    with pytest.raises(TypeError, match=r"with teachers=\[...\]; got a LogisticRegression"):
        report(fitted_teacher(X, Y))
    with pytest.raises(TypeError, match="got a str"):
        report("student")


# Its teachers


def test_the_ensemble_has_the_students_weights(teachers, student):
    found = losses(student)
    linear, forest = (teacher.predict_proba(X) for _, teacher in teachers)
    assert list(found) == ["linear", "forest", "ensemble", "distilled student"]
    assert found["linear"] == loss_of(linear)
    assert found["forest"] == loss_of(forest)
    assert found["ensemble"] == loss_of(0.75 * linear + 0.25 * forest)


def test_the_ensemble_has_the_weights_that_fit_learnt():
    few = RandomForestClassifier(3, max_depth=1, random_state=0)
    fitted = quick([LogisticRegression(), few], cv=3, teacher_weights="validation").fit(X, Y)
    heavy, light = fitted.teacher_weights_
    assert heavy > light + 0.1
    means = [np.mean([c.predict_proba(X) for c in clones], axis=0) for clones in fitted.teachers_]
    assert losses(fitted)["ensemble"] == loss_of(heavy * means[0] + light * means[1])
    # Other teachers than those of fit: the rule has no labels here.
    assert "logisticregression" in losses(fitted, teachers=[fitted_teacher(X, Y)])


def test_the_ensemble_is_averaged_in_the_students_space(teachers):
    found = losses(quick(teachers, averaging="logits", max_epochs=2).fit(X, Y))
    assert found["forest"] == loss_of(teachers[1][1].predict_proba(X).clip(2**-52))
    logs = [np.log(np.clip(t.predict_proba(X), 1e-7, 1)) for _, t in teachers]
    mean = np.exp(np.mean(logs, axis=0))
    assert found["ensemble"] == loss_of(mean / mean.sum(axis=1, keepdims=True))


def test_modules_are_averaged_in_logits():
    torch.manual_seed(0)
    modules = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    codes = (Y == "yes").astype(int)
    fitted = quick([TorchTeacher(m, [0, 1]) for m in modules], max_epochs=2).fit(X)
    mean = np.exp(np.mean([TorchTeacher(module).logits(X) for module in modules], axis=0))
    expected = loss_of(mean / mean.sum(axis=1, keepdims=True), codes)
    assert losses(fitted, y=codes)["ensemble"] == expected


def test_a_cross_fitted_teacher_answers_by_the_mean_of_its_folds():
    named = quick([LogisticRegression()], cv=3, max_epochs=2).fit(X, Y)
    default = quick(max_epochs=2).fit(X, Y)
    for fitted, name in ((named, "logisticregression"), (default, "default teacher")):
        (folds,) = fitted.teachers_
        expected = loss_of(np.mean([fold.predict_proba(X) for fold in folds], axis=0))
        found = losses(fitted)
        assert found[name] == expected
        assert found["ensemble"] == expected


def test_folds_of_a_teacher_that_learns_codes_keep_their_labels():
    xgboost = pytest.importorskip("xgboost")
    rows, y = make_data(90, labels=(2, 1))
    fitted = quick([xgboost.XGBClassifier(n_estimators=5)], cv=3, max_epochs=2).fit(rows, y)
    assert report(fitted, rows, y).row("ensemble").accuracy > 0.8


def test_answers_follow_the_students_classes():
    y = np.where(X[:, 0] > 0, "b", "a")
    fixed = quick([Fixed([0.9, 0.1], classes=["b", "a"])], alpha=1.0, max_epochs=2)
    with pytest.warns(UserWarning, match="The teachers agree with y"):
        fixed.fit(X, y)
    assert losses(fixed, y=y)["ensemble"] == loss_of(np.tile([0.1, 0.9], (len(X), 1)), y)


def test_teachers_that_are_passed_take_the_place_of_those_kept(teachers, student):
    other = MLPClassifier((3,), max_iter=2000, random_state=0).fit(X, Y)
    expected = loss_of(other.predict_proba(X).clip(2**-52))
    found = losses(student, teachers=[("other", other), teachers[0]])
    assert list(found) == ["other", "linear", "ensemble", "distilled student"]
    assert found["other"] == expected
    assert losses(student.student_, teachers=[other])["ensemble"] == expected


def test_a_student_without_teachers_says_how_to_pass_them(student):
    way_out = r"Pass teachers=\[...\]"
    with pytest.raises(ValueError, match=f"A StudentClassifier holds no teachers. {way_out}"):
        report(student.student_)
    left = r"left behind when it was pickled: linear: LogisticRegression, forest: .*\. "
    with pytest.raises(ValueError, match=left + way_out):
        report(pickle.loads(pickle.dumps(student)))
    plain = quick([fitted_teacher(X, Y)], alpha=0, max_epochs=2).fit(X, Y)
    with pytest.raises(ValueError, match=f"No teacher was asked .* alpha=0, .*{way_out}"):
        report(plain)
    default = pickle.loads(pickle.dumps(quick(max_epochs=2).fit(X, Y)))
    with pytest.raises(ValueError, match=f"left behind when it was pickled. {way_out}"):
        report(default)


def test_teachers_that_do_not_fit_are_refused(student):
    with pytest.raises(NotFittedError, match=r"teacher 0 .* is not fitted"):
        report(student.student_, teachers=[LogisticRegression()])
    stranger = fitted_teacher(X, np.where(Y == "no", "maybe", Y))
    with pytest.raises(ValueError, match="do not match: the teacher knows"):
        report(student.student_, teachers=[stranger])
    with pytest.raises(ValueError, match="1 finite numbers >= 0"):
        report(student, teachers=[fitted_teacher(X, Y)])


@pytest.mark.parametrize("cv", ["prefit", 2, "oob"])
def test_teachers_that_answered_as_they_were_are_named(teachers, student, cv):
    names = "linear, forest"
    if cv != "prefit":
        names = "frozen"
        cloned = RandomForestClassifier(30, random_state=0)
        mixed = [("forest", cloned), ("frozen", FrozenEstimator(teachers[0][1]))]
        with pytest.warns(UserWarning, match="not out-of-fold"):
            student = quick(mixed, max_epochs=2, cv=cv).fit(X, Y)
    assert any(f"Used as they were: {names}." in note for note in report(student).notes)
    bare = report(student.student_, teachers=teachers)
    assert not any("Used as they were" in note for note in bare.notes)


# The plain student


def test_the_plain_student_is_the_same_network_on_labels_alone(teachers, student):
    found = report(student, X_train=X, y_train=Y).row("plain")
    twin = quick(teachers, alpha=0.0, early_stopping=True).fit(X, Y)
    assert found.log_loss == loss_of(twin.predict_proba(X))
    assert found.n_parameters == student.student_.n_parameters_
    assert student.alpha > 0


def test_the_plain_student_of_a_lean_pickle_is_trained_with_the_teachers_passed(teachers):
    fitted = quick(teachers, augment="munge", n_synthetic=20, loss="mse", max_epochs=3)
    fitted.set_params(numerical_embedding="auto").fit(X, Y)
    lean = pickle.loads(pickle.dumps(fitted))
    found = losses(lean, X_train=X, y_train=Y, teachers=teachers)
    expected = losses(fitted, X_train=X, y_train=Y)
    assert found["plain student"] == pytest.approx(expected["plain student"], rel=1e-9)


def test_the_plain_student_learns_behind_the_steps_of_a_pipeline(student):
    scaler = StandardScaler().fit(X)
    found = losses(make_pipeline(scaler, student), X_train=X, y_train=Y)
    Z = scaler.transform(X)
    expected = losses(student, Z, X_train=Z, y_train=Y)
    assert found["plain student"] == pytest.approx(expected["plain student"], rel=1e-9)


def test_a_seed_makes_the_plain_student_reproducible(teachers):
    unseeded = quick(teachers, random_state=None, max_epochs=2).fit(X, Y)
    first, second = (losses(unseeded, X_train=X, y_train=Y) for _ in range(2))
    assert first == second


def test_a_bare_student_cannot_have_a_plain_one_trained(teachers, student):
    with pytest.raises(ValueError, match=r"does not hold the settings .* fitted baseline="):
        report(student.student_, X_train=X, y_train=Y, teachers=teachers)


def test_training_rows_must_hold_the_students_labels(student):
    with pytest.raises(ValueError, match=r"y_train holds the labels \['maybe', 'no'\]"):
        report(student, X_train=X, y_train=np.where(Y == "yes", "maybe", Y))


def test_a_baseline_is_the_plain_student(student):
    baseline = fitted_teacher(X, Y)
    expected = loss_of(baseline.predict_proba(X))
    assert losses(student, baseline=baseline)["plain student"] == expected
    with pytest.raises(NotFittedError, match=r"baseline \(LogisticRegression\) is not fitted"):
        report(student, baseline=LogisticRegression())
    with pytest.raises(TypeError, match=r"baseline \(StandardScaler\) has no predict_proba"):
        report(student, baseline=StandardScaler())
