"""What scikit-learn's guide shows does here what it does by hand."""

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from quick_students import fitted_teacher, make_data, quick
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay, calibration_curve
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import RocCurveDisplay, accuracy_score, log_loss, make_scorer, roc_curve
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import estimator_html_repr, get_tags

from skdistill import DistilledClassifierCV

X, Y = make_data()
NAMES = ["a", "b", "c"]
FRAME = pd.DataFrame(X, columns=NAMES)
TEACHER = fitted_teacher(X, Y)
WEIGHT = np.linspace(0.5, 2.0, len(X))
FOLDS = StratifiedKFold(3)


def same(answer, by_hand):
    """Check that answers are equal; numbers up to the order in which BLAS adds."""
    if np.asarray(by_hand).dtype.kind == "f":
        np.testing.assert_allclose(answer, by_hand, rtol=1e-9)
    else:
        np.testing.assert_array_equal(answer, by_hand)


def student(teachers=(TEACHER,), **params):
    return quick(list(teachers), max_epochs=5, calibration=None, **params)


def mean_of_folds(score):
    """Return `score(train, test)` of every fold."""
    return [score(train, test) for train, test in FOLDS.split(X, Y)]


# Columns and their names


def test_names_of_columns_reach_the_student_and_its_teachers():
    teacher = LogisticRegression().fit(FRAME, Y)
    fitted = student([teacher], keep_teachers=True).fit(FRAME, Y)
    for part in (fitted, fitted.student_, fitted.teachers_[0]):
        assert part.feature_names_in_.tolist() == NAMES
    assert not hasattr(student().fit(X, Y), "feature_names_in_")


def test_names_of_a_neighbour_are_those_that_the_student_saw():
    pipeline = make_pipeline(
        StandardScaler(), SelectKBest(k=2), student([LogisticRegression()], cv=2)
    )
    pipeline.set_output(transform="pandas").fit(FRAME, Y)
    made = pipeline[:-1].get_feature_names_out()
    assert pipeline[-1].feature_names_in_.tolist() == made.tolist()
    assert pipeline[-1].n_features_in_ == 2
    seen = pipeline[:-1].transform(FRAME)
    same(pipeline.predict_proba(FRAME), clone(pipeline[-1]).fit(seen, Y).predict_proba(seen))


@pytest.mark.parametrize("by", ["set_output", "config"])
def test_a_neighbour_that_gives_frames_changes_nothing(by):
    pipeline = make_pipeline(StandardScaler(), student([LogisticRegression()], cv=2))
    plain = clone(pipeline).fit(X, Y).predict_proba(X)
    if by == "set_output":
        same(pipeline.set_output(transform="pandas").fit(FRAME, Y).predict_proba(FRAME), plain)
    else:
        with config_context(transform_output="pandas"):
            same(pipeline.fit(FRAME, Y).predict_proba(FRAME), plain)
    assert pipeline[-1].feature_names_in_.tolist() == NAMES


def test_a_neighbour_that_gives_polars_frames_changes_nothing():
    pytest.importorskip("polars")
    pipeline = make_pipeline(StandardScaler(), student([LogisticRegression()], cv=2))
    plain = clone(pipeline).fit(X, Y).predict_proba(X)
    same(pipeline.set_output(transform="polars").fit(FRAME, Y).predict_proba(FRAME), plain)
    assert pipeline[-1].feature_names_in_.tolist() == NAMES


def test_a_column_transformer_before_the_student_and_its_teachers():
    frame = FRAME.assign(colour=np.where(X[:, 0] > 0, "red", "blue"))
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), make_column_selector(dtype_include=np.number)),
            ("words", OneHotEncoder(sparse_output=False), ["colour"]),
        ]
    )
    pipeline = make_pipeline(columns, student([LogisticRegression()], cv=2)).fit(frame, Y)
    seen = clone(columns).fit_transform(frame)
    same(pipeline.predict_proba(frame), clone(pipeline[-1]).fit(seen, Y).predict_proba(seen))


# Tags


