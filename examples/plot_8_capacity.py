"""
How small can the student be?
=============================

Students of six sizes learn from the same teachers, and from labels alone. The smaller the network,
the less it can hold; the figure shows where the teachers' knowledge no longer fits, and how many
parameters a plain network needs to get as far.
"""

# %%
# The teachers
# ------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skdistill import DistilledClassifier

X, y = make_classification(
    n_samples=4000,
    n_features=20,
    n_informative=8,
    n_redundant=4,
    n_clusters_per_class=4,
    flip_y=0.05,
    random_state=1,
)


def fit_teachers(X, y, seed):
    """Fit a forest and boosted trees."""
    return [
        RandomForestClassifier(100, min_samples_leaf=3, random_state=seed).fit(X, y),
        HistGradientBoostingClassifier(max_iter=40, random_state=seed).fit(X, y),
    ]


# %%
# Six sizes, four splits
# ----------------------
# The plain student of each size is the same network on labels alone, stopped early.

SIZES = [(2,), (4,), (8,), (16,), (32,), (64, 32)]
N_SPLITS = 4
n_parameters = []
teacher_loss = np.empty(N_SPLITS)
distilled_loss, plain_loss = np.empty((2, len(SIZES), N_SPLITS))
for split in range(N_SPLITS):
    X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=800, random_state=split)
    teachers = fit_teachers(X_train, y_train, split)
    together = np.mean([teacher.predict_proba(X_test) for teacher in teachers], axis=0)
    teacher_loss[split] = log_loss(y_test, together)
    for row, size in enumerate(SIZES):
        shape = {"hidden_layer_sizes": size, "random_state": split}
        distilled = DistilledClassifier(teachers, max_epochs=20, **shape).fit(X_train, y_train)
        plain = DistilledClassifier(teachers, alpha=0, early_stopping=True, **shape)
        plain.fit(X_train, y_train)
        distilled_loss[row, split] = log_loss(y_test, distilled.predict_proba(X_test))
        plain_loss[row, split] = log_loss(y_test, plain.predict_proba(X_test))
        if split == 0:
            n_parameters.append(distilled.student_.n_parameters_)

# %%
# The answer
# ----------
# Lines are means of four splits, bands reach from the best split to the worst.

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for losses, name, colour, marker in [
    (plain_loss, "labels alone", "#D55E00", "s"),
    (distilled_loss, "labels and teachers", "#0072B2", "o"),
]:
    ax.plot(n_parameters, losses.mean(axis=1), marker=marker, color=colour, label=name)
    ax.fill_between(n_parameters, losses.min(axis=1), losses.max(axis=1), color=colour, alpha=0.15)
ax.axhline(teacher_loss.mean(), color="black", ls="--", label="the teachers themselves")
ax.axhspan(teacher_loss.min(), teacher_loss.max(), color="black", alpha=0.08)
ax.set(xscale="log", xticks=n_parameters, xticklabels=[f"{n:,}" for n in n_parameters])
ax.minorticks_off()
ax.set(xlabel="parameters of the student", ylabel="log-loss on unseen rows (less is better)")
ax.set_title("What a student of a given size can hold")
ax.grid(alpha=0.3)
ax.legend()
plt.show()

# %%
# The share of the gap between plain student and teachers that the distilled one recovered, from the
# means over the splits. Over 100 % means: better than the teachers.

print(f"{'hidden layers':16}{'parameters':>10}{'plain':>9}{'distilled':>11}{'recovered':>11}")
for row, size in enumerate(SIZES):
    plain, distilled = plain_loss[row].mean(), distilled_loss[row].mean()
    share = (plain - distilled) / (plain - teacher_loss.mean())
    print(f"{size!s:16}{n_parameters[row]:10,}{plain:9.4f}{distilled:11.4f}{share:11.0%}")
print(f"{'teachers':26}{teacher_loss.mean():9.4f}")
print(f"distilled {SIZES[0]}, split by split: {distilled_loss[0].round(4)}")

# %%
# Two hidden units are too few for this recipe. One of the four students learned nothing: both of
# its units fell silent, it gives every row the same answer, and its log-loss is that of a coin,
# ln 2 = 0.693. So labels alone do better on average. From four units on, the teachers help at every
# size.
#
# Without rows to spare for such a figure, :func:`~skdistill.smallest_student` draws its curve by
# cross-validation, and fits the least size that is nearly as good as the best.
