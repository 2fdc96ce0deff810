"""Shards of rows and soft targets that do not fit in memory: read one by one, and checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from skdistill.tables.frames import (
    as_table,
    columns_of,
    is_frame,
    n_rows,
    names_of,
    stack_rows,
    take_rows,
)
from skdistill.tables.rows import Rows, check_teacher_proba, encode_among
from skdistill.teachers.pooling import SoftTargets
from skdistill.teachers.progress import track


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
    """Reads the shards that `fit_stream` was given, and checks each against the first.

    ``label`` names the column of labels, for shards that can look it up.
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


def as_rows(shard: Shard, classes: np.ndarray) -> tuple[Rows, SoftTargets]:
    """Return a shard as what `fit` is given; a row without a label has the label -1."""
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


def stacked(shards: list[Shard]) -> Shard:
    """Return the rows of several shards as one; without labels if one has none."""
    labels = [shard.label for shard in shards if shard.label is not None]
    return Shard(
        stack_rows([shard.X for shard in shards]),
        np.concatenate([shard.proba for shard in shards]),
        np.concatenate(labels) if len(labels) == len(shards) else None,
    )


# Scales and bins of this many rows are those of all rows, as far as a student can tell.
SAMPLE_ROWS = 50_000
# Labelled rows kept from training to check the confidence on: fewer than the first number prove
# nothing, more than the second add nothing.
_FEWEST_UNSEEN, _MOST_UNSEEN, _UNSEEN_SHARE = 50, 5_000, 0.1


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


class Sample:
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
        return stacked([part.shard for part in drawn]), {p.number: p.place for p in drawn}

    def _new_rows(self, X: Any) -> np.ndarray:
        """Return the first rows that are missing a value, or hold a category, not seen before."""
        rows: set[int] = set()
        for j, (name, column) in enumerate(zip(names_of(X), columns_of(X), strict=True)):
            seen = self.seen.setdefault(j, set())
            for row, value in _distinct(column):
                if value not in seen:
                    seen.add(value)
                    rows.add(row)
            if len(seen) > self.size:
                raise ValueError(
                    f"column {name!r} has more than {self.size} categories. Leave it out, or hash "
                    "or group its values: a student gets an input for each of them"
                )
        return np.array(sorted(rows), dtype=np.intp)

    def rows(self) -> Shard:
        """Return the sampled rows."""
        self._cut()
        return stacked([part.shard for part in self.parts])


def _nth_smallest(keys: np.ndarray, n: int) -> float:
    """Return the bound below which, with it, there are n keys, or all."""
    return float(np.partition(keys, n - 1)[n - 1]) if len(keys) > n else np.inf


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
class Survey:
    """What one pass over the shards found."""

    sizes: np.ndarray
    n_labelled: np.ndarray
    sample: Sample
    classes: dict[Any, None] = field(default_factory=dict)

    def keep_back(self) -> tuple[Shard | None, dict[int, np.ndarray]]:
        """Choose labelled rows that are not trained on, and take them off the counts."""
        n = min(_MOST_UNSEEN, int(_UNSEEN_SHARE * self.n_labelled.sum()))
        unseen, places = self.sample.keep_back(n)
        for number, rows in places.items():
            self.sizes[number] -= len(rows)
            self.n_labelled[number] -= len(rows)
        return unseen, places

    def labels(self) -> np.ndarray:
        """Return the sorted labels, where neither the files nor the teachers name them."""
        if len(self.classes) < 2:
            raise ValueError(
                "The classes must come from the targets, the teachers or the labels: pass what "
                "label_parquet returns, prefit teachers, or shards (X, proba, y) with at least two "
                f"labels; the shards hold {sorted(map(str, self.classes))}."
            )
        return np.unique(np.array(list(self.classes)))


def survey_shards(
    shards: Shards, held: int | None, seed: int, known: np.ndarray | None, *, finite: bool
) -> Survey:
    """Read every shard once: count its rows and labels, sample it, and find what is damaged."""
    sample = Sample(SAMPLE_ROWS, np.random.default_rng([seed, SAMPLE_ROWS]))
    sizes, n_labelled = np.zeros((2, shards.n_shards), dtype=np.int64)
    survey = Survey(sizes, n_labelled, sample)
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
    if not finite:
        return
    for name, column in zip(names_of(shard.X), columns_of(shard.X), strict=True):
        if column.dtype.kind == "f" and np.isinf(np.asarray(column, dtype=np.float64)).any():
            raise ValueError(f"column {name!r} holds infinity.")
