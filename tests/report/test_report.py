"""Laws of the report: its numbers by hand, what it refuses, what it says."""

import pickle

import numpy as np
import pandas as pd
import pytest
from quick_students import fitted_teacher, make_data, quick
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistillationDisplay, distillation_report
from skdistill.report.cost import Speed


def make_fitted(labels=("no", "yes"), **params):
    """Return rows to learn from, rows held out, named teachers and a student."""
    X, y = make_data(600, labels)
    X, X_test, y, y_test = X[:300], X[300:], y[:300], y[300:]
    forest = RandomForestClassifier(10, min_samples_leaf=5, random_state=0).fit(X, y)
    teachers = [("linear", fitted_teacher(X, y)), ("forest", forest)]
    return X, y, X_test, y_test, teachers, quick(teachers, **params).fit(X, y)


@pytest.fixture(scope="module")
def binary():
    return make_fitted()


@pytest.fixture(scope="module")
def multiclass():
    return make_fitted(labels=("a", "b", "c"), teacher_weights=[1, 3])


def scores_by_hand(proba, ensemble, y, classes):
    code = np.searchsorted(classes, y)
    n, k = proba.shape
    picked = proba[np.arange(n), code]
    best, confidence = proba.argmax(axis=1), proba.max(axis=1)
    ece = 0.0
    for low in np.arange(15) / 15:
        here = (confidence > low) & (confidence <= low + 1 / 15)
        ece += abs((best[here] == code[here]).sum() - confidence[here].sum()) / n
    one_against_rest = [roc_auc_score(code == j, proba[:, j]) for j in range(k)]
    return {
        "accuracy": (best == code).mean(),
        "log_loss": -np.log(picked).mean(),
        "roc_auc": np.mean(one_against_rest),
        "brier": ((proba - np.eye(k)[code]) ** 2).sum(axis=1).mean() / (2 if k == 2 else 1),
        "ece": ece,
        "agreement": (best == ensemble.argmax(axis=1)).mean(),
        "kl": (ensemble * np.log(ensemble / proba)).sum(axis=1).mean(),
    }


@pytest.mark.parametrize("which", ["binary", "multiclass"])
def test_every_score_is_the_one_computed_by_hand(which, request):
    X, y, X_test, y_test, teachers, student = request.getfixturevalue(which)
    plain = quick(teachers, alpha=0.0, early_stopping=True).fit(X, y)
    weights = [0.5, 0.5] if which == "binary" else [0.25, 0.75]
    answers = {name: t.predict_proba(X_test) for name, t in teachers}
    answers["ensemble"] = sum(w * p for w, p in zip(weights, answers.values(), strict=True))
    answers["plain student"] = plain.predict_proba(X_test)
    answers["distilled student"] = student.predict_proba(X_test)
    # A zero makes the logarithm infinite; metrics count what is below 2.2e-16 as that.
    answers = {name: proba.clip(2**-52) for name, proba in answers.items()}
    report = distillation_report(student, X_test, y_test, X_train=X, y_train=y, random_state=0)
    assert [row.name for row in report.rows] == list(answers)
    for row in report.rows:
        expected = scores_by_hand(answers[row.name], answers["ensemble"], y_test, student.classes_)
        # Rounding breaks ties among a forest's answers, which moves its area in the fifth digit.
        assert row.roc_auc == pytest.approx(expected.pop("roc_auc"), abs=1e-4), row.name
        found = {name: getattr(row, name) for name in expected}
        assert found == pytest.approx(expected, abs=1e-9), row.name


def test_knowledge_recovered_is_the_one_computed_by_hand(binary):
    X, y, X_test, y_test, teachers, student = binary
    baseline = LogisticRegression(C=1e-3).fit(X, y)
    report = distillation_report(student, X_test, y_test, baseline=baseline, random_state=0)
    code = (y_test == "yes").astype(int)

    def loss(proba):
        return -np.log(proba[np.arange(len(code)), code]).mean()

    ours, plain = loss(student.predict_proba(X_test)), loss(baseline.predict_proba(X_test))
    ensemble = loss(np.mean([t.predict_proba(X_test) for _, t in teachers], axis=0))
    found = report.comparisons["log_loss"]
    assert found.over_plain.value == pytest.approx(plain - ours)
    assert found.gap.value == pytest.approx(plain - ensemble)
    assert found.over_ensemble.value == pytest.approx(ensemble - ours)
    assert found.share == pytest.approx((ours - plain) / (ensemble - plain))
    rows = {row.role: row for row in report.rows}
    by_row = (rows["distilled"].log_loss, rows["plain"].log_loss, rows["ensemble"].log_loss)
    assert by_row == pytest.approx((ours, plain, ensemble))
    assert found.verdict[0].startswith("better than the plain student")


