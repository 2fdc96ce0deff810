"""What teachers tell of their layers, against what their parts compute."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier

from skdistill import CallableTeacher, Hint, TorchTeacher
from skdistill.teachers.asking import Teacher
from skdistill.teachers.hidden import answers_of_folds, hidden_answers
from skdistill.teachers.hints import ActiveHint
from skdistill.teachers.naming import name_teachers
from tests.quick_students import make_data, quick
from tests.teachers_zoo import Answer

X, LABEL = make_data(80, labels=(0, 1))


def ask(teacher, layer=None, rows=X, **hint):
    (named,) = name_teachers([teacher])
    adapter = Teacher(named, np.array([0, 1]))
    return hidden_answers(adapter, ActiveHint(Hint(layer=layer, **hint), 0, "hints[0]"), rows)


def make_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5),
        torch.nn.ReLU(inplace=True),
        torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh()),
        torch.nn.Linear(4, 2),
    )


@pytest.mark.parametrize("layer", ["0", "1", "2", "2.0"])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_a_module_tells_any_of_its_parts(layer, batch_size):
    net = make_net()
    h = torch.tensor(X, dtype=torch.float32)
    with torch.no_grad():
        expected = {"0": net[0](h)}
        # A part that works in place must not change what was heard before it.
        expected["1"] = expected["0"].clone().relu()
        expected["2.0"] = net[2][0](expected["1"])
        expected["2"] = net[2](expected["1"])
    found = ask(TorchTeacher(net, [0, 1], batch_size=batch_size), layer)
    np.testing.assert_allclose(found, expected[layer], atol=1e-6)
    assert not any(part._forward_hooks for part in net.modules())


def test_hooks_are_removed_when_the_module_fails():
    def explode(h):
        raise RuntimeError("boom")

    net = torch.nn.Sequential(torch.nn.Linear(3, 2), Answer(explode))
    with pytest.raises(ValueError, match="boom"):
        ask(TorchTeacher(net, [0, 1]), "0")
    assert not any(part._forward_hooks for part in net.modules())


def test_a_layer_that_is_called_twice_is_refused():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

        def forward(self, h):
            return self.outer(self.inner(self.inner(h)))

    with pytest.raises(ValueError, match=r"'inner' gave 160 rows for 80.*called once"):
        ask(TorchTeacher(Twice(), [0, 1]), "inner")


def test_values_that_are_not_finite_are_refused():
    net = torch.nn.Sequential(Answer(lambda h: h * torch.inf), Answer(lambda h: torch.ones(80, 2)))
    with pytest.raises(ValueError, match=r"TorchTeacher.*layer '0' that are not finite"):
        ask(TorchTeacher(net, [0, 1]), "0")


def test_a_skorch_net_tells_the_parts_of_its_module():
    loss = torch.nn.CrossEntropyLoss
    net = NeuralNetClassifier(make_net(), criterion=loss, train_split=None, max_epochs=1, verbose=0)
    net.fit(X.astype(np.float32), LABEL)
    with torch.no_grad():
        expected = net.module_[0](torch.tensor(X, dtype=torch.float32))
    np.testing.assert_allclose(ask(net, "0"), expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("layer", [0, 1, -1, -2])
def test_an_mlp_tells_its_hidden_layers(activation, layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPClassifier((6, 4), activation=activation, max_iter=3, random_state=0)
        teacher = make_pipeline(StandardScaler(), net).fit(X, LABEL)
    function = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "identity": lambda z: z}
    function["logistic"] = lambda z: 1 / (1 + np.exp(-z))
    h, layers = StandardScaler().fit_transform(X), []
    for weight, bias in zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True):
        h = function[activation](h @ weight + bias)
        layers.append(h)
    np.testing.assert_allclose(ask(teacher, layer), layers[layer], rtol=1e-5, atol=1e-6)


def test_columns_of_a_frame_are_brought_in_order():
    frame = pd.DataFrame(X, columns=list("abc"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPClassifier((6,), max_iter=3, random_state=0).fit(frame, LABEL)
    np.testing.assert_array_equal(ask(net, 0, frame[["c", "a", "b"]]), ask(net, 0, frame))


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_an_mlp_takes_what_scikit_learn_takes(activation):
    frame = pd.DataFrame(X, columns=list("abc")).assign(b=X[:, 1] > 0)
    frame["c"] = frame["c"].astype("Float64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPClassifier((6,), activation=activation, max_iter=3, random_state=0)
        net.fit(frame, LABEL)
    numbers = frame.to_numpy(dtype=float)
    h = numbers @ net.coefs_[0] + net.intercepts_[0]
    expected = np.tanh(h) if activation == "tanh" else 1 / (1 + np.exp(-h))
    np.testing.assert_allclose(ask(net, 0, frame), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ask(net, 0, csr_matrix(numbers)), expected, rtol=1e-5, atol=1e-6)


def test_a_students_own_module_is_a_teachers_module():
    base = quick([LogisticRegression().fit(X, LABEL)], student_module=Told).fit(X, LABEL)
    for who in (base, base.student_):
        assert ask(who, "body").shape == (len(X), 6)
    with pytest.raises(ValueError, match=r"its layers are body, body.0, body.1, head"):
        ask(base, 0)


class Told(torch.nn.Module):
    def __init__(self, d, k):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(d, 6), torch.nn.ReLU())
        self.head = torch.nn.Linear(6, k)

    def forward(self, rows):
        return self.head(self.body(rows))


def test_tied_modules_have_both_names_and_are_called_twice():
    net = make_net()
    net.append(torch.nn.Identity())
    net[4] = net[1]
    with pytest.raises(ValueError, match="gave 160 rows"):
        ask(TorchTeacher(net, [0, 1]), "4")


def test_the_axis_of_the_channels_is_checked():
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 3)),
        torch.nn.Conv1d(1, 6, 2),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 2),
    )
    for axis in (3, -3):
        with pytest.raises(ValueError, match=f"channel_axis={axis} is no axis of the channels"):
            ask(TorchTeacher(net, [0, 1]), "1", kind="attention", channel_axis=axis)


def test_a_failure_names_the_teacher():
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(booster="gblinear").fit(X, LABEL)
    with pytest.raises(ValueError, match=r"teacher 0 \(XGBClassifier\) failed to tell its layer"):
        ask(model, kind="relation")


def test_a_student_of_ours_tells_its_hidden_layers():
    teacher = LogisticRegression().fit(X, LABEL)
    student = quick([teacher], hidden_layer_sizes=(8, 6)).fit(X, LABEL)
    module = student.net_.module_
    with torch.no_grad():
        Z = torch.tensor(student.student_.preprocessor_.transform(X), dtype=module.theta.dtype)
        h, layers = module.embed(Z), []
        for weight, bias in module.pairs(module.theta)[:-1]:
            h = torch.relu(h @ weight + bias)
            layers.append(h)
    for layer in (0, 1, -1):
        for who in (student, student.student_, FrozenEstimator(student)):
            np.testing.assert_allclose(ask(who, layer), layers[layer], atol=1e-5)


@pytest.mark.parametrize(
    "forest",
    [
        DecisionTreeClassifier(max_depth=3),
        RandomForestClassifier(7, max_depth=3),
        ExtraTreesClassifier(120, max_depth=3),
        GradientBoostingClassifier(n_estimators=4),
    ],
)
def test_trees_tell_their_leaves(forest):
    forest.set_params(random_state=0).fit(X, LABEL)
    leaves = forest.apply(X).reshape(len(X), -1)
    found = ask(forest, kind="relation")
    assert found.shape == (len(X), min(leaves.shape[1], 100))
    chosen = np.linspace(0, leaves.shape[1] - 1, found.shape[1]).astype(int)
    np.testing.assert_array_equal(found, leaves[:, chosen])


@pytest.mark.parametrize("package", ["xgboost", "lightgbm", "catboost"])
def test_boosters_tell_their_leaves(package):
    made = pytest.importorskip(package)
    booster = {
        "xgboost": lambda: made.XGBClassifier(n_estimators=4, max_depth=2),
        "lightgbm": lambda: made.LGBMClassifier(n_estimators=4, verbose=-1),
        "catboost": lambda: made.CatBoostClassifier(n_estimators=4, depth=2, verbose=0),
    }[package]()
    booster.fit(X, LABEL)
    leaves = ask(booster, kind="relation")
    assert leaves.shape == (len(X), 4)
    # Rows that share every leaf get the same answer.
    proba = booster.predict_proba(X)
    for i in range(len(X)):
        same = (leaves == leaves[i]).all(axis=1)
        np.testing.assert_allclose(proba[same], np.tile(proba[i], (same.sum(), 1)), rtol=1e-5)


def test_many_rows_are_asked_in_blocks(monkeypatch):
    forest = RandomForestClassifier(3, random_state=0).fit(X, LABEL)
    whole = ask(forest, kind="relation")
    monkeypatch.setattr("skdistill.teachers.hidden._BLOCK_ROWS", 7)
    np.testing.assert_array_equal(ask(forest, kind="relation"), whole)


def test_an_attention_map_is_kept_in_place_of_the_layer():
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 3)),
        torch.nn.Conv1d(1, 6, 2),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 2),
    )
    layer = ask(TorchTeacher(net, [0, 1]), "1")
    assert layer.shape == (len(X), 6, 2)
    found = ask(TorchTeacher(net, [0, 1]), "1", kind="attention")
    np.testing.assert_allclose(found, np.square(layer).mean(axis=1), rtol=1e-5)


def test_folds_answer_for_their_own_rows():
    trees = [DecisionTreeClassifier(random_state=i).fit(X[i::2], LABEL[i::2]) for i in range(2)]
    adapters = [Teacher(name_teachers([tree])[0], np.array([0, 1])) for tree in trees]
    fold = np.arange(len(X)) % 2
    fold[5] = -1
    asked = ActiveHint(Hint(kind="relation"), 0, "hints[0]")
    found = answers_of_folds(adapters, fold, asked, X)
    np.testing.assert_array_equal(found.space, fold)
    for i, tree in enumerate(trees):
        own = fold == i
        np.testing.assert_array_equal(found.values[own, 0], tree.apply(X[own]))


def test_folds_with_other_numbers_of_trees_are_compared_in_as_many():
    forests = [RandomForestClassifier(n, random_state=0).fit(X, LABEL) for n in (5, 9)]
    adapters = [Teacher(name_teachers([f])[0], np.array([0, 1])) for f in forests]
    asked = ActiveHint(Hint(kind="relation"), 0, "hints[0]")
    found = answers_of_folds(adapters, np.arange(len(X)) % 2, asked, X)
    assert found.values.shape == (len(X), 5)
    np.testing.assert_array_equal(found.values[1::2], forests[1].apply(X[1::2])[:, ::2])


MLP = MLPClassifier((6, 4))
REFUSED = [
    (TorchTeacher(make_net(), [0, 1]), {"layer": "9"}, r"layer '9'.*layers are 0, 1, 2, 2.0, 2.1"),
    (
        TorchTeacher(make_net(), [0, 1]),
        {"kind": "relation"},
        "layer None.*dotted names",
    ),
    (MLP, {"layer": 2}, r"layer 2; its hidden layers are 0 \(6 units\), 1 \(4 units\), by number"),
    (MLP, {"layer": "0"}, "layer '0'; its hidden layers"),
    (HistGradientBoostingClassifier(), {"kind": "relation"}, "HistGradientBoosting.*shows none"),
    (LogisticRegression(), {"layer": 0}, "LogisticRegression shows none"),
    (CallableTeacher(min, [0, 1]), {"layer": 0}, "CallableTeacher shows none"),
    (RandomForestClassifier(3), {"layer": 1}, "leaves only: layer=None with kind='relation'"),
    (RandomForestClassifier(3), {"layer": 0, "kind": "relation"}, "leaves only"),
]


@pytest.mark.parametrize(("teacher", "hint", "words"), REFUSED)
def test_layers_that_there_are_not_are_refused_and_those_there_are_named(teacher, hint, words):
    if not isinstance(teacher, TorchTeacher | CallableTeacher):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            teacher = teacher.set_params(**({"max_iter": 2} if "MLP" in repr(teacher) else {}))
            teacher.fit(X, LABEL)
    with pytest.raises(ValueError, match=words):
        ask(teacher, **hint)
