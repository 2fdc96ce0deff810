"""Training rows that do not fit in memory: shards that are prepared a few at a time.

A shard is (X, soft targets) or (X, soft targets, labels). It is read when its turn comes and
forgotten afterwards; what stays is a sample of the rows, from which scales, categories and bins are
learned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skdistill.tables import n_rows
from skdistill.teachers.naming import labels_known_to
from skdistill.teachers.sources import TargetSource, TeacherSpec, TransferRows
from skdistill.training.data import (
    HeldOut,
    TrainingSet,
    build_training_set,
    held_out_rows,
)
from skdistill.training.shards import Shard, Shards, as_rows, survey_shards

# Shards whose rows are shuffled together: rows of one file are often alike.
BUFFER_SHARDS = 4


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
    augmenter, source, n_synthetic
        What makes further rows, if any are asked for, what labels them, how many for each shard.
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
    augmenter: Callable[..., Any] | None
    source: TargetSource
    n_synthetic: np.ndarray
    seed: int

    @property
    def n_fit(self) -> int:
        """Number of rows that are not synthetic."""
        return int(self.sizes[self.numbers].sum())

    @property
    def n_rows(self) -> int:
        """Number of rows of an epoch."""
        return self.count(self.numbers)

    def count(self, group: Any) -> int:
        """Count the rows of some shards, synthetic ones included."""
        return int((self.sizes[group] + self.n_synthetic[group]).sum())

    @property
    def is_one_group(self) -> bool:
        """Whether every epoch has the same rows in memory."""
        return len(self.numbers) <= BUFFER_SHARDS and self.augmenter is None

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return the shards of an epoch in seeded order, in groups that are shuffled together."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.numbers)
        return [order[i : i + BUFFER_SHARDS] for i in range(0, len(order), BUFFER_SHARDS)]

    def load(self, group: np.ndarray, epoch: int) -> TrainingSet:
        """Read a group of shards and prepare their rows."""
        parts = [self._prepare(int(number), epoch) for number in np.sort(group)]
        if len(parts) == 1:
            return parts[0]
        columns = ("X", "proba", "label", "soft_weight", "hard_weight")
        joined: dict[str, Any] = {
            n: np.concatenate([getattr(part, n) for part in parts]) for n in columns
        }
        counts = {n: sum(getattr(part, n) for part in parts) for n in ("n_fit", "n_synthetic")}
        return replace(parts[0], **joined, **counts)

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
            rows, targets = as_rows(shard, self.sample.classes)
            extra = []
            if self.augmenter is not None:
                seeds = np.random.SeedSequence([self.seed, epoch, number])
                rng = np.random.RandomState(np.random.MT19937(seeds))
                n_synthetic = int(self.n_synthetic[number])
                made = self.augmenter(
                    shard.X, n_synthetic, sample_weight=rows.weight, random_state=rng
                )
                proba = self.source.labeller().predict_proba(made)
                extra.append(TransferRows(made, proba, shapes_inputs=False))
            none = np.zeros(n, dtype=bool)
            prepared = build_training_set(rows, targets, extra, none, like=self.sample)
        hard = np.zeros(len(prepared.X))
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
    known = labels_known_to(source.named) if shards.classes is None else shards.classes
    # A transformer of the user's may take infinity.
    finite = preprocessor is None or isinstance(preprocessor, str)
    survey = survey_shards(shards, held, seed, known, finite=finite)
    unseen, kept_back = survey.keep_back() if keep_back and held is None else (None, {})
    numbers = np.setdiff1d(np.flatnonzero(survey.sizes), [] if held is None else [held])
    if not len(numbers):
        raise ValueError(f"The {shards.n_shards} shards of targets hold no rows to train on.")
    labels = survey.classes() if known is None else known
    sample = _prepare_sample(survey.rows(), labels, preprocessor, n_bins)
    augmenter, n_synthetic = source.augmenter(), np.zeros_like(survey.sizes)
    if augmenter is not None:
        source.classes = labels
        n_synthetic[numbers] = _count_synthetic(source.spec, survey.sizes[numbers])
    n_labelled = int(survey.n_labelled[numbers].sum())
    n_all = int((survey.sizes + n_synthetic)[numbers].sum())
    return TrainingStream(
        shards=shards,
        numbers=numbers,
        sizes=survey.sizes,
        sample=sample,
        hard_weight=n_all / n_labelled if n_labelled else 0.0,
        held_out=None if held is None else _held_out(shards.read(held), labels, sample),
        unseen=None if unseen is None else _held_out(unseen, labels, sample),
        kept_back=kept_back,
        augmenter=augmenter,
        source=source,
        n_synthetic=n_synthetic,
        seed=seed,
    )


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
    none = np.zeros(len(rows.weight), dtype=bool)
    return build_training_set(rows, targets, [], none, preprocessor=preprocessor, n_bins=n_bins)


def _held_out(shard: Shard | None, classes: np.ndarray, sample: TrainingSet) -> HeldOut:
    """Prepare the labelled rows of a shard that is not trained on."""
    if shard is None or not shard.labelled.any():
        raise ValueError(
            "early_stopping=True compares the epochs on labels, and the shard that is held out has "
            "none. Pass label='column', or early_stopping=False."
        )
    rows, targets = as_rows(shard, classes)
    return held_out_rows(rows, targets, shard.labelled, sample.preprocessor)


def _count_synthetic(spec: TeacherSpec, sizes: np.ndarray) -> Any:
    """Return how many synthetic rows each shard gets; they share a number of them."""
    if isinstance(spec.n_synthetic, str):
        return [spec.count_synthetic(int(n)) for n in sizes]
    ends = np.cumsum(sizes)
    return np.diff(np.round(spec.n_synthetic * ends / ends[-1]), prepend=0)
