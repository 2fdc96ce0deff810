"""Prefit teachers survive, untouched, whatever scikit-learn does with the estimator around them."""

import pickle
from itertools import product

import joblib
import numpy as np
import pytest
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from skdistill import DistilledClassifier, TorchTeacher

# Two that are no codes, which many of these tools make of them; and three.
LABELS = [(1, 2), ("ant", "bee", "cat")]
GRID = {"temperature": [1.0, 4.0], "alpha": [0.5, 1.0]}

TOOLS = {
    "clone": lambda s, prefix: clone(s),
    "grid": lambda s, prefix: GridSearchCV(s, {prefix + k: v for k, v in GRID.items()}, cv=2),
    "halving": lambda s, prefix: HalvingGridSearchCV(
        s, {prefix + "temperature": [1.0, 4.0]}, cv=2, random_state=0
    ),
    "calibrated": lambda s, prefix: CalibratedClassifierCV(s, cv=2),
    "calibrated together": lambda s, prefix: CalibratedClassifierCV(s, cv=2, ensemble=False),
    "stacking": lambda s, prefix: StackingClassifier([("student", s)], cv=2),
    "voting": lambda s, prefix: VotingClassifier([("student", s)], voting="soft"),
    "bagging": lambda s, prefix: BaggingClassifier(s, n_estimators=2, random_state=0),
}


@pytest.mark.parametrize(
    ("in_pipeline", "labels"),
    [(False, LABELS[0]), (False, LABELS[1]), (True, LABELS[0])],
    ids=["two classes", "three classes", "pipeline"],
)
@pytest.mark.parametrize("tool", TOOLS)
def test_prefit_teachers_survive(tool, in_pipeline, labels):
    X, y = make_data(labels=labels)
    teacher = fitted_teacher(X, y)
    before = pickle.dumps(teacher)
    student = quick([teacher], alpha=1.0)
    if in_pipeline:
        student = Pipeline([("same", FunctionTransformer()), ("student", student)])
    made = TOOLS[tool](student, "student__" if in_pipeline else "")
    assert made.fit(X, y).score(X, y) > 1.6 / len(labels)
    assert pickle.dumps(teacher) == before


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_cross_validation(labels):
    X, y = make_data(labels=labels)
    student = quick([fitted_teacher(X, y)], alpha=1.0)
    for s in (student, make_pipeline(FunctionTransformer(), student)):
        assert cross_val_score(s, X, y, cv=2).mean() > 1.6 / len(labels)
        proba = cross_val_predict(s, X, y, cv=2, method="predict_proba")
        assert (np.unique(y)[proba.argmax(axis=1)] == y).mean() > 1.6 / len(labels)


@pytest.mark.parametrize("labels", [(1, 2), (-1, 1)], ids=str)
def test_tuned_threshold(labels):
    X, y = make_data(labels=labels)
    student = quick([fitted_teacher(X, y)], alpha=1.0)
    scoring = "balanced_accuracy"
    assert TunedThresholdClassifierCV(student, cv=2, scoring=scoring).fit(X, y).score(X, y) > 0.8


