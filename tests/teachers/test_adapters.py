"""Laws of the adapters for torch modules and functions."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from teachers_zoo import Answer, Noisy, make_rows

from skdistill.teachers import CallableTeacher, TeachersLeftBehind, TorchTeacher
from skdistill.teachers.answers import is_torch_module, numeric_array

X, Y = make_rows()


def half(X):
    return np.full((len(X), 2), 0.5)


@pytest.mark.parametrize(
    "teacher", [TorchTeacher(Noisy(), ["a", "b"]), CallableTeacher(half, [1, 2])]
)
def test_it_is_a_fitted_classifier_that_clones_share(teacher):
    assert is_classifier(teacher)
    check_is_fitted(teacher)
    assert clone(teacher) is teacher
    assert teacher.fit(X, Y, sample_weight=1) is teacher
    assert clone(FrozenEstimator(teacher)).predict(X).shape == (len(X),)
    assert set(teacher.predict(X)) <= set(teacher.classes_)
    assert teacher.score(X, teacher.predict(X)) == 1.0


def test_logits_and_probabilities_agree_with_the_module():
    module = Noisy(3).eval()
    with torch.no_grad():
        expected = module(torch.tensor(X, dtype=torch.float32)).double().numpy()
    teacher = TorchTeacher(module, batch_size=7)
    logits = teacher.logits(X)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    np.testing.assert_array_equal(teacher.predict_proba(X), softmax(logits, axis=1))
    np.testing.assert_array_equal(teacher.predict(X), logits.argmax(axis=1))
    proba = TorchTeacher(torch.nn.Sequential(module, torch.nn.Softmax(-1)), output="proba")
    np.testing.assert_allclose(proba.predict_proba(X), softmax(expected, axis=1), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_are_cast_to_the_dtype_of_the_parameters(dtype):
    module = torch.nn.Linear(3, 2).to(dtype)
    assert TorchTeacher(module).logits(X).dtype == np.float64
    assert module.weight.dtype == dtype


@pytest.mark.parametrize(
    "table",
    [
        X.tolist(),
        X.astype(">f8"),
        X.astype(object),
        pd.DataFrame(X),
        pd.DataFrame(X, dtype="Float64"),
        csr_array(X),
    ],
    ids=["list", "big-endian", "object", "frame", "nullable", "sparse"],
)
def test_every_numeric_table_is_taken(table):
    teacher = TorchTeacher(torch.nn.Linear(3, 2))
    np.testing.assert_allclose(teacher.logits(table), teacher.logits(X), atol=1e-6)


def test_read_only_rows_are_taken():
    table = X.astype(np.float32)
    table.flags.writeable = False
    assert TorchTeacher(Noisy()).predict_proba(table).shape == (len(X), 2)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": [1.0], "b": ["x"], "c": [1.0]}),
        pd.DataFrame({"a": [1.0], "b": pd.Categorical(["1"]), "c": [1.0]}),
        pd.DataFrame({"a": [1.0], "b": pd.to_datetime(["2020-01-01"]), "c": [1.0]}),
        [["1", "2", "3"]],
        np.array([[1.0, "2", 3.0]], dtype=object),
        np.array([[1.0, {}, 3.0]], dtype=object),
        np.ones((1, 3), dtype=complex),
    ],
)
def test_what_is_not_numeric_is_refused_with_the_way_out(table):
    with pytest.raises(TypeError, match=r"make_pipeline\(fitted_preprocessor, TorchTeacher"):
        TorchTeacher(torch.nn.Linear(3, 2)).predict_proba(table)


def test_missing_nullable_numbers_become_nan():
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [True, False]})
    np.testing.assert_array_equal(numeric_array(frame, "float32"), [[1, 1], [np.nan, 0]])
    with pytest.raises(ValueError, match=r"rows and columns, got an array of shape \(3,\)"):
        numeric_array([1, 2, 3], "float32")


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_output_is_the_second_class(shape):
    z = X[:, 0]
    logit = Answer(lambda t: t[:, 0].reshape(shape))
    np.testing.assert_allclose(
        TorchTeacher(logit).logits(X), np.column_stack([np.zeros_like(z), z]), atol=1e-6
    )
    p = 1 / (1 + np.exp(-z))
    sigmoid = Answer(lambda t: torch.sigmoid(t[:, 0].reshape(shape)))
    np.testing.assert_allclose(
        TorchTeacher(sigmoid, output="proba").predict_proba(X),
        np.column_stack([1 - p, p]),
        atol=1e-6,
    )
    with pytest.raises(ValueError, match=r"a probability lies in \[0, 1\]"):
        TorchTeacher(logit, output="proba").predict_proba(X)


def test_a_module_that_squeezes_may_be_asked_for_one_row():
    squeezing = TorchTeacher(Answer(lambda t: t[:, :1].squeeze()), batch_size=59)
    np.testing.assert_allclose(squeezing.logits(X)[:, 1], X[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    "wrap", [lambda z: (z, "hidden"), lambda z: [z], lambda z: {"logits": z, "hidden": None}]
)
def test_logits_are_found_in_tuples_and_dicts(wrap):
    teacher = TorchTeacher(Answer(lambda t: wrap(t[:, :2])))
    np.testing.assert_allclose(teacher.logits(X), X[:, :2], atol=1e-6)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda t: {"out": t}, TypeError, r"keys \['out'\].*\"logits\" is needed"),
        (lambda t: 1.0, TypeError, "returned float, expected a tensor"),
        (lambda t: t.reshape(-1, 1, 3), ValueError, r"shape \(60, 1, 3\), expected \(60"),
        (lambda t: t[1:], ValueError, r"shape \(59, 3\), expected \(60"),
        (lambda t: t[:, :2], ValueError, r"shape \(60, 2\), expected \(60, 3\)"),
        (lambda t: t / 0, ValueError, "TorchTeacher returned .*inf in row 0, column 0"),
    ],
)
def test_unusable_outputs_are_refused(function, error, words):
    with pytest.raises(error, match=words):
        TorchTeacher(Answer(function), ["a", "b", "c"]).predict_proba(X)


def test_logits_of_probabilities_are_refused():
    with pytest.raises(TypeError, match=r"returns probabilities. Use predict_proba"):
        TorchTeacher(Noisy(), output="proba").logits(X)


@pytest.mark.parametrize(
    ("teacher", "error", "words"),
    [
        (TorchTeacher(half), TypeError, r"needs a torch.nn.Module, got function.*CallableTeacher"),
        (TorchTeacher(Noisy(), output="probabilities"), ValueError, "got 'probabilities'"),
        (TorchTeacher(Noisy(), batch_size=0), ValueError, "batch_size .*at least 1, got 0"),
    ],
)
def test_wrong_parameters_are_named(teacher, error, words):
    with pytest.raises(error, match=words):
        teacher.predict_proba(X)


def test_without_classes_predict_returns_column_numbers():
    teacher = TorchTeacher(Noisy())
    assert not hasattr(teacher, "classes_")
    assert set(teacher.predict(X)) <= {0, 1}


def test_the_module_is_left_as_it_was_found():
    module = Noisy().train()
    module.norm.eval()
    before = copy.deepcopy(module.state_dict())
    flags = [part.training for part in module.modules()]
    torch.manual_seed(7)
    random_state = torch.get_rng_state()
    # Dropout that ignores evaluation mode draws from the global generator.
    stochastic = torch.nn.Sequential(module, Answer(lambda t: torch.dropout(t, 0.5, True)))
    TorchTeacher(stochastic).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [part.training for part in module.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.linear.weight.grad is None


def test_flags_are_restored_when_the_module_raises():
    module = torch.nn.Sequential(Noisy(), Answer(lambda t: 1 / 0)).train()
    with pytest.raises(ZeroDivisionError):
        TorchTeacher(module).predict_proba(X)
    assert all(part.training for part in module.modules())


def test_threads_may_ask_at_once():
    module = Noisy().train()
    teacher = TorchTeacher(module, batch_size=5)
    expected = teacher.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: teacher.predict_proba(X), range(24)):
            np.testing.assert_array_equal(answer, expected)
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize(
    "function", [lambda t: torch.softmax(t, -1), lambda t: torch.sigmoid(t[:, 0])]
)
def test_logits_that_look_like_probabilities_are_warned_about_once(function):
    teacher = TorchTeacher(Answer(function))
    with pytest.warns(UserWarning, match=r"Answer is declared to return logits.*output=\"proba\""):
        teacher.predict_proba(X)
    teacher.predict_proba(X)


def test_a_teacher_that_has_warned_has_the_same_content():
    teacher = TorchTeacher(torch.nn.Softmax(1))
    before = joblib.hash(teacher)
    with pytest.warns(UserWarning, match="look like probabilities"):
        teacher.predict_proba(X)
    assert joblib.hash(teacher) == before


def test_a_teacher_and_its_module_can_be_pickled():
    teacher = TorchTeacher(Noisy(), ["a", "b"])
    again = pickle.loads(pickle.dumps(teacher))
    np.testing.assert_array_equal(again.predict_proba(X), teacher.predict_proba(X))


def test_no_rows_give_no_answers():
    assert TorchTeacher(Noisy()).predict_proba(X[:0]).shape == (0, 2)


def test_it_stands_at_the_end_of_a_pipeline():
    scaler = StandardScaler().fit(X * 100)
    teacher = TorchTeacher(Noisy(), ["a", "b"])
    pipeline = make_pipeline(scaler, teacher)
    np.testing.assert_allclose(
        pipeline.predict_proba(X * 100), teacher.predict_proba(scaler.transform(X * 100))
    )
    assert pipeline.classes_.tolist() == ["a", "b"]


def test_modules_are_recognised_without_importing_torch(fresh_process):
    code = """
    import sys
    from skdistill.teachers.answers import is_torch_module
    from skdistill import TorchTeacher
    print(is_torch_module(object()), "torch" in sys.modules)
    """
    assert fresh_process(code, forbid=("torch", "skorch", "pandas")).split() == ["False", "False"]
    assert is_torch_module(Noisy())


def test_a_function_that_returns_a_frame_is_read_by_its_labels():
    frame = pd.DataFrame({"yes": [0.25, 0.5], "no": [0.75, 0.5]})
    teacher = CallableTeacher(lambda X: frame, ["no", "yes"])
    np.testing.assert_array_equal(teacher.predict_proba(X[:2]), [[0.75, 0.25], [0.5, 0.5]])
    assert teacher.predict(X[:2]).tolist() == ["no", "no"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.ones(3), r"shape \(3,\), expected \(3, 2\). For two classes .*\[1 - p, p\]"),
        (np.ones((3, 3)) / 3, r"shape \(3, 3\), expected \(3, 2\)"),
        (np.full((3, 2), np.nan), "nan in row 0"),
        (np.ones((3, 2)), "sum to 2 in row 0"),
    ],
)
def test_a_function_that_returns_no_probabilities_is_refused(answer, words):
    with pytest.raises(ValueError, match="CallableTeacher returned .*" + words):
        CallableTeacher(lambda X: answer, [0, 1]).predict_proba(X[:3])


def test_the_placeholder_says_what_was_left_behind():
    teachers = [("forest", FrozenEstimator(StandardScaler())), Noisy()]
    left = TeachersLeftBehind.from_teachers(teachers)
    assert left.descriptions == ("forest: FrozenEstimator", "Noisy")
    assert repr(left) == "<teachers left behind by pickling: forest: FrozenEstimator, Noisy>"
    assert pickle.loads(pickle.dumps(left)) == left == clone(left, safe=False)
    assert TeachersLeftBehind.from_teachers(left) == left
    assert TeachersLeftBehind.from_teachers(Noisy()).descriptions == ("Noisy",)
    for words in (
        "forest: FrozenEstimator",
        "set_params",
        "keep_teachers=True",
        "clone(estimator)",
    ):
        assert words in left.refusal()
