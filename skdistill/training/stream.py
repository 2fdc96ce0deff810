"""Rows that do not fit in memory: shards that are surveyed once and then prepared a few at a time.

A shard is (X, soft targets) or (X, soft targets, labels). It is read when its turn comes and
forgotten afterwards; what stays is a sample of the rows, from which scales, categories and bins are
learned.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from skdistill.tables.encoder import as_table, is_frame, n_rows, stack_rows, take_rows
from skdistill.tables.rows import Rows, check_teacher_proba, encode_among
from skdistill.teachers.pooling import SoftTargets
from skdistill.teachers.progress import track
from skdistill.teachers.sources import TargetSource
from skdistill.teachers.transfer import TransferRows, augmenter_of, count_synthetic
from skdistill.training.data import (
    HeldOut,
    Prepared,
    TrainingSet,
    apply_preprocessor,
    build_training_set,
)

__all__ = ["Shards", "Synthetic", "TrainingStream", "open_stream"]

# Scales and bins of this many rows are those of all rows, as far as a student can tell.
SAMPLE_ROWS = 50_000
# Shards whose rows are shuffled together: rows of one file are often alike.
BUFFER_SHARDS = 4
# Labelled rows kept from training to check the confidence on: fewer than the first number prove
# nothing, more than the second add nothing.
_FEWEST_UNSEEN, _MOST_UNSEEN, _UNSEEN_SHARE = 50, 5_000, 0.1


@dataclass
class Shard:
    """The rows of a shard.

    Attributes
    ----------
    X : table with n rows
        Raw.
    proba : float array of shape (n, k)
        Soft targets.
    label : array of shape (n,) or None
        True labels; None or NaN where a row has none.
    """

    X: Any
    proba: np.ndarray
    label: np.ndarray | None

    @cached_property
    def labelled(self) -> np.ndarray:
        """Which rows have a label."""
        if self.label is None:
            return np.zeros(n_rows(self.X), dtype=bool)
        if self.label.dtype.kind != "O":
            return np.asarray(self.label == self.label)
        return np.array([v is not None and v == v for v in self.label.tolist()], dtype=bool)

    def take(self, rows: np.ndarray) -> "Shard":
        """Take some rows."""
        label = None if self.label is None else self.label[rows]
        return Shard(take_rows(self.X, rows), self.proba[rows], label)


class Shards:
    """Reads shards, and checks each against the first.

    Parameters
    ----------
    targets : sequence of (X, proba) or (X, proba, y)
        What `fit_stream` was given.
    label : str or None
        The column of labels, for shards that can look it up.
    """

    def __init__(self, targets: Any, label: str | None = None) -> None:
        if label is not None:
            if not hasattr(targets, "with_label"):
                raise ValueError(
                    f"label={label!r} names a column of files, and targets are "
                    f"{type(targets).__name__}. Pass shards of (X, proba, y) and label=None."
                )
            targets = targets.with_label(label)
        try:
            n_shards = len(targets)
        except TypeError:
            n_shards = 0
        if isinstance(targets, str) or not n_shards or not hasattr(targets, "__getitem__"):
            raise ValueError(
                "targets must be what label_parquet returns, or a non-empty sequence of shards "
                f"(X, proba) or (X, proba, y); got {type(targets).__name__}."
            )
        self.targets, self.n_shards = targets, n_shards
        self.classes = getattr(targets, "classes", None)
        self.first: Any = None
        self.n_columns: int | None = None

    @contextmanager
    def naming(self, number: int) -> Iterator[None]:
        """Put the file, or the number, of a shard before what is wrong with its content."""
        try:
            yield
        except (ValueError, TypeError) as error:
            sources = getattr(self.targets, "sources", None)
            name = f"shard {number}" if sources is None else sources[number]
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name}: {error}") from error

    def read(self, number: int) -> Shard | None:
        """Read a shard; None where it has no rows, as engines write for empty partitions."""
        shard = self.targets[number]
        if not isinstance(shard, tuple) or len(shard) not in (2, 3):
            raise ValueError(f"shard {number} must be a tuple (X, proba) or (X, proba, y).")
        if np.shape(shard[0])[:1] == (0,):
            return None
        X = as_table(shard[0], name=f"X of shard {number}")
        if self.first is None:
            self.first = take_rows(X, slice(0, 1))
        self._check_columns(X, number)
        label = shard[2] if len(shard) == 3 else None
        if label is not None:
            label = np.asarray(label)
            if label.shape != (n_rows(X),):
                raise ValueError(
                    f"y of shard {number} must hold {n_rows(X)} labels, one for each row; its "
                    f"shape is {label.shape}."
                )
        proba = np.asarray(shard[1])
        if proba.ndim != 2 or len(proba) != n_rows(X):
            raise ValueError(
                f"shard {number} has {n_rows(X)} rows and soft targets of shape {proba.shape}."
            )
        if self.n_columns is None:
            self.n_columns = proba.shape[1]
        if proba.shape[1] != self.n_columns:
            raise ValueError(
                f"the soft targets of shard {number} have {proba.shape[1]} columns, those of the "
                f"first {self.n_columns}."
            )
        return Shard(X, proba, label)

    def _check_columns(self, X: Any, number: int) -> None:
        """Raise where a shard has other columns than the first."""
        if is_frame(X) != is_frame(self.first) or X.shape[1] != self.first.shape[1]:
            found = f"{type(X).__name__} of {X.shape[1]} columns"
            raise ValueError(
                f"shard {number} is a {found}, the first a {type(self.first).__name__} of "
                f"{self.first.shape[1]}."
            )
        if is_frame(X) and list(X.columns) != list(self.first.columns):
            raise ValueError(
                f"shard {number} has the columns {list(X.columns)}, the first "
                f"{list(self.first.columns)}."
            )


@dataclass
class _Part:
    """What a sample keeps of a shard: some rows, their places there, and the keys they drew."""

    number: int
    shard: Shard
    place: np.ndarray
    key: np.ndarray

    def take(self, rows: np.ndarray) -> "_Part":
        """Take some rows."""
        return _Part(self.number, self.shard.take(rows), self.place[rows], self.key[rows])


class _Sample:
    """A uniform sample of rows in one pass, and every row that shows a value of a new kind."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.parts: list[_Part] = []
        self.seen: dict[int, set[Any]] = {}

    def add(self, number: int, shard: Shard, *, only_new: bool = False) -> None:
        """Look at the rows of a shard."""
        n = n_rows(shard.X)
        key = self.rng.random(n)
        if only_new:
            key += 2
        key[self._new_rows(shard.X)] = -1
        self.parts.append(_Part(number, shard, np.arange(n), key))
        if only_new or sum(len(part.key) for part in self.parts) > 1.5 * self.size:
            self._cut()

    def _cut(self) -> None:
        """Keep the rows with the smallest keys, in their order."""
        bound = _nth_smallest(np.concatenate([part.key for part in self.parts]), self.size)
        # A key above 1 is for what is new alone.
        parts = [part.take(np.flatnonzero(part.key <= min(bound, 1.0))) for part in self.parts]
        self.parts = [part for part in parts if len(part.key)]

    def keep_back(self, n: int) -> tuple[Shard | None, dict[int, np.ndarray]]:
        """Return up to n labelled rows, drawn uniformly, and their places by shard."""
        if n < _FEWEST_UNSEEN:
            return None, {}
        drawn = [
            part.take(np.flatnonzero(part.shard.labelled & (part.key >= 0))) for part in self.parts
        ]
        bound = _nth_smallest(np.concatenate([part.key for part in drawn]), n)
        drawn = [part.take(np.flatnonzero(part.key <= bound)) for part in drawn]
        drawn = [part for part in drawn if len(part.key)]
        if sum(len(part.key) for part in drawn) < _FEWEST_UNSEEN:
            return None, {}
        return _stacked([part.shard for part in drawn]), {p.number: p.place for p in drawn}

    def _new_rows(self, X: Any) -> np.ndarray:
        """Return the first rows that are missing a value, or hold a category, not seen before."""
        rows: set[int] = set()
        for j in range(X.shape[1]):
            column = X.iloc[:, j] if is_frame(X) else X[:, j]
            seen = self.seen.setdefault(j, set())
            for row, value in _distinct(column):
                if value not in seen:
                    seen.add(value)
                    rows.add(row)
            if len(seen) > self.size:
                name = X.columns[j] if is_frame(X) else j
                raise ValueError(
                    f"column {name!r} has more than {self.size} categories. Leave it out, or hash "
                    "or group its values: a student gets an input for each of them"
                )
        return np.array(sorted(rows), dtype=np.intp)

    def rows(self) -> Shard:
        """Return the sampled rows."""
        self._cut()
        return _stacked([part.shard for part in self.parts])