@pytest.mark.parametrize("labels", [("no", "yes"), ("ant", "bee", "cat")], ids=str)
def test_tags_of_a_classifier_and_its_student_agree_with_what_fit_takes(labels):
    X, y = make_data(labels=labels)
    fitted = student([fitted_teacher(X, y)]).fit(X, y)
    for part in (fitted, fitted.student_):
        tags = get_tags(part)
        assert tags.estimator_type == "classifier"
        assert tags.classifier_tags.multi_class
        assert tags.target_tags.required
        assert not tags.target_tags.multi_output
        assert tags.input_tags.two_d_array
        assert not tags.input_tags.sparse
        same(part.classes_, np.unique(y))
    with pytest.raises(ValueError, match="should be a 1d array"):
        clone(fitted).fit(X, np.column_stack([y, y]))


@pytest.mark.parametrize("words", [False, True])
def test_tags_of_a_search_are_those_of_its_estimator(words):
    inner = quick(None if words else [LogisticRegression()], cv=2)
    mine, its = get_tags(DistilledClassifierCV(inner)), get_tags(inner)
    assert mine == its
    assert mine.input_tags.string == words


# Metadata routing


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_as_they_are_passed_by_hand():
    asking = student().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    deaf = student().set_fit_request(sample_weight=False)
    by_hand = student().fit(X, Y, sample_weight=WEIGHT)
    same(
        make_pipeline(asking).fit(X, Y, sample_weight=WEIGHT).predict_proba(X),
        by_hand.predict_proba(X),
    )
    with pytest.raises(TypeError, match="not routed to any object"):
        make_pipeline(deaf).fit(X, Y, sample_weight=WEIGHT)
    search = GridSearchCV(asking, {"alpha": [0.5]}, cv=FOLDS).fit(X, Y, sample_weight=WEIGHT)
    half = student(alpha=0.5).fit(X, Y, sample_weight=WEIGHT)
    same(search.predict_proba(X), half.predict_proba(X))

    def score(train, test):
        fitted = student().fit(X[train], Y[train], sample_weight=WEIGHT[train])
        return fitted.score(X[test], Y[test], sample_weight=WEIGHT[test])

    results = cross_validate(asking, X, Y, cv=FOLDS, params={"sample_weight": WEIGHT})
    np.testing.assert_allclose(results["test_score"], mean_of_folds(score))


@pytest.mark.usefixtures("routing")
def test_a_teacher_in_a_pipeline_gets_the_weights_it_asks_for():
    for asks in (True, False):
        inner = LogisticRegression().set_fit_request(sample_weight=asks)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        fitted = student([make_pipeline(scaler, inner)], cv=[(np.arange(45), np.arange(45, 90))])
        fitted.set_fit_request(sample_weight=True).fit(X, Y, sample_weight=WEIGHT)
        (fold,) = fitted.teachers_[0]
        rows = StandardScaler().fit_transform(X[:45])
        weight = WEIGHT[:45] if asks else None
        by_hand = LogisticRegression().fit(rows, Y[:45], sample_weight=weight)
        np.testing.assert_allclose(fold[-1].coef_, by_hand.coef_, rtol=1e-6)


# Tools around it


def test_ensembles_average_and_stack_what_the_students_say():
    other = LogisticRegression()
    voted = VotingClassifier([("s", student()), ("o", other)], voting="soft").fit(X, Y)
    mean = (student().fit(X, Y).predict_proba(X) + fitted_teacher(X, Y).predict_proba(X)) / 2
    np.testing.assert_allclose(voted.predict_proba(X), mean, rtol=1e-12)
    stack = StackingClassifier([("s", student())], cv=FOLDS).fit(X, Y)
    out_of_fold = cross_val_predict(student(), X, Y, cv=FOLDS, method="predict_proba")
    final = LogisticRegression().fit(out_of_fold[:, 1:], Y)
    inside = student().fit(X, Y).predict_proba(X)[:, 1:]
    np.testing.assert_allclose(stack.predict_proba(X), final.predict_proba(inside), rtol=1e-9)


def test_out_of_fold_answers_are_those_of_the_folds():
    answers = cross_val_predict(student(), X, Y, cv=FOLDS, method="predict_proba")
    for train, test in FOLDS.split(X, Y):
        same(answers[test], student().fit(X[train], Y[train]).predict_proba(X[test]))


