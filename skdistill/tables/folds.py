"""Folds that keep equal rows together, for the default teacher."""

import zlib
from typing import Any

import numpy as np

from skdistill.tables.frames import NUMERIC_KINDS, is_frame

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
    code, weight = code[used], weight[used]
    mostly_copies = len(digest) == 1 or weight.sum() > _MOSTLY_COPIES * len(digest)
    if not mostly_copies:
        # The class of most weight in each group of equal rows.
        totals = np.zeros((len(digest), code.max() + 1))
        np.add.at(totals, (group, code), weight)
        code = totals.argmax(axis=1)
    # Dealt class by class; each class goes on where the last one stopped.
    fold = np.empty(len(code), dtype=np.intp)
    order = np.argsort(code, kind="stable")
    fold[order] = np.arange(len(code)) % max(2, min(n_splits, len(code)))
    if not mostly_copies:
        fold = fold[group]
    return [(used[fold != f], used[fold == f]) for f in np.unique(fold)]


def _row_digests(X: Any) -> np.ndarray:
    """Return a number for each row that depends on its values alone."""
    if is_frame(X) and all(getattr(t, "kind", "O") in NUMERIC_KINDS for t in X.dtypes):
        # The same numbers fall into the same folds, in a frame or in an array.
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    if is_frame(X):
        from pandas.util import hash_pandas_object

        return np.asarray(hash_pandas_object(X, index=False))
    if X.dtype.kind not in NUMERIC_KINDS:
        rows = (repr(row).encode() for row in X.tolist())
        return np.fromiter((zlib.crc32(row) for row in rows), dtype=np.uint64, count=len(X))
    # Adding 0.0 makes -0.0 and 0.0 one value; the multipliers are odd, so no bit is lost.
    bits = (np.ascontiguousarray(X, dtype=np.float64) + 0.0).view(np.uint64)
    draw = np.random.default_rng(0).integers(2**63, size=(2, X.shape[1]), dtype=np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * (2 * draw[0] + np.uint64(1))
    mixed = (mixed ^ (mixed >> np.uint64(32))) * (2 * draw[1] + np.uint64(1))
    return mixed.sum(axis=1, dtype=np.uint64)
