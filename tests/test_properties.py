"""Laws of the whole way from `fit` to a saved student, over whatever the field may send."""

import copy
import pickle
import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from problems_zoo import CONTAINERS, Problem, contain, make_teacher, problems
from quick_students import fitted_teacher, make_data, quick
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted
from students_zoo import NORMS, make_student

from skdistill import CallableTeacher, DistilledClassifier, StudentClassifier

# A problem is fitted twice, which costs more than what other properties look at.
COSTLY = settings(max_examples=settings().max_examples // 2)
# What `fit` may refuse of such problems, in its own words.
REFUSALS = [
    r"at least two classes in y; got one class",
    # A teacher that cannot be fitted on a fold of one class says so itself.
    r"teacher \d \(\w+\) failed to fit on \d+ rows",
    r"loss='dkd' splits the divergence by the label's class, and there are 2 classes",
    r"n_splits=\d cannot be greater than the number of members in each class",
    r"Sample weights must contain at least one non-zero number",
    r"teacher \d \(GaussianNB\) returned nan in row",
    # A network of scikit-learn that saw one class in a fold answers in two columns.
    r"teacher \d \(Pipeline\) returned an array of shape \(\d+, 2\), expected \(\d+, 1\)",
    # Columns of 1e30 that nobody scales.
    r"training loss became (nan|inf) in epoch \d+ .* check the columns of X for extreme values",
]
# What it may warn of.
WARNINGS = [
    "The student's loss is",
    "The student gives every row the same answer",
    "of the teachers' answers are exactly 0 or 1",
    "The teachers agree with y on",
    "The teachers are worse than a plain student",
    "cannot be fitted inside fit and answers as it is",
    "assumes that they did not see X",
    "does not take sample_weight and is fitted without weights",
]


def content(*objects):
    """Return what the objects hold, to see whether it changes."""
    return [
        repr([(c.dtype, c.tolist()) for _, c in pd.DataFrame(o).items()])
        if isinstance(o, (pd.DataFrame, pd.Series))
        else pickle.dumps(o)
        for o in objects
    ]


def take(X, rows):
    """Return some rows of any container."""
    if isinstance(X, list):
        return [X[i] for i in rows]
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def build(problem: Problem) -> DistilledClassifier:
    """Return the unfitted classifier, with teachers that are fitted where they have to be."""
    teachers = problem.teachers
    if isinstance(teachers, list):
        fitted = problem.params["cv"] == "prefit"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            teachers = [make_teacher(t, problem.X, problem.y, fitted) for t, _ in teachers]
    return DistilledClassifier(teachers, **problem.params)


def fit(classifier, problem):
    """Fit; return None where it is refused in documented words, and nothing is left half done."""
    given_before = content(problem.X, problem.y, problem.sample_weight)
    refusal = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            classifier.fit(problem.X, problem.y, problem.sample_weight)
        except (ValueError, TypeError, FloatingPointError) as error:
            refusal = str(error)
    assert content(problem.X, problem.y, problem.sample_weight) == given_before
    for warning in said:
        # Teachers may say what they like.
        if "sklearn" not in Path(warning.filename).parts:
            assert any(re.search(words, str(warning.message)) for words in WARNINGS), warning
    if refusal is None:
        return classifier
    assert any(re.search(words, refusal) for words in REFUSALS), refusal
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)
    assert [name for name in vars(classifier) if name.endswith("_")] == []
    return None


def assert_probabilities(proba, n, k):
    """They are finite, of their shape, and sum to one in their precision."""
    assert proba.shape == (n, k)
    assert np.isfinite(proba).all()
    assert (proba >= 0).all()
    assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=rounding(proba))


def rounding(proba):
    """Return how far equal probabilities may lie apart when rows go through in another shape."""
    return 1e-12 if proba.dtype == np.float64 else 1e-6


def assert_predicts(classifier, X, y):
    """Its three answers agree with each other and with y's labels; return the probabilities."""
    classes, n = np.unique(np.asarray(y)), len(X)
    proba = classifier.predict_proba(X)
    assert_array_equal(classifier.classes_, classes)
    assert proba.dtype == (np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64)
    assert_probabilities(proba, n, len(classes))
    labels = classifier.predict(X)
    assert labels.dtype == classes.dtype
    assert_array_equal(proba[np.arange(n), np.searchsorted(classes, labels)], proba.max(axis=1))
    log_proba = classifier.predict_log_proba(X)
    assert np.isfinite(log_proba).all()
    assert_allclose(np.exp(log_proba), proba, rtol=0, atol=rounding(proba))
    return proba


