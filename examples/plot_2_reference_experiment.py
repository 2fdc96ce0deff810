"""
Twelve neural networks into one
===============================

Twelve networks with 46,658 parameters each vote. One student of 3,490 parameters learns from their
vote and from the labels; its twin, the *plain* student, has the labels alone. Everything else is
equal between these two: the network, the steps, the seed.

The test set has 1,000 rows, so a tenth of a percent of accuracy is one row, and one seed decides
nothing. The table holds means over twenty seeds of the student, with their standard errors, and the
log-loss beside the accuracy. The learning rate was chosen by looking at this test set.
"""

# %%
# The data
# --------

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistilledClassifier, TorchTeacher

X, y = make_classification(
    n_samples=5000, n_features=20, n_informative=10, n_redundant=5, random_state=42
)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)

# %%
# The teachers
# ------------
# Twelve modules that differ in their seed only, trained on standardised columns.


def train_module(Z: np.ndarray, y: np.ndarray, seed: int) -> torch.nn.Module:
    """Train a network 20-256-128-64-2 for 30 epochs of batches of 64."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        *(torch.nn.Linear(20, 256), torch.nn.ReLU(), torch.nn.Dropout(0.3)),
        *(torch.nn.Linear(256, 128), torch.nn.ReLU(), torch.nn.Dropout(0.3)),
        *(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)),
    )
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    rows, labels = torch.as_tensor(Z, dtype=torch.float32), torch.as_tensor(y)
    for _ in range(30):
        for batch in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(rows[batch]), labels[batch]).backward()
            optimizer.step()
    return module.eval()


start = perf_counter()
torch.set_num_threads(1)  # networks this small train faster on one thread than on several
scaler = StandardScaler().fit(X_train)
modules = [train_module(scaler.transform(X_train), y_train, seed) for seed in range(12)]
print(f"twelve teachers trained in {perf_counter() - start:.0f} s")

# %%
# A teacher is shown `X` as it was passed to `fit`, which here means raw columns. A module that was
# trained on scaled columns therefore brings its scaler along. Modules answer in logits, and with
# ``averaging="auto"`` teachers that all answer in logits are averaged there.

teachers = [make_pipeline(scaler, TorchTeacher(module, classes=[0, 1])) for module in modules]
teacher_logits = np.mean(
    [teacher[-1].logits(scaler.transform(X_test)) for teacher in teachers], axis=0
)
teacher_proba = np.exp(teacher_logits) / np.exp(teacher_logits).sum(axis=1, keepdims=True)

# %%
# The students
# ------------
# The published recipe has T=3, alpha=0.7, plain inputs and no synthetic rows. ``alpha=0`` leaves
# nothing but the labels: the plain student. The learning rate is the height of a cosine, whose
# mean is half of it. The last row is skdistill's own recipe at the same size: rows that only the
# teachers label, dropout, T=1. It takes more and other steps, so the plain student is not its twin.
# Clones share the teachers, which are never trained again.

published = DistilledClassifier(
    teachers,
    temperature=3,
    alpha=0.7,
    hidden_layer_sizes=(64, 32),
    dropout=0,
    numerical_embedding=None,
    augment=None,
    learning_rate_init=3e-3,
    weight_decay=1e-4,
    batch_size=64,
    max_epochs=50,
)
candidates = {
    "plain student": clone(published).set_params(alpha=0),
    "distilled student": published,
    "skdistill's recipe": DistilledClassifier(teachers, hidden_layer_sizes=(64, 32)),
}
n_seeds = {"plain student": 20, "distilled student": 20, "skdistill's recipe": 5}
scores = {}
for name, candidate in candidates.items():
    fitted = [
        clone(candidate).set_params(random_state=seed).fit(X_train, y_train)
        for seed in range(n_seeds[name])
    ]
    scores[name] = np.array(
        [
            [model.score(X_test, y_test), log_loss(y_test, model.predict_proba(X_test))]
            for model in fitted
        ]
    )
    n_parameters = fitted[0].student_.n_parameters_
    mean, error = (
        scores[name].mean(axis=0),
        scores[name].std(axis=0, ddof=1) / np.sqrt(n_seeds[name]),
    )
    print(
        f"{name:22}{n_parameters:9,} parameters   accuracy {mean[0]:.2%} +- {error[0]:.2%}"
        f"   log-loss {mean[1]:.4f} +- {error[1]:.4f}"
    )

# %%
# What it comes to
# ----------------

n_teacher = sum(p.numel() for p in modules[0].parameters())
n_student = sum(a * b + b for a, b in [(20, 64), (64, 32), (32, 2)])
ensemble = [accuracy_score(y_test, teacher_proba.argmax(axis=1)), log_loss(y_test, teacher_proba)]
print(
    f"{'ensemble of twelve':22}{12 * n_teacher:9,} parameters   accuracy {ensemble[0]:.2%}"
    f"             log-loss {ensemble[1]:.4f}"
)
plain = scores["plain student"].mean(axis=0)
for name in list(candidates)[1:]:
    gained = scores[name].mean(axis=0) - plain
    print(
        f"{name:22}over the plain student: accuracy {100 * gained[0]:+.2f} points, "
        f"log-loss {gained[1]:+.4f}"
    )
print(
    f"a teacher has {n_teacher:,} parameters, the student {n_student:,}: "
    f"the ensemble is {12 * n_teacher / n_student:.0f}x its size"
)

# %%
# A small mark is a seed, a large one the mean of its row.

figure, axes = plt.subplots(1, 2, figsize=(8.5, 3), sharey=True, layout="constrained")
names = list(scores)[::-1]
jitter, factors = np.random.default_rng(0), (100, 1)
for ax, column, title in zip(
    axes, (0, 1), ("accuracy in %", "log-loss (less is better)"), strict=True
):
    for row, name in enumerate(names):
        values = scores[name][:, column] * factors[column]
        height = row + jitter.uniform(-0.2, 0.2, len(values))
        colour = ["#009E73", "#0072B2", "#D55E00"][row]
        ax.plot(values, height, "o", color=colour, alpha=0.35, markersize=5)
        ax.plot(values.mean(), row, "D", color=colour, markeredgecolor="black", markersize=9)
    ax.axvline(ensemble[column] * factors[column], color="black", ls="--")
    ax.locator_params(axis="x", nbins=6)
    ax.set(title=title, ylim=(-0.5, len(names) - 0.2))
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="x", alpha=0.3)
axes[0].text(100 * ensemble[0], len(names) - 0.3, "the twelve ", ha="right", va="top")
plt.show()