def test_a_frozen_student_is_calibrated_as_it_is():
    fitted = student().fit(X, Y)
    for held in (fitted, fitted.student_):
        calibrated = CalibratedClassifierCV(FrozenEstimator(held), cv=FOLDS).fit(X, Y)
        for part in calibrated.calibrated_classifiers_:
            same(part.estimator.predict_proba(X), fitted.predict_proba(X))
        order = np.argsort(calibrated.predict_proba(X)[:, 1], kind="stable")
        assert (np.diff(fitted.predict_proba(X)[order, 1]) >= -1e-12).all()


def test_thresholds_cut_the_probabilities():
    cut = FixedThresholdClassifier(student(), threshold=0.8, response_method="predict_proba")
    proba = student().fit(X, Y).predict_proba(X)[:, 1]
    same(cut.fit(X, Y).predict(X), np.where(proba >= 0.8, "yes", "no"))


def test_one_student_for_each_class_or_output():
    y = make_data(labels=("ant", "bee", "cat"))[1]
    inner = student([LogisticRegression()], cv=2)
    against_rest = OneVsRestClassifier(inner).fit(X, y)
    positive = np.column_stack(
        [clone(inner).fit(X, (y == c).astype(int)).predict_proba(X)[:, 1] for c in np.unique(y)]
    )
    by_hand = positive / positive.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(against_rest.predict_proba(X), by_hand, rtol=1e-12)
    outputs = MultiOutputClassifier(inner).fit(X, np.column_stack([Y, y]))
    for column, target in enumerate((Y, y)):
        answer = outputs.predict_proba(X)[column]
        same(answer, clone(inner).fit(X, target.astype(object)).predict_proba(X))


def test_self_training_without_a_sure_row_is_the_fit_on_the_labelled_rows():
    code = (Y == "yes").astype(int)
    code[::3] = -1
    inner = student([LogisticRegression()], cv=2)
    trained = SelfTrainingClassifier(inner, threshold=0.9999999).fit(X, code)
    known = code != -1
    same(trained.predict_proba(X), clone(inner).fit(X[known], code[known]).predict_proba(X))


def test_curves_are_the_scores_of_their_fits():
    sizes, _, scores = learning_curve(student(), X, Y, cv=FOLDS, train_sizes=[0.5, 1.0])
    by_hand = mean_of_folds(
        lambda train, test: [
            student().fit(X[train[:n]], Y[train[:n]]).score(X[test], Y[test]) for n in sizes
        ]
    )
    np.testing.assert_allclose(scores, np.transpose(by_hand))
    alphas = [0.0, 1.0]
    _, scores = validation_curve(student(), X, Y, param_name="alpha", param_range=alphas, cv=FOLDS)
    by_hand = mean_of_folds(
        lambda train, test: [
            student(alpha=a).fit(X[train], Y[train]).score(X[test], Y[test]) for a in alphas
        ]
    )
    np.testing.assert_allclose(scores, np.transpose(by_hand))


def test_inspection_looks_at_the_probabilities():
    fitted = student([LogisticRegression().fit(FRAME, Y)]).fit(FRAME, Y)
    found = partial_dependence(fitted, FRAME, ["a"], grid_resolution=4, kind="average")
    for value, average in zip(found["grid_values"][0], found["average"][0], strict=True):
        proba = fitted.predict_proba(FRAME.assign(a=value))
        assert average == pytest.approx(proba[:, 1].mean())
    found = permutation_importance(fitted, FRAME, Y, n_repeats=2, random_state=0)
    assert found.importances.shape == (3, 2)
    bare = permutation_importance(fitted.student_, FRAME, Y, n_repeats=2, random_state=0)
    same(found.importances, bare.importances)
    constant = FRAME.assign(c=1.0)
    found = permutation_importance(
        student([fitted_teacher(constant, Y)]).fit(constant, Y), constant, Y
    )
    assert (found.importances[2] == 0).all()