def _nth_smallest(keys: np.ndarray, n: int) -> float:
    """Return the bound below which, with it, there are n keys, or all."""
    return float(np.partition(keys, n - 1)[n - 1]) if len(keys) > n else np.inf


def _stacked(shards: list[Shard]) -> Shard:
    """Return the rows of several shards as one; without labels if one has none."""
    labels = [shard.label for shard in shards if shard.label is not None]
    return Shard(
        stack_rows([shard.X for shard in shards]),
        np.concatenate([shard.proba for shard in shards]),
        np.concatenate(labels) if len(labels) == len(shards) else None,
    )


def _distinct(column: Any) -> Iterator[tuple[int, Any]]:
    """Yield rows where a column shows a category, or that it may be missing, for the first time."""
    numeric = getattr(column.dtype, "kind", "O") in "biuf"
    missing = np.asarray(column.isna() if hasattr(column, "isna") else column != column, dtype=bool)
    if numeric:
        if missing.any():
            yield int(missing.argmax()), None
        return
    firsts: dict[Any, int] = {}
    if hasattr(column, "duplicated"):
        for row in np.flatnonzero(~column.duplicated().to_numpy()).tolist():
            firsts.setdefault(None if missing[row] else column.iloc[row], row)
    else:
        for row, entry in enumerate(column.tolist()):
            if isinstance(entry, str | bool | None) or missing[row]:
                firsts.setdefault(None if missing[row] else entry, row)
    for value, row in firsts.items():
        yield row, value


