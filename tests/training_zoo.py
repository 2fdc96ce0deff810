"""Small training sets and networks, and criteria for one student or a stack."""

import numpy as np
import torch

from skdistill.tables.bins import PiecewiseLinearEncoding
from skdistill.training.data import HeldOut, TrainingSet
from skdistill.training.network import StudentMLP
from skdistill.training.objective import DistillationCriterion, Targets

ACTIVATIONS = ("relu", "tanh", "gelu", "silu")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
ENCODING = PiecewiseLinearEncoding(3).fit(X)
PAIRS = [(1.0, 0.3), (3.0, 0.7), (3.0, 1.0), (0.5, 0.0)]


def training_set(n=50, k=3, held=0, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 4))
    label = (rows[:, 0] > 0).astype(np.int64) + (rows[:, 1] > 1)
    held_rows = rng.normal(size=(held, 4))
    return TrainingSet(
        X=rows,
        proba=rng.dirichlet(np.ones(k), size=n),
        label=label % k,
        soft_weight=rng.uniform(0, 2, size=n),
        hard_weight=rng.uniform(0, 2, size=n),
        classes=np.arange(k),
        preprocessor=None,
        encoding=None,
        held_out=HeldOut(
            held_rows,
            rng.integers(0, k, size=held),
            rng.uniform(1, 2, size=held),
            np.full((held, k), np.nan),
        )
        if held
        else None,
        n_real=n,
        n_synthetic=0,
    )


def targets_of(training, dtype=torch.float64):
    names = ("proba", "soft_weight", "hard_weight")
    floats = {name: torch.tensor(getattr(training, name), dtype=dtype) for name in names}
    return Targets(label=torch.tensor(training.label), **floats)


def make_mlp(k=3, n_students=None, seed=0, **params):
    return StudentMLP(
        4, k, **{"hidden_layer_sizes": (7, 5), **params}, n_students=n_students, seed=seed
    ).double()


def stacked(values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def stacked_criterion(loss="kl"):
    temperature, alpha = zip(*PAIRS, strict=True)
    return DistillationCriterion(stacked(temperature), stacked(alpha), loss)
