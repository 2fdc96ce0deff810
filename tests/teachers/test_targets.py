"""Laws of soft targets: averaging, cross-fitting, out-of-bag votes, the memory of answers."""

import gc
import warnings
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from quick_students import Counting, Fixed, fitted_teacher, make_data
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skdistill import TorchTeacher
from skdistill.teachers import progress as _progress
from skdistill.teachers import targets as _targets
from skdistill.teachers.asking import as_teacher
from skdistill.teachers.cross_fitting import cross_fit, out_of_bag
from skdistill.teachers.ensemble import Ensemble, ask_each, resolve_averaging
from skdistill.teachers.naming import name_teachers
from skdistill.teachers.pooling import SoftTargets, check_teacher_weights, pool, temper
from skdistill.teachers.targets import AnswerCache

X, Y = make_data(labels=("ant", "bee", "cat"))
CLASSES, CODE = np.unique(Y, return_inverse=True)
FROZEN = FrozenEstimator(fitted_teacher(X, Y))
FOREST = RandomForestClassifier(40, random_state=0)
# Every third row does not count; the others do so one, two or three times.
WEIGHT = np.where(np.arange(len(X)) % 3 == 0, 0.0, 1.0 + np.arange(len(X)) % 3 * (CODE == 0))


def log_mean(parts, weights):
    """Return what a mean of logits stands for."""
    mean = sum(w * np.log(np.clip(p, 1e-7, 1)) for p, w in zip(parts, weights, strict=True))
    return np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)


def ensemble(teachers, weights=None, averaging="proba", classes=CLASSES):
    named = name_teachers(teachers)
    weights = check_teacher_weights(weights, len(named))
    return Ensemble([as_teacher(n, classes) for n in named], weights, averaging)


def cross(teachers, cv=3, sample_weight=None, averaging="proba", seed=0, weights=None, **settings):
    named = name_teachers(teachers)
    settings.setdefault("weighted", [True] * len(named))
    return cross_fit(
        named,
        X,
        Y,
        sample_weight,
        cv=cv,
        classes=CLASSES,
        code=CODE,
        averaging=averaging,
        weights=check_teacher_weights(weights, len(named)),
        rng=np.random.RandomState(seed),
        **settings,
    )


def vote(teachers, seed=0, weights=None, sample_weight=None, averaging="proba", weighted=None):
    named = name_teachers(teachers)
    return out_of_bag(
        named,
        X,
        Y,
        sample_weight,
        classes=CLASSES,
        code=CODE,
        averaging=averaging,
        weights=check_teacher_weights(weights, len(named)),
        weighted=[True] * len(named) if weighted is None else weighted,
        rng=np.random.RandomState(seed),
    )


@pytest.fixture
def shown(monkeypatch):
    """Return the stages that a person sees: their words, how many parts, how many were done."""
    seen = []

    @contextmanager
    def stage(words, total=None):
        here = SimpleNamespace(words=words, total=total, n_done=0)
        here.done = lambda: setattr(here, "n_done", here.n_done + 1)
        seen.append(here)
        yield here

    monkeypatch.setattr(_targets, "stage", stage)
    monkeypatch.setattr(_progress, "stage", stage)
    return seen


def test_targets_and_their_teachers_are_tempered_together():
    asked = ensemble([fitted_teacher(X, Y)])
    proba = asked.predict_proba(X)
    targets = SoftTargets(proba, np.ones(len(X), dtype=bool), asked, weights=np.ones(1))
    hot = targets.tempered(3.0)
    np.testing.assert_array_equal(hot.proba, temper(proba, 3.0))
    np.testing.assert_allclose(hot.ensemble.predict_proba(X), hot.proba, atol=1e-15)
    assert hot.temperature == hot.ensemble.temperature == 3.0
    assert hot.weights is targets.weights
    # The ones that were given stay as they are.
    assert targets.temperature == asked.temperature == 1.0
    np.testing.assert_array_equal(asked.predict_proba(X), proba)
    alone = SoftTargets(proba, targets.known, None).tempered(3.0)
    np.testing.assert_array_equal(alone.proba, hot.proba)
    assert alone.ensemble is None