@dataclass
class Synthetic:
    """How synthetic rows of a shard are made and labelled."""

    augmenter: Callable[..., Any]
    source: TargetSource
    sizes: np.ndarray

    def rows(self, X: Any, number: int, seed: list[int]) -> TransferRows:
        """Make the synthetic rows of a shard."""
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
        weight = np.ones(n_rows(X))
        made = self.augmenter(X, int(self.sizes[number]), sample_weight=weight, random_state=rng)
        return TransferRows(made, self.source.label_further(made), shapes_inputs=False)


@dataclass
class TrainingStream:
    """What a student is trained on where the rows do not fit in memory.

    Attributes
    ----------
    shards : Shards
        Where the rows are.
    numbers : int array
        The shards that are trained on; one may be held out.
    sizes : int array of shape (n_shards,)
        How many of their rows are trained on.
    sample : TrainingSet
        The sampled rows, from which everything that is fitted was learned.
    hard_weight : float
        The weight of the hard term in a row that has a label.
    held_out : HeldOut or None
        The shard on which the epochs are compared.
    unseen : HeldOut or None
        Labelled rows that are not trained on, to check the confidence of the student on.
    kept_back : dict of int to int array
        Their places in the shards.
    synthetic : Synthetic or None
        Makes further rows, shard by shard.
    seed : int
        Orders the shards.
    """

    shards: Shards
    numbers: np.ndarray
    sizes: np.ndarray
    sample: TrainingSet
    hard_weight: float
    held_out: HeldOut | None
    unseen: HeldOut | None
    kept_back: dict[int, np.ndarray]
    synthetic: Synthetic | None
    seed: int

    @property
    def classes(self) -> np.ndarray:
        """The labels."""
        return self.sample.classes

    @property
    def encoding(self) -> Any:
        """The bins."""
        return self.sample.encoding

    @property
    def soft_weight(self) -> np.ndarray:
        """Weights of the sampled rows; every row of a stream has a soft target."""
        return self.sample.soft_weight

    @property
    def n_features(self) -> int:
        """Number of prepared columns."""
        return self.sample.n_features

    @property
    def n_real(self) -> int:
        """Number of rows that are not synthetic."""
        return int(self.sizes[self.numbers].sum())

    @property
    def n_rows(self) -> int:
        """Number of rows of an epoch."""
        return self.count(self.numbers)

    def count(self, group: Any) -> int:
        """Count the rows of some shards, synthetic ones included."""
        n = int(self.sizes[group].sum())
        return n if self.synthetic is None else n + int(self.synthetic.sizes[group].sum())

    @property
    def is_one_group(self) -> bool:
        """Whether every epoch has the same rows in memory."""
        return len(self.numbers) <= BUFFER_SHARDS and self.synthetic is None

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return the shards of an epoch in seeded order, in groups that are shuffled together."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.numbers)
        return [order[i : i + BUFFER_SHARDS] for i in range(0, len(order), BUFFER_SHARDS)]

    def load(self, group: np.ndarray, epoch: int) -> TrainingSet:
        """Read a group of shards and prepare their rows."""
        parts = [self._prepare(int(number), epoch) for number in np.sort(group)]
        if len(parts) == 1:
            return parts[0]
        return replace(
            parts[0],
            X=np.concatenate([part.X for part in parts]),
            proba=np.concatenate([part.proba for part in parts]),
            label=np.concatenate([part.label for part in parts]),
            soft_weight=np.concatenate([part.soft_weight for part in parts]),
            hard_weight=np.concatenate([part.hard_weight for part in parts]),
            n_real=sum(part.n_real for part in parts),
            n_synthetic=sum(part.n_synthetic for part in parts),
        )

    def _prepare(self, number: int, epoch: int) -> TrainingSet:
        """Read a shard and prepare its rows."""
        shard = self.shards.read(number)
        kept_back = self.kept_back.get(number, np.zeros(0, dtype=np.intp))
        before = self.sizes[number] + len(kept_back)
        if shard is None or n_rows(shard.X) != before:
            raise ValueError(
                f"shard {number} has {0 if shard is None else n_rows(shard.X)} rows and had "
                f"{before} before training: it was changed meanwhile."
            )
        if len(kept_back):
            shard = shard.take(np.delete(np.arange(before), kept_back))
        n = n_rows(shard.X)
        with self.shards.naming(number):
            rows, targets = as_rows(shard, self.classes)
            extra = []
            if self.synthetic is not None:
                extra.append(self.synthetic.rows(shard.X, number, [self.seed, epoch, number]))
            prepared = build_training_set(
                rows,
                targets,
                extra,
                np.zeros(n, dtype=bool),
                preprocessor=None,
                n_bins=None,
                like=Prepared(self.sample.preprocessor, self.encoding),
            )
        hard = np.zeros(prepared.n_rows)
        hard[:n] = shard.labelled * self.hard_weight
        return replace(prepared, hard_weight=hard)


