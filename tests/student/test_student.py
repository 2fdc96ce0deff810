"""Laws of the frozen student: one answer by every way to ask, and errors instead of wrong ones."""

import copy
import pickle
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from students_zoo import ACTIVATIONS, LABELS, NORMS, TABLES, freeze, make_student, make_table

from skdistill import StudentClassifier
from skdistill.student import Layer
from skdistill.student import forward as _forward
from skdistill.tables import TabularEncoder

METHODS = ("predict_proba", "predict_log_proba", "predict")


def softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def torch_proba(student, X):
    Z = X
    if not student._takes_raw:
        Z = student.preprocessor_.transform(X)
    logits = student.to_torch()(torch.tensor(np.asarray(Z, dtype=np.float64)))
    return logits.softmax(1).detach().numpy()


def checked_proba(student, X):
    return softmax(student._checked_logits(X))


# One answer


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_network_agrees_with_torch(activation, embedding, norm):
    student = make_student(embedding=embedding, activation=activation, norm=norm)
    X = make_table("numbers", 60, seed=1)
    expected = torch_proba(student, X)
    np.testing.assert_allclose(student.predict_proba(X), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(checked_proba(student, X), expected, rtol=0, atol=1e-12)
    single = student.predict_proba(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
@pytest.mark.parametrize("table", TABLES)
def test_every_table_agrees_with_torch(table, embedding):
    student = make_student(table, embedding=embedding)
    X = make_table(table, 60, seed=1, unseen=True)
    np.testing.assert_allclose(
        student.predict_proba(X), torch_proba(student, X), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
@pytest.mark.parametrize("table", ["plain", "numbers"])
def test_fast_lane_is_the_checked_lane(table, embedding, dtype, monkeypatch):
    student = make_student(table, embedding=embedding)
    X = make_table("numbers", 50, seed=2).astype(dtype)
    expected = checked_proba(student, X)
    monkeypatch.setattr(StudentClassifier, "_checked_logits", None)
    atol = {np.float32: 2e-6, np.float64: 1e-12}[dtype]
    np.testing.assert_allclose(student.predict_proba(X), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_does_not_matter(dtype):
    student = make_student(embedding=True)
    X = make_table("numbers", 30).astype(dtype)
    expected = student.predict_proba(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.repeat(X, 2, axis=1)
    for same in (np.asfortranarray(X), read_only, wide[:, ::2], X[::-1][::-1]):
        np.testing.assert_allclose(student.predict_proba(same), expected, rtol=0, atol=1e-6)
    before = X.copy()
    student.predict(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    "container", [list, pd.DataFrame, "int", "object", "float16", "big endian"]
)
def test_containers(container):
    X = np.round(make_table("numbers", 30))
    student = make_student()
    same = {
        "int": lambda: X.astype(int),
        "object": lambda: X.astype(object),
        "float16": lambda: X.astype(np.float16),
        "big endian": lambda: X.astype(">f8"),
    }.get(container, lambda: container(X.tolist()))()
    if container is pd.DataFrame:
        with pytest.warns(UserWarning, match="feature names"):
            proba = student.predict_proba(same.rename(columns=str))
    else:
        proba = student.predict_proba(same)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba, student.predict_proba(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["relu", "tanh", "gelu", "silu", "affine"])
def test_rows_are_left_as_they_are_whatever_comes_first(kind, dtype):
    student = make_student("plain")
    ones = (np.ones(3), np.zeros(3)) if kind == "affine" else ()
    student.layers_ = [Layer(kind, ones), *student.layers_]
    student._build_forwards()
    X = make_table("plain", 300).astype(dtype)
    before = X.copy()
    expected = student.predict_proba(X)
    np.testing.assert_array_equal(X, before)
    X.flags.writeable = False
    np.testing.assert_array_equal(student.predict_proba(X), expected)
    atol = {np.float32: 2e-6, np.float64: 1e-12}[dtype]
    for x, proba in zip(X[:5], expected, strict=False):
        np.testing.assert_allclose(student.predict_proba(x[None])[0], proba, rtol=0, atol=atol)
        np.testing.assert_allclose(student.compile()(x), proba, rtol=0, atol=atol)
    np.testing.assert_array_equal(X, before)


# One row


@pytest.mark.parametrize("labels", ["int", "bool", "one"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_row_is_answered_as_in_a_batch(dtype, activation, norm, labels):
    for embedding in (False, True):
        student = make_student(embedding=embedding, activation=activation, norm=norm, labels=labels)
        X = make_table("numbers", 70, seed=6).astype(dtype)
        X.flags.writeable = False
        predict_one = student.compile()
        alone = np.vstack([student.predict_proba(x[None]) for x in X])
        compiled = np.stack([predict_one(x) for x in X])
        atol = {np.float32: 2e-6, np.float64: 1e-12}[dtype]
        np.testing.assert_allclose(alone, student.predict_proba(X), rtol=0, atol=atol)
        np.testing.assert_array_equal(compiled, alone)
        assert alone.dtype == compiled.dtype == dtype


def test_one_row_of_any_layout_is_answered():
    student = make_student()
    x = make_table("numbers", 1)
    wide = np.repeat(x, 2, axis=1)
    for same in (x, np.asfortranarray(x), wide[:, ::2], x[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_allclose(
            student.predict_proba(same), torch_proba(student, x), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_row_that_is_not_finite_is_refused(dtype, value):
    x = make_table("numbers", 1).astype(dtype)
    x[0, 1] = value
    with pytest.raises(ValueError, match="Input X contains"):
        make_student().predict_proba(x)


def test_a_compiled_row_goes_to_other_processes():
    compiled, row = make_student("numbers", embedding=True).compile(), make_table("numbers", 1)[0]
    again = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_array_equal(again(row), compiled(row))


def test_nan_gives_nan_in_a_compiled_row():
    assert np.isnan(make_student(labels="bool").compile()(np.array([0.0, np.nan, 1.0]))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-3, 30.0, 86.0, 95.0, 700.0, 720.0, 1e9])
def test_two_classes_have_the_softmax_however_far_apart(gap, dtype):
    student = make_student(labels="bool")
    weight = np.zeros_like(student.layers_[-1].arrays[0])
    for bias in ([gap, 0.0], [0.0, gap]):
        student.layers_[-1] = Layer("linear", (weight, np.array(bias, dtype=np.float32)))
        student._build_forwards()
        expected = softmax(np.array([bias]))[0]
        X = make_table("numbers", 70).astype(dtype)
        rtol = {np.float32: 1e-5, np.float64: 1e-6}[dtype]
        for rows in (X, X[:1]):
            every = np.tile(expected, (len(rows), 1))
            np.testing.assert_allclose(student.predict_proba(rows), every, rtol=rtol, atol=2e-38)


# Biases behind the relu


@pytest.mark.parametrize("size", [1.0, 1e2, 1e3, 1e4, 1e6])
def test_float32_stands_units_that_large_biases_turn_off(size):
    student = make_student(hidden=(16, 8))
    for i in (0, 2):
        weight, bias = student.layers_[i].arrays
        off = np.arange(len(bias)) % 2 == 0
        student.layers_[i] = Layer("linear", (weight, np.where(off, -np.float32(size), bias)))
    student._build_forwards()
    X = make_table("numbers", 60)
    expected = torch_proba(student, X)
    np.testing.assert_allclose(student.predict_proba(X), expected, rtol=0, atol=1e-12)
    single = student.predict_proba(X.astype(np.float32))
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    student = make_student()
    X = make_table("numbers", 5).astype(dtype)
    assert student.predict_proba(X).dtype == dtype
    assert student.predict_log_proba(X).dtype == dtype
    assert make_student(embedding=True).predict_proba(X).dtype == dtype


@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
def test_chunks_join_without_a_seam(embedding, monkeypatch):
    student = make_student(embedding=embedding)
    X = make_table("numbers", 400, seed=3)
    whole = student.predict_proba(X)
    monkeypatch.setattr(_forward, "_CHUNK_BYTES", 1)
    student._build_forwards()
    for n in (127, 128, 129, 255, 256, 257, 400):
        np.testing.assert_allclose(student.predict_proba(X[:n]), whole[:n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("table", ["numbers", "missing", "mixed"])
@pytest.mark.parametrize("method", METHODS)
def test_answers_do_not_depend_on_the_batch(method, table):
    student = make_student(table, embedding=True)
    X = make_table(table, 40, seed=4)
    take = X.iloc.__getitem__ if hasattr(X, "iloc") else X.__getitem__
    whole = getattr(student, method)(X)
    order = np.random.default_rng(0).permutation(40)
    parts = [getattr(student, method)(take(slice(i, i + 1))) for i in range(40)]
    shuffled = getattr(student, method)(take(order))
    if method == "predict":
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        np.testing.assert_array_equal(shuffled, whole[order])
    else:
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-12)
        np.testing.assert_allclose(shuffled, whole[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("labels", LABELS)
def test_methods_agree(labels):
    student = make_student(labels=labels)
    X = make_table("numbers", 40)
    proba = student.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(student.predict_log_proba(X), np.log(proba), atol=1e-12)
    predicted = student.predict(X)
    np.testing.assert_array_equal(predicted, student.classes_[proba.argmax(axis=1)])
    assert predicted.dtype == LABELS[labels].dtype
    assert student.score(X, predicted) == 1.0


def test_log_proba_stays_finite_where_proba_is_zero():
    student = make_student()
    last = student.layers_[-1]
    far = last.arrays[0], np.array([0.0, -2000.0, 0.0], dtype=np.float32)
    student.layers_[-1] = Layer(last.kind, far)
    student._build_forwards()
    X = make_table("numbers", 10)
    assert (student.predict_proba(X)[:, 1] == 0).all()
    assert np.isfinite(student.predict_log_proba(X)).all()
    assert (student.predict_log_proba(X)[:, 1] < -1000).all()


# Numbers far from zero


@pytest.mark.parametrize("ratio", [1.0, 9.0, 11.0, 100.0, 1e4, 1e6])
@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
def test_float32_stands_an_offset(embedding, ratio):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 4)) + ratio).astype(np.float32)
    student = freeze(
        X.astype(np.float64),
        np.array([0, 1]),
        preprocessor=TabularEncoder(),
        n_bins=8 if embedding else None,
        hidden=(16, 8),
    )
    expected = torch_proba(student, X)
    np.testing.assert_allclose(student.predict_proba(X), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(student.predict_proba(X.astype(float)), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
@pytest.mark.parametrize("table", ["plain", "numbers"])
def test_huge_finite_inputs_give_probabilities(table, embedding, activation, dtype):
    student = make_student(table, embedding=embedding, activation=activation)
    huge = {np.float32: (1e16, 1e30, 3e38), np.float64: (1e30, 1e150, 1e300)}[dtype]
    X = make_table("numbers", 4 * len(huge)).astype(dtype)
    for i, value in enumerate(huge):
        X[4 * i, 0] = value
        X[4 * i + 1, 1] = -value
        X[4 * i + 2] = [value, -value, value]
    calm = np.arange(len(X)) % 4 == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = student.predict_proba(X)
        log_proba = student.predict_log_proba(X)
    assert np.isfinite(proba).all()
    assert not np.isnan(log_proba).any()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(proba[calm], student.predict_proba(X[calm]), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e10, 1e20, 1e35, 1e38])
@pytest.mark.parametrize("labels", ["int", "bool"])
def test_huge_weights_warn_of_nothing(labels, size, dtype):
    student = make_student(labels=labels)
    student.layers_ = [
        Layer(s.kind, tuple(np.float32(size) * a for a in s.arrays)) if i == 0 else s
        for i, s in enumerate(student.layers_)
    ]
    student._build_forwards()
    X = make_table("numbers", 70).astype(dtype)
    for rows in (X, X[:1]):
        np.testing.assert_allclose(student.predict_proba(rows).sum(axis=1), 1, atol=1e-6)
        assert not np.isnan(student.predict_log_proba(rows)).any()


@pytest.mark.parametrize("labels", ["int", "bool"])
def test_logits_whose_difference_overflows_give_probabilities(labels):
    student = make_student("plain", labels=labels)
    n_classes = len(student.classes_)
    weight = np.ones((3, n_classes), dtype=np.float32)
    weight[:, 0] = -1
    student.layers_ = [Layer("linear", (weight, np.zeros(n_classes, dtype=np.float32)))]
    student._build_forwards()
    X = np.array([[3e38, 0, 0], [-3e38, 0, 0], [0, 3e38, 0]], dtype=np.float32)
    for rows in (X, X[:1], np.tile(X, (40, 1))):
        proba = student.predict_proba(rows)
        np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
        assert proba[0, 0] == 0


@given(exponent=st.floats(-3, 40), seed=st.integers(0, 2**16))
def test_rows_below_the_safe_square_overflow_nowhere(exponent, seed):
    student = make_student(labels="bool", norm=NORMS[seed % 3], embedding=bool(seed % 2))
    for i, (kind, arrays) in enumerate(student.layers_):
        if kind == "linear":
            weight = arrays[0] * np.float32(10.0 ** min(exponent, 37))
            student.layers_[i] = Layer(kind, (weight, arrays[1]))
            break
    student._build_forwards()
    forward = student._raw[np.dtype(np.float32)]
    # Where the bound is 0, no row is below it.
    assume(forward.safe_square > 0)
    x = np.random.default_rng(seed).normal(size=3)
    x = (x / np.linalg.norm(x) * 0.999 * forward.safe_square**0.5).astype(np.float32)
    assert np.isfinite(forward.apply(x)).all()
    assert np.isfinite(forward(x[None])).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
def test_units_of_measurement_do_not_matter(embedding, scale, dtype):
    X = make_table("numbers", 60) * scale
    student = freeze(
        X, np.array([0, 1]), preprocessor=TabularEncoder(), n_bins=4 if embedding else None
    )
    rows = X.astype(dtype)
    expected = torch_proba(student, rows)
    for asked, proba in ((rows, expected), (rows[:1], expected[:1])):
        np.testing.assert_allclose(student.predict_proba(asked), proba, rtol=0, atol=5e-6)


@pytest.mark.parametrize("embedding", [False, True], ids=["plain", "embedding"])
def test_a_constant_column_of_large_values_costs_no_digits(embedding):
    X = np.column_stack([make_table("numbers", 60), np.full(60, 1.7e12)])
    student = freeze(
        X, np.array([0, 1]), preprocessor=TabularEncoder(), n_bins=4 if embedding else None
    )
    expected = torch_proba(student, X)
    for asked, proba in ((X, expected), (X[:1], expected[:1])):
        np.testing.assert_allclose(student.predict_proba(asked), proba, rtol=0, atol=1e-12)


def test_what_overflows_when_standardised_is_refused():
    X = make_table("numbers")
    X[3, 2] = 1.7e308
    with pytest.raises(ValueError, match="infinity or a value too large"):
        make_student().predict(X)


# What it refuses


@pytest.mark.parametrize("table", ["plain", "numbers"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_is_refused(method, value, words, dtype, table):
    student = make_student(table, embedding=True)
    X = make_table("numbers", 300).astype(dtype)
    X[277, 1] = value
    with pytest.raises(ValueError, match=f"Input X contains {words}"):
        getattr(student, method)(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_values_are_taken_where_fit_saw_them(dtype):
    student = make_student("missing")
    X = make_table("missing", seed=5).astype(dtype)
    assert np.isnan(X).any()
    assert np.isfinite(student.predict_proba(X)).all()
    X[0, 0] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        student.predict(X)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros((2, 4)), "X has 4 features, but StudentClassifier is expecting 3"),
        (np.zeros((2, 2), dtype=np.float32), "X has 2 features, .* expecting 3"),
        (np.zeros(3), "Expected 2D array, got 1D array"),
        (np.zeros((2, 3, 1)), "dim 3"),
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        (np.zeros((2, 0)), r"0 feature\(s\)"),
        (np.zeros((2, 3), dtype=complex), "Complex data not supported"),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
def test_wrong_shapes_are_refused(X, words):
    student = make_student()
    for method in METHODS:
        with pytest.raises(ValueError, match=words):
            getattr(student, method)(X)


def test_names_are_checked():
    student = make_student("frame")
    frame = make_table("frame")
    expected = student.predict_proba(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        student.predict(frame.rename(columns={"width": "depth"}))
    with pytest.raises(ValueError, match="feature names should match"):
        student.predict(frame[["height", "width", "label"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        nameless = student.predict_proba(frame.to_numpy())
    np.testing.assert_allclose(nameless, expected, rtol=0, atol=1e-12)
    assert student.feature_names_in_.tolist() == ["width", "height", "label"]
    assert not hasattr(make_student(), "feature_names_in_")


# A frozen classifier


def test_fit_refuses_and_names_the_way_out():
    student = make_student()
    X = make_table("numbers")
    before = student.predict_proba(X)
    with pytest.raises(TypeError, match=r"frozen and cannot be fitted.*FrozenEstimator"):
        student.fit(X, np.arange(40) % 3)
    np.testing.assert_array_equal(student.predict_proba(X), before)
    assert FrozenEstimator(student).fit(X, None).estimator is student


def test_clone_is_the_student_itself():
    student = make_student()
    assert clone(student) is student
    assert student.get_params() == {}
    check_is_fitted(student)
    with pytest.raises(NotFittedError):
        check_is_fitted(StudentClassifier())


def test_copies_answer_the_same():
    student = make_student("mixed", embedding=True)
    X = make_table("mixed")
    for twin in (copy.copy(student), copy.deepcopy(student)):
        assert twin is not student
        np.testing.assert_array_equal(twin.predict_proba(X), student.predict_proba(X))


def test_number_of_parameters():
    X = np.random.default_rng(0).normal(size=(10, 20))
    shape = {"classes": np.array([0, 1]), "hidden": (64, 32)}
    assert freeze(X, preprocessor=TabularEncoder(), **shape).n_parameters_ == 3_490
    bins = freeze(X, n_bins=4, **shape)
    assert bins.n_parameters_ == 3_490 + 64 * (bins.encoding_.n_features_out_ - 20)
    assert make_student(norm="layer_norm").n_parameters_ == make_student().n_parameters_ + 2 * 13


def test_weights_are_rounded_once_to_float32():
    student = make_student()
    assert {a.dtype for s in student.layers_ for a in s.arrays} == {np.dtype(np.float32)}
    X = make_table("numbers")
    h = (X - student.preprocessor_.mean_) / student.preprocessor_.scale_
    for kind, arrays in student.layers_:
        h = np.maximum(h, 0) if kind == "relu" else h @ arrays[0].astype(float) + arrays[1]
    np.testing.assert_allclose(student.predict_proba(X), softmax(h), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("preprocessor", "expected"),
    [(None, (False, False, False)), (StandardScaler(), (False, False, False))],
    ids=str,
)
def test_tags_of_plain_numbers(preprocessor, expected):
    tags = get_tags(freeze(make_table("numbers"), np.array([0, 1]), preprocessor=preprocessor))
    taken = tags.input_tags
    assert (taken.string, taken.categorical, taken.allow_nan) == expected


def test_tags_of_our_own_encoder():
    assert get_tags(make_student("mixed")).input_tags.allow_nan
    assert get_tags(make_student("mixed")).input_tags.string
    assert not get_tags(make_student("numbers")).input_tags.allow_nan


@pytest.mark.parametrize("preprocessor", [StandardScaler(), OneHotEncoder(sparse_output=False)])
def test_foreign_preprocessors_run_before_the_network(preprocessor):
    X = np.round(make_table("numbers"))
    student = freeze(X, np.array([0, 1]), preprocessor=preprocessor)
    np.testing.assert_allclose(
        student.predict_proba(X), torch_proba(student, X), rtol=0, atol=1e-12
    )


def test_threads_get_the_same_answers():
    student = make_student(embedding=True)
    tables = [make_table("numbers", 500, seed=i) for i in range(8)]
    expected = [student.predict_proba(X) for X in tables]
    alone = [student.predict_proba(X[:1]) for X in tables]
    wrong = []

    def ask(i):
        for _ in range(20):
            if not np.array_equal(student.predict_proba(tables[i]), expected[i]):
                wrong.append(i)
            if not np.array_equal(student.predict_proba(tables[i][:1]), alone[i]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_torch_twin_is_a_module_of_doubles():
    student = make_student(embedding=True, norm="layer_norm")
    twin = student.to_torch()
    assert all(p.dtype == torch.float64 for p in twin.parameters())
    assert sum(p.numel() for p in twin.parameters()) == student.n_parameters_
    restored = student.to_torch()
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    X = torch.tensor(make_table("numbers"))
    assert not torch.allclose(restored(X), twin(X))


@pytest.mark.parametrize("embedding", [False, True])
def test_the_module_shares_no_memory_with_the_student(embedding):
    student = make_student("far", embedding=embedding)
    X = make_table("far")
    before = student.predict_proba(X)
    for tensor in student.to_torch().state_dict().values():
        tensor.zero_()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(student)).predict_proba(X), before)


@pytest.mark.parametrize("embedding", [False, True])
def test_a_student_in_mapped_memory_becomes_a_module(tmp_path, embedding):
    student, X = make_student(embedding=embedding), make_table("numbers")
    joblib.dump(student, tmp_path / "student.joblib")
    mapped = joblib.load(tmp_path / "student.joblib", mmap_mode="r")
    torch.set_warn_always(True)
    try:
        module = mapped.to_torch()
    finally:
        torch.set_warn_always(False)
    proba = module(torch.tensor(X)).softmax(1).numpy(force=True)
    np.testing.assert_allclose(proba, student.predict_proba(X), atol=1e-6)