def test_one_teacher_is_itself():
    teacher = fitted_teacher(X, Y)
    proba = teacher.predict_proba(X)
    for averaging in ("proba", "logits"):
        answer = ensemble([teacher], averaging=averaging).predict_proba(X)
        np.testing.assert_allclose(answer, proba, atol=1e-7)


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_two_equal_teachers_equal_one(averaging):
    one, twin = fitted_teacher(X, Y), fitted_teacher(X, Y)
    np.testing.assert_allclose(
        ensemble([one, twin], averaging=averaging).predict_proba(X),
        ensemble([one], averaging=averaging).predict_proba(X),
        atol=1e-14,
    )


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_order_of_teachers_does_not_matter(averaging):
    a, b = fitted_teacher(X, Y), GaussianNB().fit(X, Y)
    np.testing.assert_allclose(
        ensemble([a, b], [1, 2], averaging).predict_proba(X),
        ensemble([b, a], [2, 1], averaging).predict_proba(X),
        atol=1e-14,
    )


def test_averages_against_numpy():
    a, b = fitted_teacher(X, Y), GaussianNB().fit(X, Y)
    p, q = a.predict_proba(X), b.predict_proba(X)
    np.testing.assert_allclose(
        ensemble([a, b], [1, 3]).predict_proba(X), 0.25 * p + 0.75 * q, atol=1e-14
    )
    geometric = np.clip(p, 1e-7, 1) ** 0.25 * np.clip(q, 1e-7, 1) ** 0.75
    np.testing.assert_allclose(
        ensemble([a, b], [1, 3], "logits").predict_proba(X),
        geometric / geometric.sum(axis=1, keepdims=True),
        atol=1e-13,
    )


def test_permuted_columns_give_the_same_answer():
    teacher = fitted_teacher(X, Y)
    order = [2, 0, 1]
    permuted = Fixed(lambda X: teacher.predict_proba(X)[:, order], CLASSES[order])
    np.testing.assert_allclose(
        ensemble([permuted]).predict_proba(X), ensemble([teacher]).predict_proba(X), atol=1e-15
    )


def test_blocks_of_rows_change_nothing(monkeypatch):
    asked = ensemble([fitted_teacher(X, Y), GaussianNB().fit(X, Y)])
    whole = asked.predict_proba(X)
    monkeypatch.setattr(_targets, "BATCH_ROWS", 32)
    np.testing.assert_allclose(asked.predict_proba(X), whole, atol=1e-15)


@pytest.mark.parametrize("n_teachers", [1, 2])
@pytest.mark.parametrize(("size", "sizes"), [(32, [32, 32, 26]), (45, [45, 45]), (90, [90])])
def test_teachers_are_asked_in_blocks_of_at_most_so_many_rows(
    monkeypatch, shown, size, sizes, n_teachers
):
    asked = []

    def answer(X):
        asked.append(len(X))
        return np.full((len(X), 3), 1 / 3)

    monkeypatch.setattr(_targets, "BATCH_ROWS", size)
    ensemble([Fixed(answer, CLASSES) for _ in range(n_teachers)]).predict_proba(X)
    assert asked == [n for n in sizes for _ in range(n_teachers)]
    # A single call is not worth a line.
    lines = [("answer", len(asked), len(asked))] if len(asked) > 1 else []
    assert [(s.words, s.total, s.n_done) for s in shown] == lines


@pytest.mark.parametrize("n_teachers", [1, 2])
@pytest.mark.parametrize("size", [32, 90])
def test_errors_number_the_rows_from_the_first_one(monkeypatch, size, n_teachers):
    def answer(X):
        return np.where((last == X).all(axis=1)[:, None], np.nan, 1 / 3) * np.ones(3)

    last = X[-1]
    monkeypatch.setattr(_targets, "BATCH_ROWS", size)
    with pytest.raises(ValueError, match=r"teacher 0 .*\b89\b"):
        ensemble([Fixed(answer, CLASSES) for _ in range(n_teachers)]).predict_proba(X)


def test_a_teacher_of_weight_zero_is_not_asked():
    def refuse(X):
        raise AssertionError

    silent = Fixed(refuse, CLASSES)
    answer = ensemble([fitted_teacher(X, Y), silent], [1, 0]).predict_proba(X)
    assert np.isfinite(answer).all()


def test_auto_averages_logits_only_where_all_have_them():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 3)
    logits, proba = TorchTeacher(module), TorchTeacher(module, output="proba")
    skl = fitted_teacher(X, Y)

    def auto(*teachers):
        return resolve_averaging("auto", name_teachers(list(teachers)))

    assert auto(module) == auto(logits) == auto(FrozenEstimator(logits)) == "logits"
    assert auto(logits, skl) == auto(proba) == auto(skl) == "proba"
    assert resolve_averaging("logits", name_teachers([skl])) == "logits"


