"""Laws of the parameter `teachers`: names, labels, and what is refused."""

import warnings

import catboost
import lightgbm
import numpy as np
import pytest
import skorch
import torch
import xgboost
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from teachers_zoo import Noisy, make_rows

from skdistill.teachers import CallableTeacher, TeachersLeftBehind, TorchTeacher
from skdistill.teachers.naming import (
    is_shared,
    labels_known_to,
    name_teachers,
    split_steps,
)

X, Y = make_rows()


class Untagged:
    """A classifier of a package that knows nothing of scikit-learn's tags."""

    _estimator_type = "classifier"
    fitted = True

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)

    def is_fitted(self):
        return self.fitted


def names(teachers, **kwargs):
    return [named.name for named in name_teachers(teachers, **kwargs)]


def test_names_follow_scikit_learn():
    teachers = [LogisticRegression(), RandomForestClassifier(), LogisticRegression()]
    expected = [name for name, _ in make_pipeline(*teachers).steps]
    assert names(teachers) == expected
    assert names([("a", teachers[0]), teachers[1]]) == ["a", "randomforestclassifier"]


def test_made_up_names_make_way_for_given_and_reserved_ones():
    one, two = DummyClassifier(), DummyClassifier()
    assert names([("dummyclassifier", one), two]) == ["dummyclassifier", "dummyclassifier-1"]
    assert names([one], reserved=["dummyclassifier"]) == ["dummyclassifier-1"]


def test_labels_name_position_name_and_type():
    named = name_teachers([LogisticRegression(), ("forest", RandomForestClassifier()), Noisy()])
    assert [n.label for n in named] == [
        "teacher 0 (LogisticRegression)",
        'teacher 1 "forest" (RandomForestClassifier)',
        "teacher 2 (Noisy)",
    ]


def test_bare_modules_are_wrapped_and_others_are_themselves():
    module, forest = Noisy(), RandomForestClassifier()
    wrapped, same = name_teachers((module, forest))
    assert isinstance(wrapped.estimator, TorchTeacher)
    assert wrapped.estimator.module is module
    assert same.estimator is forest


@pytest.mark.parametrize(
    ("teachers", "error", "words"),
    [
        ([], ValueError, "teachers must be a non-empty list of fitted classifiers.*empty"),
        ((), ValueError, "non-empty list"),
        (LogisticRegression(), TypeError, r"non-empty list.*teachers=\[LogisticRegression"),
        (Noisy(), TypeError, r"got Noisy.*teachers=\[Noisy"),
        ("logistic", TypeError, "got 'logistic'"),
        ({"a": LogisticRegression()}, TypeError, "got dict"),
        (-1, TypeError, "got int"),
        (("a", LogisticRegression()), TypeError, r"got one pair. Pass teachers=\[\(name"),
        ([("a", 1, 2)], TypeError, "teacher 0 must be a classifier or a pair"),
        ([["a", LogisticRegression()]], TypeError, "teacher 0 must be a classifier or a pair"),
        ([None], TypeError, r"teacher 0 \(NoneType\) is None"),
        ([LogisticRegression], TypeError, r"teacher 0 \(LogisticRegression\) is a class; pass an"),
        ([LinearRegression()], TypeError, r"teacher 0 \(LinearRegression\) is a regressor"),
        ([("r", RandomForestRegressor())], TypeError, r'teacher 0 "r" .* is a regressor'),
        ([make_pipeline(StandardScaler(), LinearRegression())], TypeError, "is a regressor"),
        ([GaussianMixture()], TypeError, "is a density_estimator"),
        ([LinearSVC()], TypeError, r"no predict_proba.*CalibratedClassifierCV\(FrozenEstimator"),
        ([FrozenEstimator(LinearSVC())], TypeError, "no predict_proba"),
        ([np.mean], TypeError, r"no predict_proba.*CallableTeacher\(function, classes\)"),
        ([Pipeline([("m", Noisy())])], TypeError, r"TorchTeacher\(module, classes\) before"),
        (TeachersLeftBehind(("forest: Forest",)), ValueError, r"forest: Forest.*keep_teachers"),
    ],
)
def test_what_is_no_list_of_classifiers_is_refused(teachers, error, words):
    with pytest.raises(error, match=words):
        name_teachers(teachers)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a", "a"], '"a" is given twice'),
        (["a__b"], '"a__b" holds "__"'),
        (["alpha"], '"alpha" is a parameter'),
    ],
)
def test_names_that_cannot_be_set_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        name_teachers([(name, DummyClassifier()) for name in given], reserved={"alpha"})


