"""
A first student
===============

A random forest, boosted trees and a few neural networks vote. Together they are accurate, large and
slow. One small network learns from their votes and answers almost as well, in microseconds. Two of
scikit-learn's bundled data sets, one table each; then a search over temperature and alpha, and a
pickle that predicts in a process without torch.
"""

# %%
# The data and the teachers
# -------------------------
# Every teacher is an ordinary fitted classifier. The networks need scaled columns, so each brings
# its scaler along in a Pipeline: teachers are shown the rows exactly as they are passed to ``fit``.

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import DistilledClassifier
from skdistill.metrics import log_loss_by_row, paired_difference


def fit_teachers(X, y):
    """Fit a forest, boosted trees and two networks."""
    networks = [
        (
            f"network {seed}",
            make_pipeline(StandardScaler(), MLPClassifier(max_iter=600, random_state=seed)),
        )
        for seed in (1, 2)
    ]
    teachers = [
        ("forest", RandomForestClassifier(200, min_samples_leaf=2, random_state=0)),
        ("boosting", HistGradientBoostingClassifier(random_state=0)),
        *networks,
    ]
    for _, teacher in teachers:
        teacher.fit(X, y)
    return teachers


# %%
# What is measured
# ----------------
# Accuracy and log-loss on rows that nobody saw, the size of the pickle, and the time for one row.


def latency(model, X):
    """Return the median time of ``predict_proba`` on one row, in microseconds."""
    row, times = X[:1], []
    for _ in range(11):
        start = perf_counter()
        model.predict_proba(row)
        times.append(perf_counter() - start)
    return 1e6 * median(times)


def size(model):
    """Return the number of trained numbers of a network, or of the nodes of trees."""
    model = model[-1] if hasattr(model, "steps") else model
    if hasattr(model, "student_"):
        return f"{model.student_.n_parameters_:,}"
    if isinstance(model, MLPClassifier):
        return f"{sum(w.size for w in model.coefs_ + model.intercepts_):,}"
    if hasattr(model, "estimators_"):
        return f"{sum(tree.tree_.node_count for tree in model.estimators_):,} nodes"
    return f"{sum(len(t.nodes) for trees in model._predictors for t in trees):,} nodes"


def show(name, proba, model, X, y):
    """Print a row of the table."""
    accuracy = np.mean(proba.argmax(axis=1) == y)
    loss = log_loss(y, proba)
    if model is None:
        print(f"{name:20}{accuracy:9.1%}{loss:10.4f}")
        return
    kilobytes = len(pickle.dumps(model)) / 1000
    print(
        f"{name:20}{accuracy:9.1%}{loss:10.4f}{size(model):>16}{kilobytes:9.0f} kB"
        f"{latency(model, X):10.0f} us"
    )


# %%
# The main job
# ------------
# Two lines make the student. Its twin, the *plain* student, is the same network with the labels
# alone (``alpha=0``) and early stopping, without which labels alone overfit.


def compare(title, X, y):
    """Distil an ensemble on one data set and print the table."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.4, stratify=y, random_state=0
    )
    teachers = fit_teachers(X_train, y_train)

    student = DistilledClassifier(teachers, random_state=0)
    student.fit(X_train, y_train)

    plain = DistilledClassifier(teachers, alpha=0, early_stopping=True, random_state=0)
    plain.fit(X_train, y_train)

    print(f"\n{title}: {len(X_train)} rows to learn from, {len(X_test)} to judge by")
    print(f"{'':20}{'accuracy':>9}{'log-loss':>10}{'parameters':>16}{'pickle':>12}{'one row':>13}")
    probas = [teacher.predict_proba(X_test) for _, teacher in teachers]
    for (name, teacher), proba in zip(teachers, probas, strict=True):
        show(name, proba, teacher, X_test, y_test)
    show("all of them", np.mean(probas, axis=0), None, X_test, y_test)
    show("plain student", plain.predict_proba(X_test), plain, X_test, y_test)
    show("distilled student", student.predict_proba(X_test), student, X_test, y_test)

    losses = [
        log_loss_by_row(y_test, proba)
        for proba in (
            plain.predict_proba(X_test),
            np.mean(probas, axis=0),
            student.predict_proba(X_test),
        )
    ]
    gap, error = paired_difference(losses[0], losses[1])
    gain, _ = paired_difference(losses[0], losses[2])
    print(f"log-loss gap from the plain student to all of them: {gap:.4f} +- {error:.4f}")
    if gap > 2 * error:
        print(f"share of it recovered: {gain / gap:.0%}")
    else:
        print(f"within two standard errors: no share is given; the student gained {gain:.4f}")


compare("breast_cancer", *load_breast_cancer(return_X_y=True))
compare("digits", *load_digits(return_X_y=True))

# %%
# A search, a pickle
# ------------------
# The student is a step of a Pipeline like any other; only scaling does not belong in front of it,
# because the teachers would be shown scaled rows. The scores below are honest because the teachers
# never saw the rows of the search. Where they did, ``cv=5`` in the student has them fitted inside.
# One narrow layer and few epochs keep the search short.

X, y = load_digits(return_X_y=True)
X_teach, X_search, y_teach, y_search = train_test_split(
    X, y, test_size=0.5, stratify=y, random_state=0
)
forest = FrozenEstimator(
    RandomForestClassifier(100, min_samples_leaf=2, random_state=0).fit(X_teach, y_teach)
)
student = DistilledClassifier([forest], hidden_layer_sizes=(32,), max_epochs=10, random_state=0)
pipeline = make_pipeline(student)
search = GridSearchCV(
    pipeline,
    {"distilledclassifier__temperature": [1, 3], "distilledclassifier__alpha": [0.5, 0.9]},
    cv=2,
    scoring="neg_log_loss",
)
search.fit(X_search, y_search)
print(f"\nsearch: best {search.best_params_}, log-loss {-search.best_score_:.4f}")

# %%
# Pickled is the winner, ``best_estimator_``: it leaves its teachers behind. The process that loads
# it refuses to import torch, and predicts the same.

LOAD = """
import pickle, sys
import numpy as np

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "skorch"):
            raise ImportError(f"{name} is not wanted here")

sys.meta_path.insert(0, NoTorch())
with open(sys.argv[1], "rb") as file:
    student, X, expected = pickle.load(file)
assert np.array_equal(student.predict_proba(X), expected)
print(f"loaded without torch: {len(X)} equal predictions")
"""

winner = search.best_estimator_
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "student.pickle"
    path.write_bytes(pickle.dumps((winner, X_search, winner.predict_proba(X_search))))
    forest_bytes, student_bytes = len(pickle.dumps(forest)), len(pickle.dumps(winner))
    print(f"pickle of the forest {forest_bytes:,} bytes, of the winner {student_bytes:,} bytes")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-c", LOAD, str(path)], check=True)