def test_accuracy_differences_are_those_of_the_rows_of_the_table(binary):
    X, y, X_test, y_test, _, student = binary
    report = distillation_report(student, X_test, y_test, X_train=X, y_train=y)
    found = report.comparisons["accuracy"]
    accuracy = {row.role: row.accuracy for row in report.rows}
    assert found.over_plain.value == pytest.approx(accuracy["distilled"] - accuracy["plain"])
    assert found.over_ensemble.value == pytest.approx(accuracy["distilled"] - accuracy["ensemble"])


def test_sizes_and_ratios(binary):
    _, _, X_test, y_test, teachers, student = binary
    report = distillation_report(student, X_test, y_test)
    *taught, ensemble, ours = report.rows
    assert ours.n_parameters == student.student_.n_parameters_
    assert taught[0].n_bytes == len(pickle.dumps(teachers[0][1], protocol=5))
    assert ensemble.n_bytes == sum(row.n_bytes for row in taught)
    assert ensemble.n_parameters == sum(row.n_parameters for row in taught)
    assert report.compression_ratio == pytest.approx(ensemble.n_bytes / ours.n_bytes)
    assert report.parameter_ratio == pytest.approx(ensemble.n_parameters / ours.n_parameters)
    assert report.speed_up == pytest.approx(ensemble.latency_p50 / ours.latency_p50)
    for row in report.rows:
        assert 0 < row.latency_p50 <= row.latency_p99
        assert row.rows_per_second > 0


def test_a_single_teacher_is_its_own_ensemble(binary):
    X, y, X_test, y_test, _, _ = binary
    student = quick([fitted_teacher(X, y)], max_epochs=2).fit(X, y)
    teacher, ensemble, _ = distillation_report(student, X_test, y_test).rows
    for name in vars(teacher).keys() - {"name", "role"}:
        assert getattr(teacher, name) == getattr(ensemble, name)


def test_a_seed_makes_the_intervals_reproducible(binary):
    X, y, X_test, y_test, _, student = binary
    first, second = (
        distillation_report(student, X_test, y_test, X_train=X, y_train=y, random_state=3)
        for _ in range(2)
    )
    assert first.comparisons == second.comparisons


def test_frames_stay_frames(binary):
    X, y, X_test, y_test, _, _ = binary
    X, X_test = (pd.DataFrame(table, columns=["a", "b", "c"]) for table in (X, X_test))
    student = quick([fitted_teacher(X, y)], max_epochs=2).fit(X, y)
    report = distillation_report(student, X_test, y_test, X_train=X, y_train=y)
    assert report.n_rows == len(X_test)


def test_notes_say_what_a_reader_must_know(binary):
    X, y, X_test, y_test, _, student = binary
    alone = distillation_report(student, X_test, y_test)
    assert alone.row("plain") is None
    assert any("pass X_train and y_train" in note for note in alone.notes)
    assert any("Used as they were: linear, forest." in note for note in alone.notes)
    trained = distillation_report(student, X_test, y_test, X_train=X, y_train=y)
    assert any("early stopping" in note for note in trained.notes)
    baseline = MLPClassifier((3,), max_iter=2000, random_state=0).fit(X, y)
    piped = make_pipeline(StandardScaler().fit(X), student)
    given = distillation_report(piped, X_test, y_test, baseline=baseline)
    assert any("the baseline that was passed, a MLPClassifier" in note for note in given.notes)
    assert any("steps before the student" in note for note in given.notes)


def test_a_note_warns_of_times_spent_waiting(binary, monkeypatch):
    _, _, X_test, y_test, _, student = binary
    for waited, n_warnings in ((0.9, 1), (0.1, 0)):
        speed = Speed(p50=1.0, p99=2.0, rows_per_second=3.0, waited=waited)
        monkeypatch.setattr("skdistill.report.report.measure_speed", lambda *_, found=speed: found)
        notes = distillation_report(student, X_test, y_test).notes
        assert sum("measure again on a quiet one" in note for note in notes) == n_warnings


def test_classes_that_are_not_held_out_are_left_out_of_the_area(multiclass):
    _, _, X_test, y_test, _, student = multiclass
    two = y_test != "b"
    row = distillation_report(student, X_test[two], y_test[two]).row("distilled")
    proba, y = student.predict_proba(X_test[two]), y_test[two]
    areas = [roc_auc_score(y == "a", proba[:, 0]), roc_auc_score(y == "c", proba[:, 2])]
    assert row.roc_auc == pytest.approx(np.mean(areas))


