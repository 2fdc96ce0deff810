"""Laws of hints: what they change, what they leave alone, what they refuse."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from quick_students import Counting, make_data, quick
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.neural_network import MLPClassifier

from skdistill import (
    CallableTeacher,
    DistilledClassifier,
    DistilledClassifierCV,
    Hint,
    StudentClassifier,
    smallest_student,
)

X, Y = make_data(90)
RNG = np.random.default_rng(0)


def fitted(model, y=Y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


MLP = fitted(MLPClassifier((7, 5), solver="lbfgs", alpha=1.0, max_iter=100, random_state=0))
FOREST = fitted(RandomForestClassifier(20, min_samples_leaf=3, random_state=0))
KINDS = ("mse", "cosine", "attention", "relation")


def network(student):
    return student.student_.layers_[0].arrays[0]


def test_clones_and_copies_keep_hints():
    hints = [Hint(layer="net.4", kind="cosine")]
    student = DistilledClassifier([MLP], hints=hints)
    for other in (clone(student), copy.deepcopy(student)):
        assert other.hints == hints


# ---- the classifier


@pytest.mark.parametrize("kind", KINDS)
def test_weight_zero_changes_nothing(kind):
    plain = quick([MLP], hidden_layer_sizes=(7, 5)).fit(X, Y)
    hint = Hint(layer=0, student_layer=0, kind=kind, weight=0)
    off = quick([MLP], hidden_layer_sizes=(7, 5), hints=[hint]).fit(X, Y)
    np.testing.assert_array_equal(network(off), network(plain))
    assert "train_hint_loss" not in off.history_
    on = quick([MLP], hidden_layer_sizes=(7, 5), hints=[replace(hint, weight=1)]).fit(X, Y)
    assert not np.array_equal(network(on), network(plain))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [0, -1])
def test_the_teachers_own_network_has_no_hint_loss(kind, layer):
    def twin(n_features, n_classes):
        modules = []
        for weight, bias in zip(MLP.coefs_, MLP.intercepts_, strict=True):
            linear = torch.nn.Linear(*weight.shape, dtype=torch.float64)
            linear.weight.data, linear.bias.data = torch.tensor(weight.T), torch.tensor(bias)
            modules += [linear, torch.nn.ReLU()]
        # The network of scikit-learn has one output for two classes.
        last = torch.nn.Linear(5, 2, dtype=torch.float64)
        with torch.no_grad():
            last.weight.copy_(torch.stack([0 * modules[-2].weight[0], modules[-2].weight[0]]))
            last.bias.copy_(torch.stack([0 * modules[-2].bias[0], modules[-2].bias[0]]))
        return torch.nn.Sequential(*modules[:-2], last)

    hint = Hint(layer=layer, student_layer="1" if layer == 0 else "3", kind=kind)
    params = {"preprocessor": None, "student_module": twin, "max_epochs": 1, "alpha": 1.0}
    student = quick([MLP], hints=[hint], dtype="float64", **params).fit(X, Y)
    assert student.history_["train_hint_loss"][0] < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_the_student_comes_to_match_the_layer(kind):
    hint = Hint(layer=0, student_layer=0, kind=kind)
    student = quick([MLP], hidden_layer_sizes=(7,), max_epochs=200, hints=[hint]).fit(X, Y)
    losses = student.history_["train_hint_loss"]
    assert losses[-1] < 0.3 * losses[0]


def test_history_adds_up():
    hints = [Hint(layer=0, weight=0.3), Hint(layer=1, kind="relation", weight=2)]
    student = quick([MLP], hints=hints, alpha=0.6).fit(X, Y)
    h = student.history_
    total = 0.6 * h["train_soft_loss"] + 0.4 * h["train_hard_loss"] + h["train_hint_loss"]
    np.testing.assert_allclose(h["train_loss"], total, rtol=1e-6)


def test_projections_are_trained_and_are_not_shipped(tmp_path):
    hint = Hint(layer=0, student_layer=0)
    student = quick([MLP], hidden_layer_sizes=(6,), hints=[hint]).fit(X, Y)
    (term,) = student.net_.criterion_.hints
    assert term.projection.weight.shape == (7, 6)
    longer = quick([MLP], hidden_layer_sizes=(6,), hints=[hint], max_epochs=31).fit(X, Y)
    (other,) = longer.net_.criterion_.hints
    assert not torch.equal(term.projection.weight, other.projection.weight)
    plain = quick([MLP], hidden_layer_sizes=(6,)).fit(X, Y)
    assert student.student_.n_parameters_ == plain.student_.n_parameters_
    assert b"projection" not in pickle.dumps(student)
    student.student_.save(tmp_path / "student.safetensors")
    loaded = StudentClassifier.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))


def test_onnx_holds_no_projection():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    student = quick([MLP], hidden_layer_sizes=(6,), hints=[Hint(layer=0, student_layer=0)])
    model = student.fit(X, Y).student_.to_onnx()
    session = runtime.InferenceSession(model.SerializeToString())
    (name,) = [i.name for i in session.get_inputs()]
    proba = session.run(None, {name: X.astype(np.float32)})[1]
    np.testing.assert_allclose(proba, student.predict_proba(X), atol=1e-5)
    shapes = [tuple(i.dims) for i in model.graph.initializer]
    assert (6, 7) not in shapes
    assert (7, 6) not in shapes


def test_a_lean_pickle_leaves_hints_behind():
    student = quick([MLP], hints=[Hint(layer=0)]).fit(X, Y)
    lean = pickle.loads(pickle.dumps(student))
    np.testing.assert_array_equal(lean.predict_proba(X), student.predict_proba(X))
    with pytest.raises(ValueError, match=r"value of hints .* was left behind"):
        lean.set_params(teachers=[MLP]).fit(X, Y)
    again = lean.set_params(hints=[Hint(layer=0)]).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), student.predict_proba(X))
    student.keep_teachers = True
    assert pickle.loads(pickle.dumps(student)).hints == [Hint(layer=0)]


def test_several_hints_on_one_layer_and_of_several_teachers():
    hints = [
        Hint("mlpclassifier", 0, 0, "mse"),
        Hint("mlpclassifier", 1, 1, "cosine"),
        Hint("randomforestclassifier", student_layer=1, kind="relation"),
    ]
    student = quick([MLP, FOREST], hidden_layer_sizes=(7, 5), hints=hints, max_epochs=200)
    losses = student.fit(X, Y).history_["train_hint_loss"]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_alpha_does_not_touch_hints(alpha):
    student = quick([MLP], hints=[Hint(layer=0)], alpha=alpha, max_epochs=1).fit(X, Y)
    other = quick([MLP], hints=[Hint(layer=0)], alpha=0.3, max_epochs=1).fit(X, Y)
    np.testing.assert_allclose(
        student.history_["train_hint_loss"], other.history_["train_hint_loss"]
    )


def first_hint_loss(**rows):
    """Return the mean over all rows, at the weights that training begins with."""
    augment = rows.pop("augment", None)
    hint = Hint(layer=0, student_layer=0)
    student = quick([MLP], hints=[hint], augment=augment, n_synthetic=90, max_epochs=1)
    return student.set_params(batch_size=1000).fit(X, Y, **rows).history_["train_hint_loss"][0]


def test_hints_reach_unlabelled_and_synthetic_rows():
    def again(table, n, **kwargs):
        return table[:n]

    def elsewhere(table, n, **kwargs):
        return table[:n] + 3

    alone = first_hint_loss()
    assert first_hint_loss(X_unlabeled=X) == pytest.approx(alone)
    assert first_hint_loss(augment=again) == pytest.approx(alone)
    assert first_hint_loss(X_unlabeled=X + 3) != pytest.approx(alone)
    assert first_hint_loss(augment=elsewhere) != pytest.approx(alone)


def test_weights_act_as_repeated_rows():
    weight = RNG.integers(0, 3, size=90)
    rows = np.repeat(np.arange(90), weight)
    hints = [Hint(layer=0), Hint(layer=1, kind="relation")]
    settings = {"hints": hints, "numerical_embedding": None, "dtype": "float64", "dropout": 0}
    weighed = quick([MLP], **settings).fit(X, Y, sample_weight=weight)
    repeated = quick([MLP], **settings).fit(X[rows], Y[rows])
    np.testing.assert_allclose(
        weighed.predict_proba(X), repeated.predict_proba(X), rtol=1e-4, atol=1e-5
    )


def test_without_labels():
    student = quick([MLP], hints=[Hint(layer=0)]).fit(X)
    assert student.history_["train_hint_loss"][-1] < student.history_["train_hint_loss"][0]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [("auto", "layer 'body'; its layers are 0, 1, by number"), ((), "has no hidden layers")],
)
def test_a_layer_that_the_student_has_not_is_refused_before_a_teacher_is_asked(sizes, words):
    def ask(rows):
        raise AssertionError

    hint = Hint(layer=0, student_layer="body")
    student = quick([CallableTeacher(ask, ["no", "yes"])], hidden_layer_sizes=sizes, hints=[hint])
    with pytest.raises(ValueError, match=words):
        student.fit(X, Y)


@pytest.mark.parametrize("kind", ["mse", "cosine", "attention"])
def test_kinds_that_need_one_teacher_are_refused_under_cross_fitting(kind):
    teacher = MLPClassifier((8,), max_iter=20, random_state=0)
    student = quick([teacher], cv=3, hints=[Hint(layer=0, kind=kind)])
    words = f"hints.0. of kind='{kind}' needs one teacher for all rows, and cv=3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=words):
            student.fit(X, Y)
    assert not hasattr(student, "student_")


@pytest.mark.parametrize("teachers", [[ExtraTreesClassifier(9, max_depth=4)], None])
def test_relation_works_under_cross_fitting(teachers):
    hints = [Hint(kind="relation")]
    student = quick(teachers, cv=3, hints=hints, max_epochs=100).fit(X, Y)
    losses = student.history_["train_hint_loss"]
    assert losses[-1] < 0.8 * losses[0]


class Watched(RandomForestClassifier):
    """A forest that is asked for its leaves about rows that it did not see, and notes which."""

    asked = ()

    def fit(self, X, y, sample_weight=None):
        self.seen_ = {row.tobytes() for row in X}
        return super().fit(X, y, sample_weight)

    def apply(self, X):
        rows = [row.tobytes() for row in X]
        assert not self.seen_ & set(rows)
        type(self).asked += tuple(rows)
        return super().apply(X)


@pytest.mark.parametrize("alpha", [0.0, 0.9])
@pytest.mark.parametrize(
    "cv", [3, ShuffleSplit(1, test_size=0.3, random_state=0)], ids=["folds", "one split"]
)
def test_a_row_is_compared_by_the_clone_that_did_not_see_it(cv, alpha):
    Watched.asked = ()
    student = quick([Watched(5, random_state=0)], cv=cv, alpha=alpha)
    student.set_params(hints=[Hint(kind="relation")], calibration=None).fit(X, Y)
    assert len(set(Watched.asked)) == (90 if cv == 3 else 27)


@pytest.mark.parametrize("kind", ["mse", "cosine", "relation"])
def test_a_teacher_that_is_not_refitted_gives_any_hint_under_cross_fitting(kind):
    hint = Hint(teacher=-1, layer=0, student_layer=0, kind=kind)
    teachers = [RandomForestClassifier(5, random_state=0), FrozenEstimator(MLP)]
    with pytest.warns(UserWarning, match="not out-of-fold"):
        student = quick(teachers, cv=3, hints=[hint]).fit(X, Y)
    assert student.history_["train_hint_loss"][-1] < student.history_["train_hint_loss"][0]


def test_a_search_that_is_fitted_inside_tells_the_layers_of_its_best_student():
    inner = DistilledClassifierCV(
        quick([FrozenEstimator(FOREST)], max_epochs=2), temperatures=[1.0], alphas=[0.9], cv=2
    )
    student = quick([inner], cv=2, max_epochs=2, hints=[Hint(layer=0, kind="relation")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        student.fit(X, Y)
    assert np.isfinite(student.history_["train_hint_loss"]).all()


def test_units_are_refused_before_the_clones_are_fitted():
    class Unfit(MLPClassifier):
        def fit(self, X, y):
            raise AssertionError

    student = quick([Unfit((8,))], cv=3, hints=[Hint(layer=0, kind="attention")])
    with pytest.raises(ValueError, match="one teacher for all rows"):
        student.fit(X, Y)


def test_attention_over_places_works_under_cross_fitting():
    skorch = pytest.importorskip("skorch")

    def convolution(n_classes=2):
        return torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 3)),
            torch.nn.Conv1d(1, 4, 2),
            torch.nn.Flatten(),
            torch.nn.Linear(8, n_classes),
        )

    torch.manual_seed(0)
    teacher = skorch.NeuralNetClassifier(
        convolution, criterion=torch.nn.CrossEntropyLoss, train_split=None, max_epochs=2, verbose=0
    )
    hint = Hint(layer="1", student_layer="1", kind="attention")
    settings = {"student_module": lambda d, k: convolution(k), "preprocessor": None}
    student = quick([teacher], cv=2, hints=[hint], **settings).fit(X.astype(np.float32), Y)
    assert student.history_["train_hint_loss"][-1] < student.history_["train_hint_loss"][0]


@pytest.mark.parametrize(
    ("params", "fit", "words"),
    [
        ({"cv": "oob"}, {}, "not offered with cv='oob'"),
        ({"cv": 3}, {"teacher_proba": np.full((90, 2), 0.5)}, "with teacher_proba none is fitted"),
    ],
)
def test_what_cannot_be_compared_out_of_fold_is_refused(params, fit, words):
    student = quick([RandomForestClassifier(9)], hints=[Hint(kind="relation")], **params)
    with pytest.raises(ValueError, match=words):
        student.fit(X, Y, **fit)


def test_given_probabilities_go_with_hints_of_fitted_teachers():
    proba = MLP.predict_proba(X)
    given = quick([MLP], hints=[Hint(layer=0)]).fit(X, Y, teacher_proba=proba)
    asked = quick([MLP], hints=[Hint(layer=0)]).fit(X, Y)
    np.testing.assert_allclose(given.predict_proba(X), asked.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("own", [False, True])
def test_training_goes_on_without_hints_and_their_projections(loss, own):
    module = {"student_module": Told} if own else {}
    hint = Hint(layer=0, student_layer="body" if own else 0)
    student = quick([MLP], hints=[hint], loss=loss, **module).fit(X, Y)
    student.set_params(hints=None).partial_fit(X, Y)
    assert [p.shape for p in student.net_.optimizer_.param_groups[0]["params"]] == [
        p.shape for p in student.net_.module_.parameters()
    ]
    student.partial_fit(X, Y)
    assert np.isfinite(student.predict_proba(X)).all()


def test_training_piece_by_piece_refuses_hints():
    student = quick([MLP], hints=[Hint(layer=0)])
    with pytest.raises(ValueError, match="partial_fit does not support hints"):
        student.partial_fit(X, Y)
    with pytest.raises(ValueError, match="fit_stream does not support hints"):
        student.fit_stream([(X, MLP.predict_proba(X), Y)])
    student.set_params(hints=[Hint(layer=0, weight=0)]).partial_fit(X, Y)


# ---- a network of one's own


class Told(torch.nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(n_features, 6), torch.nn.ReLU(inplace=True))
        self.head = torch.nn.Linear(6, n_classes)

    def forward(self, rows):
        h = self.body(rows)
        return self.head(h), {"body_out": h}


@pytest.mark.parametrize("layer", ["body_out", "body", "body.0", "body.1"])
def test_layers_of_a_students_own_module_go_by_key_or_by_name(layer):
    hint = Hint(layer=0, student_layer=layer)
    student = quick([MLP], student_module=Told, hints=[hint], max_epochs=150).fit(X, Y)
    losses = student.history_["train_hint_loss"]
    assert losses[-1] < 0.6 * losses[0]
    assert not any(part._forward_hooks for part in student.net_.module_.modules())
    assert student.predict_proba(X).shape == (90, 2)


def test_a_student_layer_that_is_called_twice_is_no_layer():
    class Shared(torch.nn.Module):
        def __init__(self, d, k):
            super().__init__()
            self.a, self.b = torch.nn.Linear(d, 6), torch.nn.Linear(6, 6)
            self.act, self.head = torch.nn.ReLU(), torch.nn.Linear(6, k)

        def forward(self, rows):
            return self.head(self.act(self.b(self.act(self.a(rows)))))

    student = quick([MLP], student_module=Shared, hints=[Hint(layer=0, student_layer="act")])
    with pytest.raises(ValueError, match="layer 'act'; its layers are a, b, head, by name"):
        student.fit(X, Y)


def test_a_layer_that_is_missing_in_training_is_named():
    class Shy(Told):
        def forward(self, rows):
            logits, hidden = super().forward(rows)
            return (logits, {}) if self.training else (logits, hidden)

    student = quick([MLP], student_module=Shy, hints=[Hint(layer=0, student_layer="body_out")])
    with pytest.raises(ValueError, match="no layer 'body_out' in training"):
        student.fit(X, Y)


def test_a_sequential_module_with_hints_is_frozen():
    def factory(d, k):
        return torch.nn.Sequential(torch.nn.Linear(d, 6), torch.nn.ReLU(), torch.nn.Linear(6, k))

    hint = Hint(layer=0, student_layer="1")
    student = quick([MLP], student_module=factory, hints=[hint]).fit(X, Y)
    assert isinstance(student.student_, StudentClassifier)
    assert student.student_.n_parameters_ == 3 * 6 + 6 + 6 * 2 + 2


def test_attention_between_convolutions_of_other_sizes():
    def make(channels, width, k):
        return torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 8)),
            torch.nn.Conv1d(1, channels, width),
            torch.nn.Flatten(),
            torch.nn.Linear(channels * (9 - width), k),
        )

    rows, label = make_data(60)
    rows = np.hstack([rows, rows, rows[:, :2]])
    torch.manual_seed(0)
    hint = Hint(layer="1", student_layer="1", kind="attention")
    student = quick(
        [make(6, 3, 2)],
        hints=[hint],
        student_module=lambda d, k: make(2, 5, k),
        preprocessor=None,
        alpha=1.0,
        max_epochs=200,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = student.fit(rows, label).history_["train_hint_loss"]
    assert losses[-1] < 0.5 * losses[0]


# ---- searches


def test_a_grid_over_hints():
    grid = {"hints": [None, [Hint(layer=0, weight=0.1)], [Hint(layer=0, weight=1.0)]]}
    search = GridSearchCV(quick([MLP]), grid, cv=2).fit(X, Y)
    assert search.best_params_["hints"] in grid["hints"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_the_search_trains_candidates_with_hints_one_by_one():
    from sklearn.model_selection import StratifiedKFold

    student = quick([MLP], hints=[Hint(layer=0)], dtype="float64")
    cv = StratifiedKFold(2)
    grid = {"alpha": [0.0, 0.5], "temperature": [1.0, 2.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = DistilledClassifierCV(
            student, temperatures=grid["temperature"], alphas=grid["alpha"], cv=cv
        ).fit(X, Y)
        theirs = GridSearchCV(student, grid, cv=cv).fit(X, Y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-6
    )
    lean = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(lean.predict(X), ours.predict(X))


def test_the_search_asks_the_teachers_once_a_fold():
    Counting.n_fits = 0
    teachers = [Counting(), FrozenEstimator(MLP)]
    student = quick(teachers, cv=2, hints=[Hint(teacher=1, layer=0)], max_epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        DistilledClassifierCV(
            student, temperatures=[1.0, 2.0], alphas=[0.4, 0.8], cv=2, refit=False
        ).fit(X, Y)
    assert Counting.n_fits == 2 * 2


def test_clones_in_threads_do_not_hear_each_other():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    student = quick([net], hints=[Hint(layer="1")], max_epochs=2, alpha=1.0)
    halves = [X[i::3] for i in range(3)] * 4
    with ThreadPoolExecutor(4) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(pool.map(lambda rows: clone(student).fit(rows, Y[: len(rows)]), halves))
    for i, fit in enumerate(found):
        np.testing.assert_array_equal(network(fit), network(found[i % 3]))


def test_the_ladder_of_sizes_keeps_to_the_layers_that_hints_name():
    student = quick([FOREST], hints=[Hint(kind="relation")], hidden_layer_sizes=(64,), max_epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = smallest_student(student, X, Y, tolerance=0.1, cv=2)
    assert () not in [row.hidden_layer_sizes for row in found.rows]
    with pytest.raises(ValueError, match=r"layer -1, which hidden_layer_sizes=\(\) has not"):
        smallest_student(student, X, Y, tolerance=0.1, sizes=[(8,), ()])


def test_metadata_routing_leaves_hints_alone():
    with config_context(enable_metadata_routing=True):
        student = quick([MLP], hints=[Hint(layer=0)]).set_fit_request(sample_weight=True)
        routed = student.fit(X, Y, sample_weight=np.ones(90))
    plain = quick([MLP], hints=[Hint(layer=0)]).fit(X, Y)
    np.testing.assert_array_equal(network(routed), network(plain))
