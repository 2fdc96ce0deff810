"""
Labels from here, rows from there
=================================

The labels are of one domain, and the student will serve another: last year's customers and this
year's, one hospital and the next. Rows of the new domain are there, but nobody has labelled them.
The teachers can. Is that worth it, and does it matter whether the teachers know the new domain?
"""

# %%
# Two domains
# -----------
# One made-up set is divided along its main direction, with some chance, so that the domains
# overlap. What is right for a row does not change; only which rows there are.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import log_loss

from skdistill import DistilledClassifier

X, y = make_classification(
    n_samples=8000,
    n_features=20,
    n_informative=8,
    n_redundant=4,
    n_clusters_per_class=4,
    flip_y=0.05,
    random_state=1,
)
place = PCA(1, random_state=0).fit_transform(X).ravel()
place /= place.std()


def draw(seed):
    """Return row numbers: labelled and spare ones of the old domain, three parts of the new."""
    rng = np.random.default_rng(seed)
    new = place + 0.5 * rng.normal(size=len(X)) > 0
    order = rng.permutation(len(X))
    old, new = order[~new[order]], order[new[order]]
    return old[:500], old[500:1500], new[:500], new[500:1500], new[1500:]


def fit_teachers(rows, seed):
    """Fit a forest and boosted trees."""
    return [
        RandomForestClassifier(50, min_samples_leaf=3, random_state=seed).fit(X[rows], y[rows]),
        HistGradientBoostingClassifier(max_iter=30, random_state=seed).fit(X[rows], y[rows]),
    ]


# %%
# Five draws
# ----------
# The student's labels are 500 of the old domain, always. The first teachers learned from these too;
# the second ones from 500 labelled rows of the new domain besides, which the student does not have.
# The 1,000 unlabelled rows are none that a teacher learned from. Rows of the old domain stand
# beside those of the new one, to tell more rows from better ones. With either an epoch has 24 steps
# in place of 16, so that 30 epochs are as many steps as 45.

N_DRAWS = 5
knowledge = ["the old domain", "both domains"]
extras = ["none", "old domain", "new domain"]
loss = np.empty((len(knowledge), len(extras), N_DRAWS))
teacher_loss = np.empty((len(knowledge), N_DRAWS))
for seed in range(N_DRAWS):
    labelled, spare, known, unlabelled, test = draw(seed)
    learned_from = [labelled, np.concatenate([labelled, known])]
    for i, rows in enumerate(learned_from):
        teachers = fit_teachers(rows, seed)
        together = np.mean([teacher.predict_proba(X[test]) for teacher in teachers], axis=0)
        teacher_loss[i, seed] = log_loss(y[test], together)
        for j, extra in enumerate([None, spare, unlabelled]):
            student = DistilledClassifier(
                teachers,
                hidden_layer_sizes=(32,),
                n_synthetic=1500,
                max_epochs=45 if extra is None else 30,
                random_state=seed,
            )
            more = None if extra is None else X[extra]
            student.fit(X[labelled], y[labelled], X_unlabeled=more)
            loss[i, j, seed] = log_loss(y[test], student.predict_proba(X[test]))

# %%
# The answer
# ----------
# A thin mark is a draw, a thick one the mean of five.

figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
colours, markers = ["#999999", "#E69F00", "#0072B2"], ["o", "s", "D"]
for i in range(len(knowledge)):
    for j, extra in enumerate(extras):
        height = i + 0.22 * (j - 1)
        ax.plot(loss[i, j], np.full(N_DRAWS, height), markers[j], color=colours[j], alpha=0.35)
        label = f"unlabelled rows: {extra}" if i == 0 else None
        mean = loss[i, j].mean()
        ax.plot(mean, height, markers[j], color=colours[j], mec="black", ms=10, label=label)
    label = "the teachers themselves" if i == 0 else None
    ax.vlines(teacher_loss[i].mean(), i - 0.4, i + 0.4, color="black", ls="--", label=label)
ax.set_yticks(range(len(knowledge)), [f"teachers that know\n{name}" for name in knowledge])
ax.invert_yaxis()
ax.set(xlabel="log-loss in the new domain (less is better)", title="What the student learned from")
ax.grid(axis="x", alpha=0.3)
figure.legend(loc="outside lower center", ncols=2)
plt.show()

# %%
# What counts is the difference within a draw. With its 95 % interval over the five:

for i, name in enumerate(knowledge):
    for j, k in [(1, 0), (2, 0), (2, 1)]:
        change = loss[i, j] - loss[i, k]
        half = t.ppf(0.975, N_DRAWS - 1) * change.std(ddof=1) / np.sqrt(N_DRAWS)
        print(
            f"teachers of {name:15} unlabelled rows of {extras[j]} instead of {extras[k]:11}"
            f"{change.mean():+.4f} +- {half:.4f}"
        )

# %%
# With teachers that know both domains, unlabelled rows of the new one carry that knowledge over:
# the student comes close to its teachers there. Unlabelled rows of the old domain do little or
# nothing, so it is not their number. With teachers that know the old domain alone, no unlabelled
# row helps: where these are wrong, the student learns to be wrong with them. Before rows of a new
# domain are gathered for a student, a hundred labels there tell whether its teachers are worth
# asking.
