"""Data sets of the benchmarks: a folder of files, OpenML by name, or scikit-learn's own."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import (
    fetch_openml,
    load_breast_cancer,
    load_digits,
    load_wine,
    make_classification,
)
from sklearn.model_selection import train_test_split

__all__ = ["DataSource", "Split", "add_data_arguments"]

MAX_ROWS = 12_000
TEST_SHARE = 0.4
MIN_CLASS_ROWS = 10
REFERENCE = "reference"


@dataclass(frozen=True)
class Split:
    """Train and test rows of one set under one seed; the indices are rows of the whole set."""

    name: str
    seed: int
    teacher_seed: int
    X_train: Any
    X_test: Any
    y_train: np.ndarray
    y_test: np.ndarray
    train_index: np.ndarray
    test_index: np.ndarray


def _make_reference() -> tuple[np.ndarray, np.ndarray]:
    """Return the synthetic data of the twelve-MLP experiment."""
    return make_classification(
        n_samples=5000, n_features=20, n_informative=10, n_redundant=5, random_state=42
    )


_BUNDLED: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    REFERENCE: _make_reference,
    "digits": lambda: load_digits(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
}


def _as_features(frame: pd.DataFrame) -> Any:
    """Return float64 rows where every column is a number, else the frame as it is."""
    switches = frame.select_dtypes("bool").columns
    frame = frame.astype(dict.fromkeys(switches, str))
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes):
        return frame.to_numpy(dtype=np.float64)
    return frame


def _load_file(path: Path) -> tuple[Any, np.ndarray]:
    """Read NAME.csv.gz: features f0.., then target."""
    table = pd.read_csv(path)
    return _as_features(table.drop(columns="target")), table["target"].to_numpy()


def _load_openml(name: str) -> tuple[Any, np.ndarray]:
    """Fetch the newest active version of an OpenML set by name."""
    data = fetch_openml(name, as_frame=True, parser="auto")
    return _as_features(data.data), np.asarray(data.target)


def _load_bundled(name: str) -> tuple[Any, np.ndarray]:
    """Return one of the sets that need neither files nor a network."""
    X, y = _BUNDLED[name]()
    return np.asarray(X, dtype=np.float64), y


def _rows(X: Any, index: np.ndarray) -> Any:
    """Take rows of an array or, with a fresh index, of a frame."""
    if isinstance(X, pd.DataFrame):
        return X.iloc[index].reset_index(drop=True)
    return X[index]


@cache
def _load(kind: str, directory: str, name: str) -> tuple[Any, np.ndarray]:
    """Read a set once for each process."""
    if kind == "directory":
        return _load_file(Path(directory) / f"{name}.csv.gz")
    return _load_openml(name) if kind == "openml" else _load_bundled(name)


@dataclass(frozen=True)
class DataSource:
    """Where the sets come from.

    Parameters
    ----------
    kind : {"directory", "openml", "bundled"}
        Files ``NAME.csv.gz`` in `directory`, OpenML by name, or scikit-learn's bundled sets.
    names : tuple of str
        The sets, in the order of the report.
    directory : str
        Only for ``kind="directory"``.
    """

    kind: str
    names: tuple[str, ...]
    directory: str = ""

    @classmethod
    def from_directory(cls, directory: str | Path) -> "DataSource":
        """Return the source of every ``NAME.csv.gz`` in a folder."""
        names = sorted(path.name[: -len(".csv.gz")] for path in Path(directory).glob("*.csv.gz"))
        if not names:
            raise SystemExit(f"No file NAME.csv.gz in {directory}.")
        return cls("directory", tuple(names), str(directory))

    @classmethod
    def bundled(cls) -> "DataSource":
        """Return the source of scikit-learn's own sets."""
        return cls("bundled", tuple(_BUNDLED))

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "DataSource":
        """Return the source that the command line names, reduced to ``--sets``."""
        if arguments.data:
            source = cls.from_directory(arguments.data)
        elif arguments.openml:
            source = cls("openml", tuple(arguments.openml))
        else:
            source = cls.bundled()
        if not arguments.sets:
            return source
        unknown = set(arguments.sets) - set(source.names)
        if unknown:
            raise SystemExit(f"No set {sorted(unknown)}; there are {list(source.names)}.")
        return cls(source.kind, tuple(arguments.sets), source.directory)

    def load(self, name: str) -> tuple[Any, np.ndarray]:
        """Return all rows of one set: float64 array or mixed frame, and labels as given."""
        return _load(self.kind, self.directory, name)

    def split(self, name: str, seed: int) -> Split:
        """Return the stratified 60/40 split of at most 12,000 rows.

        Classes of fewer than ten rows are left out, since no split of them says anything. The
        reference experiment keeps its published split whatever the seed, so there a seed is one
        of the student alone.
        """
        X, y = self.load(name)
        if name == REFERENCE and self.kind == "bundled":
            train, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=42)
            return self._take(X, y, train, test, name, seed, teacher_seed=0)
        labels, counts = np.unique(y, return_counts=True)
        rows = np.flatnonzero(np.isin(y, labels[counts >= MIN_CLASS_ROWS]))
        if len(rows) > MAX_ROWS:
            rows, _ = train_test_split(
                rows, train_size=MAX_ROWS, stratify=y[rows], random_state=seed
            )
        train, test = train_test_split(
            rows, test_size=TEST_SHARE, stratify=y[rows], random_state=seed
        )
        return self._take(X, y, train, test, name, seed, teacher_seed=seed)

    @staticmethod
    def _take(
        X: Any,
        y: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        name: str,
        seed: int,
        teacher_seed: int,
    ) -> Split:
        """Cut the rows of a split out of the whole set."""
        return Split(
            name,
            seed,
            teacher_seed,
            _rows(X, train),
            _rows(X, test),
            y[train],
            y[test],
            train,
            test,
        )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--openml``, ``--bundled`` and ``--sets`` to a command line."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--data", metavar="DIR", help="folder of NAME.csv.gz (f0.., target)")
    group.add_argument("--openml", nargs="+", metavar="NAME", help="OpenML sets by name")
    group.add_argument(
        "--bundled", action="store_true", help="scikit-learn's bundled sets (the default)"
    )
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="only these sets")
