"""ONNX: the same answers from raw rows, in one file, by hand or through skl2onnx."""

import json
import pickle
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import onnx
import onnxruntime
import pytest
import skl2onnx
import skops.io
import torch
from hypothesis import HealthCheck, given, settings
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from students_zoo import (
    ACTIVATIONS,
    LABELS,
    NORMS,
    TABLES,
    feeds_of,
    freeze,
    make_student,
    make_table,
)

from skdistill import DistilledClassifier, StudentClassifier
from skdistill.onnx import IR_VERSION, OPSET, to_onnx
from skdistill.tables import TabularEncoder

SMALL = {"max_epochs": 5, "hidden_layer_sizes": (8,), "n_bins": 4, "random_state": 0}
ONE_NAME = ["skdistill.student.StudentClassifier"]


def session_of(model):
    """Open a model in onnxruntime."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(model, X):
    """Return labels and probabilities."""
    session = session_of(model)
    return session.run(None, feeds_of(X, session.get_inputs()))


def assert_same(answer, expected, *, atol=1e-6):
    """Compare (labels, probabilities): labels wherever the top two are apart."""
    labels, proba = answer
    np.testing.assert_allclose(proba, expected[1], rtol=0, atol=atol)
    top = np.sort(expected[1], axis=1)[:, ::-1]
    clear = top[:, 0] - top[:, 1] > 10 * atol if top.shape[1] > 1 else np.ones(len(top), bool)
    np.testing.assert_array_equal(np.asarray(labels)[clear], expected[0][clear])


def from_torch(student, X):
    """Return labels and probabilities of the student as a torch module."""
    raw = student.preprocessor_ is None or student._takes_raw
    Z = np.asarray(X, dtype=float) if raw else student.preprocessor_.transform(X)
    logits = student.to_torch()(torch.tensor(np.array(Z)))
    return student.classes_[logits.argmax(1).numpy()], logits.softmax(1).detach().numpy()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.sampled_from(TABLES),
    embedding=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
    norm=st.sampled_from(NORMS),
    labels=st.sampled_from(sorted(LABELS)),
    hidden=st.sampled_from([(), (3,), (8, 5)]),
    seed=st.integers(0, 1000),
)
def test_every_way_out_gives_the_same_answers(tmp_path, table, embedding, seed, **options):
    student = make_student(table, embedding=embedding, seed=seed, **options)
    X = make_table(table, seed=seed + 1, unseen=True)
    expected = student.predict(X), student.predict_proba(X)
    assert_same(from_torch(student, X), expected)
    assert_same(run(student.to_onnx(), X), expected)
    student.save(tmp_path / "student")
    for again in (
        StudentClassifier.load(tmp_path / "student"),
        pickle.loads(pickle.dumps(student)),
        skops.io.loads(skops.io.dumps(student), trusted=ONE_NAME),
    ):
        assert_same((again.predict(X), again.predict_proba(X)), expected, atol=0)
        assert_same(from_torch(again, X), expected)


def test_a_far_off_mean_loses_no_digits():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 3)) + 1e6).astype(np.float32).astype(np.float64)
    for n_bins in (None, 4):
        student = freeze(X, np.array([0, 1]), preprocessor=TabularEncoder(), n_bins=n_bins)
        assert_same(run(student.to_onnx(), X), (student.predict(X), student.predict_proba(X)))


def test_one_matrix_of_numbers_or_one_input_a_column():
    inputs = session_of(make_student("frame").to_onnx()).get_inputs()
    assert [(i.name, i.type, i.shape) for i in inputs] == [("X", "tensor(float)", ["n", 3])]
    inputs = session_of(make_student("mixed").to_onnx()).get_inputs()
    assert [(i.name, i.type.removeprefix("tensor"), i.shape) for i in inputs] == [
        ("age", "(float)", ["n", 1]),
        ("colour", "(string)", ["n", 1]),
        ("flag", "(double)", ["n", 1]),
        ("label_", "(float)", ["n", 1]),
        ("grade", "(double)", ["n", 1]),
        ("_/shop", "(string)", ["n", 1]),
    ]
    inputs = session_of(make_student("texts").to_onnx()).get_inputs()
    assert [i.name for i in inputs] == ["x0", "x1"]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ("str", "string"),
        ("object", "string"),
        ("int", "int64"),
        ("int8", "int64"),
        ("bool", "int64"),
        ("float", "double"),
    ],
)
def test_outputs_are_labels_and_probabilities(labels, kind):
    outputs = session_of(make_student(labels=labels).to_onnx()).get_outputs()
    assert [(o.name, o.type, o.shape) for o in outputs] == [
        ("label", f"tensor({kind})", ["n"]),
        ("probabilities", "tensor(float)", ["n", len(LABELS[labels])]),
    ]


def test_a_row_that_python_refuses_gets_nan():
    for table, bad in (("numbers", np.nan), ("numbers", np.inf), ("missing", -np.inf)):
        for embedding in (False, True):
            student, X = make_student(table, embedding=embedding), make_table(table)
            X[2, 1] = bad
            with pytest.raises(ValueError, match=r"NaN|infinity"):
                student.predict_proba(X)
            rows = np.isnan(run(student.to_onnx(), X)[1]).all(axis=1)
            assert np.flatnonzero(rows).tolist() == [2]
    student, X = make_student("mixed"), make_table("mixed")
    session = session_of(student.to_onnx())
    feeds = feeds_of(X, session.get_inputs())
    feeds["flag"][4] = np.inf
    assert np.flatnonzero(np.isnan(session.run(None, feeds)[1][:, 0])).tolist() == [4]


def test_the_model_says_what_it_is(tmp_path):
    student = make_student("mixed", labels="str")
    model = student.to_onnx(tmp_path / "student.onnx")
    assert onnx.load(tmp_path / "student.onnx") == model
    assert (tmp_path / "student.onnx").read_bytes() == model.SerializeToString(deterministic=True)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    assert versions == {"": OPSET, "ai.onnx.ml": 3}
    assert model.ir_version == IR_VERSION
    facts = session_of(model).get_modelmeta().custom_metadata_map
    facts = {key: json.loads(value) for key, value in facts.items()}
    assert facts["classes"] == ["no", "so-so", "yes"]
    assert facts["feature_names"] == list(student.feature_names_in_)
    assert facts["inputs"] == [i.name for i in session_of(model).get_inputs()]
    assert facts["skdistill_format"] == 1
    assert set(facts["versions"]) == {"numpy", "onnx", "scikit-learn", "skdistill"}
    assert {entry.domain for entry in make_student().to_onnx().opset_import} == {""}


def test_equal_students_give_equal_models():
    models = [make_student("mixed", embedding=True).to_onnx() for _ in range(2)]
    assert models[0] == models[1]


def test_the_reference_student_is_small():
    X = np.random.default_rng(0).normal(size=(100, 20))
    student = freeze(X, np.array([0, 1]), preprocessor=TabularEncoder(), hidden=(64, 32))
    assert student.to_onnx().ByteSize() < 25_000
    assert student.to_onnx(quantize=True).ByteSize() < 10_000


def test_building_needs_no_torch_and_no_onnxruntime(fresh_process, tmp_path):
    make_student("mixed", embedding=True).save(tmp_path / "student")
    code = """
    import warnings
    warnings.simplefilter("ignore")
    from skdistill import StudentClassifier
    print(len(StudentClassifier.load(sys.argv[1]).to_onnx().graph.output))
    """
    forbidden = ("torch", "skorch", "onnxruntime", "skl2onnx", "pandas")
    hide = """
    import importlib.util
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *a: None if name in %r else find(name, *a)
    """
    assert (
        fresh_process(hide % (forbidden,) + code, tmp_path / "student", forbid=forbidden) == "2\n"
    )


def test_without_onnx_the_error_names_the_extra(fresh_process):
    code = """
    try:
        import skdistill.onnx
    except ImportError as error:
        print(error)
    """
    assert "pip install skdistill[onnx]" in fresh_process(code, forbid=("onnx",))


def test_the_model_runs_with_onnxruntime_and_numpy_alone(tmp_path):
    student, X = make_student("numbers", labels="str"), make_table("numbers")
    student.to_onnx(tmp_path / "student.onnx")
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    code = f"""
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession({str(tmp_path / "student.onnx")!r})
label, proba = session.run(None, {{"X": np.load({str(tmp_path / "X.npy")!r})}})
np.save({str(tmp_path / "proba.npy")!r}, proba)
print(*sorted({{"torch", "sklearn", "skdistill", "onnx"}} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert process.stdout.split() == []
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), student.predict_proba(X), atol=1e-6)


