"""Laws of the arrays a student is trained on: weights, preparation, the rows held out."""

import numpy as np
import pandas as pd
import pytest
from quick_students import make_data
from sklearn.preprocessing import StandardScaler

from skdistill.tables import TabularEncoder, read_rows
from skdistill.teachers.pooling import SoftTargets
from skdistill.teachers.sources import TransferRows
from skdistill.training.data import build_training_set

X, Y = make_data(labels=("ant", "bee", "cat"))
WEIGHT = np.arange(len(X)) % 4 + 0.0
PROBA = np.random.default_rng(0).dirichlet(np.ones(3), size=len(X))
NOBODY = np.zeros(len(X), dtype=bool)


def targets(known=True):
    return SoftTargets(PROBA, np.broadcast_to(known, len(X)))


def build(rows=None, soft=None, extra=(), held=NOBODY, preprocessor="auto", n_bins=4):
    rows = read_rows(X, Y, WEIGHT) if rows is None else rows
    soft = targets() if soft is None else soft
    return build_training_set(rows, soft, extra, held, preprocessor=preprocessor, n_bins=n_bins)


def test_rows_of_weight_zero_are_left_out():
    training, used = build(), WEIGHT > 0
    assert len(training.X) == training.n_fit == used.sum()
    np.testing.assert_array_equal(training.proba, PROBA[used])
    np.testing.assert_array_equal(training.classes[training.label], Y[used])
    np.testing.assert_allclose(training.X, TabularEncoder().fit(X, None, WEIGHT).transform(X)[used])


@pytest.mark.parametrize("known", [True, np.arange(len(X)) % 3 > 0], ids=["all", "some"])
def test_means_over_all_rows_are_weighted_means_over_the_rows_that_carry_a_term(known):
    extra = [TransferRows(X[:7], PROBA[:7], shapes_inputs=True)]
    training = build(soft=targets(known), extra=extra)
    used = WEIGHT > 0
    loss = np.random.default_rng(1).random(len(X) + 7)
    rows = np.concatenate([np.flatnonzero(used), len(X) + np.arange(7)])
    soft_rows = np.concatenate([WEIGHT * known, np.full(7, WEIGHT[used].mean())])
    np.testing.assert_allclose(
        (training.soft_weight * loss[rows]).mean(), np.average(loss, weights=soft_rows)
    )
    np.testing.assert_allclose(
        (training.hard_weight * loss[rows]).mean(), np.average(loss[: len(X)], weights=WEIGHT)
    )
    np.testing.assert_array_equal(training.proba[-7:], PROBA[:7])
    assert not training.hard_weight[-7:].any()


def test_without_teachers_no_row_has_a_soft_term():
    rows = read_rows(X, Y)
    training = build_training_set(rows, None, [], NOBODY, preprocessor="auto", n_bins=None)
    assert not training.soft_weight.any()
    np.testing.assert_array_equal(training.hard_weight, 1)
    assert training.encoding is None


def test_without_labels_no_row_has_a_hard_term():
    rows = read_rows(X)
    rows.classes = np.array(["ant", "bee", "cat"])
    training = build(rows)
    assert not training.hard_weight.any()
    np.testing.assert_array_equal(training.soft_weight, 1)


def test_real_extra_rows_shape_the_inputs_and_synthetic_ones_do_not():
    def encoder(shapes_inputs):
        extra = [TransferRows(X + 5, PROBA, shapes_inputs=shapes_inputs)]
        training = build(read_rows(X, Y), extra=extra)
        return training.preprocessor, training.encoding

    (real, bins), (synthetic, same_bins) = encoder(True), encoder(False)
    np.testing.assert_allclose(real.mean_, X.mean(axis=0) + 2.5)
    np.testing.assert_allclose(synthetic.mean_, X.mean(axis=0))
    alone = build(read_rows(X, Y))
    np.testing.assert_array_equal(same_bins.slope_, alone.encoding.slope_)
    assert not np.array_equal(bins.offset_, same_bins.offset_)


def test_preprocessors():
    assert build(preprocessor=None).preprocessor is None
    np.testing.assert_array_equal(build(preprocessor=None).X, X[WEIGHT > 0])
    scaler = StandardScaler()
    training = build(preprocessor=scaler)
    assert not hasattr(scaler, "mean_")
    expected = StandardScaler().fit(X, sample_weight=WEIGHT)
    np.testing.assert_allclose(training.X, expected.transform(X)[WEIGHT > 0], atol=1e-12)


def test_rows_held_out_are_stratified_and_carry_true_labels():
    rows = read_rows(X, Y, WEIGHT)
    held = rows.hold_out(0.2, np.random.RandomState(0))
    used = WEIGHT > 0
    assert held.sum() == round(0.2 * used.sum())
    assert not held[~used].any()
    counts = np.bincount(rows.code[held])
    assert counts.max() - counts.min() <= 2
    training = build(rows, held=held)
    assert len(training.X) == (used & ~held).sum()
    np.testing.assert_array_equal(training.held_out.label, rows.code[held])
    np.testing.assert_array_equal(training.held_out.weight, WEIGHT[held])
    np.testing.assert_array_equal(training.held_out.X, training.preprocessor.transform(X[held]))


@pytest.mark.parametrize("kind", ["numbers", "objects", "frame"])
def test_the_only_row_with_a_missing_value_is_trained_on(kind):
    for seed in range(20):
        table = X.copy()
        table[seed, 1] = np.nan
        if kind != "numbers":
            table = table.astype(object)
        if kind == "frame":
            table = pd.DataFrame(table, columns=["a", "b", "c"])
        held = read_rows(table, Y).hold_out(0.4, np.random.RandomState(seed))
        assert not held[seed]
        assert held.sum() == 36


def test_rare_classes_are_held_out_at_random():
    y = Y.copy()
    y[0] = "dog"
    held = read_rows(X, y).hold_out(0.1, np.random.RandomState(0))
    assert held.sum() == 9
    few = read_rows(X[:4], np.array([0, 1, 0, 1])).hold_out(0.01, np.random.RandomState(0))
    assert few.sum() == 1
