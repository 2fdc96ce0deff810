"""Laws of fitting one teacher."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from libraries_zoo import adapt, boosters, each, named, net
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from teachers_zoo import make_rows

from skdistill.teachers.asking import Teacher
from skdistill.teachers.fitting import fit_teacher, seeded
from skdistill.teachers.naming import name_teachers

X, Y = make_rows()
X3, Y3 = make_rows(n_classes=3)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
LABELS = np.array(["ant", "bee", "cat"])


@each(
    [
        LogisticRegression(),
        *boosters(),
        make_pipeline(StandardScaler(), boosters()[0]),
        net(n_classes=3),
    ]
)
@pytest.mark.parametrize("labels", [LABELS, np.array([1, 2, 5]), np.array([-1.0, 0.0, 7.0])])
def test_clones_are_fitted_on_any_labels(teacher, labels):
    entry = named(teacher)
    fitted, own = fit_teacher(entry, X3, labels[Y3], classes=labels, seed=0)
    assert fitted is not teacher
    with pytest.raises(NotFittedError):
        name_teachers([teacher], fitted=True)
    proba = Teacher(replace(entry, estimator=fitted), labels, own_classes=own).ask(X3)
    assert proba.shape == (len(X3), 3)
    if not isinstance(teacher, skorch.NeuralNet):
        assert (labels[proba.argmax(axis=1)] == labels[Y3]).mean() > 0.5


@each([LogisticRegression(), *boosters(), net(n_classes=3)])
def test_a_fold_without_a_class_gives_it_nothing_by_mistake(teacher):
    entry, rows = named(teacher), Y3 != 1
    fitted, own = fit_teacher(entry, X3[rows], LABELS[Y3[rows]], classes=LABELS, seed=0)
    entry = replace(entry, estimator=fitted)
    proba = Teacher(entry, LABELS, own_classes=own, allow_missing=True).ask(X3)
    if not isinstance(teacher, skorch.NeuralNet):  # a net has an output for every class
        assert (proba[:, 1] == 0).all()
        assert proba[Y3 == 0, 0].mean() > proba[Y3 == 2, 0].mean()


def test_binary_skorch_nets_learn_floats():
    teacher = skorch.NeuralNetBinaryClassifier(
        torch.nn.Linear, module__in_features=3, module__out_features=1, max_epochs=1, verbose=0
    )
    fitted, own = fit_teacher(named(teacher), X, LABELS[Y], seed=0)
    assert own.tolist() == ["ant", "bee"]
    assert adapt(fitted, [0, 1]).ask(X).shape == (60, 2)


def test_fitting_a_skorch_net_is_seeded_and_leaves_the_global_state():
    random_state = torch.get_rng_state()
    first, second, other = (
        fit_teacher(named(net()), X, Y, seed=seed)[0].module_.linear.weight for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_an_interrupt_while_a_skorch_net_is_fitted_gets_out():
    class Interrupt(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    teacher = make_pipeline(FunctionTransformer(np.float32), net(callbacks=[Interrupt()]))
    with pytest.raises(KeyboardInterrupt):
        fit_teacher(named(teacher), X, Y)


def test_a_skorch_net_may_stop_early():
    """Its EarlyStopping raises a KeyboardInterrupt too, to end the training."""
    stop = skorch.callbacks.EarlyStopping("train_loss", patience=2, threshold=1e9)
    fitted, _ = fit_teacher(named(net(callbacks=[stop]).set_params(max_epochs=50)), X, Y)
    assert len(fitted.history) < 50


@each(
    [
        LogisticRegression(),
        *boosters(),
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
        make_pipeline(make_pipeline(LogisticRegression())),
    ]
)
def test_weights_reach_the_teacher(teacher):
    weight = np.where(Y == 0, 1.0, 20.0)
    entry = named(teacher)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weighted = fit_teacher(entry, X * [0, 1, 1], Y, weight)[0]
        plain = fit_teacher(entry, X * [0, 1, 1], Y)[0]
    assert weighted.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.1


@each([KNeighborsClassifier(), make_pipeline(StandardScaler(), KNeighborsClassifier())])
def test_a_teacher_without_weights_is_named(teacher):
    words = rf"teacher 0 \({type(teacher).__name__}\) does not take sample_weight"
    with pytest.warns(UserWarning, match=words):
        to_fit = seeded(named(teacher), True, np.random.RandomState(0))
    assert not to_fit.weighted
    unweighted, plain = (fit_teacher(named(teacher), X, Y, w)[0] for w in (np.ones(len(Y)), None))
    np.testing.assert_array_equal(unweighted.predict_proba(X), plain.predict_proba(X))


def test_with_metadata_routing_a_pipeline_decides_itself():
    weight = np.where(Y == 0, 1.0, 20.0)
    with config_context(enable_metadata_routing=True):
        asking = LogisticRegression().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        entry = named(make_pipeline(scaler, asking))
        weighted = fit_teacher(entry, X, Y, weight)[0]
        assert weighted[-1].intercept_ > fit_teacher(entry, X, Y)[0][-1].intercept_ + 0.5
        silent = LogisticRegression().set_fit_request(sample_weight=False)
        with pytest.warns(UserWarning, match="does not take sample_weight"):
            seeded(named(make_pipeline(scaler, silent)), True, np.random.RandomState(0))


def test_a_failed_fit_is_chained():
    with pytest.raises(
        ValueError, match=r"teacher 0 \(RandomForestClassifier\) failed to fit on 60 rows"
    ):
        fit_teacher(named(RandomForestClassifier(max_depth=-3)), X, Y)


def test_early_stopping_is_told_from_an_interrupt_that_comes_while_it_looks():
    class Slow(skorch.callbacks.EarlyStopping):
        def _is_score_improved(self, score):
            raise KeyboardInterrupt

    teacher = net(callbacks=[Slow("train_loss")])
    with pytest.raises(KeyboardInterrupt):
        fit_teacher(named(teacher), X, Y)


def test_seeds_are_drawn_where_none_is_set():
    teacher = make_pipeline(PCA(), PCA(), RandomForestClassifier(random_state=7))
    (entry,) = name_teachers([teacher])

    def seeds(rng):
        to_fit = seeded(entry, True, rng)
        assert to_fit.weighted
        assert to_fit.named.label == entry.label
        params = to_fit.named.estimator.get_params()
        assert params["randomforestclassifier__random_state"] == 7
        return [to_fit.seed, params["pca-1__random_state"], params["pca-2__random_state"]]

    rng = np.random.RandomState(0)
    drawn = seeds(rng)
    assert drawn == seeds(np.random.RandomState(0))
    assert len({*drawn, *seeds(rng)}) == 6
    assert teacher.get_params()["pca-1__random_state"] is None
    (frozen,) = name_teachers([FrozenEstimator(LogisticRegression())])
    kept = seeded(frozen, False, rng)
    assert kept.named is frozen
    assert not kept.weighted