def test_a_wrong_answer_of_the_runtime_is_no_model(monkeypatch, tmp_path):
    monkeypatch.setattr("skdistill.files.onnx._TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match=r"onnxruntime .* differ from the student's by"):
        make_student().to_onnx(tmp_path / "student.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_converted_is_refused_with_the_way_out():
    student = freeze(make_table("numbers"), np.array([0, 1]), preprocessor=StandardScaler())
    with pytest.raises(TypeError, match=r"\(StandardScaler\).*skl2onnx\.to_onnx\(student, X\)"):
        student.to_onnx()
    student = freeze(make_table("numbers"), np.array([0, 2**63], dtype=np.uint64))
    with pytest.raises(ValueError, match="64-bit"):
        student.to_onnx()
    student = freeze(make_table("numbers"), np.array(["a", 1], dtype=object))
    with pytest.raises(TypeError, match="one type; these are int, str"):
        student.to_onnx()


# ---- 8-bit weights


@pytest.mark.parametrize("table", TABLES)
def test_quantised_weights_change_little_and_no_row_depends_on_another(table):
    student = make_student(table, embedding=True, hidden=(32, 16))
    model, X = student.to_onnx(quantize=True), make_table(table)
    proba = run(model, X)[1]
    assert np.abs(proba - student.predict_proba(X)).max() < 0.03
    for rows in (slice(0, 1), slice(5, 9)):
        part = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
        np.testing.assert_allclose(run(model, part)[1], proba[rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("embedding", [None, "piecewise_linear"])
def test_quantising_costs_little_log_loss(embedding):
    X, y = load_digits(return_X_y=True)
    teacher = LogisticRegression(C=0.1, max_iter=300).fit(X[:900] / 16, y[:900])
    options = {**SMALL, "hidden_layer_sizes": (32,), "max_epochs": 20, "augment": None}
    student = DistilledClassifier(
        [make_pipeline(FunctionTransformer(lambda X: X / 16), teacher)],
        numerical_embedding=embedding,
        **options,
    )
    student = student.fit(X[:900], y[:900]).student_
    whole, quantised = (
        log_loss(y[900:], run(student.to_onnx(quantize=q), X[900:])[1]) for q in (False, True)
    )
    assert abs(quantised - whole) < 0.002


# ---- skl2onnx


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X.astype(np.float32).astype(np.float64), np.array(["setosa", "versi", "virgi"])[y], y


@pytest.fixture(scope="module")
def classifier(iris):
    X, names, _ = iris
    return DistilledClassifier([LogisticRegression(max_iter=500).fit(X, names)], **SMALL).fit(
        X, names
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("frozen", [False, True])
def test_skl2onnx_converts_both_classifiers(iris, classifier, frozen, dtype):
    X = iris[0].astype(dtype)
    model = classifier.student_ if frozen else classifier
    converted = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    label, proba = session_of(converted).run(None, {"X": X})
    assert proba.dtype == dtype
    atol = 1e-6 if dtype == np.float32 else 1e-12
    assert_same((label, proba), (model.predict(iris[0]), model.predict_proba(iris[0])), atol=atol)


def test_skl2onnx_maps_classes_to_probabilities(iris, classifier):
    X = iris[0].astype(np.float32)
    expected = classifier.predict_proba(X)
    label, maps = session_of(skl2onnx.to_onnx(classifier, X[:1])).run(None, {"X": X})
    assert list(maps[0]) == ["setosa", "versi", "virgi"]
    np.testing.assert_allclose([list(m.values()) for m in maps], expected, atol=1e-6)
    model = skl2onnx.to_onnx(classifier, X[:1], options={"zipmap": "columns"})
    label, *columns = session_of(model).run(None, {"X": X})
    np.testing.assert_allclose(np.column_stack(columns), expected, atol=1e-6)
    model = skl2onnx.to_onnx(classifier, X[:1], options={"zipmap": False, "nocl": True})
    label, _ = session_of(model).run(None, {"X": X})
    np.testing.assert_array_equal(label, classifier.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize("labels", [np.array([3, 5, 9]), np.array([1.0, 2.0, 3.0])])
def test_skl2onnx_converts_pipelines(iris, labels):
    X, y = iris[0].astype(np.float32), labels[iris[2]]
    student = DistilledClassifier([LogisticRegression()], cv=3, **SMALL)
    pipeline = make_pipeline(StandardScaler(), student).fit(X, y)
    model = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})
    answer = session_of(model).run(None, {"X": X})
    assert_same(answer, (pipeline.predict(X), pipeline.predict_proba(X)))
    assert answer[0].dtype == np.int64
    pipeline = make_pipeline(StandardScaler().fit(X), pipeline[-1].student_)
    model = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})
    assert_same(session_of(model).run(None, {"X": X}), answer)


def test_skl2onnx_takes_frames(iris):
    X = make_table("mixed")[["age", "colour", "label"]].rename(columns={"label": "size"})
    student = freeze(X, np.array(["no", "yes"]), preprocessor=TabularEncoder(), n_bins=3)
    model = skl2onnx.to_onnx(student, X[:1].fillna(""), options={"zipmap": False})
    feeds = {name: X[[name]].to_numpy() for name in ("age", "size")}
    feeds["colour"] = X[["colour"]].fillna("").to_numpy().astype(object)
    answer = session_of(model).run(None, feeds)
    assert_same(answer, (student.predict(X), student.predict_proba(X)))


def test_skl2onnx_takes_a_matrix_of_strings():
    student, X = make_student("texts"), make_table("texts", seed=1, unseen=True)
    model = skl2onnx.to_onnx(student, X[:1].astype(str), options={"zipmap": False})
    answer = session_of(model).run(None, {"X": X})
    assert_same(answer, (student.predict(X), student.predict_proba(X)))
    with pytest.raises(TypeError, match="held strings in fit, and input 'X' holds numbers"):
        skl2onnx.to_onnx(student, np.zeros((1, 2), np.float32))
    with pytest.raises(TypeError, match="held numbers in fit, and input 'X' holds strings"):
        skl2onnx.to_onnx(make_student("numbers"), np.array([["a", "b", "c"]]))


def test_skl2onnx_converts_a_preprocessor_of_the_user(iris):
    X = iris[0].astype(np.float32)
    student = freeze(X, np.array([0, 1, 2]), preprocessor=StandardScaler(), n_bins=3)
    model = skl2onnx.to_onnx(student, X[:1], options={"zipmap": False})
    answer = session_of(model).run(None, {"X": X})
    assert_same(answer, (student.predict(X), student.predict_proba(X)))
    frame = make_table("mixed")[["label", "/shop"]]
    columns = make_column_transformer(
        (StandardScaler(), ["label"]), (OneHotEncoder(sparse_output=False), ["/shop"])
    )
    student = freeze(frame, np.array(["no", "yes"]), preprocessor=columns)
    model = skl2onnx.to_onnx(student, frame[:1], options={"zipmap": False})
    session = session_of(model)
    feeds = {i.name: frame.iloc[:, [j]].to_numpy() for j, i in enumerate(session.get_inputs())}
    answer = session.run(
        None, {n: c if c.dtype == float else c.astype(object) for n, c in feeds.items()}
    )
    assert_same(answer, (student.predict(frame), student.predict_proba(frame)))


def test_skl2onnx_is_told_what_cannot_be():
    X = make_table("numbers").astype(np.float32)
    with pytest.raises(RuntimeError, match="opset 17; target_opset is 15"):
        skl2onnx.to_onnx(make_student(), X[:1], target_opset=15)
    with pytest.raises(ValueError, match="integer and string labels only"):
        skl2onnx.to_onnx(make_student(labels="float"), X[:1], options={"zipmap": False})
    net = DistilledClassifier(
        [LogisticRegression().fit(X, X[:, 0] > 0)],
        student_module=lambda d, k: torch.nn.Sequential(torch.nn.Linear(d, k), torch.nn.Softplus()),
        max_epochs=2,
    ).fit(X, X[:, 0] > 0)
    with pytest.raises(TypeError, match=r"torch\.onnx\.export"):
        skl2onnx.to_onnx(net, X[:1])


def test_the_function_and_the_method_are_one():
    student = make_student()
    assert to_onnx(student) == student.to_onnx()