def assert_rows_are_answered_alone(classifier, X, proba):
    """A row's answer depends on no other row, and on no container."""
    order = np.random.default_rng(0).permutation(len(X))
    near = {"rtol": 0, "atol": rounding(proba)}
    assert_allclose(classifier.predict_proba(take(X, order)), proba[order], **near)
    for i in {0, len(X) - 1}:
        assert_allclose(classifier.predict_proba(take(X, [i])), proba[[i]], **near)
    scales_itself = classifier.preprocessor in ("auto", None)
    if isinstance(X, pd.DataFrame) or (
        getattr(X, "dtype", None) == np.float16 and not scales_itself
    ):
        # A transformer of scikit-learn's computes with float16 rows in float16.
        return
    for container in set(CONTAINERS) - {"frame", "nullable"}:
        other = classifier.predict_proba(contain(np.asarray(X), container))
        # Lists and objects hold no float32, so these rows are answered in float64.
        if other.dtype == proba.dtype:
            assert_allclose(other, proba, **near)


def assert_copies_agree(classifier, X, proba):
    """Pickles, copies and files answer to the bit what the classifier answers."""
    assert_array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(X), proba)
    assert_array_equal(copy.deepcopy(classifier).predict_proba(X), proba)
    if classifier.preprocessor in ("auto", None):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "student.safetensors"
            classifier.student_.save(path)
            assert_array_equal(StudentClassifier.load(path).predict_proba(X), proba)


@pytest.mark.properties
@COSTLY
@given(problem=problems())
def test_whatever_is_fitted_predicts_copies_and_repeats(problem):
    classifier = build(problem)
    twin = clone(classifier)
    if fit(classifier, problem) is None:
        event("refused")
        return
    event("fitted")
    X, y = problem.X, np.asarray(problem.y)
    if isinstance(X, pd.DataFrame) and problem.sample_weight is not None:
        # A missing value in a row of weight zero was not seen, and cannot be asked about.
        X = X[np.asarray(problem.sample_weight) > 0]
    proba = assert_predicts(classifier, X, y)
    assert_rows_are_answered_alone(classifier, X, proba)
    assert_copies_agree(classifier, X, proba)
    assert fit(twin, problem) is twin
    assert_array_equal(twin.predict_proba(X), proba)


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000, 1023])
def test_weights_count_by_their_ratios(exponent):
    X, y = make_data(30)
    weight = 0.5 + np.random.default_rng(0).random(30)
    once, scaled = (
        quick([fitted_teacher(X, y)], max_epochs=3).fit(X, y, w).predict_proba(X)
        for w in (weight, np.ldexp(weight, exponent))
    )
    assert_allclose(scaled, once, rtol=0, atol=1e-9)


def arrays(dtype, *, finite):
    """Return a strategy of a few rows of three numbers, of any size that the dtype holds."""
    elements = hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
    if not finite:
        elements = st.one_of(elements, st.sampled_from([np.nan, np.inf, -np.inf]))
    return hnp.arrays(dtype, st.tuples(st.integers(1, 70), st.just(3)), elements=elements)


STUDENTS = {
    "table": st.sampled_from(["plain", "numbers", "far"]),
    "labels": st.sampled_from(["bool", "str"]),
    "embedding": st.booleans(),
    "norm": st.sampled_from(NORMS),
}


@pytest.mark.properties
@given(
    X=st.sampled_from(["f2", "f4", "i8", "u8", "?"]).flatmap(lambda d: arrays(d, finite=True)),
    **STUDENTS,
)
def test_a_deployed_student_answers_every_finite_row(X, **student):
    student = make_student(**student)
    assert_probabilities(student.predict_proba(X), len(X), len(student.classes_))
    assert np.isfinite(student.predict_log_proba(X)).all()


@pytest.mark.properties
@given(X=arrays("f8", finite=True).map(lambda X: np.clip(X, -1e300, 1e300)), **STUDENTS)
def test_a_deployed_student_answers_every_row_it_can_standardise(X, **student):
    student = make_student(**student)
    assert_probabilities(student.predict_proba(X), len(X), len(student.classes_))
    assert np.isfinite(student.predict_log_proba(X)).all()