def test_labels_that_cannot_be_compared_are_refused(binary):
    _, _, X_test, y_test, _, student = binary
    with pytest.raises(ValueError, match=r"y holds \['maybe'\], which the student does not know"):
        distillation_report(student, X_test, np.where(y_test == "no", "maybe", y_test))
    with pytest.raises(ValueError, match=r"classes_ are \['no', 'yes'\]"):
        distillation_report(student, X_test, (y_test == "yes").astype(int))
    with pytest.raises(ValueError, match=r"y holds one class only, \['no'\]"):
        distillation_report(student, X_test[y_test == "no"], y_test[y_test == "no"])
    with pytest.raises(ValueError, match="X has 300 rows and y has 299 labels"):
        distillation_report(student, X_test, y_test[1:])


def test_arguments_that_exclude_each_other_are_refused(binary):
    X, y, X_test, y_test, teachers, student = binary
    with pytest.raises(ValueError, match="X_train was passed without y_train"):
        distillation_report(student, X_test, y_test, X_train=X)
    with pytest.raises(ValueError, match="y_train was passed without X_train"):
        distillation_report(student, X_test, y_test, y_train=y)
    with pytest.raises(ValueError, match="each of them gives the plain student"):
        distillation_report(student, X_test, y_test, X_train=X, y_train=y, baseline=teachers[0][1])


@pytest.mark.parametrize("n_bootstrap", [99, 0, 1000.0, None])
def test_the_number_of_resamples_is_checked(binary, n_bootstrap):
    _, _, X_test, y_test, _, student = binary
    with pytest.raises(ValueError, match="n_bootstrap must be an integer of at least 100"):
        distillation_report(student, X_test, y_test, n_bootstrap=n_bootstrap)


def test_a_calibrated_student_is_said():
    X, y = make_data(400)
    y = (y == "yes").astype(int)
    shy = LogisticRegression(C=3e-3)
    student = quick([shy], cv=3).fit(X, y)
    assert student.calibration_temperature_ < 1
    report = distillation_report(student, X, y, baseline=shy.fit(X, y), n_bootstrap=100)
    T = student.calibration_temperature_
    words = f"trained on was calibrated by fit, at a temperature of {T:.2f}"
    assert sum(words in note for note in report.notes) == 1
    assert [row.role for row in report.rows][1:3] == ["ensemble", "calibrated"]
    proba = np.mean([fold.predict_proba(X) for fold in student.teachers_[0]], axis=0)
    sharp = proba ** (1 / T) / (proba ** (1 / T)).sum(axis=1, keepdims=True)
    ensemble, calibrated = report.row("ensemble"), report.row("calibrated")
    assert ensemble.log_loss == pytest.approx(log_loss(y, proba))
    assert calibrated.log_loss == pytest.approx(log_loss(y, sharp))
    assert calibrated.agreement == 1
    assert calibrated.kl > ensemble.kl == 0
    assert calibrated.latency_p50 == ensemble.latency_p50
    drawn = DistillationDisplay.from_report(report)
    assert drawn.roles == ["teacher", "ensemble", "plain", "distilled"]


def test_teachers_that_are_passed_did_not_calibrate_the_targets():
    X, y = make_data(400)
    shy = LogisticRegression(C=3e-3)
    student = quick([shy], cv=3).fit(X, y)
    assert student.calibration_temperature_ < 1
    report = distillation_report(student, X, y, teachers=[shy.fit(X, y)], n_bootstrap=100)
    assert report.row("calibrated") is None


def test_a_student_that_was_not_calibrated_has_no_such_row():
    X, y = make_data(400)
    shy = LogisticRegression(C=3e-3).fit(X, y)
    mild = quick([LogisticRegression(C=3e-3)], cv=3, calibration=None).fit(X, y)
    report = distillation_report(mild, X, y, baseline=shy, n_bootstrap=100)
    assert not any("calibrated" in note for note in report.notes)
    assert report.row("calibrated") is None


def test_notes_do_not_name_a_crowd():
    X, y = make_data(60)
    crowd = [(f"teacher {i}", fitted_teacher(X, y)) for i in range(6)]
    for n_teachers, words in ((5, "teacher 3, teacher 4."), (6, "teacher 3 and 2 more.")):
        student = quick(crowd[:n_teachers], max_epochs=1, calibration=None).fit(X, y)
        report = distillation_report(student, X, y, n_bootstrap=100)
        assert sum(words in note for note in report.notes) == 1
