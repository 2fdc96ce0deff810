"""
Why is my cross-validation too good?
====================================

The labels below are thrown by a coin, so no classifier can be right more often than half the time.
A student of teachers that were fitted on all rows seems to be. So does one whose soft targets were
made out of fold, once, before the cross-validation. Only fitting the teachers inside ``fit`` gives
the truth.
"""

# %%
# Three ways to score a student
# -----------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import cross_val_predict, cross_val_score

from skdistill import DistilledClassifier

N_DRAWS = 8
forest = ExtraTreesClassifier(30, min_samples_leaf=2, random_state=0)
student = DistilledClassifier(
    hidden_layer_sizes=(32,), max_epochs=40, augment=None, alpha=1, random_state=0
)


def prefit(X, y):
    """Fit the teacher on all rows, then cross-validate the student."""
    fitted = clone(forest).fit(X, y)
    return cross_val_score(clone(student).set_params(teachers=[fitted]), X, y)


def targets_outside(X, y):
    """Make out-of-fold targets once, then cross-validate the student on them."""
    proba = cross_val_predict(forest, X, y, method="predict_proba")
    return cross_val_score(student, X, y, params={"teacher_proba": proba})


def fitted_inside(X, y):
    """Have each fit of the student cross-fit the teacher on the rows it was given."""
    return cross_val_score(clone(student).set_params(teachers=[forest], cv=3), X, y)


ways = {
    "teacher fitted on all rows": prefit,
    "out-of-fold targets, made once": targets_outside,
    "cv=3: fitted inside fit": fitted_inside,
}
accuracy = {name: [] for name in ways}
for seed in range(N_DRAWS):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(200, 5)), rng.permutation(np.arange(200) % 2)
    for name, way in ways.items():
        accuracy[name].append(way(X, y).mean())

# %%
# The answer
# ----------
# A dot is one draw of 200 rows and labels, a bar the mean of eight with two standard errors.

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
colours = ["#D55E00", "#E69F00", "#0072B2"]
for row, scores in enumerate(accuracy.values()):
    jitter = np.linspace(-0.18, 0.18, N_DRAWS)
    ax.plot(scores, row + jitter, "o", color=colours[row], alpha=0.4)
    error = np.std(scores, ddof=1) / np.sqrt(N_DRAWS)
    ax.errorbar(
        np.mean(scores), row, xerr=2 * error, fmt="D", color=colours[row], ms=9, lw=3, mec="black"
    )
ax.axvline(0.5, color="black", ls="--")
ax.text(0.5, -0.45, " the truth", va="center")
ax.set_yticks(range(len(ways)), ways)
ax.set(ylim=(2.5, -0.6), xlabel="accuracy by cross-validation", title="Labels thrown by a coin")
ax.grid(axis="x", alpha=0.3)
plt.show()

# %%
# The teachers carry the labels of the held-out rows into the soft targets of the others. That does
# not make the student bad, only its score: on rows that no teacher saw, the score is honest too.

for name, scores in accuracy.items():
    print(f"{name:32}{np.mean(scores):.3f} +- {np.std(scores, ddof=1) / np.sqrt(N_DRAWS):.3f}")
