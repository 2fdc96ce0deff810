"""Laws of the loss on arrays: it is the criterion's, value and gradient."""

import numpy as np
import pytest
import torch
from training_zoo import stacked, targets_of, training_set

from skdistill.training import array_loss as _array_loss
from skdistill.training.array_loss import ArrayLoss
from skdistill.training.objective import DistillationCriterion

GRIDS = {
    "one": ([3.0], [0.7]),
    "T=1": ([1.0], [0.9]),
    "soft only": ([2.0], [1.0]),
    "hard only": ([2.0], [0.0]),
    "several temperatures": ([1.0, 4.0, 0.5, 4.0], [0.3, 1.0, 0.7, 0.0]),
    "one temperature": ([2.0, 2.0], [0.3, 1.0]),
    "two temperatures": ([1.0, 4.0], [0.3, 1.0]),
    # So cold that exponentials vanish unless each row is taken from its own maximum.
    "cold": ([1e-3], [0.7]),
    "cold beside warm": ([1e-3, 2.0], [0.7, 0.3]),
}


@pytest.mark.parametrize("k", [2, 3, 12])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_values_and_gradient_are_those_of_the_criterion(grid, k):
    training = training_set(40, k=k)
    # Rows with a class, and with all classes but one, ruled out.
    training.proba[:3, 0] = 0
    training.proba[3:6] = np.eye(k)[1]
    training.proba /= training.proba.sum(axis=1, keepdims=True)
    targets = targets_of(training)
    criterion = DistillationCriterion(*(stacked(values) for values in grid))
    logits = torch.randn((len(grid[0]), 40, k), dtype=torch.float64, requires_grad=True)
    sums = criterion(logits, targets)
    (criterion.total(sums).sum() / 40).backward()
    loss = ArrayLoss(criterion, targets)
    gradient = loss.into_gradient(logits.detach().numpy(), loss.columns)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=0, atol=1e-14)
    for ours, theirs in zip(loss.sums(), (sums.soft, sums.hard), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_sums_add_up_over_batches_and_begin_anew():
    targets = targets_of(training_set(40))
    criterion = DistillationCriterion(2.0, 0.5)
    loss = ArrayLoss(criterion, targets)
    logits = np.random.default_rng(0).normal(size=(1, 40, 3))
    loss.into_gradient(logits, loss.columns)
    whole = loss.sums()
    for rows in (slice(0, 13), slice(13, 40)):
        loss.into_gradient(logits[:, rows], loss.columns[rows])
    np.testing.assert_allclose(loss.sums(), whole, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_all_stays_in_the_dtype_of_the_targets(grid, dtype):
    k, training = 3, training_set(40)
    targets, exact = targets_of(training, dtype), targets_of(training)
    logits = torch.randn((len(grid[0]), 40, k), dtype=torch.float64).to(dtype)
    criterion = DistillationCriterion(*(stacked(values) for values in grid))
    ours, theirs = ArrayLoss(criterion, targets), ArrayLoss(criterion, exact)
    gradient = ours.into_gradient(logits.numpy(), ours.columns)
    expected = theirs.into_gradient(logits.double().numpy(), theirs.columns)
    assert ours.columns.shape == (40, 2 * k + 2)
    assert ours.columns.dtype == gradient.dtype == logits.numpy().dtype
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=eps)
    np.testing.assert_allclose(ours.sums(), theirs.sums(), rtol=100 * eps, atol=100 * eps)


def test_a_temperature_and_a_weight_may_be_plain_numbers():
    targets = targets_of(training_set(40))
    logits = np.random.default_rng(0).normal(size=(1, 40, 3))
    criterion = DistillationCriterion(2.3, 0.7)
    loss = ArrayLoss(criterion, targets)
    gradient = loss.into_gradient(logits, loss.columns)
    leaf = torch.tensor(logits[0], requires_grad=True)
    (criterion.total(criterion(leaf, targets)) / 40).backward()
    np.testing.assert_allclose(gradient[0], leaf.grad.numpy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("n_rows", [1, 7, 39, 40, 41])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_blocks_of_rows_join_without_a_seam(grid, n_rows, monkeypatch):
    targets = targets_of(training_set(40))
    criterion = DistillationCriterion(*(stacked(values) for values in grid))
    whole = ArrayLoss(criterion, targets)
    monkeypatch.setattr(_array_loss, "_BLOCK_ROWS", n_rows)
    parts = ArrayLoss(criterion, targets)
    np.testing.assert_allclose(parts.columns, whole.columns, rtol=1e-14)
    np.testing.assert_allclose(parts.sums(), whole.sums(), rtol=1e-14)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_number_added_to_the_logits_of_a_row_changes_nothing(grid):
    targets = targets_of(training_set(40))
    loss = ArrayLoss(DistillationCriterion(*(stacked(values) for values in grid)), targets)
    rng = np.random.default_rng(0)
    # Halves and thousands, which add up without rounding.
    logits = rng.integers(-9, 9, size=(len(grid[0]), 40, 3)) / 2
    expected, sums = loss.into_gradient(logits, loss.columns), loss.sums()
    far = logits + 4096.0 * rng.integers(-9, 9, size=(len(grid[0]), 40, 1))
    np.testing.assert_allclose(loss.into_gradient(far, loss.columns), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(loss.sums(), sums, rtol=1e-13)


def test_large_logits_do_not_overflow():
    loss = ArrayLoss(DistillationCriterion(2.0, 0.5), targets_of(training_set(4)))
    logits = np.array([[[1e300, 0, -1e300]] * 4])
    assert np.isfinite(loss.into_gradient(logits, loss.columns)).all()