def test_cross_fitting_equals_cross_val_predict():
    cv = StratifiedKFold(4)
    targets = cross([LogisticRegression()], cv=cv)
    expected = cross_val_predict(LogisticRegression(), X, Y, cv=cv, method="predict_proba")
    np.testing.assert_allclose(targets.proba, expected, atol=1e-12)
    assert targets.known.all()
    assert [len(folds) for folds in targets.fitted] == [4]


@pytest.mark.parametrize("rule", ["validation", "confidence"])
@pytest.mark.parametrize("ask", [cross, vote])
def test_rules_weigh_answers_to_rows_that_teachers_did_not_see(ask, rule):
    # The second forest guesses: out of bag or out of fold that shows, in sample it would not.
    good = RandomForestClassifier(30, random_state=0)
    blind = RandomForestClassifier(30, max_features=1, max_depth=1, random_state=0)
    apart = [ask([teacher]).proba for teacher in (good, blind)]
    together = ask([good, blind], weights=rule)
    at_label = [p[np.arange(len(Y)), CODE] for p in (*apart, together.proba)]
    loss = [-np.log(np.maximum(p, 1e-7)).mean() for p in at_label]
    assert loss[2] < np.mean(loss[:2])
    if rule == "validation":
        assert loss[2] <= min(loss[:2]) + 1e-6
        assert together.weights[0] > together.weights[1]
        assert together.weights.sum() == pytest.approx(1)
    else:
        np.testing.assert_array_equal(together.weights, [0.5, 0.5])
        confident = at_label[0] > at_label[1] + 0.05
        assert (at_label[2][confident] > np.mean(at_label[:2], axis=0)[confident]).all()


def test_each_teacher_is_asked_by_itself():
    teachers = [
        as_teacher(n, CLASSES)
        for n in name_teachers([fitted_teacher(X, Y), GaussianNB().fit(X, Y)])
    ]
    answers = ask_each(teachers, X, "proba")
    for teacher, answer in zip(teachers, answers, strict=True):
        np.testing.assert_array_equal(answer, teacher.ask(X, "proba"))


def test_no_row_is_answered_by_a_teacher_that_saw_it():
    splits = list(KFold(3, shuffle=True, random_state=0).split(X))
    # Nearest neighbour: sure and right about every row it saw.
    targets = cross([KNeighborsClassifier(1)], cv=splits)
    label = Y.copy()
    for train, test in splits:
        distance = ((X[test, None] - X[None, train]) ** 2).sum(axis=2)
        label[test] = Y[train][distance.argmin(axis=1)]
    np.testing.assert_array_equal(CLASSES[targets.proba.argmax(axis=1)], label)
    assert (label != Y).any()


def test_repeated_splits_are_averaged_and_uncovered_rows_unknown():
    repeated = RepeatedKFold(n_splits=2, n_repeats=2, random_state=0)
    splits = list(repeated.split(X))
    halves = [cross([GaussianNB()], cv=splits[i : i + 2]).proba for i in (0, 2)]
    both = cross([GaussianNB()], cv=repeated)
    np.testing.assert_allclose(both.proba, np.mean(halves, axis=0), atol=1e-14)
    part = ShuffleSplit(n_splits=2, test_size=0.2, random_state=0)
    targets = cross([GaussianNB()], cv=part)
    covered = np.zeros(len(X), dtype=bool)
    for _, test in part.split(X):
        covered[test] = True
    np.testing.assert_array_equal(targets.known, covered)
    assert np.isfinite(targets.proba).all()


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_repeated_splits_do_not_outvote_a_frozen_teacher(averaging):
    repeated = RepeatedKFold(n_splits=2, n_repeats=2, random_state=0)
    splits = list(repeated.split(X))
    halves = [
        cross([GaussianNB()], cv=splits[i : i + 2], averaging=averaging).proba for i in (0, 2)
    ]
    answers, shares = [FROZEN.predict_proba(X), *halves], [0.5, 0.25, 0.25]
    mean = np.average(answers, axis=0, weights=shares)
    expected = mean if averaging == "proba" else log_mean(answers, shares)
    both = cross([FROZEN, GaussianNB()], cv=repeated, averaging=averaging)
    np.testing.assert_allclose(both.proba, expected, atol=1e-6)


