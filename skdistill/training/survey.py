"""One pass over the shards before training: counts, a sample of the rows, and what is damaged."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skdistill.tables.checks import encode_among
from skdistill.tables.frames import columns_of, n_rows, names_of
from skdistill.tables.rows import check_teacher_proba
from skdistill.teachers.progress import track
from skdistill.training.shards import Shard, Shards, stacked

__all__ = ["Sample", "Survey", "survey_shards"]

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