def test_grid_search_in_two_processes_equals_one():
    X, y = make_data()
    student = make_pipeline(FunctionTransformer(), quick([fitted_teacher(X, y)]))
    grid = {"distilledclassifier__" + k: v for k, v in GRID.items()}
    one, two = (GridSearchCV(student, grid, cv=2, n_jobs=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_clone_shares_fitted_teachers_and_copies_the_rest():
    X, y = make_data()
    student = quick([fitted_teacher(X, y)])
    twin = clone(student)
    assert twin.teachers is student.teachers
    assert twin.hidden_layer_sizes == student.hidden_layer_sizes
    assert not hasattr(clone(student.fit(X, y)), "student_")


def test_clone_copies_teachers_that_fit_clones_and_shares_those_it_uses_as_they_are():
    X, y = make_data()
    frozen = FrozenEstimator(fitted_teacher(X, y))
    tree = DecisionTreeClassifier(max_depth=3)
    student = quick([tree, ("named", tree), frozen], cv=3)
    first, (name, second), last = clone(student).teachers
    assert first is not tree
    assert second is not tree
    assert name == "named"
    assert first.max_depth == second.max_depth == 3
    assert last is frozen


def test_search_over_cv_itself():
    X, y = make_data()
    teacher = fitted_teacher(X, y)
    before = pickle.dumps(teacher)
    search = GridSearchCV(quick([teacher]), {"cv": ["prefit", 5]}, cv=2).fit(X, y)
    assert (search.cv_results_["mean_test_score"] > 0.7).all()
    assert pickle.dumps(teacher) == before


def test_search_over_teachers_needs_frozen_ones():
    X, y = make_data()
    teacher = fitted_teacher(X, y)
    frozen = [[FrozenEstimator(teacher)], [FrozenEstimator(DecisionTreeClassifier().fit(X, y))]]
    search = GridSearchCV(quick(max_epochs=2), {"teachers": frozen}, cv=2)
    with pytest.warns(UserWarning, match="no temperature"):
        search.fit(X, y)
    bare = GridSearchCV(quick(), {"teachers": [[teacher]]}, cv=2, error_score="raise")
    with pytest.raises(Exception, match="FrozenEstimator"):
        bare.fit(X, y)


def test_named_teachers_are_searched_and_never_changed():
    X, y = make_data()
    tree = DecisionTreeClassifier(max_depth=7, random_state=0)
    student = quick([("tree", tree), LogisticRegression()], cv=3)
    assert student.get_params()["tree__max_depth"] == 7
    search = GridSearchCV(student, {"tree__max_depth": [1, 2]}, cv=2).fit(X, y)
    assert tree.max_depth == 7
    assert search.best_estimator_.get_params()["tree__max_depth"] in (1, 2)
    assert search.best_estimator_.teachers[0][1] is not tree
    assert search.best_estimator_.teachers[1] is not student.teachers[1]


def test_a_teacher_is_replaced_by_name():
    tree = DecisionTreeClassifier()
    student = quick([("tree", tree)], cv=3)
    twin = clone(student)
    twin.set_params(tree=LogisticRegression(), tree__C=2.0, alpha=0.25)
    assert twin.teachers[0][1].C == 2.0
    assert twin.alpha == 0.25
    assert student.teachers[0][1] is tree


def test_prefit_teachers_have_no_parameters_to_set():
    X, y = make_data()
    student = quick([("model", fitted_teacher(X, y))])
    assert not any("__" in name for name in student.get_params())
    with pytest.raises(ValueError, match="with cv=5, not cv='prefit'"):
        student.set_params(model__C=3.0)


@pytest.mark.filterwarnings("ignore:The teachers agree with y")
def test_torch_teachers_are_left_as_they_are():
    X, y = make_data()
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2)
    )
    module[2].eval()
    state = {k: v.clone() for k, v in module.state_dict().items()}
    flags = [m.training for m in module.modules()]
    teacher = TorchTeacher(module, classes=["no", "yes"])
    for teachers in ([module], [teacher]):
        GridSearchCV(quick(teachers, alpha=0.5), GRID, cv=2).fit(X, y)
        assert [m.training for m in module.modules()] == flags
        assert all(torch.equal(v, module.state_dict()[k]) for k, v in state.items())
        assert all(p.device.type == "cpu" and p.grad is None for p in module.parameters())


def test_a_distilled_classifier_is_a_teacher():
    X, y = make_data()
    assistant = quick([fitted_teacher(X, y)]).fit(X, y)
    assert quick([assistant]).fit(X, y).score(X, y) > 0.8
    assert quick([assistant.student_]).fit(X, y).score(X, y) > 0.8
    nested = clone(quick([quick([LogisticRegression()], cv=2)], cv=2))
    assert nested.fit(X, y).score(X, y) > 0.8


def test_unlabeled_rows_as_many_as_rows_are_sliced_by_a_search():
    X, y = make_data()
    extra, _ = make_data(seed=1)
    seen = []

    class Spy(DistilledClassifier):
        def fit(self, X, y=None, sample_weight=None, *, X_unlabeled=None, teacher_proba=None):
            seen.append((len(X), len(X_unlabeled)))
            return super().fit(X, y, sample_weight, X_unlabeled=X_unlabeled)

    student = Spy(**quick([fitted_teacher(X, y)]).get_params(deep=False))
    GridSearchCV(student, {"alpha": [0.5]}, cv=2, refit=False).fit(X, y, X_unlabeled=extra)
    assert seen == [(45, 45), (45, 45)]
    seen.clear()
    GridSearchCV(student, {"alpha": [0.5]}, cv=2, refit=False).fit(X, y, X_unlabeled=extra[:50])
    assert seen == [(45, 50), (45, 50)]


def test_teacher_proba_is_sliced_by_a_search():
    X, y = make_data()
    proba = fitted_teacher(X, y).predict_proba(X)
    search = GridSearchCV(quick(alpha=1.0), {"temperature": [1.0, 2.0]}, cv=2)
    search.fit(X, y, teacher_proba=proba)
    assert (search.cv_results_["mean_test_score"] > 0.8).all()


def test_hashes_of_parameters_do_not_change():
    X, y = make_data()
    for teachers, cv in product([[fitted_teacher(X, y)]], ["prefit", 2]):
        student = quick(teachers, cv=cv)
        before = joblib.hash(student.get_params())
        student.fit(X, y)
        assert joblib.hash(student.get_params()) == before
