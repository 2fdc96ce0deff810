"""Which rows are held out: folds that keep equal rows together, and a share to validate on."""

import zlib
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from skdistill.tables.frames import is_frame, rows_with_missing
from skdistill.tables.rows import Rows

# Above this weight for each distinct row the table is a list of a few cells with many copies.
_MOSTLY_COPIES = 4.0


def distinct_row_folds(
    X: Any, code: np.ndarray, weight: np.ndarray, n_splits: int = 5
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut stratified folds, train and test positions, that depend on the distinct rows only.

    Equal rows share a fold, so no teacher is asked about a copy of a row it learned; the order of
    the rows, how often each stands there and rows of weight 0 change nothing. Where most rows are
    copies (a table of a few categories), holding out all copies of a row would hold out all that
    is known of it: there the copies are spread over ordinary stratified folds. Fewer than two
    distinct rows a fold give fewer folds, but at least two.
    """
    used = np.flatnonzero(weight > 0)
    digest, group = np.unique(_row_digests(X)[used], return_inverse=True)
    if len(digest) == 1 or weight.sum() > _MOSTLY_COPIES * len(digest):
        order = np.argsort(code[used], kind="stable")
        fold = np.empty(len(used), dtype=np.intp)
        fold[order] = np.arange(len(used)) % n_splits
    else:
        fold = _deal(_largest_class(group, code[used], weight[used]), n_splits)[group]
    return [(used[fold != f], used[fold == f]) for f in np.unique(fold)]


def _largest_class(group: np.ndarray, code: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the class of most weight in each group of equal rows."""
    totals = np.zeros((group.max() + 1, code.max() + 1))
    np.add.at(totals, (group, code), weight)
    return totals.argmax(axis=1)


def _deal(classes: np.ndarray, n_splits: int) -> np.ndarray:
    """Deal the groups into folds, class by class; each class goes on where the last one stopped."""
    fold = np.empty(len(classes), dtype=np.intp)
    order = np.argsort(classes, kind="stable")
    fold[order] = np.arange(len(classes)) % max(2, min(n_splits, len(classes)))
    return fold


def _row_digests(X: Any) -> np.ndarray:
    """Return a number for each row that depends on its values alone."""
    if is_frame(X) and all(getattr(t, "kind", "O") in "biuf" for t in X.dtypes):
        # The same numbers fall into the same folds, in a frame or in an array.
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    if is_frame(X):
        from pandas.util import hash_pandas_object

        return np.asarray(hash_pandas_object(X, index=False))
    if X.dtype.kind not in "biuf":
        rows = (repr(row).encode() for row in X.tolist())
        return np.fromiter((zlib.crc32(row) for row in rows), dtype=np.uint64, count=len(X))
    # Adding 0.0 makes -0.0 and 0.0 one value; the multipliers are odd, so no bit is lost.
    bits = (np.ascontiguousarray(X, dtype=np.float64) + 0.0).view(np.uint64)
    draw = np.random.default_rng(0).integers(2**63, size=(2, X.shape[1]), dtype=np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * (2 * draw[0] + np.uint64(1))
    mixed = (mixed ^ (mixed >> np.uint64(32))) * (2 * draw[1] + np.uint64(1))
    return mixed.sum(axis=1, dtype=np.uint64)


def hold_out(rows: Rows, fraction: float, rng: np.random.RandomState) -> np.ndarray:
    """Return a mask of rows to validate on, stratified by label where every class allows it."""
    assert rows.code is not None
    used = np.flatnonzero(rows.weight > 0)
    _, held = split_rows(rows.code[used], fraction, rng)
    held = used[held]
    mask = np.zeros(len(rows.weight), dtype=bool)
    mask[held] = True
    missing = rows_with_missing(rows.X)
    train = np.flatnonzero((rows.weight > 0) & ~mask)
    if missing[mask].any() and not missing[train].any():
        # A student that saw no missing value could not be asked about one.
        mask[np.flatnonzero(mask & missing)[0]] = False
        mask[train[0]] = True
    return mask


def split_rows(
    code: np.ndarray, fraction: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions in two, stratified by label where every class allows it."""
    _, counts = np.unique(code, return_counts=True)
    n, n_classes = len(code), len(counts)
    n_held = max(1, round(fraction * n))
    enough = counts.min() >= 2
    stratify = code if enough and n_classes <= n_held <= n - n_classes else None
    seed = int(rng.randint(np.iinfo(np.int32).max))
    train, held = train_test_split(
        np.arange(n), test_size=n_held, stratify=stratify, random_state=seed
    )
    return train, held
