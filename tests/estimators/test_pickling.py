"""What pickles hold: the student when fitted, everything when not, and never a silent default."""

import copy
import pickle
import textwrap

import joblib
import numpy as np
import pytest
from quick_students import fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistilledClassifierCV, SkdistillVersionWarning, TeachersLeftBehind, losses

X, Y = make_data()
TEACHER = fitted_teacher(X, Y)
HEAVY = ("torch", "skorch", "xgboost", "lightgbm", "catboost")


def kl(student_logits, target_proba, y, *, temperature):
    return losses.kl_divergence(student_logits, target_proba, temperature=temperature)


def round_trip(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("in_pipeline", [False, True], ids=["bare", "pipeline"])
def test_a_lean_pickle_predicts_without_the_heavy_packages(in_pipeline, tmp_path, fresh_process):
    forest = RandomForestClassifier(300, random_state=0).fit(X, Y)
    assert len(pickle.dumps(forest)) > 500_000
    student = quick([forest])
    model = make_pipeline(FunctionTransformer(), student) if in_pipeline else student
    model.fit(X, Y)
    joblib.dump(model, tmp_path / "model.joblib")
    np.save(tmp_path / "X.npy", X)
    assert (tmp_path / "model.joblib").stat().st_size < 100_000
    code = """
        import sys
        from pathlib import Path
        import joblib, numpy as np
        folder = Path(sys.argv[1])
        model = joblib.load(folder / "model.joblib")
        np.save(folder / "proba.npy", model.predict_proba(np.load(folder / "X.npy")))
        repr(model), model.get_params()
        print(",".join(model.predict(np.load(folder / "X.npy"))))
    """
    printed = fresh_process(textwrap.dedent(code), tmp_path, forbid=HEAVY)
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), model.predict_proba(X))
    assert printed.strip() == ",".join(model.predict(X))


def test_default_size_is_small():
    forest = RandomForestClassifier(300, random_state=0).fit(X, Y)
    model = make_pipeline(FunctionTransformer(), quick([forest], hidden_layer_sizes=(128, 64)))
    assert len(pickle.dumps(model.fit(X, Y))) < 100_000


def test_a_lean_pickle_holds_nothing_of_training(tmp_path):
    class Local:
        """What pickle cannot store."""

        def __call__(self, student_logits, target_proba, y, *, temperature):
            return kl(student_logits, target_proba, y, temperature=temperature)

    classifier = quick(
        [("model", TEACHER)],
        loss=Local(),
        memory=joblib.Memory(str(tmp_path), verbose=0),
        callbacks=[],
        augment=lambda X, n, **kwargs: X,
        n_synthetic=5,
    ).fit(X, Y)
    loaded = round_trip(classifier)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert not hasattr(loaded, "teachers_")
    assert not hasattr(loaded, "net_")
    assert isinstance(loaded.teachers, TeachersLeftBehind)
    assert "model: LogisticRegression" in repr(loaded)
    for name in ("loss", "augment", "memory", "callbacks"):
        assert f"{name} left behind" in repr(getattr(loaded, name))
    assert loaded.temperature == classifier.temperature
    assert loaded.cv == "prefit"
    assert classifier.teachers == [("model", TEACHER)]


def test_a_fit_after_unpickling_says_what_was_left_behind():
    loaded = round_trip(quick([TEACHER]).fit(X, Y))
    words = (
        r"teachers of this estimator were left behind .*LogisticRegression.*"
        r"set_params\(teachers=\[\.\.\.\]\).*keep_teachers=True.*clone\(estimator\)"
    )
    for estimator in (loaded, clone(loaded), round_trip(loaded), copy.deepcopy(loaded)):
        with pytest.raises(ValueError, match=words):
            estimator.fit(X, Y)
    assert not hasattr(loaded, "student_")
    again = round_trip(quick([TEACHER]).fit(X, Y)).set_params(teachers=[TEACHER])
    assert again.fit(X, Y).score(X, Y) > 0.8


def test_a_left_behind_parameter_is_named():
    loaded = round_trip(quick([TEACHER], loss=kl).fit(X, Y)).set_params(teachers=[TEACHER])
    with pytest.raises(ValueError, match=r"value of loss \(function\) was left behind"):
        loaded.fit(X, Y)
    assert loaded.set_params(loss="kl").fit(X, Y).score(X, Y) > 0.8


def test_the_default_teacher_is_fitted_again_after_unpickling():
    loaded = round_trip(quick(max_epochs=2).fit(X, Y))
    assert loaded.teachers is None
    loaded.fit(X, Y)


def test_copies_keep_teachers():
    classifier = quick([TEACHER]).fit(X, Y)
    shallow, deep = copy.copy(classifier), copy.deepcopy(classifier)
    assert shallow.teachers is classifier.teachers
    assert shallow.student_ is classifier.student_
    assert deep.teachers[0] is not TEACHER
    for twin in (shallow, deep, clone(classifier)):
        twin.fit(X, Y)
        np.testing.assert_array_equal(twin.predict_proba(X), classifier.predict_proba(X))


def test_unfitted_pickles_and_kept_teachers():
    assert round_trip(quick([TEACHER])).fit(X, Y).score(X, Y) > 0.8
    for params in ({}, {"cv": 2}):
        kept = round_trip(quick([TEACHER], keep_teachers=True, **params).fit(X, Y))
        assert len(kept.teachers_) == 1
        assert kept.predict(X[:1]).shape == (1,)
        assert kept.fit(X, Y).score(X, Y) > 0.8


