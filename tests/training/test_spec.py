"""What "auto" stands for: sizes, epochs, dtype and dropout as functions of the rows."""

from dataclasses import replace

import pytest
from training_zoo import SPEC, training_set

from skdistill.training.network import StudentMLP
from skdistill.training.spec import (
    auto_hidden_sizes,
    count_epochs,
    count_parameters,
    dropout_rate,
    resolve,
)

AUTO = replace(
    SPEC,
    hidden_layer_sizes="auto",
    dropout="auto",
    max_epochs="auto",
    dtype="auto",
    batch_size=256,
)


@pytest.mark.parametrize("n", [257, 1_000, 5_000, 100_000])
def test_auto_makes_about_so_many_steps_a_row(n):
    """7 optimiser steps a row, from 1,000 to 20,000, in whole epochs."""
    n_batches = -(-n // 256)
    wanted = min(max(7 * n, 1_000), 20_000)
    assert wanted <= count_epochs(AUTO, n, n) * n_batches < wanted + n_batches


def test_rows_that_were_added_cost_no_steps():
    steps = [count_epochs(AUTO, n, 2_560) * n // 256 for n in (2_560, 25_600)]
    assert abs(steps[0] - steps[1]) < 100


@pytest.mark.parametrize(("n", "dtype"), [(256, "float64"), (257, "float32")])
def test_dtype_of_one_batch_and_of_more(n, dtype):
    assert resolve(AUTO, training_set(), n, n).dtype == dtype
    assert resolve(replace(AUTO, dtype="float32"), training_set(), n, n).dtype == "float32"


@pytest.mark.parametrize(
    ("n", "n_parameters", "dropout"),
    [(256, 10**6, 0.0), (257, 10**6, 0.1), (1_000, 100, 0.0), (1_000, 101, 0.1)],
)
def test_dropout_where_a_network_could_learn_the_rows_by_heart(n, n_parameters, dropout):
    assert dropout_rate(AUTO, n, n, n_parameters) == dropout
    assert dropout_rate(replace(AUTO, dropout=0.3), n, n, n_parameters) == 0.3


def test_synthetic_rows_do_not_spare_the_dropout():
    assert dropout_rate(AUTO, 10_000, 300, 100) == 0.1


@pytest.mark.parametrize("n_rows", [50, 2000, 10_000])
@pytest.mark.parametrize("n_features", [1, 20, 64, 400])
def test_automatic_sizes_keep_their_bound(n_features, n_rows):
    width, half = auto_hidden_sizes(n_features, 3, n_rows)
    assert half == width // 2
    module = StudentMLP(n_features, 3, hidden_layer_sizes=(width, half))
    n_parameters = module.theta.numel()
    assert n_parameters == count_parameters([n_features, width, half, 3])
    bound = min(50_000, max(20_000, 11 * n_rows))
    assert n_parameters <= bound or width == 16
    wider = StudentMLP(n_features, 3, hidden_layer_sizes=(width + 2, half + 1))
    assert width == 128 or wider.theta.numel() > bound


def test_a_resolved_specification_holds_no_auto_and_keeps_what_was_set():
    resolved = resolve(AUTO, training_set(), 50, 50)
    assert "auto" not in vars(resolved).values()
    assert resolve(resolved, training_set(5000), 5000, 5000) == resolved
    assert resolve(SPEC, training_set(), 50, 50) == SPEC
