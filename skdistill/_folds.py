"""Folds that keep equal rows together."""

import zlib
from typing import Any

import numpy as np

from skdistill._inputs import is_frame

__all__ = ["distinct_row_folds"]


def distinct_row_folds(
    X: Any, code: np.ndarray, weight: np.ndarray, n_splits: int = 5
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut stratified folds that depend on the distinct rows only.

    Equal rows of one class share a fold, so no teacher is asked about a copy of a row it learned;
    the order of the rows, how often each stands there and rows of weight 0 change nothing. A class
    is spread over as many folds as it has distinct rows.

    Parameters
    ----------
    X : table of shape (n, n_features)
        Raw rows.
    code : int array of shape (n,)
        Labels as positions.
    weight : float array of shape (n,)
        Weights; rows of weight 0 are in no fold.
    n_splits : int, default=5
        Number of folds at most; no more than the distinct rows of the smallest class, but two.

    Returns
    -------
    splits : list of (train, test) index arrays
        Disjoint test folds over the rows of positive weight.
    """
    used = np.flatnonzero(weight > 0)
    digest = _row_digests(X)[used]
    classes = np.unique(code[used])
    distinct = {c: np.unique(digest[code[used] == c], return_inverse=True) for c in classes}
    n_splits = max(2, min(n_splits, *(len(values) for values, _ in distinct.values())))
    fold = np.empty(len(used), dtype=np.intp)
    offset = 0
    for c, (values, position) in distinct.items():
        # Each class goes on where the last one stopped, which keeps the folds equally large.
        fold[code[used] == c] = (position + offset) % n_splits
        offset += len(values)
    return [(used[fold != f], used[fold == f]) for f in range(n_splits)]


def _row_digests(X: Any) -> np.ndarray:
    """Return a number for each row that depends on its values alone."""
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
