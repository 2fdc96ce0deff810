"""
Which temperature, which alpha?
===============================

The temperature says how soft the teachers' probabilities are made, alpha how much they count beside
the labels. Both can be searched, and one search tells a second thing: how much the choice matters.
"""

# %%
# Teachers that are fitted inside
# -------------------------------
# A search compares students on labels. Where the teachers learned those labels by heart, the
# candidates that listen to them win unfairly. With ``cv=3`` each fit of the student fits its
# teachers itself, on the rows it was given, so that no teacher knows a row that is scored.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skdistill import DistilledClassifier, DistilledClassifierCV, SweepDisplay

X, y = make_classification(
    n_samples=5000,
    n_features=20,
    n_informative=8,
    n_redundant=4,
    n_clusters_per_class=4,
    flip_y=0.05,
    random_state=1,
)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=1000, random_state=0)
teachers = [
    RandomForestClassifier(60, min_samples_leaf=3, random_state=0),
    HistGradientBoostingClassifier(max_iter=40, random_state=0),
]

# %%
# The search
# ----------
# All candidates of a fold are trained side by side as one stacked network, and the teachers are
# fitted and asked once a fold.

student = DistilledClassifier(
    teachers, cv=3, hidden_layer_sizes=(32,), max_epochs=60, random_state=0
)
search = DistilledClassifierCV(
    student,
    temperatures=[1, 2, 4, 8],
    alphas=[0, 0.3, 0.6, 0.9, 1],
    scoring="neg_log_loss",
    cv=5,
).fit(X_train, y_train)

# %%
# The answer
# ----------
# The mean score over five folds, which is the log-loss with its sign turned.

figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
SweepDisplay.from_estimator(search, ax=ax)
plt.show()

# %%
# Which pairs are as good as the best one? Those whose difference from it, fold by fold, is within a
# standard error of zero. Which of them came out first is luck.

results = search.cv_results_
fold_loss = -np.stack([results[f"split{k}_test_score"] for k in range(5)])
worse = fold_loss - fold_loss[:, [search.best_index_]]
error = worse.std(axis=0, ddof=1) / np.sqrt(5)
for params, difference, e in zip(results["params"], worse.mean(axis=0), error, strict=True):
    if difference <= e:
        print(f"{params}: {difference:+.4f} +- {e:.4f}")

# %%
# The row of ``alpha=0`` is the plain student, on which the temperature has no bearing. Here is
# what the choice is worth on rows that nobody saw. The last student has the default temperature and
# alpha too, but teachers that were fitted beforehand, on all of its rows. Such teachers also label
# synthetic rows, so it takes more steps in its sixty epochs.

fitted = [clone(teacher).fit(X_train, y_train) for teacher in teachers]
students = {
    f"{search.best_params_}": search,
    "the defaults": clone(student),
    "labels alone": clone(student).set_params(alpha=0),
    "the defaults, fitted teachers": clone(student).set_params(teachers=fitted, cv="prefit"),
}
for name, candidate in students.items():
    if candidate is not search:
        candidate.fit(X_train, y_train)
    print(f"{name:36}{log_loss(y_test, candidate.predict_proba(X_test)):.4f}")

# %%
# Here alpha decides and the temperature matters little. The teachers of the search were fitted on
# two thirds of few rows; a student that listens to them at the default alpha of 0.9 does worse than
# one that has the labels alone, and the search finds the better mixture. The defaults are meant for
# teachers that were fitted beforehand, on all rows, and with these the same alpha gives the best
# student of the four. A search on the same rows could not tell, because such teachers know them.
