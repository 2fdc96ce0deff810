"""Rows that do not fit in memory: shards that are surveyed once and then prepared a few at a time.

A shard is (X, soft targets) or (X, soft targets, labels). It is read when its turn comes and
forgotten afterwards; what stays is a sample of the rows, from which scales, categories and bins are
learned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skdistill._inputs import as_table, is_frame, n_rows, stack_rows, take_rows
from skdistill._labelling import Labeller
from skdistill._progress import track
from skdistill._rows import Rows, check_teacher_proba, encode_among
from skdistill._targets import Ensemble, SoftTargets
from skdistill._training_set import (
    ExtraRows,
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

    @property
    def labelled(self) -> np.ndarray:
        """Which rows have a label."""
        if self.label is None:
            return np.zeros(n_rows(self.X), dtype=bool)
        return np.array([v is not None and v == v for v in self.label.tolist()], dtype=bool)


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
        if not n_shards or not hasattr(targets, "__getitem__"):
            raise ValueError(
                "targets must be what label_parquet returns, or a non-empty sequence of shards "
                f"(X, proba) or (X, proba, y); got {type(targets).__name__}."
            )
        self.targets, self.n_shards = targets, n_shards
        self.classes = getattr(targets, "classes", None)
        self.first: Any = None

    def read(self, number: int) -> Shard:
        """Read a shard."""
        shard = self.targets[number]
        if not isinstance(shard, tuple) or len(shard) not in (2, 3):
            raise ValueError(f"shard {number} must be a tuple (X, proba) or (X, proba, y).")
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
        return Shard(X, shard[1], label)

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


class _Sample:
    """A uniform sample of rows in one pass, and every row that shows a value of a new kind."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.parts: list[tuple[np.ndarray, Any, np.ndarray, np.ndarray | None]] = []
        self.seen: dict[int, set[Any]] = {}

    def add(self, shard: Shard, *, only_new: bool = False) -> None:
        """Look at the rows of a shard."""
        keys = self.rng.random(n_rows(shard.X))
        if only_new:
            keys += 2
        keys[self._new_rows(shard.X)] = -1
        self.parts.append((keys, shard.X, np.asarray(shard.proba), shard.label))
        counts = sum(len(part[0]) for part in self.parts)
        if only_new or counts > 1.5 * self.size:
            self._cut()

    def _cut(self) -> None:
        """Keep the rows with the smallest keys, in their order."""
        keys = np.concatenate([part[0] for part in self.parts])
        bound = 1.0
        if len(keys) > self.size:
            bound = min(bound, float(np.partition(keys, self.size - 1)[self.size - 1]))
        kept = []
        for own, X, proba, label in self.parts:
            rows = np.flatnonzero(own <= bound)
            if len(rows):
                some = None if label is None else label[rows]
                kept.append((own[rows], take_rows(X, rows), proba[rows], some))
        self.parts = kept

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
        return np.array(sorted(rows), dtype=np.intp)

    def rows(self) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Return the sampled rows, their soft targets and their labels."""
        self._cut()
        labels = [part[3] for part in self.parts if part[3] is not None]
        label = np.concatenate(labels) if len(labels) == len(self.parts) else None
        return (
            stack_rows([part[1] for part in self.parts]),
            np.concatenate([part[2] for part in self.parts]),
            label,
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
    ensemble: Ensemble
    sizes: np.ndarray

    def rows(self, X: Any, number: int, seed: list[int]) -> ExtraRows:
        """Make the synthetic rows of a shard."""
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
        weight = np.ones(n_rows(X))
        made = self.augmenter(X, int(self.sizes[number]), sample_weight=weight, random_state=rng)
        return ExtraRows(made, self.ensemble.predict_proba(made), shapes_inputs=False)


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
        Their rows.
    sample : TrainingSet
        The sampled rows, from which everything that is fitted was learned.
    hard_weight : float
        The weight of the hard term in a row that has a label.
    held_out : HeldOut or None
        The shard on which the epochs are compared.
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
        n = n_rows(shard.X)
        if n != self.sizes[number]:
            raise ValueError(
                f"shard {number} has {n} rows and had {self.sizes[number]} before training: it was "
                "changed meanwhile."
            )
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
    return rows, SoftTargets(proba, np.ones(n, dtype=bool), None)


@dataclass
class _Survey:
    """What one pass over the shards found."""

    sizes: np.ndarray
    n_labelled: np.ndarray
    classes: set[Any]
    sample: _Sample


def _survey(shards: Shards, held: int | None, seed: int) -> _Survey:
    """Read every shard once: count its rows and labels, and sample it."""
    sample = _Sample(SAMPLE_ROWS, np.random.default_rng([seed, SAMPLE_ROWS]))
    sizes = np.zeros(shards.n_shards, dtype=np.int64)
    n_labelled = np.zeros(shards.n_shards, dtype=np.int64)
    classes: set[Any] = set()
    for number in track("shard", range(shards.n_shards), shards.n_shards):
        shard = shards.read(number)
        sizes[number] = n_rows(shard.X)
        if shard.label is not None:
            labelled = shard.labelled
            n_labelled[number] = labelled.sum()
            classes |= set(shard.label[labelled].tolist())
        if np.shape(shard.proba)[:1] != (sizes[number],):
            raise ValueError(
                f"shard {number} has {sizes[number]} rows and soft targets of shape "
                f"{np.shape(shard.proba)}."
            )
        sample.add(shard, only_new=number == held)
    return _Survey(sizes, n_labelled, classes, sample)


def open_stream(
    shards: Shards,
    *,
    classes: np.ndarray | None,
    hold_out: bool,
    preprocessor: Any,
    n_bins: int | None,
    labeller: Labeller | None,
    seed: int,
) -> TrainingStream:
    """Survey the shards and learn from a sample how their rows are prepared.

    ``classes`` are those that the teachers know, where the shards do not name them; ``labeller``
    makes synthetic rows, where some are wanted.
    """
    held = None
    if hold_out:
        if shards.n_shards < 2:
            raise ValueError(
                "early_stopping=True holds out one shard, and there is only one. Write more and "
                "smaller files, or pass early_stopping=False."
            )
        held = int(np.random.default_rng(seed).integers(shards.n_shards))
    survey = _survey(shards, held, seed)
    labels = _classes(shards, classes, survey)
    numbers = np.delete(np.arange(shards.n_shards), [] if held is None else [held])
    X, proba, label = survey.sample.rows()
    sampled = Shard(X, proba, label)
    rows, targets = as_rows(sampled, labels)
    if not sampled.labelled.all():
        rows.code = None
    sample = build_training_set(
        rows,
        targets,
        [],
        np.zeros(n_rows(X), dtype=bool),
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
        synthetic=None if labeller is None else _synthetic(labeller, labels, survey, numbers),
        seed=seed,
    )
    n_labelled = int(survey.n_labelled[numbers].sum())
    stream.hard_weight = stream.n_rows / n_labelled if n_labelled else 0.0
    return stream


def _classes(shards: Shards, known: np.ndarray | None, survey: _Survey) -> np.ndarray:
    """Return the labels: as the files, the teachers or the labels themselves name them."""
    if shards.classes is not None:
        return np.asarray(shards.classes)
    if known is not None:
        return known
    if len(survey.classes) < 2:
        raise ValueError(
            "The classes must come from the targets, the teachers or the labels: pass what "
            "label_parquet returns, prefit teachers, or shards (X, proba, y) with at least two "
            f"labels; the shards hold {sorted(map(str, survey.classes))}."
        )
    return np.unique(np.array(list(survey.classes)))


def _held_out(shard: Shard, classes: np.ndarray, sample: TrainingSet) -> HeldOut:
    """Prepare the labelled rows of the shard on which the epochs are compared."""
    rows, targets = as_rows(shard, classes)
    if rows.code is None:
        raise ValueError(
            "early_stopping=True compares the epochs on labels, and the shard that is held out has "
            "none. Pass label='column', or early_stopping=False."
        )
    known = np.flatnonzero(rows.code >= 0)
    Z = apply_preprocessor(sample.preprocessor, take_rows(shard.X, known))
    return HeldOut(Z, rows.code[known], rows.weight[known], targets.proba[known])


def _synthetic(
    labeller: Labeller, classes: np.ndarray, survey: _Survey, numbers: np.ndarray
) -> Synthetic:
    """Return what makes the synthetic rows; a number of them is shared out by the rows."""
    targets = SoftTargets(np.empty(0), np.empty(0), labeller.prefit_ensemble(classes))
    augmenter = labeller.augmenter(targets)
    sizes = np.zeros(len(survey.sizes), dtype=np.int64)
    if isinstance(labeller.n_synthetic, str):
        sizes[numbers] = [labeller.count_synthetic(int(n)) for n in survey.sizes[numbers]]
    else:
        ends = np.cumsum(survey.sizes[numbers])
        sizes[numbers] = np.diff(np.round(labeller.n_synthetic * ends / ends[-1]), prepend=0)
    assert augmenter is not None
    assert targets.ensemble is not None
    return Synthetic(augmenter, targets.ensemble, sizes)
