"""Shards of rows and soft targets that do not fit in memory: read one by one, and checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skdistill.tables.checks import encode_among
from skdistill.tables.frames import as_table, is_frame, n_rows, stack_rows, take_rows
from skdistill.tables.rows import Rows, check_teacher_proba
from skdistill.teachers.pooling import SoftTargets

__all__ = ["Shard", "Shards", "as_rows", "stacked"]


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
