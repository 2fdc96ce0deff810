"""What "auto" stands for: epochs, dtype and dropout as functions of the rows."""

from types import SimpleNamespace

import pytest

from skdistill import DistilledClassifier
from skdistill.training.sizing import count_epochs, dropout_rate, dtype_name


def rows(n, n_real=None):
    return SimpleNamespace(n_rows=n, n_real=n if n_real is None else n_real)


@pytest.mark.parametrize("n", [257, 1_000, 5_000, 100_000])
def test_auto_makes_about_so_many_steps_a_row(n):
    """7 steps a row, from 1,000 to 20,000, in whole epochs."""
    estimator = DistilledClassifier(batch_size=256)
    n_batches = -(-n // 256)
    wanted = min(max(7 * n, 1_000), 20_000)
    assert wanted <= count_epochs(estimator, n, n) * n_batches < wanted + n_batches


def test_rows_that_were_added_cost_no_steps():
    estimator = DistilledClassifier(batch_size=256)
    steps = [count_epochs(estimator, n, 2_560) * n // 256 for n in (2_560, 25_600)]
    assert abs(steps[0] - steps[1]) < 100


def test_a_number_is_taken_at_its_word():
    assert count_epochs(DistilledClassifier(max_epochs=3), 10**6, 10**6) == 3


@pytest.mark.parametrize(("n", "dtype"), [(256, "float64"), (257, "float32")])
def test_dtype_of_one_batch_and_of_more(n, dtype):
    assert dtype_name(DistilledClassifier(batch_size=256), n) == dtype
    assert dtype_name(DistilledClassifier(batch_size=256, dtype="float32"), n) == "float32"


@pytest.mark.parametrize(
    ("n", "n_parameters", "dropout"),
    [(256, 10**6, 0.0), (257, 10**6, 0.1), (1_000, 100, 0.0), (1_000, 101, 0.1)],
)
def test_dropout_where_a_network_could_learn_the_rows_by_heart(n, n_parameters, dropout):
    estimator = DistilledClassifier(batch_size=256)
    assert dropout_rate(estimator, rows(n), n_parameters) == dropout
    assert dropout_rate(estimator.set_params(dropout=0.3), rows(n), n_parameters) == 0.3


def test_synthetic_rows_do_not_spare_the_dropout():
    estimator = DistilledClassifier(batch_size=256)
    assert dropout_rate(estimator, rows(10_000, n_real=300), 100) == 0.1
