"""Small training sets and networks, and objectives for one student or a stack."""

import numpy as np

from skdistill.tables import PiecewiseLinearEncoding
from skdistill.training.data import HeldOut, TrainingSet
from skdistill.training.network import StudentMLP
from skdistill.training.objective import Objective, Targets
from skdistill.training.spec import StudentSpec

ACTIVATIONS = ("relu", "tanh", "gelu", "silu")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
ENCODING = PiecewiseLinearEncoding(3).fit(X)
PAIRS = [(1.0, 0.3), (3.0, 0.7), (3.0, 1.0), (0.5, 0.0)]
SPEC = StudentSpec(
    temperature=3.0,
    alpha=0.7,
    loss="kl",
    self_distillation=0.0,
    hidden_layer_sizes=(7, 5),
    activation="relu",
    dropout=0.0,
    student_module=None,
    max_epochs=6,
    batch_size=16,
    learning_rate_init=0.02,
    weight_decay=0.01,
    n_iter_no_change=3,
    callbacks=None,
    dtype="float64",
    device="cpu",
)


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
        n_fit=n,
        n_synthetic=0,
    )


def targets_of(training, dtype=np.float64, hidden=()):
    names = ("proba", "soft_weight", "hard_weight")
    floats = {name: getattr(training, name).astype(dtype) for name in names}
    return Targets(label=training.label, hidden=tuple(hidden), **floats)


def make_mlp(k=3, n_students=None, seed=0, **params):
    return StudentMLP(
        4, k, **{"hidden_layer_sizes": (7, 5), **params}, n_students=n_students, seed=seed
    ).double()


def stacked_objective(loss="kl", hints=()):
    temperatures, alphas = zip(*PAIRS, strict=True)
    return Objective(temperatures, alphas, loss, hints)
