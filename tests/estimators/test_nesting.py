"""Laws of students of students: assistants, born-again students, teachers three levels deep."""

import copy
import pickle
import warnings
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from quick_students import Counting, fitted_teacher, make_data, quick
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skdistill import DistilledClassifierCV, StudentClassifier, TeachersLeftBehind

X, Y = make_data()
LABELS = [("no", "yes"), (1, 2), (-1, 1), ("ant", "bee", "cat")]


@pytest.fixture(autouse=True)
def _on_90_rows_a_plain_student_may_be_better():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The teachers are worse than a plain student")
        yield


def prefit_tower(X=X, y=Y, **params):
    """Return a linear model and three fitted students, each the teacher of the next."""
    made = [fitted_teacher(X, y)]
    for _ in range(3):
        made.append(quick([made[-1]], **params).fit(X, y))
    return made


def tower(bottom=None, **params):
    """Return an unfitted student three levels deep, every level cross-fitted."""
    bottom = LogisticRegression() if bottom is None else bottom
    inner = quick([("linear", bottom)], cv=3)
    assistant = quick([("inner", inner)], cv=3)
    return quick([("assistant", assistant)], cv=3, **params)


class Recorder(ClassifierMixin, BaseEstimator):
    """A linear model that writes down, over all its clones, the weights it was given."""

    seen: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None):
        self.seen.append(sample_weight)
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


# Fitting


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_fitted_students_teach_students(labels):
    X, y = make_data(labels=labels)
    for student in prefit_tower(X, y)[1:]:
        assert student.classes_.tolist() == sorted(labels)
        assert student.score(X, y) > 1.6 / len(labels)
        assert isinstance(student.student_, StudentClassifier)


@pytest.mark.parametrize("labels", LABELS[:1] + LABELS[-1:], ids=str)
def test_three_levels_are_cross_fitted(labels):
    X, y = make_data(labels=labels)
    Counting.n_fits = 0
    student = tower(Counting()).fit(X, y)
    # Three folds at each level, and no level keeps what another fitted.
    assert Counting.n_fits == 3**3
    assert student.score(X, y) > 1.6 / len(labels)
    (assistants,) = student.teachers_
    assert len(assistants) == 3
    assert all(len(inner) == 3 for a in assistants for inner in a.teachers_)


def test_the_teacher_below_has_no_part():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 3))
    known = (rows[:, 0] > 0).astype(int)
    assistant = quick([fitted_teacher(rows, known)]).fit(rows)
    liar = copy.copy(assistant)
    liar.student_ = quick([fitted_teacher(rows, 1 - known)]).fit(rows).student_
    assert (quick([assistant]).fit(rows).predict(rows) == known).mean() > 0.95
    assert (quick([liar]).fit(rows).predict(rows) == known).mean() < 0.05


def test_what_a_student_learned_from_its_student_equals_the_bare_student():
    assistant = prefit_tower()[1]
    kinds = [assistant, assistant.student_, FrozenEstimator(assistant), clone_by_pickle(assistant)]
    first, *others = [quick([kind]).fit(X, Y).predict_proba(X) for kind in kinds]
    for other in others:
        np.testing.assert_array_equal(first, other)


def clone_by_pickle(student):
    """Return what is left of a student after a lean pickle."""
    return pickle.loads(pickle.dumps(student))


def test_a_student_is_born_again_at_its_own_size():
    network = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    student = quick([network], numerical_embedding="auto").fit(X, Y)
    n_parameters = student.student_.n_parameters_
    for seed in (1, 2, 3):
        student = quick([student], numerical_embedding="auto", random_state=seed).fit(X, Y)
        assert student.student_.n_parameters_ == n_parameters
    assert (student.predict(X) == network.predict(X)).mean() > 0.9


