"""Training from shards: the same loop as in memory, in the memory of a few shards."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from cluster_teachers import COLUMNS, make_frame, make_teachers, save_bundle, write_files
from quick_students import fitted_teacher, make_data, quick
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skdistill.scale.labelling import label_parquet
from skdistill.teachers.choice import choose_source
from skdistill.teachers.sources import TeacherSpec
from skdistill.training import shards as _shards
from skdistill.training import stream as _stream
from skdistill.training.shards import SAMPLE_ROWS, Shard, Shards, Survey
from skdistill.training.trainer import StudentTrainer

X, Y = make_data(1200)
PROBA = fitted_teacher(X, Y).predict_proba(X)


def cut(n_shards, *arrays):
    """Return shards that are views of the arrays, of sizes that differ."""
    ends = np.linspace(0, 1, n_shards + 1) ** 1.3 * len(arrays[0])
    ends = ends.round().astype(int)
    return [tuple(a[i:j] for a in arrays) for i, j in itertools.pairwise(ends)]


def weights_of(classifier):
    return [array for layer in classifier.student_.layers_ for array in layer.arrays]


def assert_same_student(one, other):
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch_size", [256, 2000])
@pytest.mark.parametrize("loss", ["kl", "mse"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("y", [Y, None])
def test_one_shard_is_fit(y, dropout, loss, batch_size):
    params = {"max_epochs": 4, "dropout": dropout, "loss": loss, "batch_size": batch_size}
    params["calibration"] = None
    shard = (X, PROBA) if y is None else (X, PROBA, y)
    streamed = quick([fitted_teacher(X, Y)], **params).fit_stream([shard])
    fitted = quick([fitted_teacher(X, Y)], **params).fit(X, y, teacher_proba=PROBA)
    assert_same_student(streamed, fitted)
    assert streamed.n_iter_ == 4
    assert streamed.calibration_temperature_ == 1.0
    assert streamed.teacher_weights_ is None
    for name, losses in fitted.history_.items():
        np.testing.assert_allclose(streamed.history_[name], losses, rtol=1e-6)


def test_files_are_the_same_loop_as_one_array(tmp_path):
    write_files(tmp_path / "rows", n_files=7, n_rows=300)
    bundle = save_bundle(tmp_path / "teachers")
    targets = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft").with_label("y")
    whole = [np.concatenate(parts) for parts in zip(*targets, strict=True)]
    whole[0] = pd.DataFrame(whole[0], columns=COLUMNS)
    views = [tuple(part[i : i + 300] for part in whole) for i in range(0, 2100, 300)]
    params = {"max_epochs": 3, "batch_size": 64}
    from_files = quick(**params).fit_stream(targets.with_label(None), label="y")
    from_memory = quick(**params).fit_stream(views)
    assert_same_student(from_files, from_memory)
    assert list(from_files.feature_names_in_) == COLUMNS
    assert from_files.score(whole[0], whole[2].astype(str)) > 0.85


def test_epochs_come_in_seeded_order_and_each_reads_every_row_once():
    shards = cut(9, X, PROBA, Y)
    reads = []

    class Counted(list):
        def __getitem__(self, number):
            reads.append(number)
            return super().__getitem__(number)

    def train(seed):
        reads.clear()
        return quick(max_epochs=3, batch_size=64, random_state=seed).fit_stream(Counted(shards))

    first = train(0)
    epochs = [reads[9 * i : 9 * i + 9] for i in range(1, 4)]
    assert len(reads) == 36
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert_same_student(first, train(0))
    assert not np.array_equal(weights_of(first)[0], weights_of(train(1))[0])


def test_few_shards_are_read_once_and_give_the_same_student(monkeypatch):
    shards = cut(3, X, PROBA, Y)
    reads = []

    class Counted(list):
        def __getitem__(self, number):
            reads.append(number)
            return super().__getitem__(number)

    once = quick(max_epochs=5, batch_size=64).fit_stream(Counted(shards))
    assert sorted(reads) == [0, 0, 1, 1, 2, 2]
    monkeypatch.setattr(_stream.TrainingStream, "is_one_group", False)
    assert_same_student(once, quick(max_epochs=5, batch_size=64).fit_stream(Counted(shards)))
    assert len(reads) == 6 + 3 + 15


def opened(shards, **settings):
    """Return a stream of rows as they are."""
    defaults = {"hold_out": False, "keep_back": False, "preprocessor": None, "n_bins": None}
    source = choose_source(TeacherSpec(augment=None), [])
    return _stream.open_stream(Shards(shards), source, **{**defaults, "seed": 3, **settings})


def rows_of_an_epoch(stream, epoch=0):
    return np.concatenate([stream.load(group, epoch).X for group in stream.plan(epoch)])


def test_rows_are_shuffled_across_shards_and_cover_every_row():
    stream = opened(cut(6, X, PROBA, Y))
    for epoch in range(2):
        plan = stream.plan(epoch)
        assert [len(group) for group in plan] == [4, 2]
        rows = rows_of_an_epoch(stream, epoch)
        np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(X, axis=0))
    assert stream.n_rows == len(X)
    assert stream.sample.classes.tolist() == ["no", "yes"]


@pytest.mark.parametrize("share_labelled", [1, 2])
def test_rows_kept_back_have_labels_and_are_in_no_epoch(share_labelled):
    partly = Y.astype(object)
    partly[np.arange(len(X)) % share_labelled > 0] = None
    stream = opened(cut(6, X, PROBA, partly), keep_back=True)
    unseen = stream.unseen
    assert len(unseen.X) == 120 // share_labelled
    place = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in unseen.X]
    assert sorted(set(place)) == sorted(place)
    np.testing.assert_array_equal(partly[place], stream.sample.classes[unseen.label])
    others = np.delete(X, place, axis=0)
    for epoch in range(2):
        rows = rows_of_an_epoch(stream, epoch)
        np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(others, axis=0))
    assert stream.n_rows == stream.n_fit == len(others)
    assert stream.load(np.arange(6), 0).hard_weight.mean() == pytest.approx(1)
    few = opened(cut(6, X[:480], PROBA[:480], Y[:480]), keep_back=True)
    assert few.unseen is None
    assert few.n_rows == 480


def test_rows_kept_back_are_drawn_uniformly():
    counts = np.zeros(len(X))
    numbered = np.column_stack([X, np.arange(len(X))])
    for seed in range(40):
        stream = opened(cut(5, numbered, PROBA, Y), keep_back=True, seed=seed)
        counts[stream.unseen.X[:, -1].astype(int)] += 1
    assert counts.max() < 15
    for part in np.array_split(counts, 4):
        assert abs(part.mean() - 4) < 0.5


@pytest.mark.parametrize("early_stopping", [False, True])
def test_confidence_is_set_right_on_labels_that_training_did_not_see(early_stopping):
    unsure = 0.5 + 0.4 * (PROBA - 0.5)
    shards = cut(6, X, unsure, Y)
    params = {"batch_size": 64, "max_epochs": 10, "early_stopping": early_stopping}
    student = quick(**params).fit_stream(shards)
    temperature = student.calibration_temperature_
    assert 0.25 <= temperature < 0.6
    rows, labels = make_data(2000, seed=1)
    as_it_was = student.student_.predict_log_proba(rows) * temperature
    before = -log_softmax(as_it_was, axis=1)[np.arange(2000), (labels == "yes").astype(int)]
    after = -student.predict_log_proba(rows)[np.arange(2000), (labels == "yes").astype(int)]
    assert after.mean() < before.mean() - 0.05
    Z = torch.as_tensor(student.student_.preprocessor_.transform(rows), dtype=torch.float32)
    own = student.net_.module_(Z).softmax(-1).detach().numpy()
    np.testing.assert_allclose(own, student.predict_proba(rows), atol=1e-5)


def test_nothing_is_calibrated_where_no_label_can_tell():
    unsure = 0.5 + 0.4 * (PROBA - 0.5)
    teachers = [fitted_teacher(X, Y)]
    for shards in (cut(6, X, unsure), cut(6, X[:480], unsure[:480], Y[:480])):
        student = quick(teachers, max_epochs=3).fit_stream(shards)
        plain = quick(teachers, max_epochs=3, calibration=None).fit_stream(shards)
        assert student.calibration_temperature_ == 1.0
        assert_same_student(student, plain)
    with_labels = cut(6, X, unsure, Y)
    whole = quick(max_epochs=3, calibration=None).fit_stream(with_labels)
    assert whole.calibration_temperature_ == 1.0
    assert not np.array_equal(
        weights_of(whole)[0], weights_of(quick(max_epochs=3).fit_stream(with_labels))[0]
    )


def test_shards_without_rows_are_passed_over():
    frame = pd.DataFrame(X, columns=COLUMNS, copy=True)
    empty = (frame[:0], PROBA[:0], Y[:0])
    shards = [(frame[:600], PROBA[:600], Y[:600]), (frame[600:], PROBA[600:], Y[600:])]
    params = {"max_epochs": 2, "batch_size": 64, "calibration": None}
    assert_same_student(
        quick(**params).fit_stream([shards[0], shards[1], empty]),
        quick(**params).fit_stream(shards),
    )
    assert quick(**params).fit_stream([empty, *shards]).n_features_in_ == 3
    single = [(X[i : i + 1], PROBA[i : i + 1], Y[i : i + 1]) for i in range(600)]
    stream = opened(single, keep_back=True)
    assert len(stream.unseen.X) == 60
    assert len(rows_of_an_epoch(stream)) == len(stream.numbers) == 540
    with pytest.raises(ValueError, match="2 shards of targets hold no rows to train on"):
        quick().fit_stream([empty, empty])


def test_rows_without_a_label_carry_the_soft_term_only():
    partly = Y.astype(object)
    partly[::3] = None
    params = {"alpha": 0.0, "max_epochs": 60, "batch_size": 2000}
    streamed = quick(**params).fit_stream([(X, PROBA, partly)])
    known = np.arange(len(X)) % 3 != 0
    fitted = quick(**params).fit(X, Y, sample_weight=known, teacher_proba=PROBA)
    assert streamed.history_["train_hard_loss"][-1] == pytest.approx(
        fitted.history_["train_hard_loss"][-1], rel=0.05
    )
    teachers = [fitted_teacher(X, Y)]
    nowhere = quick(teachers, max_epochs=2).fit_stream([(X, PROBA, np.full(len(X), None))])
    assert_same_student(nowhere, quick(teachers, max_epochs=2).fit_stream([(X, PROBA)]))


def test_epochs_are_compared_on_the_rows_that_have_a_label():
    partly = Y.astype(object)
    partly[::3] = None
    params = {"early_stopping": True, "max_epochs": 5, "batch_size": 64, "calibration": None}
    student = quick(**params).fit_stream([(X, PROBA, partly), (X, PROBA, partly)])
    known = np.arange(len(X)) % 3 != 0
    proba = student.predict_proba(X)[known]
    log_loss = -np.log(proba[np.arange(len(proba)), (Y[known] == "yes").astype(int)]).mean()
    assert min(student.history_["valid_loss"]) == pytest.approx(log_loss, rel=1e-4)


def test_rules_that_no_label_can_settle():
    teachers = [fitted_teacher(X, Y), fitted_teacher(X, Y)]
    shards = cut(3, X, PROBA, Y)
    student = quick(teachers, teacher_weights="validation")
    with pytest.raises(ValueError, match=r"teacher_weights='validation' compares .* with labels"):
        student.fit_stream(shards)
    params = {"augment": "munge", "max_epochs": 2}
    equal = quick(teachers, **params).fit_stream(shards)
    student.set_params(teacher_weights="confidence", **params)
    assert_same_student(student.fit_stream(shards), equal)


def test_the_decoupled_loss_needs_labels_and_three_classes():
    with pytest.raises(ValueError, match=r"loss='dkd' .* there are 2 classes"):
        quick(loss="dkd").fit_stream([(X, PROBA, Y)])
    rows, labels = make_data(300, labels=("a", "b", "c"))
    teacher = fitted_teacher(rows, labels)
    proba = teacher.predict_proba(rows)
    with pytest.raises(ValueError, match=r"loss='dkd' .* there is no y"):
        quick([teacher], loss="dkd").fit_stream([(rows, proba)])
    params = {"loss": "dkd", "max_epochs": 3, "calibration": None}
    assert_same_student(
        quick([teacher], **params).fit_stream([(rows, proba, labels)]),
        quick([teacher], **params).fit(rows, labels, teacher_proba=proba),
    )


def test_max_epochs_overrides_the_constructor():
    shards = cut(3, X, PROBA, Y)
    assert quick(max_epochs=7).fit_stream(shards, max_epochs=2).n_iter_ == 2
    assert quick(max_epochs=3).fit_stream(shards).n_iter_ == 3
    with pytest.raises(ValueError, match="max_epochs must be None or an integer >= 1; got 0"):
        quick().fit_stream(shards, max_epochs=0)


def test_one_shard_is_held_out_to_stop_early():
    shards = cut(5, X, PROBA, Y)
    params = {"early_stopping": True, "max_epochs": 60, "n_iter_no_change": 2, "batch_size": 32}
    student = quick(**params).fit_stream(shards)
    assert student.n_iter_ < 60
    assert len(student.history_["valid_loss"]) == student.n_iter_
    with pytest.raises(ValueError, match=r"holds out one shard, and there is only one"):
        quick(**params).fit_stream(shards[:1])
    with pytest.raises(ValueError, match=r"compares the epochs on labels"):
        quick([fitted_teacher(X, Y)], **params).fit_stream(cut(5, X, PROBA))


def test_synthetic_rows_are_made_shard_by_shard_if_asked_for():
    shards = cut(5, X, PROBA, Y)
    asked = []

    def noisy(table, n, *, sample_weight, random_state):
        asked.append((len(table), n))
        return table[random_state.randint(len(table), size=n)] + 0.01

    teachers = [fitted_teacher(X, Y)]
    params = {"augment": noisy, "n_synthetic": 1000, "calibration": None}
    quick(teachers, max_epochs=2, **params).fit_stream(shards)
    assert sum(n for _, n in asked) == 2000
    assert sum(size for size, _ in asked) == 2 * len(X)
    params = {"augment": "munge", "max_epochs": 2, "batch_size": 64}
    one, other = (quick(teachers, **params).fit_stream(shards) for _ in range(2))
    assert_same_student(one, other)
    plain = quick(teachers, augment="auto", max_epochs=2).fit_stream(shards)
    assert_same_student(plain, quick(teachers, max_epochs=2).fit_stream(shards))
    with pytest.raises(ValueError, match="needs teachers that label synthetic rows"):
        quick(augment="munge").fit_stream(shards)


def test_what_the_sample_must_not_miss(monkeypatch):
    monkeypatch.setattr(_shards, "SAMPLE_ROWS", 60)
    frame = pd.DataFrame(X, columns=COLUMNS, copy=True)
    frame["colour"] = np.where(X[:, 0] > 0, "red", "blue")
    frame.loc[777, "colour"] = "green"
    frame.loc[888, "b"] = np.nan
    frame.loc[999, "colour"] = None
    shards = [(frame[i : i + 200], PROBA[i : i + 200]) for i in range(0, 1200, 200)]
    student = quick([LogisticRegression().fit(X, Y)], max_epochs=1).fit_stream(shards).student_
    assert student.preprocessor_.categories_[0].tolist() == ["", "blue", "green", "red"]
    assert student.preprocessor_.has_missing_.tolist() == [False, True, False]
    as_objects = [(f.to_numpy(dtype=object), p) for f, p in shards]
    student = quick([LogisticRegression().fit(X, Y)], max_epochs=1).fit_stream(as_objects).student_
    assert student.preprocessor_.categories_[0].tolist() == ["", "blue", "green", "red"]


def test_the_sample_is_uniform_whatever_the_shards():
    rng = np.random.default_rng(0)
    counts = np.zeros(1000)
    for _ in range(300):
        survey = Survey(4, 100, rng)
        for number, (i, j) in enumerate([(0, 10), (10, 700), (700, 720), (720, 1000)]):
            rows = np.arange(i, j, dtype=float)[:, None]
            survey.add(Shard(rows, np.ones((j - i, 2)), None, number))
        kept = survey.rows().X.ravel().astype(int)
        assert len(kept) == 100
        assert (np.diff(kept) > 0).all()
        counts[kept] += 1
    assert abs(counts[:10].mean() - 30) < 8
    assert abs(counts[10:700].mean() - 30) < 1
    assert abs(counts[720:].mean() - 30) < 1


def test_a_transformer_is_fitted_on_the_sample():
    student = quick(preprocessor=StandardScaler(), max_epochs=1).fit_stream(cut(3, X, PROBA, Y))
    np.testing.assert_allclose(student.student_.preprocessor_.mean_, X.mean(axis=0))


def test_labels_of_other_types_keep_their_type():
    codes = (Y == "yes").astype(int)
    student = quick(max_epochs=2).fit_stream(cut(3, X, PROBA, codes))
    assert student.classes_.dtype.kind == "i"
    teacher = fitted_teacher(X, codes + 5)
    student = quick([teacher], max_epochs=2).fit_stream(cut(3, X, PROBA))
    assert student.classes_.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        ([], "targets must be what label_parquet returns"),
        (7, "targets must be .* got int"),
        ("soft/", "targets must be .* got str"),
        ([(X, np.ones(1200))], r"shard 0 has 1200 rows and soft targets of shape \(1200,\)"),
        ([(X,)], r"shard 0 must be a tuple"),
        ([(X, PROBA, Y), (X[:, :2], PROBA, Y)], r"shard 1 is a ndarray of 2 columns"),
        ([(X, PROBA, Y), (X, PROBA[:5], Y)], r"shard 1 has 1200 rows and soft targets of shape"),
        ([(X, PROBA, Y[:9])], r"y of shard 0 must hold 1200 labels"),
        ([(X, PROBA)], r"The classes must come from the targets"),
        ([(X, PROBA * 2, Y)], r"teacher_proba must hold probabilities"),
        ([(X, np.ones((1200, 1)), Y)], r"teacher_proba must have shape"),
        (
            [(X, PROBA, Y), (X, PROBA[:, [0, 0, 1]], Y)],
            r"shard 1 have 3 columns, .* first 2",
        ),
        ([(X, PROBA, Y), (X, np.full((1200, 2), np.nan), Y)], r"shard 1: .*contains NaN"),
        ([(X, PROBA, Y), (np.full((1200, 3), np.inf), PROBA, Y)], r"shard 1: column 0 .*infinity"),
    ],
)
def test_unusable_shards_are_named(shards, words):
    student = quick()
    with pytest.raises(ValueError, match=words):
        student.fit_stream(shards)
    assert not hasattr(student, "classes_")
    assert not student.__sklearn_is_fitted__()


def test_damage_is_found_before_training_and_named_by_its_file(tmp_path, monkeypatch):
    paths = write_files(tmp_path / "rows", n_files=3, n_rows=50)
    bundle = save_bundle(tmp_path / "teachers")
    frame = pd.read_parquet(paths[1])
    frame.loc[7, "y"] = "perhaps"
    frame.to_parquet(paths[1])
    targets = label_parquet(tmp_path / "rows", bundle, tmp_path / "soft")
    monkeypatch.setattr(StudentTrainer, "fit", None)
    with pytest.raises(ValueError, match=r"rows-1.parquet: y holds labels .*'perhaps'"):
        quick().fit_stream(targets, label="y")


def test_a_column_of_identifiers_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(_shards, "SAMPLE_ROWS", 500)
    frame = pd.DataFrame(X, columns=COLUMNS).assign(id=[f"row {i}" for i in range(len(X))])
    with pytest.raises(ValueError, match=r"shard 2: column 'id' has more than 500 categories"):
        quick().fit_stream(cut(4, frame, PROBA, Y))


def test_other_columns_and_labels_are_named():
    frame = pd.DataFrame(X, columns=COLUMNS)
    with pytest.raises(ValueError, match=r"shard 1 has the columns \['c', 'b', 'a'\]"):
        quick().fit_stream([(frame, PROBA, Y), (frame[["c", "b", "a"]], PROBA, Y)])
    with pytest.raises(ValueError, match=r"not in classes \[5, 6\]: \['yes', 'no'\]"):
        quick([fitted_teacher(X, (Y == "yes") + 5)]).fit_stream([(X, PROBA, Y)])
    with pytest.raises(ValueError, match=r"label='y' names a column of files"):
        quick().fit_stream([(X, PROBA)], label="y")


def test_a_shard_that_changes_under_way_is_named():
    class Shrinking(list):
        def __getitem__(self, number):
            shard = super().__getitem__(number)
            self[number] = tuple(part[:-1] for part in shard)
            return shard

    with pytest.raises(ValueError, match=r"shard \d has \d+ rows and had \d+ before training"):
        quick().fit_stream(Shrinking(cut(3, X, PROBA, Y)))


def peak_memory(n_shards):
    """Return how far a fresh process grew while it trained on so many shards, in MB."""
    code = f"""
    import resource
    import numpy as np
    from skdistill import DistilledClassifier

    class Made:
        classes = np.array([0, 1])

        def __len__(self):
            return {n_shards}

        def __getitem__(self, number):
            rows = np.random.default_rng(number).normal(size=(20_000, 10))
            p = 1 / (1 + np.exp(-rows[:, 0]))
            return rows, np.column_stack([1 - p, p])

    settings = {{"hidden_layer_sizes": (8,), "batch_size": 4096, "max_epochs": 1}}
    DistilledClassifier(random_state=0, **settings).fit_stream(Made())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return float(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows():
    assert SAMPLE_ROWS < 4 * 20_000
    assert peak_memory(200) < 1.3 * peak_memory(4)


def test_teachers_of_the_zoo_agree_with_the_stream(tmp_path):
    rows = make_frame(900)
    forest = make_teachers()[1]
    proba = forest.predict_proba(rows[COLUMNS].to_numpy())
    shards = cut(4, rows[COLUMNS], proba, rows["y"].to_numpy())
    student = quick(max_epochs=40, batch_size=64).fit_stream(shards)
    agreement = student.predict(rows[COLUMNS]) == forest.classes_[proba.argmax(axis=1)]
    assert agreement.mean() > 0.9
