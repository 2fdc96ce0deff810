"""Laws of the step on the CPU: its gradient and its update are those of the torch path."""

import numpy as np
import pytest
import torch
from training_zoo import (
    ACTIVATIONS,
    ENCODING,
    make_mlp,
    stacked_criterion,
    targets_of,
    training_set,
)

from skdistill.training.adam import FlatAdam
from skdistill.training.objective import DistillationCriterion
from skdistill.training.step import CpuStep


@pytest.mark.parametrize("rows", [None, np.arange(5, 40)], ids=["all rows", "some"])
@pytest.mark.parametrize("n_students", [None, 4], ids=["single", "stack"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("encoding", [None, ENCODING], ids=["plain", "embedding"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_steps_are_those_of_torch(activation, encoding, dropout, n_students, rows):
    shape = {"activation": activation, "encoding": encoding, "dropout": dropout}
    ours, theirs = (make_mlp(n_students=n_students, **shape) for _ in range(2))
    criterion = stacked_criterion() if n_students else DistillationCriterion(3.0, 0.7)
    training = training_set()
    X, targets = torch.tensor(training.X), targets_of(training)
    adam = FlatAdam(ours.parameters(), lr=0.01, weight_decay=0.1)
    step = CpuStep(ours, criterion, adam)
    step.load(X, targets)
    theirs.prepare()
    twin = FlatAdam(theirs.parameters(), lr=0.01, weight_decay=0.1)
    chosen = torch.arange(50) if rows is None else torch.as_tensor(rows)
    total = 0.0
    for _ in range(3):
        with torch.inference_mode():
            step(rows)
        terms = theirs.backward_by_hand(X[chosen], targets.take(chosen), criterion)
        with torch.no_grad():
            twin.update()
        total = total + terms.hard
        torch.testing.assert_close(ours.theta.grad, theirs.theta.grad, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.theta, theirs.theta, rtol=0, atol=1e-12)
    torch.testing.assert_close(step.sums().hard, total, rtol=1e-12, atol=0)


def test_a_network_without_hidden_layers():
    training = training_set()
    module = make_mlp(hidden_layer_sizes=())
    criterion = DistillationCriterion(1.0, 0.5)
    X, targets = torch.tensor(training.X), targets_of(training)
    before = module.theta.detach().clone()
    step = CpuStep(module, criterion, FlatAdam(module.parameters()))
    step.load(X, targets)
    step(None)
    assert not torch.equal(module.theta, before)


def test_other_rows_are_loaded_and_summed_by_themselves():
    training = training_set()
    module, criterion = make_mlp(), DistillationCriterion(3.0, 0.7)
    X, targets = torch.tensor(training.X), targets_of(training)
    step = CpuStep(module, criterion, FlatAdam(module.parameters(), lr=0.0))
    pairs = [(X[rows], targets.take(rows)) for rows in torch.arange(len(X)).split([20, 30])]
    for part in [*pairs, pairs[-1]]:
        step.load(*part)
        with torch.inference_mode():
            step(None)
        expected = criterion(module(part[0]), part[1])
        torch.testing.assert_close(step.sums(), expected, rtol=1e-12, atol=0)


def test_torch_goes_on_with_the_moments_of_the_array():
    training = training_set()
    criterion = DistillationCriterion(3.0, 0.7)
    X, targets = torch.tensor(training.X), targets_of(training)
    mixed, alone = make_mlp(), make_mlp()
    adam, twin = (FlatAdam(m.parameters(), lr=0.01) for m in (mixed, alone))

    def by_torch(module, optimiser):
        module.backward_by_hand(X, targets, criterion)
        with torch.no_grad():
            optimiser.update()

    alone.prepare()
    for turn in range(4):
        by_torch(alone, twin)
        if turn % 2:
            mixed.prepare()
            by_torch(mixed, adam)
        else:
            step = CpuStep(mixed, criterion, adam)
            step.load(X, targets)
            with torch.inference_mode():
                step(None)
    assert adam.count == twin.count == 4
    torch.testing.assert_close(mixed.theta, alone.theta, rtol=0, atol=1e-12)
