"""Laws of asking teachers: one, its columns aligned, and many that answer as one."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import hypothesis.strategies as st
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from libraries_zoo import adapt, boosters, each, net
from quick_students import Counting, Fixed, fitted_teacher, make_data
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from teachers_zoo import Answer, Noisy, make_rows

from skdistill.teachers import CallableTeacher, TorchTeacher
from skdistill.teachers import asking as _asking
from skdistill.teachers.asking import (
    Ensemble,
    Teacher,
    align_columns,
    resolve_averaging,
    take_columns,
)
from skdistill.teachers.naming import name_teachers
from skdistill.teachers.pooling import check_teacher_weights

X, Y = make_rows()
X3, Y3 = make_rows(n_classes=3)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
LABELS = np.array(["ant", "bee", "cat"])


@each([LogisticRegression(), *boosters(), make_pipeline(StandardScaler(), LogisticRegression())])
def test_answers_are_the_teachers_own(teacher):
    teacher.fit(X3, Y3)
    adapter = adapt(teacher, [0, 1, 2])
    proba = adapter.ask(X3)
    assert adapter.native == "proba"
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba, teacher.predict_proba(X3), atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(adapter.ask(X3, "logits"), np.log(np.clip(proba, 1e-7, 1)))
    np.testing.assert_allclose(adapt(FrozenEstimator(teacher), [0, 1, 2]).ask(X3), proba)


@each([LogisticRegression(), *boosters()[1:]])
def test_string_labels_are_matched_by_value(teacher):
    teacher.fit(X3, LABELS[Y3])
    reordered = adapt(teacher, ["cat", "ant", "bee"]).ask(X3)
    np.testing.assert_allclose(reordered, teacher.predict_proba(X3)[:, [2, 0, 1]], atol=1e-6)
    # Meta-estimators encode the labels; then the position counts.
    np.testing.assert_allclose(
        adapt(teacher, [0, 1, 2]).ask(X3), teacher.predict_proba(X3), atol=1e-6
    )


@pytest.mark.parametrize("labels", [[1, 2], [-1, 1], [False, True], [0.0, 1.0]])
def test_two_labels_of_any_kind_are_matched(labels):
    teacher = LogisticRegression().fit(X, np.array(labels)[Y])
    for classes in (labels, [0, 1]):
        np.testing.assert_allclose(adapt(teacher, classes).ask(X), teacher.predict_proba(X))


def test_labels_that_do_not_match_name_the_teacher():
    teacher = LogisticRegression().fit(X, Y)
    with pytest.raises(ValueError, match=r"teacher 0 \(LogisticRegression\) and the classes"):
        adapt(teacher, ["no", "yes"])


def test_extra_classes_are_dropped():
    teacher = LogisticRegression().fit(X3, Y3)
    kept = teacher.predict_proba(X3)[:, [0, 2]]
    expected = kept / kept.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(adapt(teacher, [0, 2]).ask(X3), expected)


def test_dropped_logits_are_renormalised_by_the_softmax():
    teacher = TorchTeacher(Noisy(3), LABELS)
    adapter = adapt(teacher, ["cat", "ant"])
    logits = teacher.logits(X)[:, [2, 0]]
    assert adapter.native == "logits"
    np.testing.assert_array_equal(adapter.ask(X, "logits"), logits)
    np.testing.assert_array_equal(adapter.ask(X), softmax(logits, axis=1))


def test_bare_modules_are_matched_by_position():
    module = Noisy(3)
    proba = adapt(module, LABELS).ask(X)
    np.testing.assert_array_equal(proba, TorchTeacher(module).predict_proba(X))
    with pytest.raises(ValueError, match=r"\(Noisy\) returned .*\(60, 3\), expected \(60, 2\)"):
        adapt(module, [0, 1]).ask(X)


def test_a_frame_of_probabilities_is_read_by_its_labels():
    class Predictor:
        def predict_proba(self, X):
            return pd.DataFrame({"bee": np.full(len(X), 0.75), "ant": 0.25})

    np.testing.assert_array_equal(adapt(Predictor(), ["ant", "bee"]).ask(X[:1]), [[0.25, 0.75]])


@pytest.mark.parametrize("space", ["proba", "logits"])
def test_a_pipeline_that_ends_in_a_module_has_its_logits(space):
    scaler, teacher = StandardScaler().fit(X * 100), TorchTeacher(Noisy(), [0, 1])
    adapter = adapt(FrozenEstimator(make_pipeline(scaler, teacher)), [0, 1])
    assert adapter.native == "logits"
    expected = adapt(teacher, [0, 1]).ask(scaler.transform(X * 100), space)
    np.testing.assert_array_equal(adapter.ask(X * 100, space), expected)


def test_align_keeps_rows_without_an_answer():
    adapter = adapt(LogisticRegression().fit(X3, Y3), [2, 0])
    proba = np.array([[0.2, 0.5, 0.3], [np.nan] * 3])
    np.testing.assert_allclose(adapter.align(proba), [[0.6, 0.4], [np.nan, np.nan]])
    np.testing.assert_allclose(adapter.align(proba[:1], "logits"), np.log([[0.6, 0.4]]))


@each([LogisticRegression(), *boosters()])
def test_another_number_of_columns_is_refused_at_once(teacher):
    teacher.fit(X, Y)
    words = rf"\({type(teacher).__name__}\) was fitted on 3 features, X has 2"
    with pytest.raises(ValueError, match=words):
        adapt(teacher, [0, 1], X=X[:, :2])
    with pytest.raises(ValueError, match=words):
        adapt(teacher, [0, 1]).ask(FRAME[["a", "b"]].to_numpy())


@each([*boosters()[:2], make_pipeline(StandardScaler(), LogisticRegression())])
def test_columns_are_put_in_the_teachers_order(teacher):
    adapter = adapt(teacher.fit(FRAME, Y), [0, 1])
    np.testing.assert_array_equal(adapter.ask(FRAME[["c", "a", "b"]]), adapter.ask(FRAME))


@each([LogisticRegression(), *boosters()[:2]])
def test_other_columns_are_listed(teacher):
    adapter = adapt(teacher.fit(FRAME, Y), [0, 1])
    words = re.escape("Missing in X: ['b']. Not known to the teacher: ['z'].")
    with pytest.raises(ValueError, match=words):
        adapter.ask(FRAME.rename(columns={"b": "z"}))


def test_names_made_up_by_a_library_are_not_compared():
    class LGBMClassifier(LogisticRegression):
        __module__ = "lightgbm.sklearn"

    teacher = LGBMClassifier().fit(FRAME.set_axis(["Column_0", "Column_1", "Column_2"], axis=1), Y)
    assert adapt(teacher, [0, 1]).check_input(FRAME) is FRAME


def test_a_teacher_fitted_on_names_takes_an_array_of_its_width():
    adapter = adapt(LogisticRegression().fit(FRAME, Y), [0, 1])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        adapter.ask(X)
    with pytest.raises(ValueError, match="fitted on 3 features, X has 2"):
        adapter.ask(X[:, :2])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda X: np.where(X > 9, np.nan, 0.5), "returned nan in row 103, column 0"),
        (lambda X: np.where(X > 9, -0.5, 0.5), "returned -0.5 in row 103"),
        (lambda X: np.where(X > 9, 0.75, 0.5), "sum to 1.5 in row 103"),
        (lambda X: X[1:], r"shape \(4, 2\), expected \(5, 2\)"),
    ],
)
@pytest.mark.parametrize("kind", ["callable", "duck"])
def test_unusable_answers_name_teacher_and_row(answer, words, kind):
    class Duck:
        classes_ = (0, 1)

        def predict_proba(self, X):
            return answer(X)

    teacher = CallableTeacher(answer, [0, 1]) if kind == "callable" else Duck()
    rows = np.zeros((5, 2))
    rows[3] = 10
    with pytest.raises(ValueError, match=r"teacher 0 \((CallableTeacher|Duck)\) .*" + words):
        adapt(teacher, [0, 1]).ask(rows, first_row=100)


def test_a_failure_is_chained_and_names_the_rows():
    def fail(X):
        raise RuntimeError("the service is down")

    words = r"teacher 0 \(CallableTeacher\) failed on rows 5:65: RuntimeError: the service is down"
    with pytest.raises(ValueError, match=words) as caught:
        adapt(CallableTeacher(fail, [0, 1]), [0, 1]).ask(X, first_row=5)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_interrupt_is_let_through():
    def interrupt(X):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(CallableTeacher(interrupt, [0, 1]), [0, 1]).ask(X)


def test_an_unfitted_step_stays_a_not_fitted_error():
    pipeline = make_pipeline(StandardScaler(), TorchTeacher(Noisy(), [0, 1]))
    with pytest.raises(NotFittedError, match=r"teacher 0 \(Pipeline\) is not fitted.*cv=5"):
        adapt(pipeline, [0, 1]).ask(X)


def test_wrong_parameters_of_a_torch_teacher_show_before_any_work():
    with pytest.raises(ValueError, match="got 'softmax'"):
        adapt(TorchTeacher(Noisy(), output="softmax"), [0, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_skorch_nets_get_their_dtype_and_are_left_as_found(dtype):
    teacher = net().fit(X.astype(np.float32), Y.astype(np.int64))
    teacher.module_.train()
    before = {name: value.clone() for name, value in teacher.module_.state_dict().items()}
    random_state = torch.get_rng_state()
    proba = adapt(teacher, [0, 1]).ask(pd.DataFrame(X.astype(dtype)))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(part.training for part in teacher.module_.modules())
    assert all(torch.equal(v, before[k]) for k, v in teacher.module_.state_dict().items())
    np.testing.assert_allclose(proba, teacher.predict_proba(X.astype(np.float32)), atol=1e-6)
    pipeline = make_pipeline(FunctionTransformer(), teacher)
    np.testing.assert_array_equal(adapt(pipeline, [0, 1]).ask(X.astype(dtype)), proba)


def test_skorch_nets_that_return_raw_outputs_are_told_how_not_to():
    teacher = net(criterion=torch.nn.MultiMarginLoss).fit(X.astype(np.float32), Y)
    with pytest.raises(
        ValueError, match=r"\(NeuralNetClassifier\) returned .*predict_nonlinearity"
    ):
        adapt(teacher, [0, 1]).ask(X)


def test_asking_from_several_threads_leaves_the_flags():
    module = torch.nn.Sequential(Noisy(), Answer(lambda t: t)).train()
    adapters = [adapt(module, [0, 1]), adapt(make_pipeline(TorchTeacher(module)), [0, 1])]
    expected = adapters[0].ask(X)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda i: adapters[i % 2].ask(X), range(16)):
            np.testing.assert_array_equal(answer, expected)
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize(
    ("own", "classes", "columns"),
    [
        ([0, 1, 2], [0, 1, 2], [0, 1, 2]),
        (["b", "a"], ["a", "b"], [1, 0]),
        ([1, 2], [1, 2], [0, 1]),
        ([-1, 1], [-1, 1], [0, 1]),
        ([0, 1, 2], [0, 2], [0, 2]),
        ([0, 1], [0.0, 1.0], [0, 1]),
        ([0, 1], [False, True], [0, 1]),
        ([False, True], [0, 1], [0, 1]),
        (np.array(["a", "b"], dtype=object), ["a", "b"], [0, 1]),
        ([np.str_("a"), np.str_("b")], np.array(["a", "b"], dtype=object), [0, 1]),
    ],
)
def test_by_value(own, classes, columns):
    assert align_columns(own, classes, "t").tolist() == columns


@pytest.mark.parametrize(
    ("own", "columns"),
    [
        (["a", "b"], [0, 1]),
        (["0", "1"], [0, 1]),
        ([1, 2], [0, 1]),
        ([-1, 1], [0, 1]),
        ([1.5, 2.5], [0, 1]),
        # Encoders number the sorted labels, whatever the order of the teacher's columns.
        (["b", "a"], [1, 0]),
    ],
)
def test_encoded_labels_by_position(own, columns):
    assert align_columns(own, np.array([0, 1]), "t").tolist() == columns


@pytest.mark.parametrize(
    ("own", "classes"),
    [
        (["a", "b"], ["a", "c"]),
        (["a", "b"], [0, 1, 2]),
        (["a", "b", "c"], [0, 1]),
        ([1, 2], [2, 3]),
        ([0, 1], ["0", "1"]),
        ([0, 1], ["a", "b"]),
        (["a", "b"], [0.0, 1.0]),
        (["a", "b"], [False, True]),
    ],
)
def test_no_match_lists_both_label_sets(own, classes):
    with pytest.raises(ValueError, match=r"t 0 .*do not match.*teacher knows \[.*classes are \["):
        align_columns(own, np.array(classes), "t 0")


def test_error_names_the_way_out_and_cuts_long_lists():
    with pytest.raises(
        ValueError, match=r"and 80 more.* name the columns of .*, classes=\.\.\.\)\.$"
    ):
        align_columns(np.arange(100), np.array(["a", "b"]), "t")


@pytest.mark.parametrize(("n", "words"), [(20, r"19\], the"), (21, r"19\] and 1 more, the")])
def test_labels_are_cut_beyond_twenty(n, words):
    with pytest.raises(ValueError, match=words):
        align_columns(np.arange(n), np.array(["a", "b"]), "t")


def test_strings_against_numbers_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="do not match"):
            align_columns(np.array(["1", "2"]), np.array([1, 2]), "t")


def test_repeated_classes_and_several_outputs_are_refused():
    with pytest.raises(ValueError, match="t has the same class twice"):
        align_columns([0, 0], [0, 1], "t")
    with pytest.raises(ValueError, match="t predicts 2 outputs"):
        align_columns([np.array([0, 1]), np.array([0, 1, 2])], [0, 1], "t")


def test_a_class_may_be_missing_only_where_allowed():
    columns = align_columns(["a", "c"], np.array(["a", "b", "c"]), "t", allow_missing=True)
    assert columns.tolist() == [0, -1, 1]
    with pytest.raises(ValueError, match="do not match"):
        align_columns(["a", "c"], np.array(["a", "b", "c"]), "t")


def test_missing_class_is_never_taken_by_position():
    columns = align_columns([1, 2], np.array([0, 1]), "t", allow_missing=True)
    assert columns.tolist() == [-1, 0]


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_permuted_columns_give_the_same_answer(order, seed):
    proba = np.random.default_rng(seed).dirichlet(np.ones(5), size=7)
    labels = np.array(list("abcde"))
    columns = align_columns(labels[order], labels, "t")
    np.testing.assert_allclose(take_columns(proba[:, order], columns), proba, atol=1e-15)


def test_dropped_classes_are_renormalised_and_no_mass_is_uniform():
    proba = np.array([[0.2, 0.6, 0.2], [0.0, 1.0, 0.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(
        take_columns(proba, np.array([0, 2])), [[0.5, 0.5], [0.5, 0.5], [np.nan, np.nan]]
    )


def test_missing_class_gets_no_probability():
    proba = take_columns(np.array([[0.25, 0.75]]), np.array([0, -1, 1]))
    np.testing.assert_array_equal(proba, [[0.25, 0.0, 0.75]])


ROWS, NAMES = make_data(labels=("ant", "bee", "cat"))
CLASSES, CODE = np.unique(NAMES, return_inverse=True)


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
    teacher = fitted_teacher(ROWS, NAMES)
    proba = teacher.predict_proba(ROWS)
    for averaging in ("proba", "logits"):
        answer = ensemble([teacher], averaging=averaging).predict_proba(ROWS)
        np.testing.assert_allclose(answer, proba, atol=1e-7)


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_two_equal_teachers_equal_one(averaging):
    one, twin = fitted_teacher(ROWS, NAMES), fitted_teacher(ROWS, NAMES)
    np.testing.assert_allclose(
        ensemble([one, twin], averaging=averaging).predict_proba(ROWS),
        ensemble([one], averaging=averaging).predict_proba(ROWS),
        atol=1e-14,
    )


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_order_of_teachers_does_not_matter(averaging):
    a, b = fitted_teacher(ROWS, NAMES), GaussianNB().fit(ROWS, NAMES)
    np.testing.assert_allclose(
        ensemble([a, b], [1, 2], averaging).predict_proba(ROWS),
        ensemble([b, a], [2, 1], averaging).predict_proba(ROWS),
        atol=1e-14,
    )


def test_averages_against_numpy():
    a, b = fitted_teacher(ROWS, NAMES), GaussianNB().fit(ROWS, NAMES)
    p, q = a.predict_proba(ROWS), b.predict_proba(ROWS)
    np.testing.assert_allclose(
        ensemble([a, b], [1, 3]).predict_proba(ROWS), 0.25 * p + 0.75 * q, atol=1e-14
    )
    geometric = np.clip(p, 1e-7, 1) ** 0.25 * np.clip(q, 1e-7, 1) ** 0.75
    np.testing.assert_allclose(
        ensemble([a, b], [1, 3], "logits").predict_proba(ROWS),
        geometric / geometric.sum(axis=1, keepdims=True),
        atol=1e-13,
    )


def test_a_teacher_of_permuted_columns_gives_the_same_answer():
    teacher = fitted_teacher(ROWS, NAMES)
    order = [2, 0, 1]
    permuted = Fixed(lambda rows: teacher.predict_proba(rows)[:, order], CLASSES[order])
    np.testing.assert_allclose(
        ensemble([permuted]).predict_proba(ROWS),
        ensemble([teacher]).predict_proba(ROWS),
        atol=1e-15,
    )


def test_blocks_of_rows_change_nothing(monkeypatch):
    asked = ensemble([fitted_teacher(ROWS, NAMES), GaussianNB().fit(ROWS, NAMES)])
    whole = asked.predict_proba(ROWS)
    monkeypatch.setattr(_asking, "BATCH_ROWS", 32)
    np.testing.assert_allclose(asked.predict_proba(ROWS), whole, atol=1e-15)


@pytest.mark.parametrize("n_teachers", [1, 2])
@pytest.mark.parametrize(("size", "sizes"), [(32, [32, 32, 26]), (45, [45, 45]), (90, [90])])
def test_teachers_are_asked_in_blocks_of_at_most_so_many_rows(
    monkeypatch, shown, size, sizes, n_teachers
):
    asked = []

    def answer(rows):
        asked.append(len(rows))
        return np.full((len(rows), 3), 1 / 3)

    monkeypatch.setattr(_asking, "BATCH_ROWS", size)
    ensemble([Fixed(answer, CLASSES) for _ in range(n_teachers)]).predict_proba(ROWS)
    assert asked == [n for n in sizes for _ in range(n_teachers)]
    # A single call is not worth a line.
    lines = [("answer", len(asked), len(asked))] if len(asked) > 1 else []
    assert [(s.words, s.total, s.n_done) for s in shown] == lines


@pytest.mark.parametrize("n_teachers", [1, 2])
@pytest.mark.parametrize("size", [32, 90])
def test_errors_number_the_rows_from_the_first_one(monkeypatch, size, n_teachers):
    def answer(rows):
        return np.where((last == rows).all(axis=1)[:, None], np.nan, 1 / 3) * np.ones(3)

    last = ROWS[-1]
    monkeypatch.setattr(_asking, "BATCH_ROWS", size)
    with pytest.raises(ValueError, match=r"teacher 0 .*\b89\b"):
        ensemble([Fixed(answer, CLASSES) for _ in range(n_teachers)]).predict_proba(ROWS)


def test_a_teacher_of_weight_zero_is_not_asked():
    def refuse(rows):
        raise AssertionError

    silent = Fixed(refuse, CLASSES)
    answer = ensemble([fitted_teacher(ROWS, NAMES), silent], [1, 0]).predict_proba(ROWS)
    assert np.isfinite(answer).all()


def test_auto_averages_logits_only_where_all_have_them():
    module = torch.nn.Linear(3, 3)
    logits, proba = TorchTeacher(module), TorchTeacher(module, output="proba")
    skl = fitted_teacher(ROWS, NAMES)

    def auto(*teachers):
        return resolve_averaging("auto", name_teachers(list(teachers)))

    assert auto(module) == auto(logits) == auto(FrozenEstimator(logits)) == "logits"
    assert auto(logits, skl) == auto(proba) == auto(skl) == "proba"
    assert resolve_averaging("logits", name_teachers([skl])) == "logits"


def test_it_answers_at_its_temperature():
    asked = ensemble([fitted_teacher(ROWS, NAMES)])
    proba = asked.predict_proba(ROWS)
    asked.calibration_temperature = 3.0
    powers = proba ** (1 / 3)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(asked.predict_proba(ROWS), expected, atol=1e-15)


def asking(teachers, rows=ROWS, **settings):
    """Return the answer, and how many rows the teachers were asked about."""
    Counting.rows_asked = 0
    return ensemble(teachers, **settings).predict_proba(rows), Counting.rows_asked


def test_without_a_memory_nothing_is_remembered():
    teacher = Counting().fit(ROWS, NAMES)
    assert [asking([teacher])[1] for _ in range(2)] == [len(ROWS), len(ROWS)]


def test_answers_are_remembered_by_the_content_of_teacher_and_rows(tmp_path):
    teacher, memory = Counting().fit(ROWS, NAMES), joblib.Memory(str(tmp_path), verbose=0)
    first, asked = asking([teacher], memory=memory)
    assert asked == len(ROWS)
    for twin in (teacher, Counting().fit(ROWS, NAMES)):
        again, asked = asking([twin], rows=ROWS.copy(), memory=str(tmp_path))
        assert asked == 0
        np.testing.assert_array_equal(again, first)
    others = ({"rows": ROWS + 1}, {"averaging": "logits"}, {"classes": CLASSES[[2, 0, 1]]})
    for other in others:
        answer, asked = asking([teacher], memory=memory, **other)
        assert asked == len(ROWS)
        np.testing.assert_array_equal(answer, asking([teacher], **other)[0])
    # A teacher changed in place is another teacher.
    teacher.model_.coef_ = -teacher.model_.coef_
    changed, asked = asking([teacher], memory=memory)
    assert asked == len(ROWS)
    np.testing.assert_array_equal(changed, asking([teacher])[0])


def test_weights_and_temperatures_ask_no_teacher_again(tmp_path):
    teachers = [Counting().fit(ROWS, NAMES), GaussianNB().fit(ROWS, NAMES)]
    asking(teachers, memory=str(tmp_path))
    answer, asked = asking(teachers, weights=[1, 3], memory=str(tmp_path))
    assert asked == 0
    np.testing.assert_array_equal(answer, asking(teachers, weights=[1, 3])[0])


def test_a_teacher_that_cannot_be_hashed_is_asked_each_time(tmp_path):
    asked = []

    def answer(rows):
        asked.append(len(rows))
        return np.full((len(rows), 3), 1 / 3)

    for _ in range(2):
        ensemble([Fixed(answer, CLASSES)], memory=str(tmp_path)).predict_proba(ROWS)
    assert asked == [len(ROWS), len(ROWS)]


class Weights:
    """A model that is no estimator; it counts its answers and how often its content is read."""

    n_asked = n_read = 0

    def __init__(self, share):
        self.share = share

    def __getstate__(self):
        type(self).n_read += 1
        return vars(self)

    def predict(self, rows):
        type(self).n_asked += 1
        return np.tile([self.share, 0.5 - self.share, 0.5], (len(rows), 1))

    __call__ = predict


MODEL = Weights(0.1)


def of_the_module(rows):
    return MODEL.predict(rows)


def of_a_model(rows, scale):
    return MODEL.predict(rows)


@pytest.mark.parametrize(
    "function",
    [of_the_module, partial(of_a_model, scale=2), lambda rows: MODEL.predict(rows)],
    ids=["function", "partial", "lambda"],
)
def test_a_function_is_asked_each_time(function, tmp_path, monkeypatch):
    teacher = make_pipeline(FrozenEstimator(CallableTeacher(function, CLASSES)))
    for share in (0.1, 0.4):
        monkeypatch.setitem(globals(), "MODEL", Weights(share))
        answer = ensemble([teacher], memory=str(tmp_path)).predict_proba(ROWS)
        np.testing.assert_allclose(answer[0], [share, 0.5 - share, 0.5])


def test_a_builtin_is_asked_each_time():
    assert _asking._is_known_by_name(CallableTeacher(len, CLASSES))
    assert _asking._is_known_by_name(CallableTeacher(dict.fromkeys, CLASSES))
    assert not _asking._is_known_by_name(CallableTeacher({}.get, CLASSES))


@pytest.mark.parametrize(
    "function_of",
    [lambda model: model.predict, lambda model: model, lambda model: partial(model.predict)],
    ids=["method", "object", "partial"],
)
def test_methods_and_callable_objects_are_remembered_by_their_content(function_of, tmp_path):
    Weights.n_asked = 0
    for share, n_asked in ((0.1, 1), (0.1, 1), (0.4, 2)):
        teacher = CallableTeacher(function_of(Weights(share)), CLASSES)
        answer = ensemble([teacher], memory=str(tmp_path)).predict_proba(ROWS)
        np.testing.assert_allclose(answer[0], [share, 0.5 - share, 0.5])
        assert Weights.n_asked == n_asked


def test_content_is_read_once_a_question(tmp_path):
    for n_read in (1, 2):
        teacher = CallableTeacher(MODEL, CLASSES)
        Weights.n_read = n_read - 1
        ensemble([teacher], memory=str(tmp_path)).predict_proba(ROWS)
        assert Weights.n_read == n_read


def test_a_teacher_that_fails_is_asked_once(tmp_path):
    asked = []

    class Failing(Weights):
        def __reduce__(self):
            return Weights, (0.1,)

        def __call__(self, rows):
            asked.append(len(rows))
            raise RuntimeError("the service is down")

    with pytest.raises(ValueError, match="the service is down"):
        ensemble([CallableTeacher(Failing(0.1), CLASSES)], memory=str(tmp_path)).mean(ROWS)
    assert asked == [len(ROWS)]


def test_a_module_trained_in_place_is_asked_again(tmp_path):
    module = torch.nn.Linear(3, 3)
    before = ensemble([module], memory=str(tmp_path)).predict_proba(ROWS)
    with torch.no_grad():
        module.weight.mul_(-1)
    changed = ensemble([module], memory=str(tmp_path)).predict_proba(ROWS)
    np.testing.assert_array_equal(changed, ensemble([module]).predict_proba(ROWS))
    assert not np.allclose(changed, before)


def test_a_module_is_remembered_for_what_its_outputs_are(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Softmax(1))
    for output in ("proba", "logits"):
        teacher = TorchTeacher(module, classes=CLASSES, output=output)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The module Sequential is declared to return")
            expected = ensemble([teacher]).mean(ROWS)
            found = ensemble([teacher], memory=str(tmp_path)).mean(ROWS)
        np.testing.assert_array_equal(found, expected)
