"""
Are several teachers better than the best one?
==============================================

A forest, boosted trees and a network know the same data, each in its own way. A student can learn
from any one of them or from the mean of all. Five random splits say which it should be, and how
much of the difference is luck.
"""

# %%
# Teachers and students
# ---------------------
# Every student is the same small network, trained for the same steps; only its teachers differ.
# The plain student has no teacher, and early stopping, without which labels alone overfit.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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
    """Fit three classifiers of different kinds."""
    network = MLPClassifier((50,), learning_rate_init=0.005, early_stopping=True, random_state=seed)
    teachers = {
        "network": make_pipeline(StandardScaler(), network),
        "forest": RandomForestClassifier(100, min_samples_leaf=3, random_state=seed),
        "boosting": HistGradientBoostingClassifier(max_iter=40, random_state=seed),
    }
    return {name: teacher.fit(X, y) for name, teacher in teachers.items()}


def student_of(teachers, seed, **params):
    """Make a student that trains in less than a second."""
    settings = {"hidden_layer_sizes": (32,), "numerical_embedding": "piecewise_linear"}
    return DistilledClassifier(teachers, random_state=seed, **settings, **params)


# %%
# Five splits
# -----------
# Log-loss on rows that nobody saw, for each teacher, each student, and all teachers together.

student_loss, teacher_loss = {}, {}
for seed in range(5):
    X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=800, random_state=seed)
    fitted = fit_teachers(X_train, y_train, seed)
    groups = {name: [teacher] for name, teacher in fitted.items()}
    groups["all three"] = list(fitted.values())
    for name, teachers in groups.items():
        student = student_of(teachers, seed, max_epochs=20).fit(X_train, y_train)
        student_loss.setdefault(name, []).append(log_loss(y_test, student.predict_proba(X_test)))
        proba = np.mean([teacher.predict_proba(X_test) for teacher in teachers], axis=0)
        teacher_loss.setdefault(name, []).append(log_loss(y_test, proba))
    plain = student_of(list(fitted.values()), seed, alpha=0, early_stopping=True)
    plain.fit(X_train, y_train)
    student_loss.setdefault("none", []).append(log_loss(y_test, plain.predict_proba(X_test)))

# %%
# The answer
# ----------
# A thin mark is a split, a thick one their mean.

names = ["none", "network", "forest", "boosting", "all three"]
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for losses, label, colour, marker, shift in [
    (teacher_loss, "the teachers themselves", "#D55E00", "s", -0.13),
    (student_loss, "their student", "#0072B2", "o", 0.13),
]:
    for row, name in enumerate(names):
        if name in losses:
            height = np.full(len(losses[name]), row + shift)
            ax.plot(losses[name], height, marker, color=colour, alpha=0.3, markersize=5)
            mean = np.mean(losses[name])
            ax.plot(mean, row + shift, marker, color=colour, markersize=10, label=label)
            label = None
labels = ["none (labels alone)", *names[1:]]
ax.set(yticks=range(len(names)), yticklabels=labels)
ax.set(xlabel="log-loss on unseen rows (less is better)")
ax.set_title("What the student learned from")
ax.grid(axis="x", alpha=0.3)
ax.legend(loc="upper right")
plt.show()

# %%
# Teachers and students of a split share its luck, so what counts is the difference within a split.

for name in names[:-1]:
    gained = np.subtract(student_loss[name], student_loss["all three"])
    print(
        f"all three instead of {name:9} {gained.mean():+.4f} +- "
        f"{gained.std(ddof=1) / np.sqrt(len(gained)):.4f} in log-loss, "
        f"better in {np.sum(gained > 0)} of {len(gained)} splits"
    )

# %%
# Here the answer is no. All three teach better than labels alone or the network, in every split,
# but not better than the forest or the boosted trees alone: these differences are within two
# standard errors. In the mean the weak network counts as much as the others; ``teacher_weights``
# can give it a smaller share.
