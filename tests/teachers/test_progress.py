"""Progress: quiet by default, and one line however the work ends."""

import importlib.util
import re
import sys
from contextlib import contextmanager, suppress

import joblib
import numpy as np
import pytest
from quick_students import Fixed, fitted_teacher, make_data, quick
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from skorch.callbacks import Callback

from skdistill import DistilledClassifier, DistilledClassifierCV
from skdistill.teachers import asking as _asking
from skdistill.teachers import progress as _progress
from skdistill.teachers.progress import follow, live_line, stage, track
from skdistill.training import net as _net

X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


@pytest.fixture
def every_count(monkeypatch):
    """Draw the line at every count, however fast they come."""
    monkeypatch.setattr(_progress, "_PAUSE", 0.0)


@pytest.fixture
def shown(capfd):
    """Return what stands on the line one after another; check that it is one line, on stderr."""

    def read():
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return [text.strip() for text in err.split("\r")]

    return read


def search_of(student, **params):
    return DistilledClassifierCV(student, temperatures=[1, 4], alphas=[0, 1], cv=3, **params)


class Failing(Fixed):
    """A teacher that raises when it is asked."""

    def __init__(self, error):
        super().__init__((0.5, 0.5), ("no", "yes"))
        self.error = error

    def predict_proba(self, X):
        raise self.error


@pytest.mark.parametrize("params", [{}, {"cv": 3}, {"cv": 3, "n_jobs": 2}])
def test_quiet_by_default(params, capfd, monkeypatch):
    monkeypatch.setattr(_progress, "_find_tqdm", None)
    quick([LogisticRegression().fit(X, Y)], **params).fit(X, Y)
    search_of(quick([TEACHER], cv=2)).fit(X, Y)
    assert capfd.readouterr() == ("", "")


def test_a_stage_is_shown_nowhere_by_default():
    with stage("work", 3) as here:
        assert here is None


def test_one_line_names_the_stages_and_counts(every_count, shown):
    quick([TEACHER, GaussianNB().fit(X, Y)], augment="munge", verbose=1).fit(X, Y)
    texts = shown()
    order = [
        "asking the teachers, answer: 100%",
        "making synthetic rows",
        "asking about synthetic rows, answer: 100%",
        "training the student, epoch: 100%",
        "training a plain student, epoch:",
        "done in",
    ]
    places = [[words in text for text in texts].index(True) for words in order]
    assert places == sorted(places)
    assert all(text.startswith("DistilledClassifier") for text in texts if text)


def test_epochs_show_their_losses(every_count, shown):
    student = quick([TEACHER], verbose=1, early_stopping=True, calibration=None).fit(X, Y)
    last = [text for text in shown() if "epoch" in text and "loss" in text][-1]
    n, total = map(int, re.search(r"(\d+)/(\d+) ", last).groups())
    assert total == 30
    loss, validation = re.search(r"loss=([\d.]+), validation=([\d.]+)", last).groups()
    assert float(loss) == pytest.approx(student.history_["train_loss"][n - 1], abs=5e-5)
    assert float(validation) == pytest.approx(student.history_["valid_loss"][n - 1], abs=5e-5)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_pairs_of_teacher_and_fold_are_counted_as_they_finish(n_jobs, every_count, shown):
    teachers = [LogisticRegression(), GaussianNB()]
    quick(teachers, cv=3, n_jobs=n_jobs, verbose=1).fit(X, Y)
    texts = shown()
    for n in range(1, 7):
        assert any(f"fitted teacher: {round(100 * n / 6)}%" in re.sub(" +", " ", t) for t in texts)


def test_threads_and_forked_processes_do_not_write_on_the_line(every_count, shown):
    for backend in ("threading", "multiprocessing"):
        with joblib.parallel_config(backend=backend):
            quick([Nested()], cv=3, n_jobs=2, verbose=1, calibration=None).fit(X, Y)
        assert not any("epoch" in t for t in shown() if "fitted teacher" in t)


class Nested(RandomForestClassifier):
    """A teacher that is fitted by a fit that shows its progress where it may."""

    def fit(self, X, y, sample_weight=None):
        quick([GaussianNB().fit(X, y)]).fit(X, y)
        self.set_params(n_estimators=2)
        return super().fit(X, y, sample_weight)


def test_a_fit_inside_a_fit_writes_on_its_line(every_count, shown):
    quick([Nested()], cv=3, verbose=1).fit(X, Y)
    assert any("fitted teacher 1/3, training the student, epoch" in text for text in shown())


def test_out_of_bag_teachers_are_counted(every_count, shown):
    quick([RandomForestClassifier(30)], cv="oob", verbose=1).fit(X, Y)
    assert any("out-of-bag teacher: 100%" in text for text in shown())


def test_teachers_are_counted_where_each_answer_counts(every_count, shown):
    with pytest.warns(UserWarning, match="assumes that they did not see X"):
        quick([TEACHER, GaussianNB().fit(X, Y)], teacher_weights="validation", verbose=1).fit(X, Y)
    assert any("asking the teachers, teacher: 100%" in text for text in shown())


