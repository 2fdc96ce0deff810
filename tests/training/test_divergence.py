"""Training that ends at a student that knows nothing is said, and no other."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.tree import DecisionTreeClassifier

from skdistill.training.objective import Objective, Targets
from tests.quick_students import Fixed, fitted_teacher, make_data, quick

X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_a_rate_that_is_too_high(loss, early_stopping, rate):
    """Whatever it does to the network, the student is good, or a warning says that it is not."""
    rows, labels = make_data(labels=("no", "perhaps", "yes"))
    student = quick(
        [fitted_teacher(rows, labels)],
        loss=loss,
        early_stopping=early_stopping,
        learning_rate_init=rate,
        hidden_layer_sizes=(8, 8),
        max_epochs=20,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.fit(rows, labels)
    good = student.score(rows, labels) > 1 / 3
    said = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    assert good or said
    assert all(f"Lower learning_rate_init={rate}" in str(w.message) for w in said)
    assert all(w.filename == __file__ for w in said)


def test_far_worse_than_equal_probabilities():
    student = quick([TEACHER], loss="mse", learning_rate_init=1e6, max_epochs=3)
    with pytest.warns(ConvergenceWarning, match=r"The student's loss is .*, and equal .* have"):
        student.fit(X, Y)


def test_units_that_died():
    """No unit answers any row: each gets the biases of the last layer."""

    def loss(student_logits, target_proba, y, *, temperature):
        return 1e9 * student_logits.square().sum(-1)

    student = quick([TEACHER], loss=loss, learning_rate_init=1e6, max_epochs=5)
    with pytest.warns(ConvergenceWarning, match="gives every row the same answer"):
        student.fit(X, Y)
    assert (student.predict_proba(X) == student.predict_proba(X)[:1]).all()


@pytest.mark.parametrize(
    "params",
    [
        {"max_epochs": 1},
        {"max_epochs": 1, "learning_rate_init": 1e-9},
        {"temperature": 1e9, "alpha": 1.0, "max_epochs": 1},
        {"temperature": 1e9, "alpha": 0.5},
        {"temperature": 1e4, "alpha": 1.0},
    ],
    ids=str,
)
def test_the_untrained_and_the_hot_are_let_be(params):
    quick([TEACHER], **params).fit(X, Y)


def test_rows_that_are_all_alike_have_one_answer():
    quick(alpha=0.0, max_epochs=2).fit(np.ones_like(X), Y)


@pytest.mark.parametrize(("alpha", "said"), [(1.0, 0), (0.5, 1)])
def test_one_answer_where_there_is_one_to_learn(alpha, said):
    """A teacher's one answer can be learned by units that died, labels cannot."""

    def loss(student_logits, target_proba, y, *, temperature):
        return 1e9 * student_logits.square().sum(-1)

    student = quick([Fixed([0.3, 0.7])], loss=loss, learning_rate_init=1e6, alpha=alpha)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.fit(X, (Y == "yes").astype(int))
    assert (student.predict_proba(X) == student.predict_proba(X)[:1]).all()
    assert sum(issubclass(w.category, ConvergenceWarning) for w in caught) == said


def test_a_stream_is_judged_too():
    shards = [(X, TEACHER.predict_proba(X), Y)]
    student = quick([TEACHER], learning_rate_init=1e6, loss="mse", max_epochs=3)
    with pytest.warns(ConvergenceWarning, match="training diverged"):
        student.fit_stream(shards)


def test_a_loss_of_the_users_own_is_not_compared():
    def loss(student_logits, target_proba, y, *, temperature):
        return (student_logits - 50).square().sum(-1)

    quick([TEACHER], loss=loss, alpha=1.0, max_epochs=1).fit(X, Y)


def test_one_batch_is_not_judged():
    """A class that arrives late, or a row with a wrong label, is no divergence."""
    student = quick([TEACHER], alpha=0.0).fit(X, np.zeros(len(X), dtype=int) + (X[:, 0] > 0))
    for _ in range(5):
        student.partial_fit(X[X[:, 0] > 1][:2], [0, 0])


def test_saturated_answers_that_are_alike_are_seen():
    """At such a temperature the logits differ by millions, and one class has all of every row."""
    rows, labels = make_data(labels=("no", "perhaps", "yes"))
    teacher = DecisionTreeClassifier(random_state=0).fit(rows, labels)
    student = quick([teacher], temperature=1e6, alpha=1.0, augment=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.fit(rows, labels)
    alike = len(np.unique(student.predict_proba(rows), axis=0)) == 1
    said = any("the same answer" in str(w.message) for w in caught)
    assert said == alike


def test_rounding_at_a_huge_temperature_is_no_divergence():
    """T²·KL of nearly equal answers is noise there, hundreds of nats in float64."""
    objective = Objective(1e9, 1.0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        proba, logits = rng.dirichlet([1, 1], size=1), rng.normal(size=(1, 2)) / 100
        targets = Targets(proba, np.zeros(1, dtype=int), np.ones(1), np.ones(1))
        assert objective.worse_than_uniform(logits, targets) is None
