"""Training rows that do not fit in memory: shards that are prepared a few at a time.

A shard is (X, soft targets) or (X, soft targets, labels). It is read when its turn comes and
forgotten afterwards; what stays is a sample of the rows, from which scales, categories and bins are
learned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skdistill.tables.frames import n_rows, take_rows
from skdistill.teachers.naming import labels_known_to
from skdistill.teachers.sources import TargetSource, TransferRows
from skdistill.training.data import (
    HeldOut,
    Prepared,
    TrainingSet,
    apply_preprocessor,
    build_training_set,
)
from skdistill.training.shards import Shard, Shards, Survey, as_rows, survey_shards

# Shards whose rows are shuffled together: rows of one file are often alike.
BUFFER_SHARDS = 4


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
        return TransferRows(made, self.source.labeller().predict_proba(made), shapes_inputs=False)


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


def open_stream(
    shards: Shards,
    source: TargetSource,
    *,
    hold_out: bool,
    keep_back: bool,
    preprocessor: Any,
    n_bins: int | None,
    seed: int,
) -> TrainingStream:
    """Survey the shards and learn from a sample how their rows are prepared.

    ``source`` knows the classes, where the shards do not name them, and labels synthetic rows,
    where some are asked for; with ``keep_back`` some labelled rows are not trained on.
    """
    held = _draw_held_out(shards.n_shards, seed) if hold_out else None
    known = shards.classes
    known = labels_known_to(source.named) if known is None else np.asarray(known)
    # A transformer of the user's may take infinity.
    finite = preprocessor is None or isinstance(preprocessor, str)
    survey = survey_shards(shards, held, seed, known, finite=finite)
    unseen, kept_back = survey.keep_back() if keep_back and held is None else (None, {})
    numbers = np.setdiff1d(np.flatnonzero(survey.sizes), [] if held is None else [held])
    if not len(numbers):
        raise ValueError(f"The {shards.n_shards} shards of targets hold no rows to train on.")
    labels = survey.labels() if known is None else known
    sample = _prepare_sample(survey.sample.rows(), labels, preprocessor, n_bins)
    stream = TrainingStream(
        shards=shards,
        numbers=numbers,
        sizes=survey.sizes,
        sample=sample,
        hard_weight=0.0,
        held_out=None if held is None else _held_out(shards.read(held), labels, sample),
        unseen=None if unseen is None else _held_out(unseen, labels, sample),
        kept_back=kept_back,
        synthetic=_synthetic(source, labels, survey, numbers),
        seed=seed,
    )
    n_labelled = int(survey.n_labelled[numbers].sum())
    stream.hard_weight = stream.n_rows / n_labelled if n_labelled else 0.0
    return stream


def _draw_held_out(n_shards: int, seed: int) -> int:
    """Draw the shard on which the epochs are compared."""
    if n_shards < 2:
        raise ValueError(
            "early_stopping=True holds out one shard, and there is only one. Write more and "
            "smaller files, or pass early_stopping=False."
        )
    return int(np.random.default_rng(seed).integers(n_shards))


def _prepare_sample(
    sampled: Shard, labels: np.ndarray, preprocessor: Any, n_bins: int | None
) -> TrainingSet:
    """Learn from the sampled rows how all rows are prepared."""
    rows, targets = as_rows(sampled, labels)
    if not sampled.labelled.all():
        rows.code = None
    nothing = np.zeros(n_rows(sampled.X), dtype=bool)
    return build_training_set(rows, targets, [], nothing, preprocessor=preprocessor, n_bins=n_bins)


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
    source: TargetSource, classes: np.ndarray, survey: Survey, numbers: np.ndarray
) -> Synthetic | None:
    """Return what makes synthetic rows, if any are asked for; shards share a number of them."""
    augmenter = source.augmenter()
    if augmenter is None:
        return None
    source.classes = classes
    n_synthetic = source.spec.n_synthetic
    sizes = np.zeros(len(survey.sizes), dtype=np.int64)
    if isinstance(n_synthetic, str):
        sizes[numbers] = [source.spec.count_synthetic(int(n)) for n in survey.sizes[numbers]]
    else:
        ends = np.cumsum(survey.sizes[numbers])
        sizes[numbers] = np.diff(np.round(n_synthetic * ends / ends[-1]), prepend=0)
    return Synthetic(augmenter, source, sizes)
