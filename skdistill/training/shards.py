"""Shards of rows and soft targets that do not fit in memory: read one by one, and checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from skdistill.tables import (
    Rows,
    as_table,
    check_teacher_proba,
    encode_among,
    is_frame,
    n_rows,
    named_columns,
    stack_rows,
    take_rows,
)
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
    number : int
        Which shard it is.
    place, key : array of shape (n,) or None
        Of sampled rows: where they are in their shard, and the numbers by which they were drawn.
    """

    X: Any
    proba: np.ndarray
    label: np.ndarray | None = None
    number: int = 0
    place: np.ndarray | None = None
    key: np.ndarray | None = None

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
        X = take_rows(self.X, rows)
        columns = (self.label, self.place, self.key)
        label, place, key = (None if column is None else column[rows] for column in columns)
        return Shard(X, self.proba[rows], label, self.number, place, key)


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
        classes = getattr(targets, "classes", None)
        self.classes = None if classes is None else np.asarray(classes)
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
        label = None if len(shard) == 2 or shard[2] is None else np.asarray(shard[2])
        if label is not None and label.shape != (n_rows(X),):
            raise ValueError(
                f"y of shard {number} must hold {n_rows(X)} labels, one for each row; its shape "
                f"is {label.shape}."
            )
        proba = np.asarray(shard[1])
        if proba.ndim != 2 or len(proba) != n_rows(X):
            raise ValueError(
                f"shard {number} has {n_rows(X)} rows and soft targets of shape {proba.shape}."
            )
        self.n_columns = self.n_columns or proba.shape[1]
        if proba.shape[1] != self.n_columns:
            raise ValueError(
                f"the soft targets of shard {number} have {proba.shape[1]} columns, those of the "
                f"first {self.n_columns}."
            )
        return Shard(X, proba, label, number)

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


# Scales and bins of this many rows are those of all rows, as far as a student can tell.
SAMPLE_ROWS = 50_000
# Labelled rows kept from training to check the confidence on: fewer than the first number prove
# nothing, more than the second add nothing.
_FEWEST_UNSEEN, _MOST_UNSEEN, _UNSEEN_SHARE = 50, 5_000, 0.1


