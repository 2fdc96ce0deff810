"""Tables, labels and weights that the field will send: one test for each row of the fault table."""

import numpy as np
import pandas as pd
import pytest
from quick_students import fitted_teacher, make_data, quick
from scipy.sparse import csr_array
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from skdistill import CallableTeacher

X, Y = make_data()
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
TEACHER = fitted_teacher(X, Y)
OWN = pytest.mark.parametrize("preprocessor", ["auto", None])


@pytest.fixture(scope="module")
def student():
    return quick([TEACHER]).fit(X, Y)


def with_value(value):
    """Return X with this value in one cell."""
    changed = X.copy()
    changed[4, 1] = value
    return changed


def assert_sound(classifier, X=X, y=Y, least=0.85):
    """It answers every row with probabilities, and mostly right."""
    proba = classifier.predict_proba(X)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    assert classifier.score(X, y) >= least


# Values


@OWN
def test_nan_in_fit_where_the_teacher_takes_none(preprocessor):
    with pytest.raises(ValueError, match=r"(?s)teacher 0 \(LogisticRegression\).*contains NaN"):
        quick([TEACHER], preprocessor=preprocessor).fit(with_value(np.nan), Y)


def test_nan_in_fit_where_all_take_it():
    teacher = HistGradientBoostingClassifier(max_iter=20).fit(X, Y)
    assert_sound(quick([teacher]).fit(with_value(np.nan), Y), with_value(np.nan))


def test_nan_in_fit_that_the_student_does_not_take():
    teacher = HistGradientBoostingClassifier(max_iter=5).fit(X, Y)
    with pytest.raises(ValueError, match="contains NaN"):
        quick([teacher], preprocessor=None).fit(with_value(np.nan), Y)


@OWN
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_in_fit(value, preprocessor):
    teacher = HistGradientBoostingClassifier(max_iter=5).fit(X, Y)
    with pytest.raises(ValueError, match="contains infinity"):
        quick([teacher], preprocessor=preprocessor).fit(with_value(value), Y)


@OWN
@pytest.mark.parametrize(("value", "words"), [(np.nan, "contains NaN"), (np.inf, "infinity")])
def test_nan_and_infinity_at_predict(value, words, preprocessor):
    classifier = quick([TEACHER], preprocessor=preprocessor).fit(X, Y)
    for model in (classifier, classifier.student_):
        with pytest.raises(ValueError, match=words):
            model.predict_proba(with_value(value))


@pytest.mark.parametrize("value", [1e30, 1e39, 1e300])
def test_extreme_values(value, student):
    assert_sound(quick([TEACHER]).fit(with_value(value), Y), with_value(value))
    assert_sound(student, with_value(value))


def test_extreme_values_beyond_the_training_dtype():
    classifier = quick([TEACHER], preprocessor=None, dtype="float32")
    with pytest.raises(FloatingPointError, match="check the columns of X for extreme values"):
        classifier.fit(with_value(1e39), Y)


# Shapes


def test_constant_columns():
    constant = np.column_stack([X, np.ones(len(X))])
    assert_sound(quick([fitted_teacher(constant, Y)]).fit(constant, Y), constant)


def test_wide_data():
    noise = np.random.default_rng(0).normal(size=(len(X), 500))
    wide = np.column_stack([X, noise])
    classifier = quick([fitted_teacher(wide, Y)], hidden_layer_sizes=(32,))
    assert_sound(classifier.fit(wide, Y), wide)


def test_no_rows(student):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        quick([TEACHER]).fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        student.predict(X[:0])


def test_one_row_has_one_class():
    with pytest.raises(ValueError, match="at least two classes in y; got one class"):
        quick([TEACHER]).fit(X[:1], Y[:1])


def test_one_row_without_a_label():
    assert np.isfinite(quick([TEACHER]).fit(X[:1]).predict_proba(X)).all()