def test_extra_rows_are_labelled_by_the_mean_of_the_fold_teachers():
    targets = cross([GaussianNB(), LogisticRegression()])
    fold_means = [np.mean([t.predict_proba(X) for t in f], axis=0) for f in targets.fitted]
    np.testing.assert_allclose(
        targets.ensemble.predict_proba(X), np.mean(fold_means, axis=0), atol=1e-14
    )


def test_frozen_teachers_answer_as_they_are_among_cross_fitted_ones():
    frozen = FrozenEstimator(fitted_teacher(X, Y))
    targets = cross([frozen, GaussianNB()])
    alone = cross([GaussianNB()])
    np.testing.assert_allclose(
        targets.proba, (frozen.predict_proba(X) + alone.proba) / 2, atol=1e-14
    )
    assert targets.fitted[0] is frozen


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_what_was_cross_fitted_is_kept(averaging):
    splits = list(KFold(3).split(X))[:2]
    teachers = [FROZEN, GaussianNB()]
    targets = cross(teachers, cv=splits, weights=[1, 3], averaging=averaging)
    fold = np.full(len(X), -1)
    for i, (_, test) in enumerate(splits):
        fold[test] = i
    np.testing.assert_array_equal(targets.fold, fold)
    assert targets.fitted[0] is FROZEN
    assert [[t.estimator for t in folds] for folds in targets.members] == [
        [FROZEN],
        targets.fitted[1],
    ]
    np.testing.assert_array_equal(targets.weights, [0.25, 0.75])
    answers = [t.predict_proba(X) for t in (FROZEN, *targets.fitted[1])]
    shares = [0.25, 0.375, 0.375]
    mean = np.average(answers, axis=0, weights=shares)
    expected = mean if averaging == "proba" else log_mean(answers, shares)
    np.testing.assert_allclose(targets.ensemble.predict_proba(X), expected, atol=1e-12)
    held_out = np.where((fold == 0)[:, None], answers[1], answers[2])
    mean = np.average([answers[0], held_out], axis=0, weights=[0.25, 0.75])
    expected = mean if averaging == "proba" else log_mean([answers[0], held_out], [0.25, 0.75])
    np.testing.assert_allclose(targets.proba[fold >= 0], expected[fold >= 0], atol=1e-12)


@pytest.mark.parametrize("ask", [cross, vote])
def test_rules_heed_the_weights_of_rows(ask):
    teachers = [RandomForestClassifier(40, min_samples_leaf=5, random_state=i) for i in (3, 4)]
    weight = np.where(CODE == 0, 3.0, 1.0)
    apart = [ask([teacher], sample_weight=weight).proba for teacher in teachers]
    together = ask(teachers, weights="validation", sample_weight=weight)
    expected = pool(apart, "validation", "proba", CODE, weight)
    np.testing.assert_allclose(together.weights, expected.weights, atol=1e-6)
    np.testing.assert_allclose(together.proba, expected.proba, atol=1e-6)


@pytest.mark.parametrize("weighted", [True, False])
def test_only_teachers_that_take_weights_are_given_them(weighted):
    splits = list(KFold(2).split(X))
    targets = cross([GaussianNB()], cv=splits, sample_weight=WEIGHT, weighted=[weighted])
    for train, test in splits:
        kept = train[WEIGHT[train] > 0]
        model = GaussianNB().fit(X[kept], Y[kept], WEIGHT[kept] if weighted else None)
        np.testing.assert_allclose(targets.proba[test], model.predict_proba(X[test]), atol=1e-12)


def test_what_is_fitted_and_asked_is_counted(shown):
    cross([FROZEN, GaussianNB()], cv=3)
    vote([FROZEN, FOREST])
    ask_each(
        [as_teacher(n, CLASSES) for n in name_teachers([FROZEN, FOREST.fit(X, Y)])], X, "proba"
    )
    assert [(s.words, s.total, s.n_done) for s in shown] == [
        ("fitted teacher", 4, 4),
        ("out-of-bag teacher", 2, 2),
        ("teacher", 2, 2),
    ]


def test_splits_that_yield_nothing_are_refused():
    with pytest.raises(ValueError, match=r"^cv=\[\] yields no splits, so no teacher could be fi"):
        cross([GaussianNB()], cv=[])


@pytest.mark.parametrize(("cv", "n_splits"), [(None, 5), (3, 3), (np.int64(4), 4), (2, 2)])
def test_a_number_of_folds_is_what_scikit_learn_makes_of_it(cv, n_splits):
    expected = StratifiedKFold(n_splits).split(X, CODE)
    for ours, theirs in zip(_targets._splits(cv, X, CODE), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))