class Survey:
    """What one pass over the shards finds: how many rows and labels they have, and a sample.

    The sample is uniform, and has every row that shows a value of a new kind. ``labels`` are those
    that occur.
    """

    def __init__(self, n_shards: int, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.sizes, self.n_labelled = np.zeros((2, n_shards), dtype=np.int64)
        self.labels: dict[Any, None] = {}
        self.parts: list[Shard] = []
        self.seen: dict[int, set[Any]] = {}

    def add(self, shard: Shard, *, only_new: bool = False) -> None:
        """Count the rows of a shard, and sample them."""
        n = n_rows(shard.X)
        key = self.rng.random(n)
        if only_new:
            key += 2
        key[self._new_rows(shard.X)] = -1
        self.parts.append(replace(shard, place=np.arange(n), key=key))
        if only_new or sum(n_rows(part.X) for part in self.parts) > 1.5 * self.size:
            self._cut()
        self.sizes[shard.number], self.n_labelled[shard.number] = n, shard.labelled.sum()

    def _cut(self) -> None:
        """Keep the rows with the smallest keys, in their order."""
        # A key above 1 is for what is new alone.
        self.parts = _smallest(self.parts, self.size, most=1.0)

    def rows(self) -> Shard:
        """Return the sampled rows."""
        self._cut()
        return stacked(self.parts)

    def keep_back(self) -> tuple[Shard | None, dict[int, np.ndarray]]:
        """Draw labelled rows that are not trained on, and their places by shard; uncount them."""
        n = min(_MOST_UNSEEN, int(_UNSEEN_SHARE * self.n_labelled.sum()))
        if n < _FEWEST_UNSEEN:
            return None, {}
        drawn = []
        for part in self.parts:
            assert part.key is not None
            drawn.append(part.take(np.flatnonzero(part.labelled & (part.key >= 0))))
        drawn = _smallest(drawn, n)
        places: dict[int, Any] = {part.number: part.place for part in drawn}
        if sum(map(len, places.values())) < _FEWEST_UNSEEN:
            return None, {}
        for number, place in places.items():
            self.sizes[number] -= len(place)
            self.n_labelled[number] -= len(place)
        return stacked(drawn), places

    def _new_rows(self, X: Any) -> np.ndarray:
        """Return the first rows that are missing a value, or hold a category, not seen before."""
        rows: set[int] = set()
        for j, (name, column) in enumerate(named_columns(X)):
            seen = self.seen.setdefault(j, set())
            firsts = _distinct(column)
            rows.update(row for value, row in firsts.items() if value not in seen)
            seen.update(firsts)
            if len(seen) > self.size:
                raise ValueError(
                    f"column {name!r} has more than {self.size} categories. Leave it out, or hash "
                    "or group its values: a student gets an input for each of them"
                )
        return np.array(sorted(rows), dtype=np.intp)

    def classes(self) -> np.ndarray:
        """Return the sorted labels, where neither the files nor the teachers name them."""
        if len(self.labels) < 2:
            raise ValueError(
                "The classes must come from the targets, the teachers or the labels: pass what "
                "label_parquet returns, prefit teachers, or shards (X, proba, y) with at least two "
                f"labels; the shards hold {sorted(map(str, self.labels))}."
            )
        return np.unique(np.array(list(self.labels)))


def _smallest(parts: list[Shard], n: int, *, most: float = np.inf) -> list[Shard]:
    """Return the n rows with the smallest keys, none above `most`."""
    keys: list[Any] = [part.key for part in parts]
    together = np.concatenate(keys)
    if len(together) > n:
        most = min(most, float(np.partition(together, n - 1)[n - 1]))
    kept = [np.flatnonzero(key <= most) for key in keys]
    return [part.take(rows) for part, rows in zip(parts, kept, strict=True) if len(rows)]


def stacked(shards: list[Shard]) -> Shard:
    """Return the rows of several shards as one; without labels if one has none."""
    labels = [shard.label for shard in shards if shard.label is not None]
    return Shard(
        stack_rows([shard.X for shard in shards]),
        np.concatenate([shard.proba for shard in shards]),
        np.concatenate(labels) if len(labels) == len(shards) else None,
    )


def _distinct(column: Any) -> dict[Any, int]:
    """Return the first row of each category of a column, and under None that of a missing value."""
    missing = np.asarray(column.isna() if hasattr(column, "isna") else column != column, dtype=bool)
    if getattr(column.dtype, "kind", "O") in "biuf":
        return {None: int(missing.argmax())} if missing.any() else {}
    firsts: dict[Any, int] = {}
    if hasattr(column, "duplicated"):
        for row in np.flatnonzero(~column.duplicated().to_numpy()).tolist():
            firsts.setdefault(None if missing[row] else column.iloc[row], row)
    else:
        for row, entry in enumerate(column.tolist()):
            if isinstance(entry, str | bool | None) or missing[row]:
                firsts.setdefault(None if missing[row] else entry, row)
    return firsts


def survey_shards(
    shards: Shards, held: int | None, seed: int, known: np.ndarray | None, *, finite: bool
) -> Survey:
    """Read every shard once: count its rows and labels, sample it, and find what is damaged."""
    survey = Survey(shards.n_shards, SAMPLE_ROWS, np.random.default_rng([seed, SAMPLE_ROWS]))
    for number in track("shard", range(shards.n_shards), shards.n_shards):
        shard = shards.read(number)
        if shard is None:
            continue
        found = () if shard.label is None else shard.label[shard.labelled].tolist()
        labels = dict.fromkeys(found)
        with shards.naming(number):
            _check_content(shard, labels, known, finite)
            survey.add(shard, only_new=number == held)
        survey.labels |= labels
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
    for name, column in named_columns(shard.X):
        if column.dtype.kind == "f" and np.isinf(np.asarray(column, dtype=np.float64)).any():
            raise ValueError(f"column {name!r} holds infinity.")