def test_displays_draw_the_probabilities():
    two = X[:, :2]
    fitted = student([fitted_teacher(two, Y)]).fit(two, Y)
    proba = fitted.predict_proba(two)[:, 1]
    boundary = DecisionBoundaryDisplay.from_estimator(
        fitted, two, grid_resolution=5, response_method="predict_proba"
    )
    grid = np.column_stack([boundary.xx0.ravel(), boundary.xx1.ravel()])
    np.testing.assert_allclose(boundary.response.ravel(), fitted.predict_proba(grid)[:, 1])
    curve = RocCurveDisplay.from_estimator(fitted, two, Y)
    false, true, _ = roc_curve(Y == "yes", proba)
    same(curve.fpr, false)
    same(curve.tpr, true)
    shown = CalibrationDisplay.from_estimator(fitted, two, Y, n_bins=3)
    same(shown.prob_true, calibration_curve(Y == "yes", proba, n_bins=3)[0])


@pytest.mark.parametrize("scorer", ["accuracy", "neg_log_loss", "callable"])
def test_scorers_ask_the_student(scorer):
    def score(train, test):
        fitted = student().fit(X[train], Y[train])
        if scorer == "neg_log_loss":
            return -log_loss(Y[test], fitted.predict_proba(X[test]))
        return accuracy_score(Y[test], fitted.predict(X[test]))

    scoring = make_scorer(accuracy_score) if scorer == "callable" else scorer
    results = cross_validate(student(), X, Y, cv=FOLDS, scoring=scoring)
    np.testing.assert_allclose(results["test_score"], mean_of_folds(score))


# Pipelines and settings


def test_a_pipeline_with_memory_fits_the_same_student(tmp_path):
    steps = [("scale", StandardScaler()), ("student", student([LogisticRegression()], cv=2))]
    plain = Pipeline(steps).fit(X, Y).predict_proba(X)
    for _ in range(2):
        kept = clone(Pipeline(steps, memory=joblib.Memory(tmp_path, verbose=0)))
        same(kept.fit(X, Y).predict_proba(X), plain)


def test_nested_names_set_what_they_name():
    inner = student([("tree", LogisticRegression())], cv=2, preprocessor=StandardScaler())
    pipeline = Pipeline([("student", inner)])
    pipeline.set_params(
        student__tree__C=0.25, student__preprocessor__with_mean=False, student__alpha=0.25
    )
    params = pipeline.get_params(deep=True)
    assert params["student__tree__C"] == params["student__tree"].C == 0.25
    assert params["student__preprocessor"].with_mean is False
    by_hand = student(
        [LogisticRegression(C=0.25)],
        cv=2,
        preprocessor=StandardScaler(with_mean=False),
        alpha=0.25,
    )
    same(pipeline.fit(X, Y).predict_proba(X), by_hand.fit(X, Y).predict_proba(X))


def test_the_drawing_names_every_step_and_teacher():
    inner = student([("words", LogisticRegression())], cv=2)
    drawn = estimator_html_repr(make_pipeline(StandardScaler(), inner))
    for name in ("StandardScaler", "DistilledClassifier", "LogisticRegression", "words"):
        assert name in drawn


@pytest.mark.parametrize(
    "setting",
    [
        {"assume_finite": True},
        {"skip_parameter_validation": True},
        {"working_memory": 1},
        {"print_changed_only": False},
        {"transform_output": "pandas"},
    ],
    ids=str,
)
def test_settings_of_scikit_learn_change_no_answer(setting):
    before = student().fit(X, Y).predict_proba(X)
    with config_context(**setting):
        same(student().fit(X, Y).predict_proba(X), before)


def test_array_api_dispatch_changes_no_answer_for_numpy_rows(fresh_process, monkeypatch):
    # Before scikit-learn 1.7 the dispatch needs a package that it does not bring along.
    pytest.importorskip("sklearn.externals.array_api_compat")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        from quick_students import fitted_teacher, make_data, quick
        from sklearn import config_context

        X, y = make_data()
        student = quick([fitted_teacher(X, y)], max_epochs=2)
        before = student.fit(X, y).predict_proba(X)
        with config_context(array_api_dispatch=True):
            np.testing.assert_array_equal(student.fit(X, y).predict_proba(X), before)
    """
    fresh_process(code, str(Path(__file__).parents[1]))
