"""scikit-learn's callbacks see every stage, of one fit and of a search."""

import pickle

import numpy as np
import pytest
from quick_students import Fixed, fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skdistill import DistilledClassifierCV

# The subject came with scikit-learn 1.9.
sklearn_callback = pytest.importorskip("sklearn.callback")

X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


def search_of(student, **params):
    return DistilledClassifierCV(student, temperatures=[1, 4], alphas=[0, 1], cv=3, **params)


def no_answer(X):
    raise ValueError("no")


class Recorder:
    """A callback that records the tasks it is told of, and may ask to stop at one."""

    max_propagation_depth = None

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.events = []

    def setup(self, estimator, context):
        self.events.append(("setup", context.estimator_name))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.estimator_name))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
        return context.task_name == self.stop_at and context.task_id == 2

    def count(self, event, name):
        return self.events.count((event, name))


class Nested(RandomForestClassifier):
    """A teacher that is fitted by a fit that shows its progress where it may."""

    def fit(self, X, y, sample_weight=None):
        quick([fitted_teacher(X, y)]).fit(X, y)
        self.set_params(n_estimators=2)
        return super().fit(X, y, sample_weight)


def test_callbacks_see_every_stage_and_every_epoch():
    recorder = Recorder()
    quick([TEACHER], augment="munge").set_callbacks(recorder).fit(X, Y)
    assert recorder.events[0] == ("setup", "DistilledClassifier")
    assert recorder.events[1] == ("begin", "fit")
    assert recorder.events[-2:] == [("end", "fit"), ("teardown", "DistilledClassifier")]
    for words in ("asking the teachers", "making synthetic rows", "training the student"):
        assert recorder.count("begin", words) == recorder.count("end", words) == 1
    # 30 epochs, the stage that holds them, and those of the plain student.
    assert recorder.count("begin", "epoch") == recorder.count("end", "epoch") >= 31


def test_epochs_that_early_stopping_spares_are_ended_too():
    recorder = Recorder()
    student = quick([TEACHER], early_stopping=True, n_iter_no_change=1, calibration=None)
    student.set_params(max_epochs=500, learning_rate_init=0.5).set_callbacks(recorder).fit(X, Y)
    assert student.n_iter_ < 500
    assert recorder.count("begin", "epoch") == recorder.count("end", "epoch") == student.n_iter_ + 1


def test_a_callback_may_ask_to_stop():
    student = quick([TEACHER]).set_callbacks(Recorder(stop_at="epoch")).fit(X, Y)
    assert student.n_iter_ == 3


def test_callbacks_are_torn_down_after_an_error():
    recorder = Recorder()
    with pytest.raises(ValueError, match="no"):
        quick([Fixed(no_answer, ("no", "yes"))]).set_callbacks(recorder).fit(X, Y)
    assert recorder.events[-1] == ("teardown", "DistilledClassifier")
    assert recorder.count("end", "fit") == 0


def test_a_fit_inside_a_fit_is_no_task_of_it():
    recorder = Recorder()
    quick([Nested()], cv=3, calibration=None).set_callbacks(recorder).fit(X, Y)
    assert recorder.count("begin", "fit") == 1
    assert recorder.count("begin", "training the student") == 1
    assert recorder.count("end", "fitted teacher") == 4


def test_a_search_counts_folds_and_hands_callbacks_to_the_refit():
    recorder = Recorder()
    search_of(quick([TEACHER], cv=2)).set_callbacks(recorder).fit(X, Y)
    assert recorder.count("end", "fold") == 4
    assert recorder.count("end", "training the student") == 1
    assert recorder.count("setup", "DistilledClassifierCV") == 1
    assert recorder.count("setup", "DistilledClassifier") == 0


def test_callbacks_of_both_a_search_and_its_estimator_are_refused_before_the_folds():
    recorder = Recorder()
    search = search_of(quick([TEACHER], cv=2).set_callbacks(sklearn_callback.ProgressBar()))
    with pytest.raises(TypeError, match="Register them directly on the meta-estimator"):
        search.set_callbacks(recorder).fit(X, Y)
    assert recorder.count("begin", "fold") == 0
    assert recorder.events[-1] == ("teardown", "DistilledClassifierCV")


def test_pipelines_and_searches_hand_their_callbacks_on():
    recorder = Recorder()
    pipeline = make_pipeline(quick([TEACHER]))
    GridSearchCV(pipeline, {"distilledclassifier__alpha": [0.5, 1.0]}, cv=2).set_callbacks(
        recorder
    ).fit(X, Y)
    assert recorder.count("end", "training the student") == 5
    assert recorder.count("setup", "DistilledClassifier") == 0


def test_clones_share_callbacks_and_copies_have_them():
    recorder = Recorder()
    for estimator in (quick([TEACHER]), search_of(quick([TEACHER], cv=2))):
        clone(estimator.set_callbacks(recorder)).fit(X, Y)
        assert recorder.events.pop() == ("teardown", type(estimator).__name__)
        assert recorder.count("setup", type(estimator).__name__) == 1


def test_callbacks_are_left_behind_by_lean_pickles_only():
    for estimator in (quick([TEACHER]), search_of(quick([TEACHER], cv=2))):
        estimator.set_callbacks(Recorder())
        assert b"Recorder" in pickle.dumps(estimator)
        assert b"Recorder" not in pickle.dumps(estimator.fit(X, Y))
        loaded = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    kept = quick([TEACHER], keep_teachers=True).set_callbacks(Recorder()).fit(X, Y)
    assert b"Recorder" in pickle.dumps(kept)


def test_callbacks_of_a_searched_estimator_are_left_behind_too():
    search = search_of(quick([TEACHER], cv=2).set_callbacks(Recorder())).fit(X, Y)
    assert b"Recorder" not in pickle.dumps(search)


def test_callbacks_of_skorch_are_others():
    recorder, epochs = Recorder(), []

    class Epochs(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(net)

    student = quick([TEACHER], callbacks=[Epochs()]).set_callbacks(recorder).fit(X, Y)
    assert len(student.callbacks) == 1
    assert len(epochs) == 30
    assert recorder.count("end", "epoch") >= 31


@pytest.mark.parametrize("estimator", [quick([TEACHER]), search_of(quick([TEACHER], cv=2))])
def test_the_bars_of_scikit_learn_are_complete(estimator, capsys):
    clone(estimator).set_callbacks(sklearn_callback.ProgressBar()).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{type(estimator).__name__} - fit")
    assert any("epoch #0" in line for line in lines)
    assert all("100%" in line for line in lines)


def test_the_monitor_of_scikit_learn_scores_the_student():
    monitor = sklearn_callback.ScoringMonitor(scoring="accuracy")
    student = quick([TEACHER]).set_callbacks(monitor).fit(X, Y)
    (entry,) = monitor.get_logs().data
    assert entry["accuracy"] == student.score(X, Y)