def test_preprocessors_and_nested_students_travel():
    nested = quick([quick([TEACHER]).fit(X, Y)], preprocessor=StandardScaler()).fit(X, Y)
    loaded = round_trip(nested)
    np.testing.assert_array_equal(loaded.predict_proba(X), nested.predict_proba(X))
    assert "DistilledClassifier" in repr(loaded.teachers)


def test_the_best_estimator_of_a_search_is_lean():
    forest = RandomForestClassifier(300, random_state=0).fit(X, Y)
    search = GridSearchCV(quick([forest]), {"temperature": [1.0, 2.0]}, cv=2).fit(X, Y)
    assert len(pickle.dumps(search.best_estimator_)) < 100_000 < len(pickle.dumps(search))


def test_other_versions_warn():
    classifier = quick([TEACHER]).fit(X, Y)
    state = classifier.__getstate__()
    assert set(state["_versions"]) == {"skdistill", "scikit-learn", "numpy"}
    state["_versions"] = {**state["_versions"], "numpy": "0.1"}
    with pytest.warns(SkdistillVersionWarning, match=r"numpy 0.1 \(now "):
        quick().__setstate__(state)
    loaded = round_trip(classifier)
    assert "_versions" not in vars(loaded)


def test_the_student_alone_travels():
    student = quick([TEACHER]).fit(X, Y).student_
    loaded = round_trip(student)
    np.testing.assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    assert len(pickle.dumps(student)) < 20_000
    assert clone(student) is student
    with pytest.raises(TypeError, match="FrozenEstimator"):
        student.fit(X, Y)


def test_unfitted_teachers_stay_so_that_a_loaded_student_can_be_fitted_again():
    student = quick([("tree", DecisionTreeClassifier(max_depth=3, random_state=0))], cv=3)
    student.fit(X, Y)
    loaded = round_trip(student)
    ((name, template),) = loaded.teachers
    assert name == "tree"
    assert template.max_depth == 3
    assert not hasattr(template, "tree_")
    assert not hasattr(loaded, "teachers_")
    for again in (clone(loaded), loaded):
        np.testing.assert_array_equal(again.fit(X, Y).predict_proba(X), student.predict_proba(X))


def test_what_a_template_learned_elsewhere_is_left_behind():
    forest = RandomForestClassifier(300, random_state=0).fit(X, Y)
    student = quick([forest], cv=2, max_epochs=2).fit(X, Y)
    assert len(pickle.dumps(student)) < len(pickle.dumps(forest)) / 10
    assert not hasattr(round_trip(student).teachers[0], "estimators_")


def test_a_search_keeps_unfitted_teachers_too():
    search = DistilledClassifierCV(
        quick([DecisionTreeClassifier(max_depth=3)], cv=2, max_epochs=2),
        temperatures=[1],
        alphas=[0.5],
        cv=2,
    ).fit(X, Y)
    (template,) = round_trip(search).estimator.teachers
    assert template.max_depth == 3


def test_beside_a_frozen_teacher_all_are_left_behind():
    teachers = [DecisionTreeClassifier(max_depth=3), FrozenEstimator(TEACHER)]
    with pytest.warns(UserWarning, match="answers as it is"):
        student = quick(teachers, cv=2, max_epochs=2).fit(X, Y)
    assert isinstance(round_trip(student).teachers, TeachersLeftBehind)


def test_a_pickle_with_unfitted_teachers_of_other_packages_predicts_without_them(
    tmp_path, fresh_process
):
    lightgbm = pytest.importorskip("lightgbm")
    teacher = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1)
    student = quick([("light", teacher)], cv=2, max_epochs=2).fit(X, Y)
    joblib.dump(student, tmp_path / "model.joblib")
    np.save(tmp_path / "X.npy", X)
    code = f"""
    import joblib, numpy, pickle
    model = joblib.load({str(tmp_path / "model.joblib")!r})
    proba = model.predict_proba(numpy.load({str(tmp_path / "X.npy")!r}))
    print(round(float(proba[0, 0]), 12), repr(model.teachers))
    pickle.loads(pickle.dumps(model)).predict(numpy.load({str(tmp_path / "X.npy")!r}))
    try:
        model.set_params(light__n_estimators=3)
    except ImportError as error:
        print(error)
    """
    lines = fresh_process(code, forbid=HEAVY).splitlines()
    assert lines[0] == (
        f"{round(float(student.predict_proba(X)[0, 0]), 12)} "
        "<unfitted teachers, as pickled: light: LGBMClassifier>"
    )
    assert "lightgbm" in lines[1]
    assert round_trip(student).teachers[0][1].get_params() == teacher.get_params()


def test_teachers_that_cannot_be_pickled_are_left_behind():
    scaled = make_pipeline(FunctionTransformer(lambda table: table), DecisionTreeClassifier())
    student = quick([scaled], cv=2, max_epochs=2).fit(X, Y)
    assert isinstance(round_trip(student).teachers, TeachersLeftBehind)


@pytest.mark.parametrize("inside", ["calibrated", "voting", "student"])
def test_fitted_teachers_inside_of_templates_are_left_behind(inside):
    forest = RandomForestClassifier(100, random_state=0).fit(X, Y)
    template = {
        "calibrated": CalibratedClassifierCV(FrozenEstimator(forest)),
        "voting": VotingClassifier([("forest", FrozenEstimator(forest))], voting="soft"),
        "student": quick([forest], max_epochs=2),
    }[inside]
    student = quick([template], cv=2, max_epochs=2).fit(X, Y)
    assert isinstance(round_trip(student).teachers, TeachersLeftBehind)


def test_kept_students_among_the_teachers_keep_theirs():
    inner = quick([TEACHER], max_epochs=2).fit(X, Y)
    student = quick([inner], cv=2, max_epochs=2, keep_teachers=True).fit(X, Y)
    again = round_trip(student).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
