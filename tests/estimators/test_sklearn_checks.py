"""scikit-learn's own checks, whole: no expected failure, no tag that takes a check away."""

import numpy as np
import pandas as pd
import pytest
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.exceptions import SkipTestWarning
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_estimator,
    estimator_checks_generator,
    parametrize_with_checks,
)

from skdistill import CallableTeacher, DistilledClassifier, TorchTeacher

SMALL = {"hidden_layer_sizes": (16,), "max_epochs": 100, "learning_rate_init": 0.02}
MISSING_TAKER = DecisionTreeClassifier()


class OwnModule(torch.nn.Module):
    """A network that cannot be frozen to arrays; a class, so that its name is the same anywhere."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first, self.last = torch.nn.Linear(n_features, 16), torch.nn.Linear(16, n_classes)

    def forward(self, X):
        return self.last(torch.sin(self.first(X)))


@parametrize_with_checks(
    [
        DistilledClassifier(**SMALL),
        DistilledClassifier([LogisticRegression()], cv=3, **SMALL),
        DistilledClassifier([MISSING_TAKER], cv=2, **SMALL),
        DistilledClassifier("self", self_distillation=0.5, **SMALL),
    ]
)
@pytest.mark.filterwarnings("default")
def test_small_students(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        DistilledClassifier(),
        DistilledClassifier([LogisticRegression()], cv=3),
        DistilledClassifier([LogisticRegression()], cv=3, student_module=OwnModule, **SMALL),
    ]
)
@pytest.mark.filterwarnings("default")
def test_defaults(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_with_the_array_api(fresh_process, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    code = """
        import warnings
        from sklearn.linear_model import LogisticRegression
        from sklearn.utils.estimator_checks import check_estimator
        from skdistill import CallableTeacher, DistilledClassifier, TorchTeacher

        small = {"hidden_layer_sizes": (16,), "max_epochs": 100, "learning_rate_init": 0.02}
        warnings.simplefilter("ignore")
        for estimator in (
            DistilledClassifier(**small),
            DistilledClassifier([LogisticRegression()], cv=3, **small),
            DistilledClassifier("self", self_distillation=0.5, **small),
        ):
            results = check_estimator(estimator, on_skip=None)
            assert len(results) > 50
            assert all(r["status"] == "passed" for r in results), results
            assert any(r["check_name"] == "check_array_api_input" for r in results)
    """
    fresh_process(code)


@pytest.mark.parametrize(
    "estimator",
    [
        DistilledClassifier(),
        DistilledClassifier([LogisticRegression()], cv=3),
        DistilledClassifier("self", self_distillation=0.5),
    ],
)
def test_no_check_is_taken_away(estimator):
    tags = get_tags(estimator)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert not tags.classifier_tags.poor_score
    assert len(list(estimator_checks_generator(estimator))) > 50


# What `fit` has to learn or to read before these can hold. scikit-learn skips the whole suite for
# its own estimator that is never fitted, FrozenEstimator; for ours the other checks are kept.
NEED_A_FIT = {
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_one_label_sample_weights",
    "check_classifiers_regression_target",
    "check_classifiers_train",
    "check_complex_data",
    "check_dict_unchanged",
    "check_dtype_object",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimators_dtypes",
    "check_estimators_empty_data_messages",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_supervised_y_2d",
    "check_supervised_y_no_nan",
}


@pytest.mark.parametrize(
    "teacher",
    [
        TorchTeacher(torch.nn.Linear(3, 2), classes=[0, 1]),
        CallableTeacher(fitted_teacher(*make_data(labels=(0, 1))).predict_proba, classes=[0, 1]),
    ],
    ids=lambda t: type(t).__name__,
)
@pytest.mark.filterwarnings("default")
def test_teachers_that_are_never_fitted(teacher):
    results = check_estimator(teacher, on_fail=None, on_skip=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert failed <= NEED_A_FIT
    assert len(results) - len(failed) > 25


def test_a_frozen_student_is_checked_as_scikit_learn_checks_what_it_froze():
    X, y = make_data()
    teacher = fitted_teacher(X, y)
    for held in (teacher, quick([teacher]).fit(X, y).student_):
        with pytest.warns(SkipTestWarning, match="FrozenEstimator"):
            check_estimator(FrozenEstimator(held))


def tags_of(*teachers, **params):
    return get_tags(DistilledClassifier(list(teachers) or None, **params)).input_tags


def test_tags_tell_what_is_taken():
    assert tags_of().allow_nan
    assert tags_of().string
    assert not tags_of(LogisticRegression(), cv=3).allow_nan
    assert not tags_of(LogisticRegression(), cv=3).string
    assert tags_of(MISSING_TAKER, cv=3).allow_nan
    assert not tags_of(MISSING_TAKER, LogisticRegression(), cv=3).allow_nan
    assert not tags_of(preprocessor=None).allow_nan
    assert not tags_of(preprocessor=StandardScaler(), cv=3).string
    assert not tags_of().sparse


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_inf_is_refused_where_nan_is_taken(bad):
    X, y = make_data()
    X[3, 1] = np.nan
    classifier = quick([MISSING_TAKER], cv=2).fit(X, y)
    assert np.isfinite(classifier.predict_proba(X)).all()
    X[5, 0] = bad
    with pytest.raises(ValueError, match="Input X contains infinity"):
        classifier.predict(X)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        classifier.predict_proba(X)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        classifier.fit(X, y)


def test_nan_is_refused_where_fit_saw_none():
    X, y = make_data()
    classifier = quick([fitted_teacher(X, y)]).fit(X, y)
    X[2, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        classifier.predict(X)


def test_dict_cell_is_a_type_error():
    X, y = make_data()
    classifier = quick([LogisticRegression()], cv=3).fit(X.astype(object), y)
    X = X.astype(object)
    X[0, 0] = {"a": 1}
    for ask in (classifier.predict, lambda X: classifier.fit(X, y)):
        with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
            ask(X)


def test_strings_and_missing_values_are_taken_where_teachers_take_them():
    X, y = make_data()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["colour"] = np.where(X[:, 0] > 0, "red", "blue")
    frame.loc[3, "a"] = np.nan
    assert quick().fit(frame, y).score(frame, y) > 0.7
    numbers = make_pipeline(SimpleImputer(), LogisticRegression())
    assert quick([numbers], cv=3).fit(frame[["a", "b"]], y).score(frame[["a", "b"]], y) > 0.7
    colours = make_pipeline(OneHotEncoder(), LogisticRegression())
    only = frame[["colour"]]
    assert quick([colours.fit(only, y)]).fit(only, y).score(only, y) > 0.6
