"""Laws of Adam on NumPy views."""

import copy
import math

import numpy as np
import pytest
import torch

from skdistill.training import step as _step
from skdistill.training.step import Adam, take_moments

RNG = np.random.default_rng(0)


def parameter(values):
    return torch.nn.Parameter(torch.tensor(values))


def move(adam, gradient):
    for p in adam.param_groups[0]["params"]:
        if p.grad is None:
            p.grad = torch.empty_like(p)
        p.grad[:] = torch.tensor(gradient)
    adam.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_makes_the_steps_of_torch(weight_decay, monkeypatch):
    monkeypatch.setattr(_step, "_PART", 7)
    first = RNG.normal(size=(3, 5))
    ours, theirs = parameter(first), parameter(first)
    adams = (
        Adam([ours], weight_decay=weight_decay),
        torch.optim.Adam([theirs], weight_decay=weight_decay),
    )
    for count in range(20):
        gradient = RNG.normal(size=(3, 5))
        for adam in adams:
            adam.param_groups[0]["lr"] = 0.1 / (1 + count)
            move(adam, gradient)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_goes_the_same_way_wherever_it_stands(dtype, monkeypatch):
    monkeypatch.setattr(_step, "_PART", 11)
    alone, stack = parameter(np.ones(13, dtype)), parameter(np.ones((5, 13), dtype))
    adams = [Adam([p], lr=0.1, weight_decay=0.01) for p in (alone, stack)]
    for _ in range(50):
        gradient = RNG.normal(size=13).astype(dtype)
        for adam in adams:
            move(adam, gradient)
    assert (stack == alone).all()


@pytest.mark.parametrize("kind", [Adam, torch.optim.Adam])
def test_training_goes_on_from_the_moments_of_another(kind):
    whole, first, second = parameter(np.ones(13)), parameter(np.ones(13)), parameter(np.ones(13))
    once, part = (kind([p], lr=0.1, weight_decay=0.01) for p in (whole, first))
    gradients = RNG.normal(size=(10, 13))
    for gradient in gradients[:4]:
        move(once, gradient)
        move(part, gradient)
    second.data.copy_(first.data)
    further = kind([second], lr=0.1, weight_decay=0.01)
    take_moments(further, part)
    for gradient in gradients[4:]:
        move(once, gradient)
        move(further, gradient)
    assert torch.equal(second, whole)
    # Those of the other are left as they are.
    again = kind([first], lr=0.1, weight_decay=0.01)
    take_moments(again, part)
    for gradient in gradients[4:]:
        move(again, gradient)
    assert torch.equal(first, whole)


def test_copies_share_no_memory():
    one = Adam([parameter(np.ones(3))], lr=0.1)
    move(one, np.ones(3))
    other = copy.deepcopy(one)
    before = one.param_groups[0]["params"][0].clone()
    move(other, np.ones(3))
    assert torch.equal(one.param_groups[0]["params"][0], before)
    assert not torch.equal(other.param_groups[0]["params"][0], before)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_buffers_and_parts_change_no_bit(dtype, weight_decay, monkeypatch):
    monkeypatch.setattr(_step, "_PART", 5)
    theta = parameter(RNG.normal(size=13).astype(dtype))
    adam = Adam([theta], lr=0.1, weight_decay=weight_decay)
    expected = theta.detach().numpy().copy()
    mean, square = np.zeros(13, dtype), np.zeros(13, dtype)
    for count in range(1, 6):
        gradient = RNG.normal(size=13).astype(dtype)
        move(adam, gradient)
        second = math.sqrt((1 - 0.999**count) / (1 - 0.999))
        slope = gradient + expected * weight_decay if weight_decay else gradient
        mean, square = mean * 0.9 + slope, square * 0.999 + slope * slope
        step = mean / (np.sqrt(square) + 1e-8 * second)
        expected = expected - step * (0.1 * second * (1 - 0.9) / (1 - 0.9**count))
        np.testing.assert_array_equal(theta.detach().numpy(), expected)
    assert expected.dtype == dtype
