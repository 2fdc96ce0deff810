"""
How many labels does a student need?
====================================

Somebody has fitted teachers and gone. You have 800 rows of your own, and labels for some of them.
A student can learn from the labels alone, from labelled rows and teachers, or from all rows and
teachers, the unlabelled ones included. With no labels at all, the teachers still teach.
"""

# %%
# Teachers that saw other rows
# ----------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skdistill import DistilledClassifier

X, y = make_classification(
    n_samples=5000,
    n_features=20,
    n_informative=8,
    n_redundant=4,
    n_clusters_per_class=4,
    flip_y=0.05,
    random_state=1,
)
X_theirs, X, y_theirs, y = train_test_split(X, y, train_size=1500, random_state=0)
teachers = [
    RandomForestClassifier(100, min_samples_leaf=3, random_state=0).fit(X_theirs, y_theirs),
    HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(X_theirs, y_theirs),
]

# %%
# Four ways to learn
# ------------------
# ``fit(X, y)`` takes labelled rows, ``X_unlabeled`` adds rows that only the teachers label, and
# ``fit(X)`` does without labels. Five draws of the 800 rows.


def student(**params):
    """Make a student that trains in a second."""
    return DistilledClassifier(teachers, hidden_layer_sizes=(32,), **params)


def learn(X_mine, y_mine, n_labels, seed):
    """Fit a student in each of the ways that `n_labels` allow."""
    few = X_mine[:n_labels], y_mine[:n_labels]
    rest = X_mine[n_labels:]
    made = {}
    plain = student(alpha=0, early_stopping=True, validation_fraction=0.2, random_state=seed)
    made["labels alone"] = plain.fit(*few)
    made["labelled rows, teachers"] = student(max_epochs=25, random_state=seed).fit(*few)
    extra = {"X_unlabeled": rest} if len(rest) else {}
    taught = student(max_epochs=25, random_state=seed)
    made["all rows, teachers, labels"] = taught.fit(*few, **extra)
    return made


counts = [50, 200, 800]
loss, unlabelled = {}, []
for seed in range(5):
    X_mine, X_test, y_mine, y_test = train_test_split(X, y, train_size=800, random_state=seed)
    silent = student(max_epochs=25, random_state=seed).fit(X_mine)
    unlabelled.append(log_loss(y_test, silent.predict_proba(X_test)))
    for column, n_labels in enumerate(counts):
        for name, fitted in learn(X_mine, y_mine, n_labels, seed).items():
            table = loss.setdefault(name, np.empty((5, len(counts))))
            table[seed, column] = log_loss(y_test, fitted.predict_proba(X_test))

teacher_loss = log_loss(y, np.mean([t.predict_proba(X) for t in teachers], axis=0))

# %%
# The answer
# ----------
# Bars reach from the best to the worst of five draws.

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
styles = [("#D55E00", "s", "-"), ("#0072B2", "o", "-"), ("#009E73", "^", "-")]
for (name, table), (colour, marker, line), shift in zip(
    loss.items(), styles, (0.96, 1.0, 1.04), strict=True
):
    mean = table.mean(axis=0)
    spread = np.abs(np.stack([table.min(axis=0), table.max(axis=0)]) - mean)
    ax.errorbar(
        np.multiply(counts, shift), mean, spread, color=colour, marker=marker, ls=line, label=name
    )
ax.axhline(np.mean(unlabelled), color="black", ls="--", label="all rows, teachers, no labels")
ax.axhline(teacher_loss, color="grey", ls=":", label="the teachers themselves")
ax.set(xscale="log", xticks=counts, xticklabels=counts, xlabel="labelled rows, of 800")
ax.minorticks_off()
ax.set(ylabel="log-loss on unseen rows", title="Teachers stand in for labels")
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %%
# The same as numbers.

print(f"{'labelled rows':28}" + "".join(f"{n:>10}" for n in counts))
for name, table in loss.items():
    print(f"{name:28}" + "".join(f"{value:10.4f}" for value in table.mean(axis=0)))
print(f"{'no labels':28}{np.mean(unlabelled):10.4f}      the teachers {teacher_loss:.4f}")
