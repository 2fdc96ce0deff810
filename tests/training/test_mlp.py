"""Laws of the network: its gradient, its first weights, its size."""

import pytest
import torch
from training_zoo import (
    ACTIVATIONS,
    ENCODING,
    X,
    make_mlp,
    stacked_criterion,
    targets_of,
    training_set,
)

from skdistill.training import network as _mlp
from skdistill.training.network import StudentMLP
from skdistill.training.objective import DistillationCriterion


@pytest.mark.parametrize("n_students", [None, 4], ids=["single", "stack"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("encoding", [None, ENCODING], ids=["plain", "embedding"])
@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_by_hand_is_that_of_autograd(activation, loss, encoding, dropout, n_students):
    shape = {"activation": activation, "encoding": encoding, "dropout": dropout}
    by_hand, by_graph = (make_mlp(n_students=n_students, **shape) for _ in range(2))
    if n_students:
        criterion = stacked_criterion(loss)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(1)
            shape = by_hand.theta.shape
            moved = torch.randn(shape, dtype=torch.float64, generator=generator) * 0.1
            by_hand.theta += moved
            by_graph.theta += moved
    else:
        criterion = DistillationCriterion(3.0, 0.7, loss)
    training = training_set()
    rows, targets = torch.tensor(training.X), targets_of(training)
    terms = by_hand.backward_by_hand(rows, criterion.weigh(targets), criterion)
    sums = criterion(by_graph(rows), targets)
    (criterion.total(sums).sum() / len(rows)).backward()
    torch.testing.assert_close(by_hand.theta.grad, by_graph.theta.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(terms.soft, sums.soft, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(terms.hard, sums.hard, rtol=1e-10, atol=1e-10)
    # A second batch overwrites the gradient of the first.
    by_hand.eval()
    by_graph.eval()
    by_hand.backward_by_hand(rows, criterion.weigh(targets), criterion)
    by_graph.zero_grad()
    (criterion.total(criterion(by_graph(rows), targets)).sum() / len(rows)).backward()
    torch.testing.assert_close(by_hand.theta.grad, by_graph.theta.grad, rtol=0, atol=1e-10)


def test_gradient_by_hand_is_that_of_finite_differences():
    training = training_set(20)
    rows, targets = torch.tensor(training.X), targets_of(training)
    criterion = DistillationCriterion(2.0, 0.6)
    module = make_mlp(hidden_layer_sizes=(3,), activation="tanh")
    module.backward_by_hand(rows, criterion.weigh(targets), criterion)

    def loss():
        return float(criterion.total(criterion(module(rows), targets))) / len(rows)

    with torch.no_grad():
        for i in range(module.theta.numel()):
            up, down = (self_loss(module, i, step, loss) for step in (1e-6, -1e-6))
            assert abs((up - down) / 2e-6 - float(module.theta.grad[i])) < 1e-7


def self_loss(module, i, step, loss):
    module.theta[i] += step
    value = loss()
    module.theta[i] -= step
    return value


def test_without_hidden_layers_it_is_a_linear_model():
    module = make_mlp(hidden_layer_sizes=())
    rows = torch.tensor(X)
    ((weight, bias),) = module.pairs(module.theta)
    torch.testing.assert_close(module(rows), rows @ weight + bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_weights_depend_on_the_seed_alone(dtype):
    shape = {"hidden_layer_sizes": (6,), "seed": 5}
    one = StudentMLP(4, 2, **shape).to(dtype).theta
    stack = StudentMLP(4, 2, n_students=3, **shape).to(dtype).theta
    assert torch.equal(stack, one.repeat(3, 1))
    assert torch.equal(StudentMLP(4, 2, **shape).double().theta.to(dtype), one)
    assert not torch.equal(StudentMLP(4, 2, hidden_layer_sizes=(6,), seed=6).to(dtype).theta, one)
    assert (one.abs() <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("n_rows", [50, 2000, 10_000])
@pytest.mark.parametrize("n_features", [1, 20, 64, 400])
def test_automatic_sizes_keep_their_bound(n_features, n_rows):
    width, half = _mlp.auto_hidden_sizes(n_features, 3, None, n_rows)
    assert half == width // 2
    module = StudentMLP(n_features, 3, hidden_layer_sizes=(width, half))
    bound = min(50_000, max(20_000, 11 * n_rows))
    assert module.theta.numel() <= bound or width == 16
    wider = StudentMLP(n_features, 3, hidden_layer_sizes=(width + 2, half + 1))
    assert width == 128 or wider.theta.numel() > bound