@pytest.mark.parametrize("wrap", [lambda t: t, FrozenEstimator])
def test_the_same_object_twice_is_warned_about(wrap):
    one = LogisticRegression()
    with pytest.warns(UserWarning, match=r"teacher 0 .* and teacher 1 .* same object.*weights"):
        name_teachers([wrap(one), wrap(one)])


def test_an_unfitted_stack_is_a_teacher():
    assert names([StackingClassifier([("a", LogisticRegression())])]) == ["stackingclassifier"]


def test_packages_without_tags_are_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = Untagged()
        name_teachers([teacher], fitted=True)
        teacher.fitted = False
        with pytest.raises(NotFittedError, match=r"teacher 0 \(Untagged\)"):
            name_teachers([teacher], fitted=True)
        name_teachers([make_pipeline(StandardScaler(), teacher)])
        teacher._estimator_type = "regressor"
        with pytest.raises(TypeError, match="is a regressor"):
            name_teachers([teacher])


def test_a_mixin_without_the_base_class_is_taken():
    class Half(ClassifierMixin):
        predict_proba = Untagged.predict_proba

    assert names([Half()]) == ["half"]


def frozen_ones():
    torch_teacher = TorchTeacher(Noisy())
    return [
        FrozenEstimator(LogisticRegression()),
        torch_teacher,
        CallableTeacher(lambda X: X, [0, 1]),
        make_pipeline(StandardScaler(), torch_teacher),
        make_pipeline(StandardScaler(), make_pipeline(torch_teacher)),
        Noisy(),
    ]


@pytest.mark.parametrize("teacher", frozen_ones(), ids=lambda t: type(t).__name__)
def test_frozen_teachers_are_used_as_they_are(teacher):
    assert is_shared(teacher)


def test_others_are_fitted_anew():
    class Shared(BaseEstimator):
        def __sklearn_clone__(self):
            return self

    assert is_shared(Shared())
    assert not is_shared(LogisticRegression())
    assert not is_shared(make_pipeline(StandardScaler(), LogisticRegression()))
    assert not is_shared(Untagged())


def candidates():
    return [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        FrozenEstimator(LogisticRegression()),
        CalibratedClassifierCV(LogisticRegression(), cv=2),
        xgboost.XGBClassifier(n_estimators=1, n_jobs=1),
        lightgbm.LGBMClassifier(n_estimators=1, verbose=-1, n_jobs=1),
        catboost.CatBoostClassifier(
            iterations=1, verbose=0, allow_writing_files=False, thread_count=1
        ),
        skorch.NeuralNetClassifier(
            Noisy, criterion=torch.nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None
        ),
    ]


@pytest.mark.parametrize("teacher", candidates(), ids=lambda t: type(t).__name__)
def test_unfitted_teachers_are_named_with_the_way_out(teacher):
    (named,) = name_teachers([teacher])
    words = rf"{type(teacher).__name__}\) is not fitted.*cv=5.*wrap it in FrozenEstimator"
    with pytest.raises(NotFittedError, match=words):
        name_teachers([teacher], fitted=True)
    assert labels_known_to([named]) is None or not len(labels_known_to([named]))
    fitted = getattr(teacher, "estimator", teacher) if is_shared(teacher) else teacher
    fitted.fit(X.astype(np.float32), Y.astype(np.int64))
    name_teachers([teacher], fitted=True)
    assert list(labels_known_to([named])) == [0, 1]


def test_frozen_adapters_are_fitted():
    for teacher in (TorchTeacher(Noisy()), CallableTeacher(np.sin, [0, 1])):
        name_teachers([make_pipeline(StandardScaler(), teacher)], fitted=True)
    assert labels_known_to(name_teachers([Noisy()])) is None


def test_steps_are_looked_through():
    scaler, last = StandardScaler().fit(X), LogisticRegression()
    nested = FrozenEstimator(make_pipeline(scaler, FrozenEstimator(make_pipeline(scaler, last))))
    before, found = split_steps(nested)
    assert found is last
    assert len(before) == 2
    np.testing.assert_array_equal(before[0].transform(X), scaler.transform(X))
    assert split_steps(last) == ([], last)
    assert clone(last) is not last