def test_other_numbers_of_features_at_predict(student):
    with pytest.raises(ValueError, match=r"X has 2 features, but \w+ is expecting 3"):
        student.predict(X[:, :2])


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (X[:, 0], "Expected 2D array, got 1D"),
        (X[:, :, None], "dim 3"),
        (X[:, :0], "0 feature"),
        (None, "Expected 2D array, got scalar"),
    ],
    ids=["one dimension", "three dimensions", "no column", "None"],
)
def test_what_is_no_table(X, words):
    with pytest.raises(ValueError, match=words):
        quick([TEACHER]).fit(X, Y)


def test_huge_tables():
    """A teacher is asked about 65,536 rows at a time."""
    asked = []

    def answer(X):
        asked.append(len(X))
        return np.column_stack([X[:, 0] < 0, X[:, 0] >= 0]) * 0.8 + 0.1

    rows = np.random.default_rng(0).normal(size=(150_000, 1))
    params = {"max_epochs": 1, "batch_size": 50_000, "numerical_embedding": None}
    quick([CallableTeacher(answer, [0, 1])], **params).fit(rows)
    assert max(asked) == 65_536
    assert sum(asked) == len(rows)


# Labels


def test_a_single_class():
    with pytest.raises(ValueError, match=r"at least two classes in y; got one class: .*'yes'"):
        quick([TEACHER]).fit(X, np.full(len(X), "yes"))


def test_a_class_that_only_the_teacher_knows():
    """Its column is dropped and the others are renormalised."""
    _, y = make_data(labels=("a", "b", "c"))
    kept = y != "b"
    classifier = quick([fitted_teacher(X, y)]).fit(X[kept], y[kept])
    np.testing.assert_array_equal(classifier.classes_, ["a", "c"])
    assert_sound(classifier, X[kept], y[kept])


def test_a_class_that_a_fold_lacks():
    """The clone that never saw it gives it nothing, and it keeps its column."""
    _, y = make_data(labels=("a", "b"))
    y = y.astype("<U4")
    y[5] = "rare"
    classifier = quick([LogisticRegression()], cv=KFold(3)).fit(X, y)
    np.testing.assert_array_equal(classifier.classes_, ["a", "b", "rare"])
    assert_sound(classifier, y=y)


def test_a_class_that_the_teacher_does_not_know():
    _, y = make_data(labels=("a", "b", "c"))
    teacher = fitted_teacher(X[y != "b"], y[y != "b"])
    words = r"teacher 0 .*knows \['a', 'c'\], the classes are \['a', 'b', 'c'\]"
    with pytest.raises(ValueError, match=words):
        quick([teacher]).fit(X, y)


@pytest.mark.parametrize(
    "labels",
    [("a", "b"), (False, True), (0.0, 1.0), (10, 20), (-5, 3), (2**40, 2**41)],
    ids=["strings", "booleans", "floats", "not consecutive", "negative", "huge"],
)
def test_labels_of_any_kind(labels):
    _, y = make_data(labels=labels)
    classifier = quick([fitted_teacher(X, y)]).fit(X, y)
    assert set(classifier.predict(X).tolist()) == set(labels)
    assert_sound(classifier, y=y)


def test_object_labels():
    y = Y.astype(object)
    assert_sound(quick([fitted_teacher(X, y)]).fit(X, y), y=y)


@pytest.mark.parametrize(
    ("label", "error", "words"),
    [
        (None, TypeError, "they are NoneType and str.*X_unlabeled"),
        (pd.NA, TypeError, "they are NAType and str.*X_unlabeled"),
        (3, TypeError, "they are int and str"),
        (np.nan, ValueError, "contains NaN"),
    ],
    ids=["None", "NA", "number", "nan"],
)
def test_one_label_of_another_kind(label, error, words):
    y = pd.Series([label, *Y[1:]], dtype=object)
    with pytest.raises(error, match=words):
        quick([TEACHER]).fit(X, y)


def test_numbers_that_are_no_labels():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        quick([TEACHER]).fit(X, X[:, 0])


# Containers


def test_float32():
    assert_sound(quick([TEACHER]).fit(X.astype(np.float32), Y), X.astype(np.float32))


