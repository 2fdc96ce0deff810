"""Laws of Adam on an array."""

import math

import numpy as np
import pytest
import torch

from skdistill.training import array_adam as _array_adam
from skdistill.training.array_adam import ArrayAdam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_makes_the_steps_of_torch(weight_decay, monkeypatch):
    monkeypatch.setattr(_array_adam, "_PART", 7)
    rng = np.random.default_rng(0)
    theta, gradient = rng.normal(size=(3, 5)), np.empty((3, 5))
    twin = torch.nn.Parameter(torch.tensor(theta))
    settings = {"lr": 0.1, "weight_decay": weight_decay}
    ours, theirs = ArrayAdam(theta, gradient, settings), torch.optim.Adam([twin], **settings)
    for step in range(20):
        settings["lr"] = theirs.param_groups[0]["lr"] = 0.1 / (1 + step)
        gradient[:] = rng.normal(size=(3, 5))
        twin.grad = torch.tensor(gradient)
        ours.update()
        theirs.step()
    np.testing.assert_allclose(theta, twin.detach().numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_goes_the_same_way_wherever_it_stands(dtype, monkeypatch):
    monkeypatch.setattr(_array_adam, "_PART", 11)
    rng = np.random.default_rng(0)
    alone, stack = np.ones(13, dtype), np.ones((5, 13), dtype)
    gradients = np.empty(13, dtype), np.empty((5, 13), dtype)
    settings = {"lr": 0.1, "weight_decay": 0.01}
    adams = [ArrayAdam(*pair, settings) for pair in zip((alone, stack), gradients, strict=True)]
    for _ in range(50):
        gradients[0][:] = rng.normal(size=13)
        gradients[1][:] = gradients[0]
        for adam in adams:
            adam.update()
    assert (stack == alone).all()


def test_moments_go_on_in_the_memory_that_is_given():
    rng = np.random.default_rng(0)
    settings = {"lr": 0.1, "weight_decay": 0.01}
    once, twice = np.ones(13), np.ones(13)
    gradient = np.empty(13)
    moments = np.zeros(13), np.zeros(13)
    whole = ArrayAdam(once, gradient, settings)
    part = ArrayAdam(twice, gradient, settings, moments=moments)
    for step in range(10):
        gradient[:] = rng.normal(size=13)
        if step == 4:
            part = ArrayAdam(twice, gradient, settings, moments=moments, count=part.count)
        whole.update()
        part.update()
    np.testing.assert_array_equal(twice, once)
    assert part.count == 10


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_buffers_and_parts_change_no_bit(dtype, weight_decay, monkeypatch):
    monkeypatch.setattr(_array_adam, "_PART", 5)
    rng = np.random.default_rng(0)
    theta, gradient = rng.normal(size=13).astype(dtype), np.empty(13, dtype)
    adam = ArrayAdam(theta, gradient, {"lr": 0.1, "weight_decay": weight_decay})
    expected, mean, square = theta.copy(), np.zeros(13, dtype), np.zeros(13, dtype)
    for count in range(1, 6):
        gradient[:] = rng.normal(size=13)
        adam.update()
        second = math.sqrt((1 - 0.999**count) / (1 - 0.999))
        slope = gradient + expected * weight_decay if weight_decay else gradient
        mean, square = mean * 0.9 + slope, square * 0.999 + slope * slope
        step = mean / (np.sqrt(square) + 1e-8 * second)
        expected = expected - step * (0.1 * second * (1 - 0.9) / (1 - 0.9**count))
        np.testing.assert_array_equal(theta, expected)
    assert expected.dtype == dtype
