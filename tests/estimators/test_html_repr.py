"""The picture of a DistilledClassifier in a notebook: its teachers side by side, and a link."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from quick_students import fitted_teacher, make_data, quick
from sklearn.ensemble import VotingClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import estimator_html_repr

from skdistill import (
    CallableTeacher,
    DistilledClassifier,
    DistilledClassifierCV,
    TorchTeacher,
)

DOCS = Path(__file__).parents[2] / "docs"
X, Y = make_data()
BAYES = fitted_teacher(X, Y)
TREE = DecisionTreeClassifier(max_depth=3).fit(X, Y)


def softplus(n_features, n_classes):
    """Return a network that cannot be frozen."""
    return torch.nn.Sequential(torch.nn.Linear(n_features, n_classes), torch.nn.Softplus())


def parallel_items(html):
    """Return the words of each block that stands beside others."""
    items = html.split('<div class="sk-parallel-item">')[1:]
    return [re.sub(r"<[^>]+>", " ", item) for item in items]


def test_teachers_stand_side_by_side_under_their_names():
    items = parallel_items(estimator_html_repr(quick([("tree", TREE), ("bayes", GaussianNB())])))
    assert len(items) == 2
    assert "tree" in items[0]
    assert "DecisionTreeClassifier" in items[0]
    assert "bayes" in items[1]
    assert "GaussianNB" in items[1]


def test_a_pipeline_draws_the_teachers_of_its_last_step():
    html = estimator_html_repr(make_pipeline(quick([BAYES, TREE, torch.nn.Linear(4, 2)])))
    assert len(parallel_items(html)) == 3


@pytest.mark.parametrize("teachers", [None, [], "self"])
def test_without_a_list_of_teachers_there_is_one_block(teachers):
    html = estimator_html_repr(DistilledClassifier(teachers))
    assert parallel_items(html) == []
    assert "DistilledClassifier" in html


def test_a_lean_pickle_has_no_teachers_to_draw():
    loaded = pickle.loads(pickle.dumps(quick([BAYES]).fit(X, Y)))
    assert parallel_items(estimator_html_repr(loaded)) == []


def test_what_is_no_teacher_does_not_break_the_picture():
    assert "DistilledClassifier" in estimator_html_repr(DistilledClassifier([3]))


def test_the_same_teacher_twice_is_drawn_without_a_word():
    assert len(parallel_items(estimator_html_repr(quick([BAYES, BAYES])))) == 2


def test_where_scikit_learn_draws_otherwise_there_is_one_block(monkeypatch):
    (owner,) = [c for c in VotingClassifier.__mro__ if "_sk_visual_block_" in vars(c)]
    monkeypatch.delattr(owner, "_sk_visual_block_")
    html = estimator_html_repr(quick([BAYES, TREE]))
    assert parallel_items(html) == []
    assert "DistilledClassifier" in html


@pytest.mark.parametrize(
    "estimator",
    [
        quick([BAYES]),
        DistilledClassifierCV(quick([BAYES])),
        quick([BAYES]).fit(X, Y).student_,
        quick([BAYES], student_module=softplus).fit(X, Y).student_,
        TorchTeacher(torch.nn.Linear(3, 2)),
        CallableTeacher(BAYES.predict_proba, Y),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_link_leads_to_a_page_of_the_site(estimator):
    html = estimator_html_repr(estimator)
    (page,) = set(re.findall(r'href="https://skdistill\.readthedocs\.io/en/latest/([^"#]+)', html))
    folder, name = page.removesuffix(".html").split("/")
    api = (DOCS / "api.rst").read_text(encoding="utf-8")
    assert f":toctree: {folder}/" in api
    assert f"\n   {name.removeprefix('skdistill.')}\n" in api


def test_subclasses_elsewhere_do_not_link_to_us():
    class Elsewhere(DistilledClassifier):
        __module__ = "elsewhere"

    assert "readthedocs" not in estimator_html_repr(Elsewhere([BAYES]))