def test_frames():
    classifier = quick([fitted_teacher(FRAME, Y)]).fit(FRAME, Y)
    assert list(classifier.feature_names_in_) == ["a", "b", "c"]
    assert_sound(classifier, FRAME)


def test_reordered_columns():
    """The teacher gets its own order; the student refuses another one than it learnt."""
    other = FRAME[["c", "b", "a"]]
    classifier = quick([fitted_teacher(FRAME, Y)]).fit(other, Y)
    assert_sound(classifier, other)
    with pytest.raises(ValueError, match="must be in the same order"):
        classifier.predict(FRAME)


def test_renamed_columns():
    other = FRAME.rename(columns={"a": "z"})
    with pytest.raises(ValueError, match=r"teacher 0 .*Missing in X: \['a'\].*\['z'\]"):
        quick([fitted_teacher(FRAME, Y)]).fit(other, Y)
    with pytest.raises(ValueError, match="feature names should match"):
        quick([fitted_teacher(FRAME, Y)]).fit(FRAME, Y).predict(other)


def test_an_array_for_a_teacher_that_learnt_names():
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        quick([fitted_teacher(FRAME, Y)]).fit(X, Y)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(pd.Timestamp("2026-01-01"), "datetime64"), (pd.Timedelta("1D"), "timedelta64")],
    ids=["dates", "durations"],
)
def test_dates_and_durations(value, kind):
    with pytest.raises(TypeError, match=f"Column 'd' holds {kind}"):
        quick([TEACHER]).fit(FRAME.assign(d=value), Y)


def test_strings_categories_and_nullable_numbers():
    """They are columns like others, missing entries included; teachers take what they can."""
    frame = FRAME.assign(
        d=pd.Categorical(np.where(X[:, 0] > 0, "1", "2")),
        e=pd.array(np.where(X[:, 1] > 0, 1, 2), dtype="Int64"),
    )
    frame.loc[3, "e"] = pd.NA
    plain = quick("self", alpha=0.0).fit(frame, Y)
    assert_sound(plain, frame)


def test_strings_for_a_teacher_of_numbers():
    with pytest.raises(ValueError, match=r"teacher 0 \(LogisticRegression\) failed on rows 0:90"):
        quick([TEACHER]).fit(X.astype(str), Y)


def test_sparse_tables(student):
    for call in (lambda S: quick([TEACHER]).fit(S, Y), student.predict):
        with pytest.raises(TypeError, match="Sparse data was passed for X"):
            call(csr_array(X))


def test_complex_numbers(student):
    for call in (lambda Z: quick([TEACHER]).fit(Z, Y), student.predict):
        with pytest.raises(ValueError, match="Complex data not supported"):
            call(X + 1j)


def test_read_only_memmaps(tmp_path, student):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    classifier = quick([TEACHER]).fit(mapped, Y)
    expected = student.predict_proba(X)
    np.testing.assert_allclose(classifier.predict_proba(mapped), expected, rtol=1e-9)


# Weights


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.r_[-1, np.ones(89)], "Negative values .*`sample_weight`: row 0"),
        (np.r_[np.nan, np.ones(89)], "sample_weight contains NaN"),
        (np.r_[np.inf, np.ones(89)], "sample_weight contains infinity"),
        (np.zeros(90), "at least one non-zero number"),
        (np.ones(3), r"sample_weight.shape == \(3,\), expected \(90,\)"),
    ],
    ids=["negative", "nan", "infinite", "all zero", "too few"],
)
def test_weights_that_are_none(weight, words):
    with pytest.raises(ValueError, match=words):
        quick([TEACHER]).fit(X, Y, sample_weight=weight)


def test_a_weight_of_zero_is_an_absent_row():
    weight = np.ones(len(X))
    weight[:10] = 0
    weighted = quick([TEACHER]).fit(X, Y, sample_weight=weight)
    absent = quick([TEACHER]).fit(X[10:], Y[10:])
    np.testing.assert_allclose(weighted.predict_proba(X), absent.predict_proba(X), atol=1e-6)
