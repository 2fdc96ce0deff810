"""Laws of what a classifier costs."""

import pickle
import time

import numpy as np
import pytest
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skdistill import TorchTeacher
from skdistill.report.cost import count_bytes, count_parameters, measure_speed


@pytest.fixture(scope="module")
def data():
    return make_data(60)


def by_hand(tree):
    leaves = int((tree.children_left == -1).sum())
    return 2 * (tree.node_count - leaves) + leaves * tree.value[0].size


def test_a_linear_model_has_its_weights_and_intercepts(data):
    assert count_parameters(fitted_teacher(*data)) == 3 + 1
    assert count_parameters(make_pipeline(StandardScaler(), fitted_teacher(*data))) == 4


def test_networks_have_the_numbers_of_all_layers(data):
    X, y = data
    mlp = MLPClassifier((5,), max_iter=2000, random_state=0).fit(X, y)
    assert count_parameters(mlp) == 3 * 5 + 5 + 5 * 1 + 1
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    assert count_parameters(TorchTeacher(module)) == 3 * 5 + 5 + 5 * 2 + 2
    student = quick([fitted_teacher(X, y)]).fit(X, y)
    assert count_parameters(student) == student.student_.n_parameters_


def test_a_tree_has_two_numbers_a_split_and_one_a_class_of_a_leaf(data):
    tree = DecisionTreeClassifier(max_depth=1).fit(*data)
    assert count_parameters(tree) == 2 + 2 * 2


def test_an_ensemble_of_trees_has_those_of_all(data):
    forest = RandomForestClassifier(3, random_state=0).fit(*data)
    assert count_parameters(forest) == sum(by_hand(t.tree_) for t in forest.estimators_)
    boosting = GradientBoostingClassifier(n_estimators=4).fit(*data)
    expected = sum(by_hand(t.tree_) for t in boosting.estimators_.ravel())
    assert count_parameters(boosting) == expected


def test_a_stack_counts_its_last_classifier(data):
    forest = RandomForestClassifier(3, random_state=0)
    stack = StackingClassifier([("forest", forest)], fitted_teacher(*data)).fit(*data)
    assert count_parameters(stack) == count_parameters(stack.estimators_[0]) + 1 + 1


def test_what_cannot_be_counted_is_unknown(data):
    boosting = HistGradientBoostingClassifier(max_iter=2).fit(*data)
    assert count_parameters(boosting) is None
    stack = StackingClassifier([("boosting", boosting)], fitted_teacher(*data), cv="prefit")
    assert count_parameters(stack.fit(*data)) is None


def test_a_student_takes_the_bytes_of_its_file(data, tmp_path):
    student = quick([fitted_teacher(*data)]).fit(*data)
    student.student_.save(tmp_path / "student.safetensors")
    expected = (tmp_path / "student.safetensors").stat().st_size
    assert count_bytes(student) == count_bytes(student.student_) == expected


def test_anything_else_takes_the_bytes_of_its_pickle(data):
    teacher = fitted_teacher(*data)
    assert count_bytes(teacher) == len(pickle.dumps(teacher, protocol=5))


def test_a_student_that_has_no_file_takes_the_bytes_of_its_pickle(data):
    student = quick([fitted_teacher(*data)], preprocessor=StandardScaler()).fit(*data)
    assert count_bytes(student) == len(pickle.dumps(student.student_, protocol=5))


def test_what_cannot_be_pickled_has_no_size():
    assert count_bytes(FunctionTransformer(lambda X: X)) is None


def test_speed_calls_on_single_rows_and_on_growing_blocks():
    X, sizes = np.zeros((200, 2)), []
    speed = measure_speed(lambda rows: sizes.append(len(rows)), X, seconds=0.01)
    assert sizes.count(1) >= 4
    assert sorted(set(sizes)) == [1, 64, 128, 200]
    assert 0 < speed.p50 <= speed.p99
    assert speed.rows_per_second > 0


def test_a_slow_model_is_called_few_times():
    calls = []
    speed = measure_speed(lambda rows: calls.append(len(rows)), np.zeros((500, 2)), seconds=0.0)
    assert calls == [1, 1, 1, 1, 64]
    assert speed.p50 > 0


def test_waiting_is_told_from_computing(monkeypatch):
    X = np.zeros((5, 2))
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    assert measure_speed(np.sum, X, seconds=0.01).waited == 1
    monkeypatch.setattr(time, "process_time", time.perf_counter)
    assert measure_speed(np.sum, X, seconds=0.01).waited == 0


def test_one_row_is_enough():
    assert measure_speed(len, np.zeros((1, 2)), seconds=0.0).rows_per_second > 0