@pytest.mark.parametrize("kind", ["fitted", "frozen", "unfitted"])
@pytest.mark.parametrize(
    ("teacher", "embeds"), [(LogisticRegression(), False), (DecisionTreeClassifier(), True)]
)
def test_a_student_hands_on_how_numbers_are_seen(teacher, embeds, kind):
    fitted = teacher.fit(X, Y)
    inner = quick([fitted], numerical_embedding="auto", max_epochs=2)
    settings = {"numerical_embedding": "auto", "max_epochs": 2, "cv": "prefit"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no temperature")
        if kind == "fitted":
            inner.fit(X, Y)
        elif kind == "frozen":
            inner = inner.fit(X, Y).student_
        else:
            settings["cv"] = 3
        outer = quick([inner], **settings).fit(X, Y)
    assert (outer.student_.encoding_ is not None) == embeds


def test_a_student_that_embeds_by_wish_or_not_is_taken_at_its_word():
    line = LogisticRegression()
    expected = {"piecewise_linear": True, None: False}
    for wish, embeds in expected.items():
        inner = quick([line], cv=3, numerical_embedding=wish, max_epochs=2)
        outer = quick([inner], cv=3, numerical_embedding="auto", max_epochs=2).fit(X, Y)
        assert (outer.student_.encoding_ is not None) == embeds
    own = quick([line], cv=3, student_module=lambda n, k: nn.Linear(n, k), max_epochs=2)
    outer = quick([own], cv=3, numerical_embedding="auto", max_epochs=2).fit(X, Y)
    assert outer.student_.encoding_ is None
    of_module = quick([nn.Linear(3, 2).double()], cv=3, numerical_embedding="auto", max_epochs=2)
    outer = quick([of_module], cv=3, numerical_embedding="auto", max_epochs=2)
    with pytest.warns(UserWarning, match="out-of-fold"):
        outer.fit(X, Y)
    assert outer.student_.encoding_ is None


def test_an_unfitted_student_is_no_prefit_teacher():
    with pytest.raises(NotFittedError, match=r"teacher 0 \(DistilledClassifier\) is not fitted"):
        quick([tower()]).fit(X, Y)


def test_a_frame_passes_through_all_levels():
    frame = pd.DataFrame(X, columns=list("abc"))
    frame["kind"] = pd.Categorical(np.where(X[:, 0] > 0, "u", "v"))
    bottom = quick(cv=3).fit(frame, Y)
    middle = quick([bottom]).fit(frame, Y)
    top = quick([middle]).fit(frame, Y)
    assert top.feature_names_in_.tolist() == ["a", "b", "c", "kind"]
    assert top.score(frame, Y) > 0.8
    inside = quick([quick(cv=3)], cv=3).fit(frame, Y)
    assert inside.score(frame, Y) > 0.8
    with pytest.raises(ValueError, match=r"teacher 0 \(DistilledClassifier\) was fitted on other"):
        quick([middle]).fit(frame.rename(columns={"a": "z"}), Y)


# Parameters


def test_a_search_over_the_temperatures_of_every_level():
    grid = {"assistant__temperature": [1.0, 4.0], "assistant__inner__linear__C": [1e-6, 1.0]}
    student = tower()
    search = GridSearchCV(student, grid, cv=2, error_score="raise").fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    weak = np.array([p["assistant__inner__linear__C"] < 1 for p in search.cv_results_["params"]])
    assert scores[~weak].min() > scores[weak].max()
    best = search.best_estimator_.get_params()
    assert {name: best[name] for name in grid} == search.best_params_
    # The original is not touched.
    assert student.get_params()["assistant__temperature"] == 1.0


def test_a_search_over_the_student_leaves_the_assistant_as_it_is():
    assistant = prefit_tower()[2]
    before = assistant.predict_proba(X)
    search = GridSearchCV(quick([assistant]), {"temperature": [1.0, 4.0]}, cv=2).fit(X, Y)
    assert search.best_estimator_.teachers == [assistant]
    np.testing.assert_array_equal(assistant.predict_proba(X), before)


def test_clone_unfits_no_assistant_and_shares_it():
    top = prefit_tower()[-1]
    twin = clone(top)
    assert not hasattr(twin, "student_")
    assert twin.teachers[0] is top.teachers[0]
    np.testing.assert_array_equal(twin.fit(X, Y).predict_proba(X), top.predict_proba(X))


@pytest.mark.parametrize(
    "tool",
    [
        lambda s: VotingClassifier([("student", s)], voting="soft"),
        lambda s: CalibratedClassifierCV(s, cv=2),
        lambda s: BaggingClassifier(s, n_estimators=2, random_state=0),
    ],
    ids=["voting", "calibrated", "bagging"],
)
@pytest.mark.parametrize("labels", [(-1, 1), ("ant", "bee", "cat")], ids=str)
def test_assistants_know_labels_where_a_tool_shows_codes(tool, labels):
    X, y = make_data(labels=labels)
    assistant = prefit_tower(X, y)[2]
    for student in (quick([assistant], alpha=1.0), quick([quick(cv=2)], cv=2)):
        assert tool(student).fit(X, y).score(X, y) > 1.6 / len(labels)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_search_may_be_a_teacher(fitted):
    inner = quick([LogisticRegression()], cv=2)
    search = DistilledClassifierCV(inner, temperatures=[1, 4], alphas=[0.5], cv=2)
    student = quick([search.fit(X, Y)]) if fitted else quick([("search", search)], cv=2)
    assert student.fit(X, Y).score(X, Y) > 0.8


# Weights and routing


def test_weights_reach_the_bottom():
    weight = np.arange(90) % 3 + 1.0
    Recorder.seen.clear()
    tower(Recorder()).fit(X, Y, sample_weight=weight)
    assert len(Recorder.seen) == 27
    assert all(set(np.unique(seen)) <= {1.0, 2.0, 3.0} for seen in Recorder.seen)


def test_with_routing_weights_go_as_far_as_they_are_asked_for():
    weight = np.arange(90) % 3 + 1.0
    with config_context(enable_metadata_routing=True):
        with pytest.raises(UnsetMetadataPassedError, match="set_fit_request"):
            tower(Recorder()).fit(X, Y, sample_weight=weight)
        for bottom_asks in (False, True):
            bottom = Recorder().set_fit_request(sample_weight=bottom_asks)
            inner = quick([("bottom", bottom)], cv=3).set_fit_request(sample_weight=True)
            assistant = quick([("inner", inner)], cv=3).set_fit_request(sample_weight=True)
            student = quick([("assistant", assistant)], cv=3)
            Recorder.seen.clear()
            student.fit(X, Y, sample_weight=weight)
            assert [seen is not None for seen in Recorder.seen] == [bottom_asks] * 27


# Pickling


def test_a_pickle_holds_the_last_student_only():
    alone, _, top = prefit_tower()[1:]
    data = pickle.dumps(top)
    assert b"sklearn.linear_model" not in data
    assert data.count(b"StudentClassifier") == 1
    assert len(data) < 1.1 * len(pickle.dumps(alone))
    loaded = pickle.loads(data)
    assert isinstance(loaded.teachers, TeachersLeftBehind)
    assert "DistilledClassifier" in repr(loaded.teachers)
    np.testing.assert_array_equal(loaded.predict_proba(X), top.predict_proba(X))


def test_kept_assistants_are_lean_themselves():
    assistant, _ = prefit_tower()[1:3]
    top = quick([assistant], keep_teachers=True).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(top))
    assert isinstance(loaded.teachers[0].teachers, TeachersLeftBehind)
    expected = top.fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(loaded.fit(X, Y).predict_proba(X), expected)


