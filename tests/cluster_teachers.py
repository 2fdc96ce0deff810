"""What tests of labelling share: rows in Parquet files, and teachers that workers can import."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skdistill import CallableTeacher
from skdistill.distributed import TeacherBundle

COLUMNS = ["a", "b", "c"]
CLASSES = ["no", "yes"]
# A row with this value in its first column takes down whoever asks about it.
DEADLY = 1e6


def make_frame(n: int, seed: int = 0) -> pd.DataFrame:
    """Return rows with labels that depend, with noise, on two columns."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=COLUMNS)
    score = X["a"] + 0.5 * X["b"] + rng.normal(scale=0.3, size=n)
    return X.assign(y=np.where(score > 0, "yes", "no"))


def write_files(folder: Path, n_files: int = 6, n_rows: int = 500, first: int = 0) -> list[Path]:
    """Write files of rows and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"rows-{i}.parquet" for i in range(n_files)]
    for i, path in enumerate(paths):
        make_frame(n_rows, seed=first + i).to_parquet(path)
    return paths


def make_teachers(seed: int = 0) -> list[Any]:
    """Return a teacher fitted on a DataFrame and one fitted on an array."""
    rows = make_frame(400, seed=100 + seed)
    return [
        LogisticRegression().fit(rows[COLUMNS], rows["y"]),
        DecisionTreeClassifier(max_depth=3, random_state=0).fit(
            rows[COLUMNS].to_numpy(), rows["y"]
        ),
    ]


def save_bundle(path: Path, *more: Any, seed: int = 0) -> TeacherBundle:
    """Save the two teachers and further ones."""
    teachers = [*make_teachers(seed), *more]
    return TeacherBundle.save(teachers, path, classes=CLASSES, feature_names=COLUMNS)


def proba_of(X: Any) -> np.ndarray:
    """Return probabilities that follow the first column."""
    p = 1 / (1 + np.exp(-np.clip(np.asarray(X, dtype=float)[:, 0], -30, 30)))
    return np.column_stack([1 - p, p])


def slow(X: Any) -> np.ndarray:
    """Take so long that a test can kill the worker meanwhile."""
    time.sleep(0.4)
    return proba_of(X)


def deadly(X: Any) -> np.ndarray:
    """Kill the process that asks about a deadly row."""
    if (np.asarray(X, dtype=float)[:, 0] == DEADLY).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return proba_of(X)


def fussy(X: Any) -> np.ndarray:
    """Answer NaN for a deadly row."""
    proba = proba_of(X)
    proba[np.asarray(X, dtype=float)[:, 0] == DEADLY] = np.nan
    return proba


def threads(X: Any) -> np.ndarray:
    """Raise where a numerical library or joblib may use more than one thread."""
    import joblib
    from threadpoolctl import threadpool_info

    counts = [pool["num_threads"] for pool in threadpool_info()]
    if set(counts) - {1} or joblib.effective_n_jobs(4) != 1:
        raise RuntimeError(f"asked with {counts} threads")
    return proba_of(X)


def teacher_of(function: Any) -> CallableTeacher:
    """Return a teacher that answers with a function of this file."""
    return CallableTeacher(function, classes=CLASSES)


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a folder, leftovers included."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def put_deadly_row(path: Path, row: int = 3) -> None:
    """Put a deadly row into a file."""
    frame = pd.read_parquet(path)
    frame.loc[row, "a"] = DEADLY
    frame.to_parquet(path)
