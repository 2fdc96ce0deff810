"""Teachers that the field will send: one test for each row of the fault table."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from quick_students import Fixed, fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from teachers_zoo import Answer, Noisy

from skdistill import CallableTeacher, TeachersLeftBehind, TorchTeacher

LABELS = ("no", "yes")
X, Y = make_data()
TEACHER = fitted_teacher(X, Y)


def assert_refused(teachers, error, words):
    """Fit raises, and the classifier is not fitted afterwards, though it was before."""
    classifier = quick([TEACHER]).fit(X, Y)
    classifier.teachers = teachers
    with pytest.raises(error, match=words):
        classifier.fit(X, Y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)


# The list


@pytest.mark.parametrize(
    ("teachers", "error", "words"),
    [
        ([], ValueError, "teachers must be a non-empty list .* got an empty one"),
        (TEACHER, TypeError, r"got LogisticRegression. Pass a list with one entry"),
        ("forest", TypeError, "got 'forest'. The only word that may stand there is 'self'"),
        ([("a", TEACHER), ("a", TEACHER)], ValueError, 'name "a" is given twice'),
        ([LogisticRegression], TypeError, r"teacher 0 \(LogisticRegression\) is a class"),
        ([TEACHER, 3], TypeError, r"teacher 1 \(int\) has no predict_proba. Teachers are fitted"),
    ],
    ids=["empty", "no list", "a word", "one name twice", "a class", "a number"],
)
def test_what_is_no_list_of_teachers(teachers, error, words):
    assert_refused(teachers, error, words)


def test_the_same_teacher_twice():
    with pytest.warns(UserWarning, match="teacher 0 .* and teacher 1 .* are the same object"):
        classifier = quick([TEACHER, TEACHER]).fit(X, Y)
    assert classifier.score(X, Y) > 0.85


def test_clones_keep_fitted_teachers():
    classifier = quick([TEACHER])
    assert clone(classifier).teachers[0] is TEACHER
    pipeline = make_pipeline(FunctionTransformer(), classifier)
    grid = {"distilledclassifier__alpha": [0.5, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_score_ > 0.8


@pytest.mark.parametrize(
    "teacher", [LogisticRegression(), make_pipeline(LogisticRegression())], ids=["bare", "pipeline"]
)
def test_unfitted(teacher):
    assert_refused([TEACHER, teacher], NotFittedError, "teacher 1 .* is not fitted.*cv=5")


@pytest.mark.parametrize("kind", [LinearSVC, RidgeClassifier, SVC])
def test_no_predict_proba(kind):
    words = rf"teacher 0 \({kind.__name__}\) has no predict_proba. Calibrate it"
    assert_refused([kind().fit(X, Y)], TypeError, words)


@pytest.mark.parametrize("kind", [LinearRegression, RandomForestRegressor])
def test_a_regressor(kind):
    words = rf"teacher 1 \({kind.__name__}\) is a regressor"
    assert_refused([TEACHER, kind().fit(X[:20], X[:20, 0])], TypeError, words)


def test_several_outputs():
    teacher = RandomForestClassifier(2).fit(X, np.column_stack([Y, Y]))
    assert_refused([teacher], ValueError, "teacher 0 .* predicts 2 outputs")


# What it answers


def fail(X):
    raise RuntimeError("the service is down")


def interrupt(X):
    raise KeyboardInterrupt


def in_last_row(value):
    """Return good answers but for one value, in the last row."""

    def answer(X):
        proba = np.tile([0.25, 0.75], (len(X), 1))
        proba[-1, 0] = value
        return proba

    return answer


def certain(X):
    """Return 1 for the class that the first column names."""
    return np.eye(2)[(np.asarray(X)[:, 0] > 0).astype(int)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (in_last_row(np.nan), "returned nan in row 89, column 0"),
        (in_last_row(np.inf), "returned inf in row 89, column 0"),
        (in_last_row(-0.2), r"returned -0.2 in row 89, column 0; a probability lies in \[0, 1\]"),
        (in_last_row(0.5), "returned probabilities that sum to 1.25 in row 89"),
        (lambda X: np.zeros((len(X), 2)), "returned probabilities that sum to 0 in row 0"),
        (
            lambda X: np.full((len(X), 1), 0.3),
            r"returned an array of shape \(90, 1\).*return both columns, \[1 - p, p\]",
        ),
        (
            lambda X: np.full(len(X), 0.3),
            r"returned an array of shape \(90,\).*return both columns",
        ),
        (
            lambda X: np.full((len(X), 3), 1 / 3),
            r"returned an array of shape \(90, 3\), expected \(90, 2\)",
        ),
        (
            lambda X: np.full((len(X) - 1, 2), 0.5),
            r"returned an array of shape \(89, 2\), expected \(90, 2\)",
        ),
        (
            lambda X: np.full((len(X), 2), "x"),
            "failed on rows 0:90: ValueError: could not convert string to float",
        ),
        (
            lambda X: np.full((len(X), 2), 0.5 + 0j),
            "failed on rows 0:90: ValueError: it returned complex numbers",
        ),
        (lambda X: None, r"returned an array of shape \(\), expected \(90, 2\)"),
        (fail, "failed on rows 0:90: RuntimeError: the service is down"),
    ],
    ids=[
        *("nan", "infinite", "negative", "sum", "zeros", "one column", "one dimension"),
        *("three columns", "a row short", "strings", "complex", "nothing", "fails"),
    ],
)
def test_answers_that_are_no_probabilities(answer, words):
    teacher = Fixed(answer, LABELS)
    assert_refused([TEACHER, teacher], ValueError, rf"teacher 1 \(Fixed\) {words}")


def test_a_failure_keeps_its_cause():
    with pytest.raises(ValueError, match="teacher 0") as caught:
        quick([Fixed(fail, LABELS)]).fit(X, Y)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_interrupt_while_asked():
    assert_refused([TEACHER, Fixed(interrupt, LABELS)], KeyboardInterrupt, "^$")


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_exact_zeros(temperature):
    """No epsilon is needed; that no temperature softens them is said."""
    with pytest.warns(UserWarning, match="exactly 0 or 1, which no temperature softens"):
        classifier = quick([Fixed(certain, LABELS)], temperature=temperature, alpha=1.0).fit(X, Y)
    proba = classifier.predict_proba(X)
    assert np.isfinite(proba).all()
    agreement = np.mean(classifier.predict(X) == Fixed(certain, LABELS).predict(X))
    assert agreement > 0.9


def test_exact_zeros_of_trees():
    tree = DecisionTreeClassifier(random_state=0).fit(X, Y)
    with pytest.warns(UserWarning, match="exactly 0 or 1"):
        assert np.isfinite(quick([tree]).fit(X, Y).predict_proba(X)).all()


def test_columns_in_another_order():
    swapped = Fixed(lambda X: TEACHER.predict_proba(X)[:, ::-1], ["yes", "no"])
    np.testing.assert_array_equal(
        quick([swapped]).fit(X, Y).predict_proba(X), quick([TEACHER]).fit(X, Y).predict_proba(X)
    )


def test_answers_that_differ_between_calls():
    """Each row is asked once, and that answer stands."""
    rng, asked = np.random.default_rng(0), []

    def answer(X):
        asked.append(len(X))
        noise = rng.uniform(0.8, 1.0, size=(len(X), 1))
        return noise * TEACHER.predict_proba(X) + (1 - noise) / 2

    assert quick([Fixed(answer, LABELS)]).fit(X, Y).score(X, Y) > 0.85
    assert asked == [len(X)]


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (fitted_teacher(X[:, :2], Y), r"teacher 0 .* was fitted on 2 features, X has 3"),
        (torch.nn.Linear(4, 2), r"teacher 0 \(Linear\) failed on rows 0:90: RuntimeError: mat1"),
    ],
    ids=["scikit-learn", "torch"],
)
def test_other_numbers_of_features(teacher, words):
    assert_refused([teacher], ValueError, words)


# Torch


def test_a_module_in_training_mode():
    """It answers as in evaluation mode, and is left as it was found."""
    module = Noisy().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, second = (quick([TorchTeacher(module, LABELS)]).fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_modules_of_another_dtype(dtype):
    module = torch.nn.Linear(3, 2).to(dtype)
    assert np.isfinite(quick([TorchTeacher(module, LABELS)]).fit(X).predict_proba(X)).all()
    assert module.weight.dtype == dtype


def test_one_logit_for_two_classes():
    module = torch.nn.Linear(3, 1)
    module.weight.data, module.bias.data = torch.tensor([[4.0, 2.0, 0.0]]), torch.zeros(1)
    assert quick([module]).fit(X, Y).score(X, Y) > 0.85


def test_probabilities_declared_as_logits():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(dim=1))
    with pytest.warns(UserWarning, match="declared to return logits, but its outputs look like"):
        quick([TorchTeacher(module, LABELS)]).fit(X)


def test_logits_declared_as_probabilities():
    module = Answer(lambda X: torch.full((len(X), 2), -0.5))
    words = r"teacher 0 \(TorchTeacher\) returned -0.5 in row 0, column 0; a probability lies in"
    assert_refused([TorchTeacher(module, LABELS, output="proba")], ValueError, words)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (float("nan"), ValueError, "returned nan in row 0, column 0"),
        (1 + 1j, TypeError, "failed on rows 0:90: TypeError: The module returned complex numbers"),
    ],
    ids=["nan", "complex"],
)
def test_modules_that_return_no_logits(value, error, words):
    module = Answer(lambda X: torch.full((len(X), 2), value))
    assert_refused([module], error, rf"teacher 0 \(Answer\) {words}")


# Pickles


def test_a_teacher_whose_package_is_missing_at_unpickle(fresh_process, tmp_path):
    """The pickle holds no teacher, so what it was made of is not needed."""
    classifier = quick([Fixed(TEACHER.predict_proba, LABELS)]).fit(X, Y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(classifier))
    np.save(tmp_path / "X.npy", X)
    code = """
    import pickle
    from pathlib import Path
    import numpy as np
    folder = Path(sys.argv[1])
    model = pickle.loads((folder / "model.pickle").read_bytes())
    print(*model.predict(np.load(folder / "X.npy")))
    """
    printed = fresh_process(code, tmp_path, forbid=("quick_students", "torch", "skorch"))
    assert printed.split() == classifier.predict(X).tolist()


def test_fit_after_the_teachers_were_left_behind():
    loaded = pickle.loads(pickle.dumps(quick([TEACHER]).fit(X, Y)))
    assert isinstance(loaded.teachers, TeachersLeftBehind)
    with pytest.raises(ValueError, match="keep_teachers=True"):
        loaded.fit(X, Y)


# What it does to the rows


def in_place(module):
    """Return the module behind a layer that overwrites its input."""
    return torch.nn.Sequential(torch.nn.ReLU(inplace=True), module)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize("kind", ["scaler", "module", "function", "predict_proba"])
def test_one_that_writes_into_the_rows(kind, as_frame, dtype):
    """The user's rows stay what they were, and the next teacher sees them too."""

    def spoil(rows):
        rows[:] = 7.0
        return np.tile([0.5, 0.5], (len(rows), 1))

    class Spoiling(Fixed):
        def predict_proba(self, X):
            if as_frame:
                X.iloc[:] = 7.0
                return spoil(X.to_numpy(copy=True))
            return spoil(X)

    rows = X.astype(dtype)
    rows = pd.DataFrame(rows, columns=list("abc")) if as_frame else rows
    teachers = {
        "scaler": lambda: make_pipeline(StandardScaler(copy=False), LogisticRegression()).fit(
            rows.copy(), Y
        ),
        "module": lambda: TorchTeacher(in_place(torch.nn.Linear(3, 2)), classes=LABELS),
        "function": lambda: CallableTeacher(spoil, classes=LABELS),
        "predict_proba": lambda: Spoiling(None, LABELS),
    }
    before, seen = rows.copy(), []

    def look(rows):
        seen.append(np.array(rows, dtype=np.float64))
        return TEACHER.predict_proba(seen[-1])

    last = CallableTeacher(look, classes=LABELS)
    quick([teachers[kind](), last], max_epochs=1).fit(rows, Y)
    assert np.array_equal(rows, before)
    assert all(np.isin(block, before).all() for block in seen)
    assert seen