def test_copies_keep_all_levels():
    top = prefit_tower()[-1]
    deep = copy.deepcopy(top)
    assert deep.teachers[0].teachers[0].teachers[0].predict(X).tolist()
    np.testing.assert_array_equal(clone(deep).fit(X, Y).predict_proba(X), top.predict_proba(X))


@pytest.mark.parametrize("named", [False, True])
def test_a_worker_can_fit_students_that_were_fitted_before(named):
    inner = quick([LogisticRegression()], cv=2)
    search = DistilledClassifierCV(inner, temperatures=[1], alphas=[0.5], cv=2)
    for assistant in (inner, search, make_pipeline(FunctionTransformer(), inner)):
        assistant.fit(X, Y)
        student = quick([("assistant", assistant) if named else assistant], cv=2)
        expected = clone(student).fit(X, Y).predict_proba(X)
        arrived = pickle.loads(pickle.dumps(student))
        np.testing.assert_array_equal(arrived.fit(X, Y).predict_proba(X), expected)


def test_two_processes_fit_students_that_were_fitted_before():
    inner = quick([LogisticRegression()], cv=2).fit(X, Y)
    deeper = quick([quick([("assistant", inner)], cv=2)], cv=2)
    two, one = (clone(deeper).set_params(n_jobs=n).fit(X, Y) for n in (2, None))
    np.testing.assert_array_equal(two.predict_proba(X), one.predict_proba(X))


def test_a_lean_student_is_a_teacher_but_cannot_be_fitted_again():
    lean = clone_by_pickle(prefit_tower()[1])
    assert quick([lean]).fit(X, Y).score(X, Y) > 0.8
    with pytest.raises(ValueError, match=r"teacher 0 \(DistilledClassifier\) failed.*left behind"):
        quick([lean], cv=3).fit(X, Y)
