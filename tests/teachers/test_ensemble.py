"""Laws of teachers that answer as one: averages, blocks of rows, and what memory holds."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from quick_students import Counting, Fixed, fitted_teacher, make_data
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

from skdistill import TorchTeacher
from skdistill.teachers import asking as _asking
from skdistill.teachers.asking import Ensemble, Teacher, ask_each, resolve_averaging
from skdistill.teachers.naming import name_teachers
from skdistill.teachers.pooling import check_teacher_weights

X, Y = make_data(labels=("ant", "bee", "cat"))
CLASSES, CODE = np.unique(Y, return_inverse=True)


def ensemble(teachers, weights=None, averaging="proba", classes=CLASSES, memory=None):
    named = name_teachers(teachers)
    weights = check_teacher_weights(weights, len(named))
    return Ensemble([Teacher(n, classes) for n in named], weights, averaging, memory)


@pytest.fixture
def shown(monkeypatch):
    """Return the stages that a person sees: their words, how many parts, how many were done."""
    seen = []

    @contextmanager
    def stage(words, total=None):
        here = SimpleNamespace(words=words, total=total, n_done=0)
        here.done = lambda: setattr(here, "n_done", here.n_done + 1)
        seen.append(here)
        yield here

    monkeypatch.setattr(_asking, "stage", stage)
    return seen


def test_one_teacher_is_itself():
    teacher = fitted_teacher(X, Y)
    proba = teacher.predict_proba(X)
    for averaging in ("proba", "logits"):
        answer = ensemble([teacher], averaging=averaging).predict_proba(X)
        np.testing.assert_allclose(answer, proba, atol=1e-7)


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_two_equal_teachers_equal_one(averaging):
    one, twin = fitted_teacher(X, Y), fitted_teacher(X, Y)
    np.testing.assert_allclose(
        ensemble([one, twin], averaging=averaging).predict_proba(X),
        ensemble([one], averaging=averaging).predict_proba(X),
        atol=1e-14,
    )


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_order_of_teachers_does_not_matter(averaging):
    a, b = fitted_teacher(X, Y), GaussianNB().fit(X, Y)
    np.testing.assert_allclose(
        ensemble([a, b], [1, 2], averaging).predict_proba(X),
        ensemble([b, a], [2, 1], averaging).predict_proba(X),
        atol=1e-14,
    )


def test_averages_against_numpy():
    a, b = fitted_teacher(X, Y), GaussianNB().fit(X, Y)
    p, q = a.predict_proba(X), b.predict_proba(X)
    np.testing.assert_allclose(
        ensemble([a, b], [1, 3]).predict_proba(X), 0.25 * p + 0.75 * q, atol=1e-14
    )
    geometric = np.clip(p, 1e-7, 1) ** 0.25 * np.clip(q, 1e-7, 1) ** 0.75
    np.testing.assert_allclose(
        ensemble([a, b], [1, 3], "logits").predict_proba(X),
        geometric / geometric.sum(axis=1, keepdims=True),
        atol=1e-13,
    )


def test_permuted_columns_give_the_same_answer():
    teacher = fitted_teacher(X, Y)
    order = [2, 0, 1]
    permuted = Fixed(lambda X: teacher.predict_proba(X)[:, order], CLASSES[order])
    np.testing.assert_allclose(
        ensemble([permuted]).predict_proba(X), ensemble([teacher]).predict_proba(X), atol=1e-15
    )


def test_blocks_of_rows_change_nothing(monkeypatch):
    asked = ensemble([fitted_teacher(X, Y), GaussianNB().fit(X, Y)])
    whole = asked.predict_proba(X)
    monkeypatch.setattr(_asking, "BATCH_ROWS", 32)
    np.testing.assert_allclose(asked.predict_proba(X), whole, atol=1e-15)


@pytest.mark.parametrize("n_teachers", [1, 2])
@pytest.mark.parametrize(("size", "sizes"), [(32, [32, 32, 26]), (45, [45, 45]), (90, [90])])
def test_teachers_are_asked_in_blocks_of_at_most_so_many_rows(
    monkeypatch, shown, size, sizes, n_teachers
):
    asked = []

    def answer(X):
        asked.append(len(X))
        return np.full((len(X), 3), 1 / 3)

    monkeypatch.setattr(_asking, "BATCH_ROWS", size)
    ensemble([Fixed(answer, CLASSES) for _ in range(n_teachers)]).predict_proba(X)
    assert asked == [n for n in sizes for _ in range(n_teachers)]
    # A single call is not worth a line.
    lines = [("answer", len(asked), len(asked))] if len(asked) > 1 else []
    assert [(s.words, s.total, s.n_done) for s in shown] == lines


@pytest.mark.parametrize("n_teachers", [1, 2])
@pytest.mark.parametrize("size", [32, 90])
def test_errors_number_the_rows_from_the_first_one(monkeypatch, size, n_teachers):
    def answer(X):
        return np.where((last == X).all(axis=1)[:, None], np.nan, 1 / 3) * np.ones(3)

    last = X[-1]
    monkeypatch.setattr(_asking, "BATCH_ROWS", size)
    with pytest.raises(ValueError, match=r"teacher 0 .*\b89\b"):
        ensemble([Fixed(answer, CLASSES) for _ in range(n_teachers)]).predict_proba(X)


def test_a_teacher_of_weight_zero_is_not_asked():
    def refuse(X):
        raise AssertionError

    silent = Fixed(refuse, CLASSES)
    answer = ensemble([fitted_teacher(X, Y), silent], [1, 0]).predict_proba(X)
    assert np.isfinite(answer).all()


def test_auto_averages_logits_only_where_all_have_them():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 3)
    logits, proba = TorchTeacher(module), TorchTeacher(module, output="proba")
    skl = fitted_teacher(X, Y)

    def auto(*teachers):
        return resolve_averaging("auto", name_teachers(list(teachers)))

    assert auto(module) == auto(logits) == auto(FrozenEstimator(logits)) == "logits"
    assert auto(logits, skl) == auto(proba) == auto(skl) == "proba"
    assert resolve_averaging("logits", name_teachers([skl])) == "logits"


def test_each_teacher_is_asked_by_itself():
    teachers = [
        Teacher(n, CLASSES) for n in name_teachers([fitted_teacher(X, Y), GaussianNB().fit(X, Y)])
    ]
    answers = ask_each(teachers, X, "proba")
    for teacher, answer in zip(teachers, answers, strict=True):
        np.testing.assert_array_equal(answer, teacher.ask(X, "proba"))


def test_it_answers_at_its_temperature():
    asked = ensemble([fitted_teacher(X, Y)])
    proba = asked.predict_proba(X)
    asked.temperature = 3.0
    powers = proba ** (1 / 3)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(asked.predict_proba(X), expected, atol=1e-15)


def asking(teachers, X=X, **settings):
    """Return the answer, and how many rows the teachers were asked about."""
    Counting.rows_asked = 0
    return ensemble(teachers, **settings).predict_proba(X), Counting.rows_asked


def test_without_a_memory_nothing_is_remembered():
    teacher = Counting().fit(X, Y)
    assert [asking([teacher])[1] for _ in range(2)] == [len(X), len(X)]


def test_answers_are_remembered_by_the_content_of_teacher_and_rows(tmp_path):
    teacher, memory = Counting().fit(X, Y), joblib.Memory(str(tmp_path), verbose=0)
    first, asked = asking([teacher], memory=memory)
    assert asked == len(X)
    for twin in (teacher, Counting().fit(X, Y)):
        again, asked = asking([twin], X=X.copy(), memory=str(tmp_path))
        assert asked == 0
        np.testing.assert_array_equal(again, first)
    others = ({"X": X + 1}, {"averaging": "logits"}, {"classes": CLASSES[[2, 0, 1]]})
    for other in others:
        answer, asked = asking([teacher], memory=memory, **other)
        assert asked == len(X)
        np.testing.assert_array_equal(answer, asking([teacher], **other)[0])
    # A teacher changed in place is another teacher.
    teacher.model_.coef_ = -teacher.model_.coef_
    changed, asked = asking([teacher], memory=memory)
    assert asked == len(X)
    np.testing.assert_array_equal(changed, asking([teacher])[0])


def test_weights_and_temperatures_ask_no_teacher_again(tmp_path):
    teachers = [Counting().fit(X, Y), GaussianNB().fit(X, Y)]
    asking(teachers, memory=str(tmp_path))
    answer, asked = asking(teachers, weights=[1, 3], memory=str(tmp_path))
    assert asked == 0
    np.testing.assert_array_equal(answer, asking(teachers, weights=[1, 3])[0])


def test_a_teacher_that_cannot_be_hashed_is_asked_each_time(tmp_path):
    asked = []

    def answer(X):
        asked.append(len(X))
        return np.full((len(X), 3), 1 / 3)

    for _ in range(2):
        ensemble([Fixed(answer, CLASSES)], memory=str(tmp_path)).predict_proba(X)
    assert asked == [len(X), len(X)]


def test_a_module_trained_in_place_is_asked_again(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 3)
    before = ensemble([module], memory=str(tmp_path)).predict_proba(X)
    with torch.no_grad():
        module.weight.mul_(-1)
    changed = ensemble([module], memory=str(tmp_path)).predict_proba(X)
    np.testing.assert_array_equal(changed, ensemble([module]).predict_proba(X))
    assert not np.allclose(changed, before)


def test_a_module_is_remembered_for_what_its_outputs_are(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Softmax(1))
    for output in ("proba", "logits"):
        teacher = TorchTeacher(module, classes=CLASSES, output=output)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The module Sequential is declared to return")
            expected = ensemble([teacher]).mean(X)
            found = ensemble([teacher], memory=str(tmp_path)).mean(X)
        np.testing.assert_array_equal(found, expected)