def as_rows(shard: Shard, classes: np.ndarray) -> tuple[Rows, SoftTargets]:
    """Return a shard in the words of `fit`; a row without a label has the label -1."""
    n = n_rows(shard.X)
    labelled = shard.labelled
    code = None
    if labelled.any():
        assert shard.label is not None
        code = np.full(n, -1, dtype=np.int64)
        code[labelled] = encode_among(shard.label[labelled], classes)
    rows = Rows(shard.X, code, classes, np.ones(n))
    proba = check_teacher_proba(shard.proba, n, classes)
    return rows, SoftTargets(proba, np.ones(n, dtype=bool))


@dataclass
class _Survey:
    """What one pass over the shards found."""

    sizes: np.ndarray
    n_labelled: np.ndarray
    sample: _Sample
    classes: dict[Any, None] = field(default_factory=dict)


def _survey(
    shards: Shards, held: int | None, seed: int, known: np.ndarray | None, *, finite: bool
) -> _Survey:
    """Read every shard once: count its rows and labels, sample it, and find what is damaged."""
    sample = _Sample(SAMPLE_ROWS, np.random.default_rng([seed, SAMPLE_ROWS]))
    sizes, n_labelled = np.zeros((2, shards.n_shards), dtype=np.int64)
    survey = _Survey(sizes, n_labelled, sample)
    for number in track("shard", range(shards.n_shards), shards.n_shards):
        shard = shards.read(number)
        if shard is None:
            continue
        labels = dict.fromkeys(
            shard.label[shard.labelled].tolist() if shard.label is not None else ()
        )
        with shards.naming(number):
            _check_content(shard, labels, known, finite)
            sample.add(number, shard, only_new=number == held)
        survey.sizes[number] = n_rows(shard.X)
        survey.n_labelled[number] = shard.labelled.sum()
        survey.classes |= labels
    return survey


def _check_content(
    shard: Shard, labels: dict[Any, None], classes: np.ndarray | None, finite: bool
) -> None:
    """Raise where training would stop at a shard, hours later."""
    # Without classes a sample of the rows tells whether there are as many columns as labels.
    check_teacher_proba(shard.proba, n_rows(shard.X), classes)
    if classes is not None and labels:
        encode_among(np.array(list(labels), dtype=object), classes)
    for j in range(shard.X.shape[1] if finite else 0):
        column = shard.X.iloc[:, j] if is_frame(shard.X) else shard.X[:, j]
        if column.dtype.kind == "f" and np.isinf(np.asarray(column, dtype=np.float64)).any():
            raise ValueError(
                f"column {shard.X.columns[j] if is_frame(shard.X) else j!r} holds infinity."
            )


