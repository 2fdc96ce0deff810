"""Laws of the search over sizes: what is compared, what is chosen, and what it costs."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from quick_students import Counting, fitted_teacher, make_data, quick
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    RepeatedKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skdistill import SmallestStudent, smallest_student
from skdistill.metrics import log_loss_by_row, paired_difference
from skdistill.report.size_table import SizeRow
from skdistill.training.trainer import StudentTrainer

X, Y = make_data()
SIZES = [(16,), (4,), ()]


@pytest.fixture(autouse=True)
def _on_90_rows_a_plain_student_may_be_better():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The teachers are worse than a plain student")
        yield
    plt.close("all")


def inside(**params):
    """Return a student whose teacher is fitted inside."""
    return quick([LogisticRegression()], **{"cv": 2, "max_epochs": 20, **params})


def search(estimator=None, X=X, y=Y, **params):
    settings = {"tolerance": 0.02, "sizes": SIZES, "cv": 3, **params}
    return smallest_student(inside() if estimator is None else estimator, X, y, **settings)


def row_of(found, size):
    return next(row for row in found.rows if row.hidden_layer_sizes == size)


# What is compared


@pytest.mark.parametrize("cv", ["prefit", 2])
def test_log_losses_are_those_of_cross_validation(cv):
    # Ten rows of each class in every fold, so that the mean of folds is the mean of rows.
    student = quick([fitted_teacher(X, Y)], cv=cv, max_epochs=20)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The teachers are fitted already")
        found = search(student)
    for size in SIZES:
        sized = clone(student).set_params(hidden_layer_sizes=size)
        expected = cross_val_score(sized, X, Y, cv=3, scoring="neg_log_loss")
        assert row_of(found, size).log_loss == pytest.approx(-expected.mean(), rel=1e-9)


def test_differences_are_paired_row_by_row():
    found, losses = search(), {}
    for size in SIZES:
        losses[size] = np.empty(len(X))
        for train, test in StratifiedKFold(3).split(X, Y):
            student = inside(hidden_layer_sizes=size).fit(X[train], Y[train])
            proba = student.predict_proba(X[test])
            losses[size][test] = log_loss_by_row(Y[test], proba, labels=student.classes_)
    best = min(SIZES, key=lambda size: losses[size].mean())
    for size in SIZES:
        expected = paired_difference(losses[size], losses[best])
        row = row_of(found, size)
        assert (row.difference, row.standard_error) == pytest.approx(expected, rel=1e-9)
    assert row_of(found, best).difference == row_of(found, best).standard_error == 0


def test_rows_without_weight_count_for_nothing():
    weight = np.ones(90)
    weight[::3] = 0
    spoilt = X.copy()
    spoilt[::3] += 3.0
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    student = inside(numerical_embedding=None)
    one, two = (search(student, rows, Y, sample_weight=weight, cv=folds) for rows in (X, spoilt))
    assert [r.log_loss for r in one.rows] == pytest.approx([r.log_loss for r in two.rows])
    assert one.rows != search(student, cv=folds).rows


def test_a_row_held_out_twice_counts_once():
    repeated = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    found = search(cv=repeated, sizes=[(4,), ()])
    halves = [list(repeated.split(X))[:3], list(repeated.split(X))[3:]]
    means = [search(cv=half, sizes=[(4,), ()]) for half in halves]
    for size in [(4,), ()]:
        expected = np.mean([row_of(half, size).log_loss for half in means])
        assert row_of(found, size).log_loss == pytest.approx(expected)


def test_a_class_that_a_fold_lacks_is_a_surprise_and_no_error():
    X3, y3 = make_data(labels=("ant", "bee", "cat"))
    order = np.argsort(y3, kind="stable")
    folds = [(order[:60], order[60:]), (order[30:], order[:30])]
    found = search(quick([fitted_teacher(X3, y3)], alpha=0.0, max_epochs=5), X3, y3, cv=folds)
    # Each fold holds out one class that it never saw, at the least probability there is.
    assert all(row.log_loss > 30 for row in found.rows)
    assert found.estimator.classes_.tolist() == ["ant", "bee", "cat"]


# What is chosen


def test_the_student_is_the_one_that_fit_gives():
    found = search()
    size = found.hidden_layer_sizes
    expected = inside(hidden_layer_sizes=size).fit(X, Y)
    assert found.estimator.hidden_layer_sizes == size
    np.testing.assert_array_equal(found.estimator.predict_proba(X), expected.predict_proba(X))


def table(*rows):
    """Return a table of (n_parameters, difference, standard error)."""
    return tuple(SizeRow((n,), n, 0.5 + d, d, e) for n, d, e in rows)


@pytest.mark.parametrize(
    ("tolerance", "chosen"), [(0, 50), (0.01, 20), (0.0099, 50), (0.03, 5), (9, 2), ("1se", 10)]
)
def test_the_least_size_within_the_tolerance_is_chosen(tolerance, chosen):
    nan = float("nan")
    rows = table((100, 0.001, 0.0), (50, 0, 0), (20, 0.01, 0.005), (10, 0.02, 0.021),
                 (5, 0.03, 0.02), (2, 0.5, 0.1), (1, nan, nan))  # fmt: skip
    found = SmallestStudent(None, None, rows, 0)
    assert found.within(tolerance) == (chosen,)


def test_of_two_equally_large_ones_the_better_is_chosen():
    rows = (*table((9, 0.0, 0.0), (3, 0.01, 0.0)), SizeRow((1, 1), 3, 0.505, 0.005, 0.0))
    assert SmallestStudent(None, None, rows, 0).within(0.02) == (1, 1)


def test_sizes_are_tried_once_and_listed_by_parameters():
    found = search(sizes=[(4,), [16], (), (4,)])
    assert [row.hidden_layer_sizes for row in found.rows] == [(16,), (4,), ()]
    n_parameters = [row.n_parameters for row in found.rows]
    assert n_parameters == sorted(n_parameters, reverse=True)
    assert found.estimator.student_.n_parameters_ <= n_parameters[0]


@pytest.mark.parametrize(
    ("own", "ladder"),
    [
        ("auto", ["auto", (64,), (32,), (16,), (8,), (4,), ()]),
        ((128, 64), [(128, 64), (64,), (32,), (16,), (8,), (4,), ()]),
        ((16,), [(16,), (8,), (4,), ()]),
        ((), [()]),
    ],
)
def test_the_ladder_goes_down_from_the_students_own_size(own, ladder):
    student = inside(hidden_layer_sizes=own, max_epochs=1)
    found = search(student, sizes=None, cv=2)
    assert {row.hidden_layer_sizes for row in found.rows} == set(ladder)


def test_a_line_needs_no_hidden_units_and_rings_do():
    student = quick(max_epochs=60, numerical_embedding=None)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 2))
    shapes = {(): rows[:, 0] > 0, (16,): np.square(rows).sum(axis=1) > 1.4}
    for size, inner in shapes.items():
        student.set_params(teachers=[RandomForestClassifier(20, random_state=0)], cv=2)
        found = search(student, rows, inner, sizes=[(16,), ()], tolerance=0.3)
        assert found.hidden_layer_sizes == size


# What it costs


def test_teachers_are_fitted_once_a_fold():
    Counting.n_fits = 0
    search(quick([Counting()], cv=2, max_epochs=2))
    # Two in each of three folds, and two for the student on all rows.
    assert Counting.n_fits == 2 * 3 + 2


def test_fitted_teachers_are_asked_once_a_fold():
    teacher = Counting().fit(X, Y)
    Counting.rows_asked = 0
    with pytest.warns(UserWarning, match="did not see X") as caught:
        search(quick([teacher], augment="munge", n_synthetic=400, max_epochs=2))
    assert caught[0].filename == __file__
    # The rows of three folds and of the student on all of them, and the synthetic ones of each.
    assert Counting.rows_asked == 3 * 60 + 90 + 4 * 400


def test_a_memory_of_ones_own_is_used(tmp_path):
    search(inside(memory=str(tmp_path)), sizes=[(4,)])
    assert list(tmp_path.rglob("output.pkl"))


@pytest.mark.slow
def test_two_processes_give_what_one_gives():
    assert search(n_jobs=2).rows == search().rows


def test_a_seed_decides():
    student = inside(random_state=None)
    one, two, other = (search(student, random_state=seed).rows for seed in (1, 1, 2))
    assert one == two != other
    assert student.random_state is None


# What is passed on


def test_what_is_passed_on_is_cut_by_the_folds():
    proba = fitted_teacher(X, Y).predict_proba(X)
    student = quick(max_epochs=5)
    found = search(student, teacher_proba=proba)
    expected = []
    for train, test in StratifiedKFold(3).split(X, Y):
        one = clone(student).set_params(hidden_layer_sizes=(4,))
        one.fit(X[train], Y[train], teacher_proba=proba[train])
        expected.append(log_loss(Y[test], one.predict_proba(X[test])))
    assert row_of(found, (4,)).log_loss == pytest.approx(np.mean(expected))
    more, _ = make_data(seed=1)
    assert search(X_unlabeled=more).rows != search().rows


def test_groups_stay_together():
    groups = np.arange(90) // 10
    assert (
        search(cv=GroupKFold(3), groups=groups).rows
        == search(cv=list(GroupKFold(3).split(X, Y, groups))).rows
    )


def test_with_routing_the_student_gets_what_it_asks_for():
    weight = np.arange(90) % 3 + 1.0
    with config_context(enable_metadata_routing=True):
        with pytest.raises(UnsetMetadataPassedError, match="set_fit_request"):
            search(sample_weight=weight)
        student = inside().set_fit_request(sample_weight=True)
        student.teachers = [LogisticRegression().set_fit_request(sample_weight=True)]
        routed = search(student, sample_weight=weight)
    assert routed.rows == search(sample_weight=weight).rows


def test_a_frame_is_a_frame_for_the_teachers():
    frame = pd.DataFrame(X, columns=list("abc"))
    assert search(X=frame).estimator.feature_names_in_.tolist() == ["a", "b", "c"]


# Errors


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf"), "2se", None, True, [1]])
def test_a_tolerance_is_a_number_or_one_error(tolerance):
    with pytest.raises(ValueError, match="'tolerance' parameter of smallest_student must be"):
        search(tolerance=tolerance)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([], "non-empty sequence of hidden_layer_sizes"),
        (3, "non-empty sequence of hidden_layer_sizes"),
        ("auto", "non-empty sequence of hidden_layer_sizes"),
        ([64, 32], r"a sequence of integers >= 1 .*; got 64"),
        ([(0,)], r"got \(0,\)"),
        (["large"], "got 'large'"),
    ],
)
def test_sizes_are_sequences_of_widths(sizes, words):
    with pytest.raises(ValueError, match=words):
        search(sizes=sizes)


def test_what_has_no_size_is_refused():
    with pytest.raises(TypeError, match="must be a DistilledClassifier; got a Pipeline"):
        search(make_pipeline(StandardScaler(), inside()))
    with pytest.raises(ValueError, match="student_module does not have"):
        search(inside(student_module=lambda n, k: nn.Linear(n, k)))
    with pytest.raises(ValueError, match="requires y"):
        search(y=None)
    with pytest.raises(TypeError, match=r"smallest_student\(\) got an unexpected argument 'sizs'"):
        search(sizs=[(4,)])
    with pytest.raises(ValueError, match="hold out no row"):
        search(cv=[(np.arange(60), np.arange(60, 90))], sample_weight=np.arange(90) < 60)


def test_a_training_that_diverges_is_not_chosen(monkeypatch):
    fit = StudentTrainer.fit

    def fit_or_diverge(self, *args, **kwargs):
        if self.spec.hidden_layer_sizes in diverging:
            raise FloatingPointError("The training loss is not finite.")
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(StudentTrainer, "fit", fit_or_diverge)
    diverging = [()]
    found = search(tolerance=100)
    assert found.hidden_layer_sizes == (4,)
    assert np.isnan(row_of(found, ()).log_loss)
    assert "nan" in str(found)
    assert len(found.plot().lines[0].get_xdata()) == 2
    diverging = SIZES
    with pytest.raises(ValueError, match="every training diverged"):
        search()


# What is shown


def test_text_and_frame_hold_the_table():
    found = search()
    lines = repr(found).splitlines()
    assert len(lines) == 4
    (chosen,) = (line for line in lines if line.endswith("chosen"))
    assert chosen.startswith(str(found.hidden_layer_sizes))
    frame = found.to_frame()
    assert frame["hidden_layer_sizes"].tolist() == [r.hidden_layer_sizes for r in found.rows]
    assert frame.loc[frame["chosen"], "hidden_layer_sizes"].tolist() == [found.hidden_layer_sizes]
    np.testing.assert_array_equal(frame["log_loss"], [r.log_loss for r in found.rows])


@pytest.mark.parametrize("tolerance", [0.02, "1se"])
def test_the_figure_shows_the_table_and_the_choice(tolerance):
    found = search(tolerance=tolerance)
    _, ax = plt.subplots()
    assert found.plot(ax=ax) is ax
    curve, chosen = ax.lines[0], ax.lines[-1]
    np.testing.assert_array_equal(curve.get_xdata(), [r.n_parameters for r in found.rows])
    np.testing.assert_array_equal(curve.get_ydata(), [r.log_loss for r in found.rows])
    row = row_of(found, found.hidden_layer_sizes)
    assert (chosen.get_xdata()[0], chosen.get_ydata()[0]) == (row.n_parameters, row.log_loss)
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert ("within 0.02 of the best" in words) == (tolerance == 0.02)


# Progress


def test_it_is_quiet_unless_asked_and_then_counts_the_folds(capfd):
    quiet = search()
    assert capfd.readouterr() == ("", "")
    found = search(verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "smallest_student: fold" in err
    assert err.count("\n") == 1
    assert found.rows == quiet.rows