def test_classes_of_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="n_splits=2"):
        list(_targets._splits(5, X[:3], np.arange(3)))


def test_seeds_are_drawn_where_none_is_set():
    teacher = make_pipeline(PCA(), PCA(), RandomForestClassifier(random_state=7))
    (named,) = name_teachers([teacher])

    def seeds(rng):
        to_fit = _targets._seeded(named, True, rng)
        assert to_fit.weighted
        assert to_fit.named.label == named.label
        params = to_fit.named.estimator.get_params()
        assert params["randomforestclassifier__random_state"] == 7
        return [to_fit.seed, params["pca-1__random_state"], params["pca-2__random_state"]]

    rng = np.random.RandomState(0)
    drawn = seeds(rng)
    assert drawn == seeds(np.random.RandomState(0))
    assert len({*drawn, *seeds(rng)}) == 6
    assert teacher.get_params()["pca-1__random_state"] is None
    (frozen,) = name_teachers([FROZEN])
    kept = _targets._seeded(frozen, False, rng)
    assert kept.named is frozen
    assert not kept.weighted


def test_the_number_of_jobs_is_handed_on(monkeypatch):
    asked, run_counted = [], _targets.run_counted

    def run(words, jobs, n_jobs):
        asked.append(n_jobs)
        return run_counted(words, jobs, None)

    monkeypatch.setattr(_targets, "run_counted", run)
    cross([GaussianNB()], n_jobs=2)
    assert asked == [2]


def test_a_teacher_that_clones_itself_needs_no_parameters():
    class Own:
        def __sklearn_clone__(self):
            return Own()

        def fit(self, X, y):
            self.model = GaussianNB().fit(X, y)
            self.classes_ = self.model.classes_
            return self

        def predict_proba(self, X):
            return self.model.predict_proba(X)

    np.testing.assert_array_equal(cross([Own()]).proba, cross([GaussianNB()]).proba)


@pytest.mark.parametrize("ask", [cross, vote])
def test_teachers_are_told_all_classes_and_a_seed_of_their_own(ask, monkeypatch):
    told, fit = [], _targets.fit_teacher

    def remember(*args, classes, seed):
        np.testing.assert_array_equal(classes, CLASSES)
        told.append(seed)
        return fit(*args, classes=classes, seed=seed)

    monkeypatch.setattr(_targets, "fit_teacher", remember)
    forests = [RandomForestClassifier(20, random_state=i) for i in range(2)]
    ask(forests)
    n = len(told)
    ask(forests)
    # One seed a teacher, whatever the fold; the same where the generator is.
    assert len(set(told)) == 2
    assert told[n:] == told[:n]
    assert all(isinstance(seed, int) for seed in told)


def test_what_a_bagged_teacher_warns_of_is_passed_on():
    class Loud(RandomForestClassifier):
        def fit(self, X, y, sample_weight=None):
            warnings.warn("of something else", UserWarning, stacklevel=1)
            return super().fit(X, y, sample_weight)

    with pytest.warns(UserWarning, match="of something else") as caught:
        targets = vote([Loud(2, random_state=0)])
    assert len(caught) == 1
    assert not targets.known.all()


class Coded(RandomForestClassifier):
    """A forest that learns codes 0, 1, ... in place of labels, as those of XGBoost do."""

    __module__ = "xgboost.sklearn"

    def fit(self, X, y, sample_weight=None):
        np.testing.assert_array_equal(np.unique(y), np.arange(len(np.unique(y))))
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("ask", [cross, vote])
def test_teachers_that_learn_codes_answer_for_the_labels(ask):
    coded = ask([Coded(10, random_state=0)])
    plain = ask([RandomForestClassifier(10, random_state=0)])
    np.testing.assert_array_equal(coded.proba, plain.proba)


def test_teachers_that_learn_codes_answer_for_the_labels_of_their_fold():
    splits = [(np.flatnonzero(CODE != 1), np.flatnonzero(CODE == 1))]
    coded = cross([Coded(10, random_state=0)], cv=splits)
    np.testing.assert_array_equal(coded.proba[splits[0][1], 1], 0)