def open_stream(
    shards: Shards,
    *,
    classes: np.ndarray | None,
    hold_out: bool,
    keep_back: bool,
    preprocessor: Any,
    n_bins: int | None,
    source: TargetSource | None,
    seed: int,
) -> TrainingStream:
    """Survey the shards and learn from a sample how their rows are prepared.

    ``classes`` are those that the teachers know, where the shards do not name them; ``source``
    labels synthetic rows, where some are wanted; with ``keep_back`` some labelled rows are not
    trained on.
    """
    held = None
    if hold_out:
        if shards.n_shards < 2:
            raise ValueError(
                "early_stopping=True holds out one shard, and there is only one. Write more and "
                "smaller files, or pass early_stopping=False."
            )
        held = int(np.random.default_rng(seed).integers(shards.n_shards))
    known = classes if shards.classes is None else np.asarray(shards.classes)
    # A transformer of the user's may take infinity.
    finite = preprocessor is None or isinstance(preprocessor, str)
    survey = _survey(shards, held, seed, known, finite=finite)
    unseen, kept_back = _keep_back(survey) if keep_back and held is None else (None, {})
    numbers = np.setdiff1d(np.flatnonzero(survey.sizes), [] if held is None else [held])
    if not len(numbers):
        raise ValueError(f"The {shards.n_shards} shards of targets hold no rows to train on.")
    labels = _labels_of(survey) if known is None else known
    sampled = survey.sample.rows()
    rows, targets = as_rows(sampled, labels)
    if not sampled.labelled.all():
        rows.code = None
    sample = build_training_set(
        rows,
        targets,
        [],
        np.zeros(n_rows(sampled.X), dtype=bool),
        preprocessor=preprocessor,
        n_bins=n_bins,
    )
    stream = TrainingStream(
        shards=shards,
        numbers=numbers,
        sizes=survey.sizes,
        sample=sample,
        hard_weight=0.0,
        held_out=None if held is None else _held_out(shards.read(held), labels, sample),
        unseen=None if unseen is None else _held_out(unseen, labels, sample),
        kept_back=kept_back,
        synthetic=None if source is None else _synthetic(source, labels, survey, numbers),
        seed=seed,
    )
    n_labelled = int(survey.n_labelled[numbers].sum())
    stream.hard_weight = stream.n_rows / n_labelled if n_labelled else 0.0
    return stream


def _keep_back(survey: _Survey) -> tuple[Shard | None, dict[int, np.ndarray]]:
    """Choose labelled rows that are not trained on, and take them off the counts."""
    n = min(_MOST_UNSEEN, int(_UNSEEN_SHARE * survey.n_labelled.sum()))
    unseen, places = survey.sample.keep_back(n)
    for number, rows in places.items():
        survey.sizes[number] -= len(rows)
        survey.n_labelled[number] -= len(rows)
    return unseen, places


def _labels_of(survey: _Survey) -> np.ndarray:
    """Return the sorted labels, where neither the files nor the teachers name them."""
    if len(survey.classes) < 2:
        raise ValueError(
            "The classes must come from the targets, the teachers or the labels: pass what "
            "label_parquet returns, prefit teachers, or shards (X, proba, y) with at least two "
            f"labels; the shards hold {sorted(map(str, survey.classes))}."
        )
    return np.unique(np.array(list(survey.classes)))


def _held_out(shard: Shard | None, classes: np.ndarray, sample: TrainingSet) -> HeldOut:
    """Prepare the labelled rows of a shard that is not trained on."""
    if shard is None or not shard.labelled.any():
        raise ValueError(
            "early_stopping=True compares the epochs on labels, and the shard that is held out has "
            "none. Pass label='column', or early_stopping=False."
        )
    rows, targets = as_rows(shard, classes)
    assert rows.code is not None
    known = np.flatnonzero(rows.code >= 0)
    Z = apply_preprocessor(sample.preprocessor, take_rows(shard.X, known))
    return HeldOut(Z, rows.code[known], rows.weight[known], targets.proba[known])


def _synthetic(
    source: TargetSource, classes: np.ndarray, survey: _Survey, numbers: np.ndarray
) -> Synthetic:
    """Return what makes the synthetic rows; a number of them is shared out by the rows."""
    source.classes = classes
    augmenter = augmenter_of(source)
    sizes = np.zeros(len(survey.sizes), dtype=np.int64)
    if isinstance(source.spec.n_synthetic, str):
        sizes[numbers] = [count_synthetic(source.spec, int(n)) for n in survey.sizes[numbers]]
    else:
        ends = np.cumsum(survey.sizes[numbers])
        sizes[numbers] = np.diff(np.round(source.spec.n_synthetic * ends / ends[-1]), prepend=0)
    assert augmenter is not None
    return Synthetic(augmenter, source, sizes)
