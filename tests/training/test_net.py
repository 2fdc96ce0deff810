"""Laws of the training loop: stacks, batches, and what it leaves as it was."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import skorch
import torch
from sklearn.utils import check_random_state
from skorch.callbacks import Callback
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn
from training_zoo import (
    ENCODING,
    PAIRS,
    SPEC,
    X,
    make_mlp,
    stacked_objective,
    targets_of,
    training_set,
)

from skdistill.training import net as _net
from skdistill.training.batches import Batches
from skdistill.training.net import BestEpoch, train
from skdistill.training.network import build_custom_module
from skdistill.training.objective import Objective, Targets


def trained(module, objective, training, **changes):
    return train(module, objective, training, replace(SPEC, **changes), seed=3)


@pytest.mark.parametrize(
    "shape",
    [{}, {"dropout": 0.3}, {"encoding": ENCODING}, {"activation": "gelu"}],
    ids=["plain", "dropout", "embedding", "gelu"],
)
@pytest.mark.parametrize("held", [0, 20], ids=["whole", "early stopping"])
@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
def test_a_stack_trains_the_students_that_separate_fits_train(loss, held, shape):
    training = training_set(held=held)
    epochs = {"max_epochs": 40 if held else 6}
    stack = trained(
        make_mlp(n_students=len(PAIRS), **shape), stacked_objective(loss), training, **epochs
    )
    n_epochs = []
    for i, (temperature, alpha) in enumerate(PAIRS):
        objective = Objective(temperature, alpha, loss)
        alone = trained(make_mlp(**shape), objective, training, **epochs)
        theta = stack.module_.theta[i]
        torch.testing.assert_close(theta, alone.module_.theta, rtol=0, atol=1e-11)
        for ours, theirs in zip(stack.module_.layers(i), alone.module_.layers(), strict=True):
            assert ours.kind == theirs.kind
            for a, b in zip(ours.arrays, theirs.arrays, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
        for name in ("train_loss", "train_soft_loss", "train_hard_loss"):
            together = [epoch[i] for epoch in stack.history[:, name]]
            np.testing.assert_allclose(
                together[: len(alone.history)], alone.history[:, name], rtol=0, atol=1e-10
            )
        n_epochs.append(len(alone.history))
    assert len(stack.history) == max(n_epochs)


@pytest.mark.parametrize("shape", [{}, {"dropout": 0.3, "encoding": ENCODING}])
def test_in_float32_too_a_stack_trains_the_very_students_that_separate_fits_train(shape):
    training = training_set(500)
    settings = {"dtype": "float32", "max_epochs": 20}
    stack = trained(
        make_mlp(n_students=len(PAIRS), **shape), stacked_objective(), training, **settings
    )
    for i, (temperature, alpha) in enumerate(PAIRS):
        objective = Objective(temperature, alpha)
        alone = trained(make_mlp(**shape), objective, training, **settings)
        assert torch.equal(stack.module_.theta[i], alone.module_.theta)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
def test_history_is_the_mean_loss_of_each_epoch(loss):
    training = training_set()
    objective = Objective(3.0, 0.7, loss)
    net = trained(make_mlp(), objective, training, learning_rate_init=1e-12)
    assert len(net.history) == 6
    with torch.no_grad():
        logits = net.module_(torch.tensor(training.X)).numpy()
    sums, _ = objective.sums(logits[None], targets_of(training))
    for epoch in net.history:
        assert abs(epoch["train_soft_loss"] - float(sums.soft) / 50) < 1e-8
        assert abs(epoch["train_hard_loss"] - float(sums.hard) / 50) < 1e-8
        expected = 0.7 * epoch["train_soft_loss"] + 0.3 * epoch["train_hard_loss"]
        assert abs(epoch["train_loss"] - expected) < 1e-12


def test_our_network_and_the_same_in_torch_train_alike():
    training = training_set()
    mine = make_mlp(activation="tanh", hidden_layer_sizes=(6,))
    theirs = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for linear, (weight, bias) in zip(theirs[::2], mine.pairs(mine.theta), strict=True):
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias)
    for module in (mine, theirs):
        trained(module, Objective(3.0, 0.7), training)
    rows = torch.tensor(X)
    torch.testing.assert_close(mine(rows), theirs(rows), rtol=0, atol=1e-10)


def test_a_first_fit_does_not_load_the_compiler_of_torch():
    code = (
        "import sys; from sklearn.datasets import load_iris; from skdistill import "
        "DistilledClassifier; DistilledClassifier(max_epochs=2).fit(*load_iris(return_X_y=True)); "
        "assert 'torch' in sys.modules; assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_seeds():
    training = training_set()

    def theta(seed, batch_size=16):
        settings = replace(SPEC, batch_size=batch_size)
        net = train(make_mlp(dropout=0.2), Objective(1.0, 0.5), training, settings, seed=seed)
        return net.module_.theta.detach()

    assert torch.equal(theta(1), theta(1))
    assert not torch.allclose(theta(1), theta(2))
    # One batch has no order that a seed could shuffle.
    assert torch.equal(theta(1, 50), theta(2, 50))


def test_weight_decay_and_learning_rate_are_adams():
    training = training_set(16)
    module, twin = make_mlp(), make_mlp()
    objective = Objective(1.0, 0.5)
    trained(module, objective, training, max_epochs=30)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02, weight_decay=0.01)
    rows, targets = torch.tensor(training.X), targets_of(training)
    for step in range(30):
        optimizer.param_groups[0]["lr"] = 0.02 * _net._schedule(step / 30)
        optimizer.zero_grad()
        logits = twin(rows)
        _, gradient = objective.sums(logits.detach().numpy()[None].copy(), targets)
        logits.backward(torch.tensor(gradient[0]))
        optimizer.step()
    torch.testing.assert_close(module.theta, twin.theta, rtol=0, atol=1e-12)


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [_net._schedule(p) for p in np.linspace(0, 1, 201)]
    top = int(np.argmax(rates))
    assert 0 < rates[0] < 0.1
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert max(rates) == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize(("n", "batch_size"), [(50, 16), (50, 50), (50, 49), (7, 3), (5, 1)])
def test_batches_cover_every_row_once_in_nearly_equal_sizes(n, batch_size):
    rows = torch.arange(n, dtype=torch.float64)[:, None]
    label = torch.arange(n)
    weight = rows[:, 0].numpy()
    targets = Targets(rows.repeat(1, 2).numpy(), label.numpy(), weight, weight)
    generator = torch.Generator().manual_seed(0)
    batches = Batches(rows, targets, batch_size, generator)
    epochs = []
    for _ in range(2):
        parts = list(batches)
        sizes = [len(part) for part, _ in parts]
        assert len(parts) == batches.n_batches == -(-n // batch_size)
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        for part, its in parts:
            np.testing.assert_array_equal(part[:, 0], its.label)
            np.testing.assert_array_equal(part[:, 0], its.soft_weight)
        order = torch.cat([part for part, _ in parts])[:, 0]
        assert torch.equal(order.sort().values, rows[:, 0])
        epochs.append(order)
    assert torch.equal(*epochs) == (batch_size >= n)


@pytest.mark.parametrize("patience", [1, 3])
def test_the_best_epoch_is_restored(patience):
    training = training_set(held=30)
    held = training.held_out
    seen = []

    class Record(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net.module_.theta.detach().clone())

    net = trained(
        make_mlp(),
        Objective(1.0, 0.3),
        training,
        max_epochs=60,
        learning_rate_init=0.1,
        n_iter_no_change=patience,
        callbacks=[Record()],
    )
    losses = net.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + patience < 60
    assert torch.equal(net.module_.theta, seen[best])
    with torch.no_grad():
        log_proba = net.module_(torch.tensor(held.X)).log_softmax(1).numpy()
    rows = -log_proba[np.arange(30), held.label]
    assert losses[best] == pytest.approx(np.average(rows, weights=held.weight))


def test_the_best_epoch_of_a_module_restores_its_buffers():
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    training = training_set(held=30)
    net = trained(module, Objective(1.0, 0.3), training, max_epochs=40, learning_rate_init=0.1)
    best = min(net.history[:, "valid_loss"])
    (callback,) = [c for _, c in net.callbacks_ if isinstance(c, BestEpoch)]
    assert float(callback._loss(net)) == pytest.approx(best)


def test_validation_takes_no_part_in_training():
    training = training_set(held=30)
    shuffled = replace(training, held_out=replace(training.held_out, label=training.label[:30]))
    first, second = (
        trained(make_mlp(dropout=0.2), Objective(1.0, 0.5), t, n_iter_no_change=99)
        for t in (training, shuffled)
    )
    assert first.history[:, "train_loss"] == second.history[:, "train_loss"]


def test_a_loss_that_is_not_finite_is_said():
    words = r"training loss became (nan|inf) in epoch \d+ with learning_rate_init=1e\+200"
    with pytest.raises(FloatingPointError, match=words):
        trained(make_mlp(), Objective(1.0, 0.5), training_set(), learning_rate_init=1e200)


def test_one_diverging_student_leaves_the_others_of_the_stack_alone():
    training = training_set()
    objective = Objective([1.0, 1e-320], [0.5, 0.5])
    net = trained(make_mlp(n_students=2), objective, training)
    alone = trained(make_mlp(), Objective(1.0, 0.5), training)
    torch.testing.assert_close(net.module_.theta[0], alone.module_.theta, rtol=0, atol=1e-11)
    assert not torch.isfinite(net.module_.theta[1]).all()


class Interrupt(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def is_flushing():
    return bool((torch.tensor([1e-40]) * 1.0 == 0).all())


@pytest.mark.parametrize("module", ["ours", "theirs"])
@pytest.mark.parametrize("fails", [False, True])
def test_global_settings_are_restored(module, fails):
    module = make_mlp(dropout=0.2) if module == "ours" else nn.Linear(4, 3).double()
    threads = torch.get_num_threads()
    callbacks = [Interrupt()] if fails else []
    state, legacy = torch.random.get_rng_state(), global_numpy_state()
    try:
        torch.set_num_threads(2)
        if fails:
            with pytest.raises(KeyboardInterrupt):
                trained(module, Objective(1.0, 0.5), training_set(), callbacks=callbacks)
        else:
            trained(module, Objective(1.0, 0.5), training_set())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not is_flushing()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert global_numpy_state() == legacy


def global_numpy_state():
    return check_random_state(None).get_state()[1].tolist()


def test_flushing_of_denormals_stays_on_where_it_was_on():
    torch.set_flush_denormal(True)
    try:
        trained(make_mlp(), Objective(1.0, 0.5), training_set())
        assert is_flushing()
    finally:
        torch.set_flush_denormal(False)


def test_small_students_take_one_thread():
    seen = []

    class Look(Callback):
        def on_batch_begin(self, net, **kwargs):
            seen.append(torch.get_num_threads())
            seen.extend(blas_threads())

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threadpool_limits(2, user_api="blas"):
            before = blas_threads()
            trained(make_mlp(), Objective(1.0, 0.5), training_set(), callbacks=[Look()])
            assert blas_threads() == before
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {1}


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_fits_in_threads_equal_fits_one_after_another():
    training = training_set()

    def fit(i):
        net = trained(make_mlp(dropout=0.2, seed=i), Objective(1.0, 0.5), training)
        return net.module_.theta.detach()

    expected = [fit(i) for i in range(6)]
    found = [None] * 6

    def run(i):
        found[i] = fit(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def counts():
    return torch.get_num_threads(), blas_threads()


@pytest.mark.parametrize("main_leaves_first", [True, False])
def test_fits_that_overlap_leave_each_thread_its_own_count(main_leaves_first):
    both = threading.Barrier(2, timeout=30)
    other_left, main_left = threading.Event(), threading.Event()
    found = []

    class Meet(Callback):
        def __init__(self, wait_for=None):
            self.wait_for = wait_for

        def on_train_begin(self, net, **kwargs):
            both.wait()
            found.append(counts())
            if self.wait_for:
                assert self.wait_for.wait(30)

    def fit(callback):
        trained(make_mlp(), Objective(1.0, 0.5), training_set(), callbacks=[callback])

    def other():
        fit(Meet(main_left if main_leaves_first else None))
        other_left.set()
        assert main_left.wait(30)
        found.append(counts())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threadpool_limits(2, user_api="blas"):
            expected = counts()
            thread = threading.Thread(target=other)
            thread.start()
            fit(Meet(None if main_leaves_first else other_left))
            main_left.set()
            thread.join()
            assert counts() == expected
            # The thread that fitted was new to torch, and so is the next one.
            new = threading.Thread(target=lambda: found.append(counts()))
            new.start()
            new.join()
    finally:
        torch.set_num_threads(before)
    alone = 1, [1] * len(expected[1])
    assert found == [alone, alone, expected, expected]


def test_a_fit_in_a_living_thread_leaves_blas_to_others():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trained, make_mlp(), Objective(1.0, 0.5), training_set()).result()
        with threadpool_limits(2, user_api="blas"):
            assert set(blas_threads()) == {2}
            with threadpool_limits(1, user_api="blas"):
                assert set(blas_threads()) == {1}


def test_the_hooks_of_skorch_are_called():
    calls = []

    class Spy(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            calls.append("train begins")
            assert len(X) == 50

        def on_epoch_begin(self, net, **kwargs):
            calls.append("epoch begins")

        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            assert training
            assert len(batch[0]) in (12, 13)
            calls.append("batch begins")

        def on_grad_computed(self, net, named_parameters=None, **kwargs):
            (named,) = named_parameters
            assert named[1].grad.abs().sum() > 0
            calls.append("gradient")

        def on_batch_end(self, net, batch=None, training=None, loss=None, **kwargs):
            assert np.isfinite(float(loss))
            calls.append("batch ends")

        def on_epoch_end(self, net, **kwargs):
            assert np.isfinite(net.history[-1, "train_loss"])
            calls.append("epoch ends")

        def on_train_end(self, net, **kwargs):
            calls.append("train ends")

    batch = ["batch begins", "gradient", "batch ends"]
    epoch = ["epoch begins", *batch * 4, "epoch ends"]
    net = trained(make_mlp(), Objective(1.0, 0.5), training_set(), max_epochs=2, callbacks=[Spy()])
    assert calls == ["train begins", *epoch * 2, "train ends"]
    assert isinstance(net, skorch.NeuralNet)
    # Without hooks the steps are NumPy's, which round otherwise than torch's.
    plain = trained(make_mlp(), Objective(1.0, 0.5), training_set(), max_epochs=2)
    torch.testing.assert_close(net.module_.theta, plain.module_.theta, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        net.history[:, "train_loss"], plain.history[:, "train_loss"], rtol=1e-12
    )


def test_a_callback_can_change_the_gradient():
    class Freeze(Callback):
        def on_grad_computed(self, net, named_parameters=None, **kwargs):
            for _, parameter in named_parameters:
                parameter.grad.zero_()

    module = make_mlp()
    before = module.theta.detach().clone()
    trained(
        module,
        Objective(1.0, 0.5),
        training_set(),
        callbacks=[Freeze()],
        weight_decay=0.0,
    )
    assert torch.equal(module.theta, before)


def test_the_net_is_in_evaluation_mode_afterwards():
    net = trained(make_mlp(dropout=0.5), Objective(1.0, 0.5), training_set())
    assert not net.module_.training
    rows = torch.tensor(X)
    assert torch.equal(net.module_(rows), net.module_(rows))


def test_a_module_may_return_hidden_layers_beside_logits():
    class WithHidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, X):
            return self.linear(X), X

    torch.manual_seed(0)
    module, twin = WithHidden(), nn.Linear(4, 3)
    twin.load_state_dict(module.linear.state_dict())
    training = training_set(held=10)
    for m in (module, twin):
        trained(m, Objective(1.0, 0.5), training)
    torch.testing.assert_close(module.linear.weight, twin.weight)


def test_modules_that_draw_from_the_global_state_are_seeded():
    training = training_set()
    thetas = []
    for noise in range(2):
        torch.manual_seed(noise)
        module = build_custom_module(
            lambda n, k: nn.Sequential(nn.Linear(n, 8), nn.Dropout(0.5), nn.Linear(8, k)), 4, 3, 7
        )
        net = trained(module, Objective(1.0, 0.5), training)
        thetas.append(torch.cat([p.detach().flatten() for p in net.module_.parameters()]))
    assert torch.equal(*thetas)