def test_jobs_and_seeds():
    forest = RandomForestClassifier(5)
    one = cross([forest])
    np.testing.assert_array_equal(one.proba, cross([forest], n_jobs=2).proba)
    assert not np.array_equal(one.proba, cross([forest], seed=1).proba)
    assert forest.random_state is None
    assert not hasattr(forest, "classes_")


def test_integer_folds_shrink_to_the_largest_class_and_rare_ones_are_warned_of():
    rare = np.concatenate([np.flatnonzero(CODE == 0)[:3], np.flatnonzero(CODE > 0)])
    with pytest.warns(UserWarning, match="least populated class"):
        splits = list(_targets._splits(5, X[rare], CODE[rare]))
    assert len(splits) == 5
    few = np.concatenate([np.flatnonzero(c == CODE)[:3] for c in range(3)])
    assert len(list(_targets._splits(5, X[few], CODE[few]))) == 3


def test_a_fold_without_a_class_gives_it_no_mass():
    outside = np.flatnonzero(CODE != 0)
    test = np.flatnonzero(CODE == 0)
    targets = cross([GaussianNB()], cv=[(outside, test)])
    np.testing.assert_array_equal(targets.proba[test, 0], 0)
    np.testing.assert_allclose(targets.proba[test].sum(axis=1), 1)


def test_weights_reach_the_fold_teachers_and_rows_of_weight_zero_do_not():
    weight = np.where(np.arange(len(X)) % 3 == 0, 0.0, 2.0)
    splits = list(KFold(2).split(X))
    targets = cross([GaussianNB()], cv=splits, sample_weight=weight)
    for train, test in splits:
        kept = train[weight[train] > 0]
        expected = GaussianNB().fit(X[kept], Y[kept]).predict_proba(X[test])
        np.testing.assert_allclose(targets.proba[test], expected, atol=1e-10)


def test_memory_keeps_the_cross_fit(tmp_path):
    Counting.n_fits = 0
    first = cross([Counting()], memory=str(tmp_path))
    assert Counting.n_fits == 3
    again = cross([Counting()], memory=str(tmp_path), n_jobs=1)
    assert Counting.n_fits == 3
    np.testing.assert_array_equal(first.proba, again.proba)
    cross([Counting(C=2.0)], memory=str(tmp_path))
    assert Counting.n_fits == 6


def test_out_of_bag_votes_are_the_forests_own():
    forest = RandomForestClassifier(40, random_state=0)
    targets = vote([forest])
    reference = RandomForestClassifier(40, random_state=0, oob_score=True).fit(X, Y)
    np.testing.assert_allclose(targets.proba, reference.oob_decision_function_, atol=1e-12)
    assert targets.known.all()
    assert not forest.oob_score
    assert targets.fitted[0].oob_score


@pytest.mark.parametrize(
    "teacher",
    [
        BaggingClassifier(n_estimators=30, random_state=0),
        ExtraTreesClassifier(30, bootstrap=True, random_state=0),
    ],
    ids=lambda t: type(t).__name__,
)
def test_other_bagged_teachers_vote_out_of_bag(teacher):
    targets = vote([teacher])
    assert (targets.proba.argmax(axis=1) == CODE).mean() > 0.6


def test_rows_that_are_never_out_of_bag_are_unknown():
    targets = vote([RandomForestClassifier(2, random_state=0)])
    reference = RandomForestClassifier(2, random_state=0, oob_score=True)
    with pytest.warns(UserWarning, match="OOB"):
        reference.fit(X, Y)
    votes = reference.oob_decision_function_
    voted = np.isfinite(votes).all(axis=1) & (votes.sum(axis=1) > 0)
    np.testing.assert_array_equal(targets.known, voted)
    assert 0 < voted.sum() < len(X)
    assert np.isfinite(targets.proba).all()


@pytest.mark.parametrize("weighted", [True, False])
def test_rows_of_weight_zero_are_not_fitted_and_have_no_vote(weighted):
    targets = vote([FOREST], sample_weight=WEIGHT, weighted=[weighted])
    used = WEIGHT > 0
    reference = RandomForestClassifier(40, random_state=0, oob_score=True)
    reference.fit(X[used], Y[used], WEIGHT[used] if weighted else None)
    np.testing.assert_allclose(targets.proba[used], reference.oob_decision_function_, atol=1e-12)
    np.testing.assert_array_equal(targets.known, used)


