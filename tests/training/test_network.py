"""Laws of the network: its first weights, its layers."""

import pytest
import torch

from skdistill.training.network import StudentMLP


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_weights_depend_on_the_seed_alone(dtype):
    shape = {"hidden_layer_sizes": (6,), "seed": 5}
    one = StudentMLP(4, 2, **shape).to(dtype).theta
    stack = StudentMLP(4, 2, n_students=3, **shape).to(dtype).theta
    assert torch.equal(stack, one.repeat(3, 1))
    assert torch.equal(StudentMLP(4, 2, **shape).double().theta.to(dtype), one)
    assert not torch.equal(StudentMLP(4, 2, hidden_layer_sizes=(6,), seed=6).to(dtype).theta, one)
    assert (one.abs() <= 0.5 + 1e-6).all()


def test_hidden_layers_are_those_before_dropout():
    module = StudentMLP(4, 2, hidden_layer_sizes=(6, 3), dropout=0.5).double()
    rows = torch.randn(8, 4, dtype=torch.float64)
    (weight, bias), *_ = module.pairs(module.theta)
    _, (first, second) = module.with_hidden(rows)
    torch.testing.assert_close(first, torch.relu(rows @ weight + bias))
    assert second.shape == (8, 3)
