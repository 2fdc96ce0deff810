"""Laws of DistilledClassifierCV: the answers of GridSearchCV for less work."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from quick_students import Counting, Fixed, fitted_teacher, make_data, quick
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skdistill import (
    DistilledClassifier,
    DistilledClassifierCV,
    Hint,
    StudentClassifier,
    TeachersLeftBehind,
    TorchTeacher,
    losses,
)

X, Y = make_data()
X3, Y3 = make_data(labels=("ant", "bee", "cat"))
EXTRA, _ = make_data(seed=1)
TEACHER = fitted_teacher(X, Y)
TEMPERATURES, ALPHAS = [1.0, 4.0], [0.0, 0.5, 1.0]
LOSS = "neg_log_loss"
HEAVY = ("torch", "skorch", "xgboost", "lightgbm", "catboost")


@pytest.fixture(autouse=True)
def _prefit_is_said_elsewhere():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The teachers are fitted already")
        yield


def small(teachers=None, **params):
    return quick(teachers, **{"max_epochs": 8, "dtype": "float64", **params})


def search_of(student, **params):
    grid = {"temperatures": TEMPERATURES, "alphas": ALPHAS, "cv": 3, "scoring": LOSS, **params}
    return DistilledClassifierCV(student, **grid)


def grid_of(student, **params):
    grid = {"alpha": ALPHAS, "temperature": TEMPERATURES}
    return GridSearchCV(
        student, grid, **{"cv": 3, "scoring": LOSS, "error_score": "raise", **params}
    )


def assert_same_search(ours, theirs):
    scores = [name for name in theirs.cv_results_ if "time" not in name]
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name in scores:
        if name == "params":
            assert ours.cv_results_[name] == theirs.cv_results_[name]
        elif "score" in name and "rank" not in name:
            np.testing.assert_allclose(
                ours.cv_results_[name], theirs.cv_results_[name], rtol=0, atol=1e-6
            )
        else:
            np.testing.assert_array_equal(ours.cv_results_[name], theirs.cv_results_[name])
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_index_ == theirs.best_index_
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=0, atol=1e-6)


# The scores of GridSearchCV

STUDENTS = {
    "cross-fitted": lambda: small([LogisticRegression()], cv=3),
    "two cross-fitted": lambda: small(
        [LogisticRegression(), DecisionTreeClassifier(max_depth=2)], cv=2, teacher_weights=[2, 1]
    ),
    "early stopping": lambda: small(
        [LogisticRegression()],
        cv=2,
        early_stopping=True,
        max_epochs=30,
        n_iter_no_change=2,
        learning_rate_init=0.2,
    ),
    "dropout": lambda: small([LogisticRegression()], cv=2, dropout=0.3, batch_size=20),
    "batches": lambda: small([LogisticRegression()], cv=2, batch_size=17, weight_decay=1e-2),
    "no embedding": lambda: small([LogisticRegression()], cv=2, numerical_embedding=None),
    "two layers": lambda: small([LogisticRegression()], cv=2, hidden_layer_sizes=(5, 4)),
    # Too large for two of them to be trained at once.
    "two wide layers": lambda: small(
        [LogisticRegression()], cv=2, hidden_layer_sizes=(256, 256), max_epochs=2
    ),
    "no layer": lambda: small([LogisticRegression()], cv=2, hidden_layer_sizes=()),
    "tanh, mse": lambda: small([LogisticRegression()], cv=2, activation="tanh", loss="mse"),
    "gelu": lambda: small([LogisticRegression()], cv=2, activation="gelu"),
    "silu, own scaler": lambda: small(
        [LogisticRegression()], cv=2, activation="silu", preprocessor=StandardScaler()
    ),
}
PREFIT = {
    "bare": lambda X, y: small([fitted_teacher(X, y)]),
    "frozen": lambda X, y: small([FrozenEstimator(fitted_teacher(X, y))]),
    "munge": lambda X, y: small([fitted_teacher(X, y)], augment="munge", n_synthetic=50),
    "torch": lambda X, y: small(
        [TorchTeacher(linear_module(len(np.unique(y))), classes=np.unique(y))]
    ),
}


def own_loss(student_logits, target_proba, y, *, temperature):
    return losses.kl_divergence(student_logits, target_proba, temperature=temperature)


def linear_module(n_classes):
    torch.manual_seed(0)
    module = torch.nn.Linear(3, n_classes)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[-1, 0] = module.weight[0, 0].sub_(3.0).neg()
    return module.eval()


@pytest.mark.parametrize("name", STUDENTS)
def test_scores_are_those_of_grid_search(name):
    student = STUDENTS[name]()
    ours = search_of(student, refit=False).fit(X, Y)
    assert_same_search(ours, grid_of(student, refit=False).fit(X, Y))


@pytest.mark.parametrize("labels", [(1, 2), ("ant", "bee", "cat")], ids=str)
@pytest.mark.parametrize("name", PREFIT)
def test_scores_with_prefit_teachers(name, labels):
    X, y = make_data(60, labels=labels)
    student = PREFIT[name](X, y)
    ours, theirs = search_of(student).fit(X, y), grid_of(student).fit(X, y)
    assert_same_search(ours, theirs)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(ours.classes_, np.unique(y))


def test_scores_with_the_default_teacher():
    X, y = make_data(45)
    student = small()
    ours = search_of(student, cv=2, temperatures=[2.0], alphas=[0.5], refit=False).fit(X, y)
    theirs = GridSearchCV(
        student, {"alpha": [0.5], "temperature": [2.0]}, cv=2, scoring=LOSS, refit=False
    )
    assert_same_search(ours, theirs.fit(X, y))


def test_scores_over_a_frame_with_categories():
    frame = pd.DataFrame(X3, columns=["a", "b", "c"])
    frame["colour"] = np.where(X3[:, 0] > 0, "red", "blue")
    teacher = make_pipeline(
        FunctionTransformer(lambda frame: frame[["a", "b"]]), LogisticRegression()
    )
    student = small([teacher], cv=2)
    ours, theirs = search_of(student).fit(frame, Y3), grid_of(student).fit(frame, Y3)
    assert_same_search(ours, theirs)
    np.testing.assert_array_equal(ours.feature_names_in_, frame.columns)
    np.testing.assert_array_equal(ours.predict(frame), theirs.predict(frame))


@pytest.mark.parametrize("cv", ["prefit", 2])
def test_scores_with_extra_rows(cv):
    student = small([TEACHER], cv=cv)
    for extra in (EXTRA[:50], np.concatenate([EXTRA, EXTRA + 0.1])):
        ours = search_of(student, refit=False).fit(X, Y, X_unlabeled=extra)
        theirs = grid_of(student, refit=False).fit(X, Y, X_unlabeled=extra)
        assert_same_search(ours, theirs)


def test_extra_rows_are_never_cut():
    student = small([TEACHER])
    ours = search_of(student, refit=False).fit(X, Y, X_unlabeled=EXTRA)
    repeated = np.repeat(EXTRA, 2, axis=0)
    assert len(EXTRA) == len(X)
    twice = search_of(student, refit=False).fit(X, Y, X_unlabeled=repeated)
    cut = grid_of(student, refit=False).fit(X, Y, X_unlabeled=EXTRA)
    difference = ours.cv_results_["mean_test_score"] - cut.cv_results_["mean_test_score"]
    assert np.abs(difference).max() > 1e-4
    assert np.isfinite(twice.cv_results_["mean_test_score"]).all()


def test_given_soft_targets_are_cut_by_the_folds():
    proba = TEACHER.predict_proba(X)
    ours = search_of(small()).fit(X, Y, teacher_proba=proba)
    assert_same_search(ours, grid_of(small()).fit(X, Y, teacher_proba=proba))
    assert_same_search(ours, search_of(small([TEACHER])).fit(X, Y))


@pytest.mark.parametrize(
    "scoring",
    [None, "accuracy", "roc_auc", make_scorer(accuracy_score)],
    ids=str,
)
def test_scorers(scoring):
    student = small([LogisticRegression()], cv=2)
    params = {"scoring": scoring, "refit": False}
    assert_same_search(search_of(student, **params).fit(X, Y), grid_of(student, **params).fit(X, Y))


def test_a_bare_callable_scores_students():
    def score(student, X, y):
        assert type(student) in (StudentClassifier, DistilledClassifier)
        return student.predict_proba(X)[:, 0].mean()

    student = small([LogisticRegression()], cv=2)
    params = {"scoring": score, "refit": False}
    assert_same_search(search_of(student, **params).fit(X, Y), grid_of(student, **params).fit(X, Y))


@pytest.mark.parametrize(
    "cv", [2, KFold(3), StratifiedKFold(3, shuffle=True, random_state=1), "list"], ids=str
)
def test_splits(cv):
    if cv == "list":
        cv = [(np.arange(60), np.arange(60, 90)), (np.arange(30, 90), np.arange(30))]
    student = small([LogisticRegression()], cv=2)
    params = {"cv": cv, "refit": False}
    assert_same_search(search_of(student, **params).fit(X, Y), grid_of(student, **params).fit(X, Y))


def test_groups_reach_the_splitter():
    groups = np.arange(len(X)) % 4
    student = small([LogisticRegression()], cv=2)
    params = {"cv": GroupKFold(3), "refit": False}
    ours = search_of(student, **params).fit(X, Y, groups=groups)
    assert_same_search(ours, grid_of(student, **params).fit(X, Y, groups=groups))


def test_an_unset_seed_is_drawn_once():
    student = small([LogisticRegression()], cv=2, random_state=None)
    first, second, other = (search_of(student, random_state=seed).fit(X, Y) for seed in (3, 3, 4))
    for name in ("mean_test_score", "split0_test_score"):
        np.testing.assert_array_equal(first.cv_results_[name], second.cv_results_[name])
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert not np.allclose(
        first.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"]
    )
    seeded = small([LogisticRegression()], cv=2, random_state=first.best_estimator_.random_state)
    assert_same_search(first, grid_of(seeded).fit(X, Y))
    drawn = small([LogisticRegression()], cv=2, random_state=np.random.RandomState(3))
    assert_same_search(search_of(drawn, random_state=9).fit(X, Y), first)


def test_an_integer_seed_of_the_estimator_stands():
    student = small([LogisticRegression()], cv=2, random_state=7)
    assert_same_search(search_of(student, random_state=1).fit(X, Y), grid_of(student).fit(X, Y))


def test_float32_scores_are_near():
    student = small([LogisticRegression()], cv=2, dtype="float32")
    ours, theirs = (s(student, refit=False).fit(X, Y) for s in (search_of, grid_of))
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-3
    )


# What it saves


@pytest.mark.parametrize("n_temperatures", [1, 6])
def test_teachers_are_asked_once_a_fold(n_temperatures):
    teacher = Counting().fit(X, Y)
    Counting.n_fits = Counting.rows_asked = 0
    temperatures = np.arange(1, 1 + n_temperatures)
    search_of(small([teacher]), temperatures=temperatures, refit=False).fit(X, Y)
    assert Counting.rows_asked == 2 * len(X)
    assert Counting.n_fits == 0
    Counting.rows_asked = 0
    student = small([Counting()], cv=2)
    search_of(student, temperatures=temperatures, refit=False).fit(X, Y)
    assert Counting.n_fits == 3 * 2
    assert Counting.rows_asked == 2 * len(X)


def test_without_a_soft_term_no_teacher_is_asked():
    Counting.n_fits = 0
    search_of(small([Counting()], cv=2), alphas=[0]).fit(X, Y)
    assert Counting.n_fits == 0


def test_the_plain_student_is_trained_once_and_repeated():
    seen = []

    def score(student, X, y):
        seen.append(student)
        return student.score(X, y)

    student = small([LogisticRegression()], cv=2)
    search = search_of(student, scoring=score, refit=False).fit(X, Y)
    # One for alpha=0 and four others, in each of three folds.
    assert len({id(student) for student in seen}) == len(seen) == 3 * 5
    plain = search.cv_results_["mean_test_score"][search.cv_results_["param_alpha"] == 0]
    assert len(plain) == 2
    assert plain[0] == plain[1]


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_two_folds_at_once_give_the_same_scores(backend):
    student = small([LogisticRegression()], cv=2)
    one = search_of(student).fit(X, Y)
    with parallel_config(backend):
        two = search_of(student, n_jobs=2).fit(X, Y)
    assert_same_search(one, two)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


@pytest.mark.parametrize("name", ["student_module", "loss", "callbacks"])
def test_what_cannot_be_stacked_is_fitted_one_by_one(name):
    value = {
        "student_module": lambda n, k: torch.nn.Sequential(torch.nn.Linear(n, k)),
        "loss": own_loss,
        "callbacks": [Callback()],
    }[name]
    student = small([LogisticRegression()], cv=2, max_epochs=3, **{name: value})
    assert_same_search(search_of(student).fit(X, Y), grid_of(student).fit(X, Y))


# The winner


def test_the_winner_is_fitted_on_all_rows():
    search = search_of(small([TEACHER])).fit(X, Y)
    winner = small([TEACHER], **search.best_params_).fit(X, Y)
    np.testing.assert_array_equal(search.predict_proba(X), winner.predict_proba(X))
    np.testing.assert_array_equal(search.predict_log_proba(X), winner.predict_log_proba(X))
    np.testing.assert_array_equal(search.predict(X), winner.predict(X))
    assert search.score(X, Y) == winner.score(X, Y)
    assert search.n_features_in_ == 3
    assert not hasattr(search, "feature_names_in_")
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.cv_results_["rank_test_score"][search.best_index_] == 1


def test_of_equal_candidates_the_first_wins():
    search = search_of(small([TEACHER]), scoring=lambda student, X, y: 1.0).fit(X, Y)
    assert search.best_index_ == 0
    assert (search.cv_results_["rank_test_score"] == 1).all()


def test_without_refit_there_are_scores_and_no_student():
    search = search_of(small([TEACHER]), refit=False).fit(X, Y)
    check_is_fitted(search)
    assert not hasattr(search, "best_estimator_")
    with pytest.raises(AttributeError, match="fit with refit=True"):
        search.predict(X)


def test_the_estimator_is_not_touched():
    student = small([TEACHER])
    before = {k: repr(v) for k, v in student.get_params().items()}
    search_of(student).fit(X, Y)
    assert {k: repr(v) for k, v in student.get_params().items()} == before
    assert not hasattr(student, "student_")


def test_prefit_teachers_are_said_once():
    with pytest.warns(UserWarning, match="did not see X.*cv=5") as caught:
        search_of(small([TEACHER])).fit(X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search_of(small([LogisticRegression()], cv=2)).fit(X, Y)
        search_of(small(), refit=False).fit(X, Y, teacher_proba=TEACHER.predict_proba(X))


# Weights


def test_scores_are_weighted():
    weight = np.where(np.arange(len(X)) % 3 == 0, 2.0, 1.0)
    ours = search_of(small([LogisticRegression()], cv=2), cv=2, refit=False)
    ours.fit(X, Y, sample_weight=weight)
    train, test = next(StratifiedKFold(2).split(X, Y))
    student = small([LogisticRegression()], cv=2, alpha=0.5, temperature=4.0)
    student.fit(X[train], Y[train], sample_weight=weight[train])
    log_proba = student.predict_log_proba(X[test])
    rows = log_proba[np.arange(len(test)), (Y[test] == "yes").astype(int)]
    expected = np.average(rows, weights=weight[test])
    candidate = ours.cv_results_["params"].index({"alpha": 0.5, "temperature": 4.0})
    np.testing.assert_allclose(
        ours.cv_results_["split0_test_score"][candidate], expected, atol=1e-6
    )


def test_weights_act_as_repeated_rows():
    weight = np.random.default_rng(0).integers(0, 3, size=len(X))
    copies = np.repeat(np.arange(len(X)), weight)
    half = len(X) // 2

    def splits(rows):
        first, second = np.flatnonzero(rows < half), np.flatnonzero(rows >= half)
        return [(first, second), (second, first)]

    student = small([TEACHER])
    weighted = search_of(student, cv=splits(np.arange(len(X)))).fit(X, Y, sample_weight=weight)
    repeated = search_of(student, cv=splits(copies)).fit(X[copies], Y[copies])
    np.testing.assert_allclose(
        weighted.cv_results_["mean_test_score"],
        repeated.cv_results_["mean_test_score"],
        rtol=0,
        atol=1e-9,
    )
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-6)


def test_equal_weights_change_nothing():
    student = small([LogisticRegression()], cv=2)
    for weight in (1.0, np.ones(len(X)), np.full(len(X), 1).tolist()):
        assert_same_search(
            search_of(student).fit(X, Y, sample_weight=weight), search_of(student).fit(X, Y)
        )


# What it refuses


def assert_refused(search, error, words, y=Y, **params):
    with pytest.raises(error, match=words):
        search.fit(X, y, **params)
    with pytest.raises(NotFittedError):
        check_is_fitted(search)
    assert not [name for name in vars(search) if name.endswith("_")]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"temperatures": []}, "'temperatures'.*non-empty"),
        ({"temperatures": 3.0}, "'temperatures'.*non-empty sequence; got 3.0"),
        ({"temperatures": [1.0, 0.0]}, "'temperatures'.*> 0; got 0.0"),
        ({"temperatures": [-1.0]}, "> 0; got -1.0"),
        ({"temperatures": [np.inf]}, "finite and > 0; got inf"),
        ({"temperatures": [np.nan]}, "finite and > 0; got nan"),
        ({"temperatures": ["hot"]}, "got 'hot'"),
        ({"temperatures": [True]}, "got True"),
        ({"temperatures": [[1.0]]}, r"got \[1.0\]"),
        ({"alphas": ()}, "'alphas'.*non-empty"),
        ({"alphas": [0.5, 1.1]}, r"'alphas'.*in \[0, 1\]; got 1.1"),
        ({"alphas": [-0.1]}, r"in \[0, 1\]; got -0.1"),
        ({"alphas": [None]}, "got None"),
        ({"scoring": ["accuracy", LOSS]}, "'scoring'.*compared by one score"),
    ],
    ids=str,
)
def test_bad_grids_are_refused(params, words):
    assert_refused(search_of(small([TEACHER]), **params), ValueError, words)


def test_only_a_distilled_classifier_is_tuned():
    words = "must be a DistilledClassifier; got a Pipeline. Put DistilledClassifierCV into the"
    assert_refused(search_of(make_pipeline(small([TEACHER]))), TypeError, words)
    assert_refused(search_of(LogisticRegression()), TypeError, "got a LogisticRegression")


def test_labels_are_needed():
    words = "requires y to be passed, but the target y is None"
    assert_refused(search_of(small([TEACHER])), ValueError, words, y=None)


def test_unknown_arguments_are_refused():
    words = "unexpected argument 'X_unlabelled'.*X_unlabeled"
    assert_refused(search_of(small([TEACHER])), TypeError, words, X_unlabelled=EXTRA)


def test_unfitted_teachers_are_refused_with_the_way_out():
    assert_refused(search_of(small([LogisticRegression()])), NotFittedError, "cv=5")


def test_when_every_student_diverges_there_is_no_winner():
    search = search_of(small([LogisticRegression()], cv=2, learning_rate_init=1e200))
    assert_refused(search, ValueError, "No candidate could be scored")


def test_a_failed_search_forgets_the_last_one():
    search = search_of(small([TEACHER])).fit(X, Y)
    assert_refused(search.set_params(alphas=[2]), ValueError, "got 2")


def test_an_interrupt_passes():
    def interrupt(X):
        raise KeyboardInterrupt

    search = search_of(small([Fixed(interrupt, ["no", "yes"])]))
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert not hasattr(search, "cv_results_")


# Among scikit-learn's tools


def test_in_a_pipeline():
    pipe = make_pipeline(FunctionTransformer(), search_of(small([TEACHER]), cv=2))
    alone = search_of(small([TEACHER]), cv=2).fit(X, Y)
    np.testing.assert_array_equal(pipe.fit(X, Y).predict_proba(X), alone.predict_proba(X))
    scores = cross_val_score(pipe, X, Y, cv=2)
    assert (scores > 0.6).all()


def test_clone_shares_the_teachers_and_forgets_the_fit():
    search = search_of(small([TEACHER])).fit(X, Y)
    twin = clone(search)
    assert twin.estimator.teachers is search.estimator.teachers
    assert twin.estimator is not search.estimator
    assert not hasattr(twin, "cv_results_")
    assert_same_search(twin.fit(X, Y), search)


def test_parameters_of_the_estimator_are_set_through_it():
    search = search_of(small([TEACHER])).set_params(estimator__max_epochs=3)
    assert search.estimator.max_epochs == 3
    assert search.get_params()["estimator__batch_size"] == search.estimator.batch_size


def test_a_pickle_leaves_the_teachers_behind(tmp_path, fresh_process):
    tree = DecisionTreeClassifier(min_samples_leaf=20).fit(X[::2], Y[::2])
    search = search_of(
        small([("tree", tree)], preprocessor=StandardScaler(), callbacks=[]),
        scoring=lambda student, X, y: student.score(X, y),
        cv=[(np.arange(60), np.arange(60, 90))],
    ).fit(X, Y)
    (tmp_path / "search.pkl").write_bytes(pickle.dumps(search))
    np.save(tmp_path / "X.npy", X)
    code = """
        import pickle, sys
        from pathlib import Path
        import numpy as np
        folder = Path(sys.argv[1])
        search = pickle.loads((folder / "search.pkl").read_bytes())
        repr(search)
        np.save(folder / "proba.npy", search.predict_proba(np.load(folder / "X.npy")))
        print(sorted(search.best_params_), len(search.cv_results_["params"]))
    """
    printed = fresh_process(code, tmp_path, forbid=HEAVY)
    assert printed.strip() == "['alpha', 'temperature'] 6"
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), search.predict_proba(X))
    loaded = pickle.loads(pickle.dumps(search))
    assert isinstance(loaded.estimator.teachers, TeachersLeftBehind)
    assert not hasattr(loaded, "_versions")
    with pytest.raises(ValueError, match="teachers of this estimator were left behind"):
        loaded.fit(X, Y)
    loaded.set_params(estimator=search.estimator)
    with pytest.raises(ValueError, match=r"value of cv \(list\) was left behind"):
        loaded.fit(X, Y)
    assert search.estimator.teachers[0][1] is tree


def test_unfitted_pickles_and_kept_teachers_are_whole():
    unfitted = pickle.loads(pickle.dumps(search_of(small([TEACHER]))))
    assert unfitted.fit(X, Y).score(X, Y) > 0.6
    kept = search_of(small([TEACHER], keep_teachers=True)).fit(X, Y)
    again = pickle.loads(pickle.dumps(kept))
    np.testing.assert_array_equal(again.fit(X, Y).predict_proba(X), kept.predict_proba(X))
    default = search_of(small(loss=own_loss), alphas=[0.0]).fit(X, Y)
    assert b"own_loss" not in pickle.dumps(default)


def test_metadata_routing():
    weight = np.linspace(0.5, 2.0, len(X))
    student = small([LogisticRegression()], cv=2)
    plain = search_of(student).fit(X, Y, sample_weight=weight, X_unlabeled=EXTRA)
    with config_context(enable_metadata_routing=True):
        search = search_of(small([LogisticRegression()], cv=2))
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            search.fit(X, Y, sample_weight=weight)
        teacher = LogisticRegression().set_fit_request(sample_weight=True)
        asking = small([teacher], cv=2).set_fit_request(sample_weight=True, X_unlabeled=True)
        routed = search_of(asking).fit(X, Y, sample_weight=weight, X_unlabeled=EXTRA)
        assert_same_search(routed, plain)
        pipe = make_pipeline(
            FunctionTransformer(), search_of(asking).set_fit_request(sample_weight=True)
        )
        pipe.fit(X, Y, sample_weight=weight, X_unlabeled=EXTRA)
        assert_same_search(pipe[-1], plain)
        deaf = small([teacher], cv=2).set_fit_request(sample_weight=False)
        scored = search_of(deaf, refit=False).fit(X, Y, sample_weight=weight)
    unweighted = search_of(student).fit(X, Y)
    weighted = scored.cv_results_["mean_test_score"]
    assert not np.allclose(weighted, unweighted.cv_results_["mean_test_score"])
    assert not np.allclose(weighted, plain.cv_results_["mean_test_score"])


TINY = {"hidden_layer_sizes": (8,), "max_epochs": 20, "learning_rate_init": 0.1}
GRID = {"temperatures": (2,), "alphas": (0, 0.5), "cv": 3}


@parametrize_with_checks(
    [DistilledClassifierCV(DistilledClassifier([LogisticRegression()], cv=2, **TINY), **GRID)]
)
@pytest.mark.filterwarnings("default")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([DistilledClassifierCV(DistilledClassifier(**TINY), **GRID)])
@pytest.mark.filterwarnings("default")
def test_scikit_learn_checks_with_defaults(estimator, check):
    check(estimator)


def test_copies_keep_the_teachers():
    search = search_of(small([LogisticRegression()], cv=2)).fit(X, Y)
    for copied in (copy.copy(search), copy.deepcopy(search)):
        assert_same_search(copied.fit(X, Y), search)


def test_weights_go_only_to_scorers_that_take_them():
    weight = np.linspace(1, 2, len(X))
    for scoring in (
        lambda estimator, X, y: estimator.score(X, y),
        make_scorer(lambda y, predicted: float((y == predicted).mean())),
    ):
        student = small([LogisticRegression()], cv=2)
        assert search_of(student, scoring=scoring).fit(X, Y, sample_weight=weight).best_score_ > 0


@pytest.mark.parametrize("name", ["loss", "hints"])
def test_a_lean_pickle_says_what_its_estimator_left_behind(name):
    values = {"loss": absolute_loss, "hints": [Hint(layer=0, weight=0)]}
    search = DistilledClassifierCV(
        small([TEACHER], **{name: values[name]}), temperatures=[1.0], alphas=[0.5], cv=2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lean = pickle.loads(pickle.dumps(search.fit(X, Y)))
    lean.estimator.set_params(teachers=[TEACHER])
    with pytest.raises(ValueError, match=rf"value of {name} .* was left behind"):
        lean.fit(X, Y)


def absolute_loss(student_logits, target_proba, y, *, temperature):
    return (student_logits.softmax(-1) - target_proba).abs().sum(-1)


def test_folds_are_calibrated_whatever_the_alpha_of_the_estimator():
    X, y = make_data(400)
    forest = RandomForestClassifier(20, min_samples_leaf=2, random_state=0).fit(X, y)
    student = DistilledClassifier(
        [forest], hidden_layer_sizes=(8,), max_epochs=3, dtype="float64", random_state=0
    )
    grid = {"temperatures": [1.0], "alphas": [0.9]}
    scores = [
        DistilledClassifierCV(
            clone(student).set_params(alpha=alpha), **grid, cv=2, scoring="neg_log_loss"
        )
        .fit(X, y)
        .best_score_
        for alpha in (0.0, 0.9)
    ]
    assert scores[0] == scores[1]


def test_each_candidate_is_checked_before_the_folds():
    Counting.n_fits = 0
    student = quick([Counting()], cv=2)
    with pytest.raises(ValueError, match="'temperature' parameter of DistilledClassifier"):
        DistilledClassifierCV(student, temperatures=[1, 1e-8], alphas=[0.5]).fit(X, Y)
    assert Counting.n_fits == 0
    alone = quick("self", alpha=0.0)
    with pytest.raises(ValueError, match="needs self_distillation > 0"):
        DistilledClassifierCV(alone, temperatures=[1], alphas=[0, 0.5]).fit(X, Y)