@pytest.mark.parametrize("averaging", ["proba", "logits"])
def test_frozen_teachers_answer_every_row_beside_out_of_bag_votes(averaging):
    targets = vote([FROZEN, FOREST], weights=[1, 3], averaging=averaging)
    assert targets.fitted[0] is FROZEN
    np.testing.assert_array_equal(targets.weights, [0.25, 0.75])
    votes = vote([FOREST]).proba
    for found, forest in [
        (targets.proba, votes),
        (targets.ensemble.predict_proba(X), targets.fitted[1].predict_proba(X)),
    ]:
        answers = [FROZEN.predict_proba(X), forest]
        mean = np.average(answers, axis=0, weights=[0.25, 0.75])
        expected = mean if averaging == "proba" else log_mean(answers, [0.25, 0.75])
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_teachers_without_out_of_bag_votes_are_refused():
    words = (
        r"^teacher 0 \(GaussianNB\) has no oob_score, which cv='oob' needs\. Pass bagged teachers "
        r"\(such as RandomForestClassifier\), or cv=5\.$"
    )
    with pytest.raises(ValueError, match=words):
        vote([GaussianNB()])
    words = r"^teacher 0 .* could not be fitted with oob_score=True, as cv='oob' asks: .*bootstrap"
    with pytest.raises(ValueError, match=words):
        vote([ExtraTreesClassifier(5)])


def asking(cache, teachers, X=X, **kwargs):
    """Return the answer and how many rows the teachers were asked about."""
    Counting.rows_asked = 0
    answer = cache.mean(ensemble(teachers, **kwargs), X)
    return answer, Counting.rows_asked


def test_answers_are_remembered_and_confirmed():
    cache, teacher = AnswerCache(n_confirm=8), Counting().fit(X, Y)
    first, asked = asking(cache, [teacher])
    assert asked == len(X)
    again, asked = asking(cache, [teacher], X=X.copy())
    assert asked == 8
    assert again is first
    assert asking(cache, [teacher], X=X + 1)[1] == len(X)
    assert asking(cache, [teacher], averaging="logits")[1] == len(X)
    assert asking(cache, [Counting().fit(X, Y)])[1] == len(X)


def test_one_answer_is_remembered_for_all_temperatures():
    cache, asked = AnswerCache(n_confirm=8), ensemble([Counting().fit(X, Y)])
    for temperature in (1.0, 3.0):
        Counting.rows_asked = 0
        asked.temperature = temperature
        proba = cache.predict_proba(asked, X)
        assert Counting.rows_asked == (len(X) if temperature == 1 else 8)
        np.testing.assert_array_equal(proba, asked.predict_proba(X))


def test_an_answer_is_remembered_for_its_weights_and_classes():
    cache, teachers = AnswerCache(n_confirm=8), [Counting().fit(X, Y), GaussianNB().fit(X, Y)]
    for settings in ({"weights": [1, 3]}, {"weights": [3, 1]}, {"classes": CLASSES[[2, 0, 1]]}):
        answer, asked = asking(cache, teachers, **settings)
        assert asked == len(X)
        np.testing.assert_array_equal(answer, ensemble(teachers, **settings).mean(X))
        assert asking(cache, teachers, **settings)[1] == 8
    with pytest.raises(ValueError, match="read-only"):
        answer[0] = 0


@pytest.mark.parametrize("row", [0, -1])
def test_an_answer_that_changed_at_either_end_is_not_confirmed(row):
    shift = {"at": 0.0}

    def answer(rows):
        here = (X[row] == rows).all(axis=1)
        return [0.5, 0.5, 0.0] + shift["at"] * here[:, None] * np.array([-1, 0, 1])

    cache, teacher = AnswerCache(n_confirm=2), Fixed(answer, CLASSES)
    first, _ = asking(cache, [teacher])
    shift["at"] = 1e-6
    assert asking(cache, [teacher])[0] is first
    shift["at"] = 1e-3
    np.testing.assert_allclose(asking(cache, [teacher])[0], answer(X))


