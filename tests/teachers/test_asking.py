"""Laws of asking one teacher."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from libraries_zoo import adapt, boosters, each, net
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from teachers_zoo import Answer, Noisy, make_rows

from skdistill.teachers import CallableTeacher, TorchTeacher

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
