"""The network: first weights, modules of the user's, and frozen layers that compute alike."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from training_zoo import ACTIVATIONS, ENCODING, X, make_mlp

from skdistill import TorchTeacher
from skdistill.student import Forward
from skdistill.training.network import (
    StudentMLP,
    build_custom_module,
    frozen_layers,
    seeded_globally,
)


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


def test_a_factory_must_return_a_module():
    with pytest.raises(TypeError, match=r"\(n_features, n_classes\).*returned a int"):
        build_custom_module(lambda n, k: 3, 4, 3, 0)


def test_teachers_are_not_asked_while_a_module_draws():
    asked = threading.Event()

    def ask():
        TorchTeacher(nn.Linear(4, 2), classes=[0, 1]).predict_proba(X)
        asked.set()

    thread = threading.Thread(target=ask)
    with seeded_globally(0):
        thread.start()
        assert not asked.wait(0.5)
    thread.join()
    assert asked.is_set()


def run_frozen(layers, rows):
    return Forward(layers, np.dtype(np.float64))(rows.copy())


LAYERS = {
    "linear": lambda: nn.Linear(4, 3),
    "no bias": lambda: nn.Linear(4, 3, bias=False),
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "dropout": lambda: nn.Dropout(0.5),
    "identity": nn.Identity,
    "batch norm": lambda: nn.BatchNorm1d(4),
    "plain batch norm": lambda: nn.BatchNorm1d(4, affine=False),
    "layer norm": lambda: nn.LayerNorm(4, eps=1e-3),
    "plain layer norm": lambda: nn.LayerNorm(4, elementwise_affine=False),
    "layer norm without bias": lambda: nn.LayerNorm(4, bias=False),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Identity()),
    "empty": nn.Sequential,
}


@pytest.mark.parametrize("name", LAYERS)
def test_known_layers_freeze_to_what_torch_computes(name):
    torch.manual_seed(0)
    width = 3 if name in ("linear", "no bias") else 4
    module = nn.Sequential(LAYERS[name](), nn.Linear(width, 3)).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    for _ in range(3):
        module(torch.tensor(X))
    module.eval()
    layers = frozen_layers(module)
    assert layers is not None
    expected = module(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(run_frozen(layers, X), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", [None, ENCODING], ids=["plain", "embedding"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_our_network_freezes_to_what_torch_computes(activation, encoding):
    module = make_mlp(activation=activation, encoding=encoding)
    rows = X if encoding is None else encoding.encode(X)
    layers = frozen_layers(module)
    assert [layer.kind for layer in layers] == ["linear", activation] * 2 + ["linear"]
    expected = module(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(run_frozen(layers, rows), expected, rtol=0, atol=1e-12)
    before = layers[0].arrays[0].copy()
    with torch.no_grad():
        module.theta.zero_()
    np.testing.assert_array_equal(layers[0].arrays[0], before)


class Doubling(nn.Linear):
    def forward(self, X):
        return 2 * super().forward(X)


@pytest.mark.parametrize(
    "module",
    [
        Doubling(4, 3),
        nn.LeakyReLU(),
        nn.GELU(approximate="tanh"),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.LayerNorm((2, 4)),
        nn.Sequential(nn.Linear(4, 3), nn.Softplus()),
        nn.ModuleList([nn.Linear(4, 3)]),
    ],
    ids=lambda module: type(module).__name__,
)
def test_unknown_layers_do_not_freeze(module):
    assert frozen_layers(module) is None
    assert frozen_layers(nn.Sequential(module)) is None
