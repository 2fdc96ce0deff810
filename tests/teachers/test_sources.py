"""Laws of where soft targets come from: prefit, cross-fitted, out of bag, given, self-taught."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from joblib import Memory
from quick_students import Counting, fitted_teacher, make_data, quick
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

from skdistill.tables import Rows
from skdistill.teachers import CallableTeacher
from skdistill.teachers import cross_fitting as _cross_fitting
from skdistill.teachers import fitting as _fitting
from skdistill.teachers import progress as _progress
from skdistill.teachers.choice import choose_source
from skdistill.teachers.naming import name_teachers
from skdistill.teachers.pooling import pool, temper
from skdistill.teachers.sources import TeacherSpec

X, Y = make_data(labels=("ant", "bee", "cat"))
CLASSES, CODE = np.unique(Y, return_inverse=True)
FROZEN = FrozenEstimator(fitted_teacher(X, Y))
FOREST = RandomForestClassifier(40, random_state=0)
# Every third row does not count; the others do so one, two or three times.
WEIGHT = np.where(np.arange(len(X)) % 3 == 0, 0.0, 1.0 + np.arange(len(X)) % 3 * (CODE == 0))


def labelled(
    teachers,
    cv,
    sample_weight=None,
    averaging="proba",
    seed=0,
    weights=None,
    weighted=None,
    calibration=None,
    proba=None,
    **settings,
):
    """Return a source and the targets that it gave the rows."""
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    rows = Rows(X, CODE, CLASSES, weight, teacher_proba=proba)
    spec = TeacherSpec(teachers, cv, averaging, weights, calibration, **settings)
    named = name_teachers(teachers) if isinstance(teachers, list) else []
    source = choose_source(spec, named, weighted, given=proba is not None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*cannot be fitted inside fit")
        return source, source.label(rows, np.random.RandomState(seed))


def further(source):
    """Return what a source says of rows that `fit` did not name."""
    return source.labeller().predict_proba(X)


def cross(teachers, cv=3, **settings):
    return labelled(teachers, cv, **settings)[1]


def vote(teachers, **settings):
    return labelled(teachers, "oob", **settings)[1]


def log_mean(parts, weights):
    """Return what a mean of logits stands for."""
    mean = sum(w * np.log(np.clip(p, 1e-7, 1)) for p, w in zip(parts, weights, strict=True))
    return np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)


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


def test_further_rows_are_labelled_by_the_mean_of_the_fold_teachers():
    source, targets = labelled([GaussianNB(), LogisticRegression()], 3)
    fold_means = [np.mean([t.predict_proba(X) for t in f], axis=0) for f in targets.fitted]
    np.testing.assert_allclose(further(source), np.mean(fold_means, axis=0), atol=1e-14)


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
    source, targets = labelled(teachers, splits, weights=[1, 3], averaging=averaging)
    fold = np.full(len(X), -1)
    for i, (_, test) in enumerate(splits):
        fold[test] = i
    assert targets.fitted[0] is FROZEN
    assert [[t.estimator for t in folds] for folds in source.members] == [
        [FROZEN],
        targets.fitted[1],
    ]
    np.testing.assert_array_equal(targets.weights, [0.25, 0.75])
    answers = [t.predict_proba(X) for t in (FROZEN, *targets.fitted[1])]
    shares = [0.25, 0.375, 0.375]
    mean = np.average(answers, axis=0, weights=shares)
    expected = mean if averaging == "proba" else log_mean(answers, shares)
    np.testing.assert_allclose(further(source), expected, atol=1e-12)
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


def test_what_is_fitted_and_asked_is_counted(monkeypatch):
    seen = []

    @contextmanager
    def stage(words, total=None):
        here = SimpleNamespace(words=words, total=total, n_done=0)
        here.done = lambda: setattr(here, "n_done", here.n_done + 1)
        seen.append(here)
        yield here

    monkeypatch.setattr(_progress, "stage", stage)
    cross([FROZEN, GaussianNB()], cv=3)
    vote([FROZEN, FOREST])
    labelled([FROZEN, GaussianNB().fit(X, Y)], "prefit", weights="confidence")
    assert [(s.words, s.total, s.n_done) for s in seen] == [
        ("fitted teacher", 3, 3),
        ("out-of-bag teacher", 2, 2),
        ("teacher", 2, 2),
    ]


def test_splits_that_yield_nothing_are_refused():
    with pytest.raises(ValueError, match=r"^cv=\[\] yields no splits, so no teacher could be fi"):
        cross([GaussianNB()], cv=[])


@pytest.mark.parametrize(("cv", "n_splits"), [(None, 5), (3, 3), (np.int64(4), 4), (2, 2)])
def test_a_number_of_folds_is_what_scikit_learn_makes_of_it(cv, n_splits):
    expected = StratifiedKFold(n_splits).split(X, CODE)
    for ours, theirs in zip(_cross_fitting._splits(cv, X, CODE), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))


def test_classes_of_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="n_splits=2"):
        list(_cross_fitting._splits(5, X[:3], np.arange(3)))


def test_the_number_of_jobs_is_handed_on(monkeypatch):
    asked, run_counted = [], _cross_fitting.run_counted

    def run(words, jobs, n_jobs):
        asked.append(n_jobs)
        return run_counted(words, jobs, None)

    monkeypatch.setattr(_cross_fitting, "run_counted", run)
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
    told, fit = [], _fitting.fit_teacher

    def remember(*args, classes, seed):
        np.testing.assert_array_equal(classes, CLASSES)
        told.append(seed)
        return fit(*args, classes=classes, seed=seed)

    monkeypatch.setattr(_fitting, "fit_teacher", remember)
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
        splits = list(_cross_fitting._splits(5, X[rare], CODE[rare]))
    assert len(splits) == 5
    few = np.concatenate([np.flatnonzero(c == CODE)[:3] for c in range(3)])
    assert len(list(_cross_fitting._splits(5, X[few], CODE[few]))) == 3


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


def test_memory_keeps_the_cross_fit_beside_a_function_that_is_asked_each_time(tmp_path):
    Counting.n_fits = 0
    asked = []

    def answer(rows):
        asked.append(len(rows))
        return np.full((len(rows), 3), 1 / 3)

    function = CallableTeacher(answer, CLASSES)
    both = [cross([function, Counting()], memory=str(tmp_path)) for _ in range(2)]
    assert Counting.n_fits == 3
    assert asked == [len(X)] * 2
    np.testing.assert_array_equal(both[0].proba, both[1].proba)


def test_memory_hands_out_the_teachers_that_are_used_as_they_are(tmp_path):
    for _ in range(2):
        assert cross([FROZEN], memory=str(tmp_path)).fitted[0] is FROZEN


def test_a_memory_that_maps_files_gives_the_same_targets(tmp_path):
    memory = Memory(tmp_path, mmap_mode="r", verbose=0)
    once, again = (cross([GaussianNB()], memory=memory).proba for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_a_teacher_without_weights_is_named_once_whatever_is_remembered(tmp_path):
    teachers = [KNeighborsClassifier(), GaussianNB()]
    for _ in range(2):
        with pytest.warns(UserWarning, match="does not take sample_weight") as caught:
            cross(teachers, memory=str(tmp_path), sample_weight=WEIGHT)
        assert len(caught) == 1
    # Weights that are all 1 are none.
    cross(teachers, memory=str(tmp_path))


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
    source, targets = labelled([FROZEN, FOREST], "oob", weights=[1, 3], averaging=averaging)
    assert targets.fitted[0] is FROZEN
    np.testing.assert_array_equal(targets.weights, [0.25, 0.75])
    votes = vote([FOREST]).proba
    for found, forest in [
        (targets.proba, votes),
        (further(source), targets.fitted[1].predict_proba(X)),
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


def test_two_equal_teachers_are_one():
    twins = [fitted_teacher(X, Y), fitted_teacher(X, Y)]
    for cv in ("prefit", 3):
        one, two = (labelled(t, cv) for t in (twins[:1], twins))
        np.testing.assert_allclose(one[1].proba, two[1].proba, atol=1e-14)
        np.testing.assert_allclose(further(one[0]), further(two[0]), atol=1e-14)


@pytest.mark.parametrize("cv", [3, "oob"])
def test_targets_are_calibrated_together_with_further_answers(cv):
    plain_source, plain = labelled([FOREST], cv)
    source, targets = labelled([FOREST], cv, calibration="auto")
    assert plain.calibration_temperature == plain_source.labeller().calibration_temperature == 1
    assert targets.calibration_temperature == source.labeller().calibration_temperature < 1
    np.testing.assert_array_equal(
        targets.proba, temper(plain.proba, targets.calibration_temperature)
    )
    np.testing.assert_allclose(
        further(source),
        temper(further(plain_source), targets.calibration_temperature),
    )


@pytest.mark.parametrize("cv", ["prefit", 3])
def test_answers_of_teachers_that_saw_the_rows_are_not_calibrated(cv):
    source, targets = labelled([FROZEN, fitted_teacher(X, Y)], cv, calibration="auto")
    assert targets.calibration_temperature == source.labeller().calibration_temperature == 1


def test_fitted_teachers_answer_as_they_are():
    teachers = [fitted_teacher(X, Y), GaussianNB().fit(X, Y)]
    source, targets = labelled(teachers, "prefit", weights=[1, 3])
    mean = 0.25 * teachers[0].predict_proba(X) + 0.75 * teachers[1].predict_proba(X)
    np.testing.assert_allclose(targets.proba, mean, atol=1e-14)
    np.testing.assert_array_equal(further(source), targets.proba)
    assert targets.known.all()
    assert targets.fitted == teachers


def test_fitted_teachers_can_label_rows_before_those_of_fit():
    spec = TeacherSpec([FROZEN])
    source = choose_source(spec, name_teachers([FROZEN]))
    assert source.can_label_further
    source.classes = CLASSES
    np.testing.assert_allclose(further(source), FROZEN.predict_proba(X), atol=1e-15)


@pytest.mark.parametrize("cv", [3, "oob"])
def test_teachers_that_are_to_be_fitted_label_no_row_before(cv):
    source = choose_source(TeacherSpec([FOREST], cv), name_teachers([FOREST]))
    assert not source.can_label_further
    with pytest.raises(ValueError, match="There is no teacher that could label this batch"):
        further(source)


def test_given_targets_are_the_targets_and_fitted_teachers_label_further_rows():
    given = np.full((len(X), 3), 1 / 3)
    source, targets = labelled([FROZEN], "prefit", proba=given)
    assert targets.proba is given
    assert targets.weights is None
    assert targets.fitted == [FROZEN]
    assert source.prefit
    np.testing.assert_allclose(further(source), FROZEN.predict_proba(X), atol=1e-15)
    source, targets = labelled([FOREST], 3, proba=given)
    assert targets.fitted == []
    assert not source.can_label_further
    assert not source.prefit


def test_a_student_that_teaches_itself_begins_with_the_labels():
    source, targets = labelled("self", "prefit")
    np.testing.assert_array_equal(targets.proba, np.eye(3)[CODE])
    assert not source.can_label_further
    assert not source.prefit


def test_memory_holds_the_answers_of_fitted_teachers_from_fit_to_fit(tmp_path):
    teacher = Counting().fit(X, Y)
    Counting.rows_asked = 0
    students = [quick([teacher], memory=str(tmp_path)).fit(X, Y) for _ in range(2)]
    assert Counting.rows_asked == len(X)
    students.append(quick([teacher]).fit(X, Y))
    assert Counting.rows_asked == 2 * len(X)
    proba = [student.predict_proba(X) for student in students]
    np.testing.assert_array_equal(proba, [proba[0]] * 3)