def test_blocks_of_rows_are_counted(every_count, shown, monkeypatch):
    monkeypatch.setattr(_asking, "BATCH_ROWS", 30)
    quick([TEACHER, GaussianNB().fit(X, Y)], verbose=1).fit(X, Y, X_unlabeled=X[:40])
    texts = shown()
    assert any("asking the teachers, answer:" in text and "5/6" in text for text in texts)
    assert any("asking about unlabelled rows, answer:" in text and "3/4" in text for text in texts)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_counts_folds_and_shows_the_refit(n_jobs, every_count, shown):
    search_of(quick([TEACHER], cv=2), verbose=1, n_jobs=n_jobs).fit(X, Y)
    texts = shown()
    assert any("fold: 100%" in text and "3/3" in text for text in texts)
    assert "training the student, epoch" in texts[-3] + texts[-2]
    inside = any("fold 1/3, training the students, epoch" in text for text in texts)
    assert inside == (n_jobs == 1)


def test_candidates_that_are_fitted_alone_are_counted(every_count, shown):
    student = quick([TEACHER], cv=2, callbacks=[Callback()], verbose=1)
    search_of(student, verbose=1, refit=False).fit(X, Y)
    assert any("fold 0/3, candidate 1/4, training the student" in text for text in shown())


def test_the_verbosity_of_the_estimator_is_for_the_refit(every_count, shown):
    search_of(quick([TEACHER], cv=2, callbacks=[Callback()], verbose=1)).fit(X, Y)
    assert shown()[1].startswith("DistilledClassifier ")


def test_shards_are_counted(every_count, shown):
    shards = [(X[i::5], TEACHER.predict_proba(X[i::5]), Y[i::5]) for i in range(5)]
    quick(verbose=1).fit_stream(shards, max_epochs=2)
    texts = shown()
    assert any("surveying the shards, shard: 100%" in text for text in texts)
    assert any("epoch 1/2, group of shards:" in text and "1/2" in text for text in texts)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_the_line_closes_where_work_stops(error, every_count, shown):
    with pytest.raises(type(error)):
        quick([TEACHER, Failing(error)], verbose=1).fit(X, Y)
    assert re.search(r"stopped after .* s, asking the teachers, answer 1/2$", shown()[-1])
    with stage("work") as here:
        assert here is None
    quick([TEACHER], verbose=1).fit(X, Y)
    assert "done in" in shown()[-1]


def test_an_error_that_was_caught_is_forgotten(every_count, shown):
    with live_line("work", 1):
        with suppress(ValueError), stage("first"):
            raise ValueError
        with suppress(RuntimeError), stage("second", 2):
            raise RuntimeError
        with stage("third"):
            pass
    texts = shown()
    assert any(text.startswith("work: third") for text in texts)
    assert texts[-1].startswith("work: done in")


def test_a_stage_that_is_left_late_takes_nothing_else_off(every_count, shown):
    with live_line("work", 1):
        with stage("outer"):
            forgotten = track("inner", range(3), 3)
            next(forgotten)
        with stage("next", 2) as here:
            forgotten.close()
            here.done()
    assert any(text.startswith("work: next:  50%") for text in shown())


def test_counts_are_drawn_ten_times_a_second_at_most(shown, monkeypatch):
    clock = iter(np.arange(0, 100, 0.01))
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: next(clock))
    with live_line("work", 1), stage("part", 100) as here:
        for _ in range(100):
            here.done()
    counts = [text for text in shown() if "part" in text]
    assert 9 <= len(counts) <= 12


def test_without_tqdm_one_line_says_so(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    quick([TEACHER], verbose=1).fit(X, Y)
    assert capfd.readouterr() == ("", "verbose=1 shows progress with tqdm: pip install tqdm\n")


def test_without_scikit_learn_s_callbacks_the_class_lacks_them(monkeypatch, every_count, shown):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    spec = importlib.util.spec_from_file_location("progress_of_old", _progress.__file__)
    old = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(old)

    class Estimator(old.CallbackSupportMixin, BaseEstimator):
        verbose = 1

        def fit(self, X, y):
            with old.follow(self, X, y), old.stage("work"), old.hand_over("part", self):
                return self

    assert not hasattr(Estimator().fit(X, Y), "set_callbacks")
    assert shown()[-1].startswith("Estimator: done")


def test_a_quiet_epoch_costs_one_look(monkeypatch):
    looks = []

    @contextmanager
    def counted(words, total=None):
        looks.append(words)
        yield None

    monkeypatch.setattr(_net, "stage", counted)
    student = quick([TEACHER], calibration=None).fit(X, Y)
    assert student.n_iter_ == 30
    assert looks == ["epoch"]


def test_follow_needs_no_callbacks(every_count, shown):
    with follow(DistilledClassifier(verbose=1)), stage("work"):
        pass
    assert shown()[-1].startswith("DistilledClassifier: done")
