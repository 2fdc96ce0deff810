"""
Was it worth it?
================

Distilling pays where the student is better than the same network trained on labels alone, the
*plain student*. :func:`skdistill.distillation_report` compares both with the teachers on rows that
nobody saw, and says what was shown and what was not.
"""

# %%
# Two teachers and their student
# ------------------------------

from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split

from skdistill import (
    AgreementDisplay,
    DistillationDisplay,
    DistilledClassifier,
    distillation_report,
)

X, y = make_classification(
    4000, n_features=20, n_informative=10, n_redundant=5, n_clusters_per_class=4, random_state=0
)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
forest = RandomForestClassifier(100, min_samples_leaf=2, random_state=0).fit(X_train, y_train)
boosting = HistGradientBoostingClassifier(random_state=0).fit(X_train, y_train)

student = DistilledClassifier([("forest", forest), ("boosting", boosting)], random_state=0)
student.fit(X_train, y_train)

# %%
# The report
# ----------
# The plain student is trained inside, on the rows that are passed, with the settings of the
# distilled one and with early stopping. A share of the gap between it and the ensemble is given
# only where there is a gap beyond the noise of the rows.

report = distillation_report(
    student, X_test, y_test, X_train=X_train, y_train=y_train, random_state=0
)
print(report)

# %%
# The same as a picture
# ---------------------
# Good and fast is at the bottom on the left. The markers grow with the bytes on disk.

DistillationDisplay.from_report(report)

# %%
# Where the two differ
# --------------------
# Student and ensemble name different classes mostly where the ensemble itself is in doubt.

AgreementDisplay.from_estimator(student, X_test, y_test)