def test_a_teacher_that_holds_something_else_is_asked_anew():
    # One row is confirmed, the first, whose answer does not change.
    cache, rows = AnswerCache(n_confirm=1), np.vstack([np.zeros(3), X])
    teacher = Fixed(lambda X: np.full((len(X), 3), 1 / 3), CLASSES)
    asking(cache, [teacher], X=rows)
    teacher.answer = lambda X: np.where(X[:, :1] == 0, 1 / 3, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(asking(cache, [teacher], X=rows)[0], teacher.answer(rows))


def test_twins_are_remembered_apart():
    cache = AnswerCache(n_confirm=8)
    asked = []

    def answer(X):
        asked.append(len(X))
        return np.full((len(X), 3), 1 / 3)

    twins = [Fixed(answer, CLASSES) for _ in range(2)]
    for teacher in (*twins, *twins):
        asking(cache, [teacher])
    assert asked == [len(X), len(X), 8, 8]


def test_an_address_that_is_used_again_is_not_the_teacher():
    cache, asked, other = AnswerCache(), ensemble([fitted_teacher(X, Y)]), GaussianNB()
    answer = asked.mean(X)
    same = weakref.ref(asked.teachers[0].estimator)
    assert cache._confirmed(([same], answer), asked, X)
    assert not cache._confirmed(([weakref.ref(other)], answer), asked, X)


@pytest.mark.parametrize("watched", [False, True])
def test_a_teacher_that_cannot_be_watched_is_asked_each_time(watched):
    class Slotted:
        __slots__ = ("n_asked", "__weakref__") if watched else ("n_asked",)
        classes_ = CLASSES

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            self.n_asked += 1
            return np.full((len(X), 3), 1 / 3)

    teacher, cache = Slotted(), AnswerCache()
    teacher.n_asked = 0
    for _ in range(2):
        np.testing.assert_array_equal(asking(cache, [teacher])[0], np.full((len(X), 3), 1 / 3))
    # Once for the answer, once to confirm it; or for the answer both times.
    assert teacher.n_asked == 2
    assert len(cache._entries) == watched


def test_an_answer_asked_anew_is_the_newest():
    cache = AnswerCache(max_bytes=2 * X.shape[0] * 3 * 8, n_confirm=8)
    changed, other, last = (Counting().fit(X, Y) for _ in range(3))
    for teacher in (changed, other):
        asking(cache, [teacher])
    changed.model_.coef_ = -changed.model_.coef_
    asking(cache, [changed])
    asking(cache, [last])
    assert asking(cache, [changed])[1] == 8
    assert asking(cache, [other])[1] == len(X)


def test_a_teacher_changed_in_place_is_asked_anew():
    cache, teacher = AnswerCache(n_confirm=8), Counting().fit(X, Y)
    first, _ = asking(cache, [teacher])
    teacher.model_.coef_ = -teacher.model_.coef_
    changed, asked = asking(cache, [teacher])
    assert asked == 8 + len(X)
    np.testing.assert_allclose(changed, teacher.predict_proba(X))
    assert not np.allclose(changed, first)


def test_memory_of_answers_is_bounded_and_weak():
    teacher = Counting().fit(X, Y)
    cache = AnswerCache(max_bytes=2 * X.shape[0] * 3 * 8, n_confirm=8)
    for shift in range(5):
        asking(cache, [teacher], X=X + shift)
    assert len(cache._entries) == 2
    assert asking(cache, [teacher], X=X + 4)[1] == 8
    assert asking(cache, [teacher])[1] == len(X)
    del teacher
    gc.collect()
    asking(cache, [fitted_teacher(X, Y)])
    assert len(cache._entries) == 1
    cache.clear()
    assert not cache._entries


def test_a_module_trained_in_place_is_asked_anew():
    torch = pytest.importorskip("torch")
    # One row is confirmed, the first, whose answer does not change.
    cache, rows = AnswerCache(n_confirm=1), np.vstack([np.zeros(3), X])
    module = torch.nn.Linear(3, 3)
    asking(cache, [module], X=rows)
    with torch.no_grad():
        module.weight.mul_(-1)
    expected = ensemble([module]).mean(rows)
    np.testing.assert_array_equal(asking(cache, [module], X=rows)[0], expected)


def test_a_module_is_remembered_for_what_its_outputs_are():
    torch = pytest.importorskip("torch")
    cache, module = AnswerCache(), torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Softmax(1))
    for output in ("proba", "logits"):
        teacher = TorchTeacher(module, classes=CLASSES, output=output)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The module Sequential is declared to return")
            expected = ensemble([teacher]).mean(X)
            np.testing.assert_array_equal(asking(cache, [teacher])[0], expected)


def test_modules_are_remembered_by_themselves():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 3)
    cache = AnswerCache()
    assert asking(cache, [module])[0] is asking(cache, [module])[0]
    with torch.no_grad():
        module.weight.mul_(-1)
    changed = asking(cache, [module])[0]
    np.testing.assert_allclose(changed, ensemble([module]).predict_proba(X))