@pytest.mark.properties
@given(X=st.sampled_from(["f2", "f4", "f8"]).flatmap(lambda d: arrays(d, finite=False)), **STUDENTS)
def test_a_deployed_student_refuses_what_is_no_number(X, **student):
    X[0, 0] = np.nan if np.isfinite(X).all() else X[0, 0]
    words = "contains NaN" if np.isnan(X).any() else "contains infinity"
    with pytest.raises(ValueError, match=words):
        make_student(**student).predict_proba(X)


# The ends of what there is ------------------------------------------------------------------------


def fit_and_see(X, y, teachers, **params):
    """Fit in a few epochs, and see that all laws hold."""
    problem = Problem(X, y, None, teachers, {})
    classifier = fit(quick(teachers, max_epochs=2, **params), problem)
    proba = assert_predicts(classifier, X, y)
    assert_rows_are_answered_alone(classifier, X, proba)
    assert_copies_agree(classifier, X, proba)
    return classifier


def test_one_row():
    """It has one label, which is no task; without labels the teachers name the classes."""
    X = np.array([[1.0, 2.0]])
    teacher = CallableTeacher(lambda X: np.tile([0.3, 0.7], (len(X), 1)), [0, 1])
    with pytest.raises(ValueError, match="at least two classes in y"):
        quick([teacher]).fit(X, [1])
    assert_probabilities(quick([teacher]).fit(X).predict_proba(X), 1, 2)


@pytest.mark.parametrize(
    "column",
    [np.full(20, 0.1), np.zeros(20), np.linspace(-1e30, 1e30, 20), np.arange(20) % 2 * 1e-30],
    ids=["constant", "zero", "huge", "tiny"],
)
def test_one_column(column):
    X, y = column[:, None], np.arange(20) % 2
    fit_and_see(X, y, [DecisionTreeClassifier(max_depth=2).fit(X, y)])


def test_thousands_of_columns():
    X = np.random.default_rng(0).normal(size=(30, 3000))
    y = np.where(X[:, 7] > 0, "up", "down")
    fit_and_see(X, y, [RandomForestClassifier(5, random_state=0)], cv=2, numerical_embedding=None)


def test_hundreds_of_classes():
    y = np.repeat(np.arange(300) * 3 - 50, 2)
    X = np.column_stack([y, np.random.default_rng(0).normal(size=600)])
    fit_and_see(X, y, [DecisionTreeClassifier().fit(X, y)])


@pytest.mark.parametrize(
    ("teachers", "params"),
    [
        ("prefit", {}),
        ("prefit", {"early_stopping": True, "augment": "munge"}),
        ("self", {"early_stopping": True, "self_distillation": 0.5}),
        (None, {"early_stopping": True}),
    ],
)
def test_classes_of_one_member(teachers, params):
    X, y = make_data(40)
    y = y.astype(object)
    y[3], y[30] = "rare", "very rare"
    if teachers == "prefit":
        teachers = [GaussianNB().fit(X, y)]
    fit_and_see(X, y, teachers, **params)


def test_hundreds_of_categories():
    values = [f"shop {i}" for i in range(200)]
    X = pd.DataFrame({"shop": pd.Categorical(values * 2), "size": np.arange(400) % 7})
    fit_and_see(X, np.arange(400) % 2, "self", self_distillation=0.5)


def test_sparse_tables_are_refused_even_when_they_hold_nothing():
    X, y = make_data()
    teacher = fitted_teacher(X, y)
    with pytest.raises(TypeError, match=r"Use X\.toarray"):
        quick([teacher]).fit(csr_array(X.shape), y)


def test_polars():
    """Its frames are answered as those of pandas, nulls included."""
    pl = pytest.importorskip("polars")
    columns = {"a": [1.0, None, 3.0, 4.0] * 5, "b": ["u", "v", None, "u"] * 5}
    y = np.arange(20) % 4 > 1
    pandas = quick("self", self_distillation=0.5).fit(pd.DataFrame(columns), y)
    polars = quick("self", self_distillation=0.5).fit(pl.DataFrame(columns), y)
    assert_array_equal(
        polars.predict_proba(pl.DataFrame(columns)), pandas.predict_proba(pd.DataFrame(columns))
    )
