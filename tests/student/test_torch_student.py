"""Laws of the student whose network is the user's own."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skdistill import StudentClassifier, TorchStudent
from skdistill.tables import TabularEncoder

X, Y = make_data(labels=("ant", "bee", "cat"))
TEACHER = fitted_teacher(X, Y)


class Residual(nn.Module):
    """A network that cannot be frozen, with dropout and batch norm inside."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first = nn.Linear(n_features, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(6, n_classes)

    def forward(self, X):
        h = self.first(X)
        return self.last(h + self.drop(torch.sin(self.norm(h))))


class WithHidden(Residual):
    def forward(self, X):
        return super().forward(X), X


def make_student(X=X, preprocessor="auto", dtype=torch.float64, module=Residual):
    if preprocessor == "auto":
        preprocessor = TabularEncoder().fit(X)
    torch.manual_seed(0)
    width = X.shape[1] if preprocessor is None else preprocessor.transform(X).shape[1]
    return TorchStudent._freeze(
        classes=np.unique(Y),
        n_features_in=X.shape[1],
        feature_names_in=np.array(X.columns, dtype=object) if hasattr(X, "columns") else None,
        preprocessor=preprocessor,
        module=module(width, 3).to(dtype),
    )


def test_a_module_that_cannot_be_frozen_gives_a_torch_student():
    classifier = quick([TEACHER], student_module=Residual, max_epochs=150).fit(X, Y)
    assert type(classifier.student_) is TorchStudent
    assert classifier.score(X, Y) > 0.8
    np.testing.assert_array_equal(classifier.predict_proba(X), classifier.student_.predict_proba(X))
    # What is trained further is not what was frozen.
    assert classifier.student_.module_ is not classifier.net_.module_
    frozen = quick([TEACHER], student_module=lambda n, k: nn.Sequential(nn.Linear(n, k)))
    assert type(frozen.fit(X, Y).student_) is StudentClassifier


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("module", [Residual, WithHidden])
def test_answers_are_those_of_the_module(module, dtype):
    student = make_student(dtype=dtype, module=module)
    rows = torch.tensor(student.preprocessor_.transform(X), dtype=dtype)
    assert not student.module_.training
    output = student.to_torch()(rows)
    logits = output[0] if module is WithHidden else output
    proba = student.predict_proba(X)
    np.testing.assert_allclose(proba, logits.softmax(1).detach().numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(np.log(proba), student.predict_log_proba(X), atol=1e-12)
    np.testing.assert_array_equal(student.predict(X), student.classes_[proba.argmax(axis=1)])
    assert proba.dtype == np.float64
    np.testing.assert_array_equal(proba, student.predict_proba(X))


def test_answers_do_not_depend_on_the_batch():
    student = make_student()
    whole = student.predict_proba(X)
    parts = np.concatenate([student.predict_proba(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-12)


def test_no_gradient_and_no_state_is_left():
    student = make_student()
    before = {k: v.clone() for k, v in student.module_.state_dict().items()}
    state = torch.random.get_rng_state()
    student.predict_proba(X)
    assert torch.equal(torch.random.get_rng_state(), state)
    after = student.module_.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all(p.grad is None for p in student.module_.parameters())


@pytest.mark.parametrize("preprocessor", [None, StandardScaler().fit(X)], ids=["none", "scaler"])
def test_preprocessors(preprocessor):
    student = make_student(preprocessor=preprocessor)
    Z = X if preprocessor is None else preprocessor.transform(X)
    expected = student.module_(torch.tensor(Z)).softmax(1).detach().numpy()
    np.testing.assert_allclose(student.predict_proba(X), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        student.predict_proba(X.astype(np.float32)), expected, rtol=0, atol=1e-5
    )


def test_a_module_without_parameters_predicts():
    proba = make_student(preprocessor=None, module=Columns).predict_proba(X)
    np.testing.assert_allclose(proba, np.exp(X) / np.exp(X).sum(axis=1, keepdims=True), atol=1e-12)


class InPlace(Residual):
    def forward(self, X):
        return super().forward(X.mul_(2))


class Columns(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()

    def forward(self, X):
        return X


@pytest.mark.parametrize("module", [InPlace, Columns])
def test_rows_are_left_as_they_are(module):
    student = make_student(preprocessor=None, module=module)
    rows = X.copy()
    expected = student.predict_proba(rows)
    np.testing.assert_array_equal(rows, X)
    rows.flags.writeable = False
    np.testing.assert_array_equal(student.predict_proba(rows), expected)


@pytest.mark.parametrize("preprocessor", ["auto", None])
def test_bad_rows_are_refused(preprocessor):
    student = make_student(preprocessor=preprocessor)
    for bad, words in ((np.nan, "NaN"), (np.inf, "infinity")):
        rows = X.copy()
        rows[3, 1] = bad
        with pytest.raises(ValueError, match=f"Input X contains {words}"):
            student.predict_proba(rows)
    with pytest.raises(ValueError, match="X has 2 features, but TorchStudent is expecting 3"):
        student.predict(X[:, :2])
    with pytest.raises(ValueError, match="Expected 2D array"):
        student.predict(X[0])


def test_frames_and_tags():
    frame = pd.DataFrame({"a": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    frame.loc[2, "a"] = np.nan
    student = make_student(frame)
    assert np.isfinite(student.predict_proba(frame)).all()
    assert student.feature_names_in_.tolist() == ["a", "colour"]
    with pytest.raises(ValueError, match="feature names should match"):
        student.predict(frame[["colour", "a"]])
    tags = get_tags(student).input_tags
    assert (tags.string, tags.categorical, tags.allow_nan) == (True, True, True)
    tags = get_tags(make_student(preprocessor=None)).input_tags
    assert (tags.string, tags.categorical, tags.allow_nan) == (False, False, False)
    tags = get_tags(make_student()).input_tags
    assert (tags.string, tags.allow_nan) == (True, False)


def test_number_of_parameters():
    assert make_student().n_parameters_ == (3 * 6 + 6) + 2 * 6 + (6 * 3 + 3)


def test_it_is_frozen():
    student = make_student()
    with pytest.raises(TypeError, match=r"trained and cannot be fitted.*FrozenEstimator"):
        student.fit(X, Y)
    assert clone(student) is student
    assert FrozenEstimator(student).fit(X, Y).predict(X).shape == Y.shape
    check_is_fitted(student)
    with pytest.raises(NotFittedError):
        check_is_fitted(TorchStudent())
    assert student.get_params() == {}


@pytest.mark.parametrize("method", ["save", "to_onnx"])
def test_files_are_refused_with_the_way_out(method, tmp_path):
    words = rf"no {method}: its network \(Residual\).*to_torch\(\).*LayerNorm and Sequential"
    with pytest.raises(TypeError, match=words):
        getattr(make_student(), method)(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_teacher():
    assistant = quick([TEACHER], student_module=Residual, max_epochs=150).fit(X, Y)
    for teacher in (assistant, assistant.student_):
        assert quick([teacher]).fit(X, Y).score(X, Y) > 0.7


@pytest.mark.parametrize("via", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_answer_the_same(via):
    student = make_student()
    twin = via(student)
    np.testing.assert_array_equal(twin.predict_proba(X), student.predict_proba(X))
    assert not hasattr(twin, "_versions")
    with torch.no_grad():
        for p in twin.module_.parameters():
            p.zero_()
    assert not np.allclose(twin.predict_proba(X), student.predict_proba(X))
