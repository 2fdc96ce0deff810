"""Synthetic rows for the teachers to label."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils import check_random_state

from skdistill.tables.frames import is_frame, is_missing, named_columns
from skdistill.tables.neighbours import Column, Floats, Ints, neighbours
from skdistill.tables.rows import check_sample_weight

# Numeric columns of at most this many values, each seen twice on average, get no noise.
_FEW_VALUES = 10
# Whole numbers beyond this are not exact in float64: identifiers, not quantities.
_EXACT_INTEGER = 2**53
_NUMBERS = (int, float, np.integer, np.floating)

Mask = NDArray[np.bool_]


def munge(
    X: Any,
    n_rows: int,
    *,
    sample_weight: ArrayLike | None = None,
    categorical: ArrayLike | None = None,
    swap_probability: float = 0.5,
    local_variance: float = 1.0,
    random_state: int | np.random.RandomState | None = None,
) -> Any:
    """Draw synthetic rows near the rows of X with MUNGE.

    Every synthetic row starts as a copy of a base row of X. With probability
    `swap_probability` each of its columns takes a value from the base row's nearest
    neighbour: a categorical column takes the neighbour's value, a numeric column a draw from
    ``Normal(neighbour, |base - neighbour| / local_variance)``. At least one column changes
    wherever the two rows differ, so copies of the base row appear only where X holds a single
    distinct row.

    Integers and float columns of whole numbers stay whole, every numeric value stays within the
    range of its column, and every other value is one that its column holds. A swapped column
    takes over whether the neighbour's value is missing. Numeric columns of at most ten
    values that repeat, and integers beyond 2**53, are swapped without noise.

    Parameters
    ----------
    X : ndarray or pandas DataFrame of shape (n_samples, n_features)
        Rows to start from: numbers, strings, booleans, dates, objects, missing values.
        Never changed.
    n_rows : int
        Number of synthetic rows, at least 0.
    sample_weight : array-like of shape (n_samples,), default=None
        Rows serve as base rows in proportion to their weight, rounded up or down at random.
        Rows of weight 0 act as if they were absent. None: all rows equally often.
    categorical : array-like of int, str or bool, default=None
        Columns to swap without noise beside those found by their type: positions, names of
        a DataFrame's columns, or a mask of shape (n_features,).
    swap_probability : float, default=0.5
        Probability, in [0, 1], that a column is swapped.
    local_variance : float, default=1.0
        Divisor of the noise, above 0: the larger, the closer to the neighbour's value.
    random_state : int, RandomState or None, default=None
        Seed. None draws one number from NumPy's global RandomState, as in scikit-learn.

    Returns
    -------
    ndarray or pandas DataFrame of shape (n_rows, n_features)
        The container, columns and dtypes of X, in the order of the base rows; a DataFrame has a
        new RangeIndex.

    Raises
    ------
    TypeError
        If X is sparse or neither an ndarray nor a pandas DataFrame, or a parameter has a
        wrong type.
    ValueError
        If X is empty or holds infinity, or a parameter is out of its range.

    Notes
    -----
    Neighbours are Euclidean: numeric columns are standardised, missing values take the mean
    and an indicator column, and two different categories lie one unit apart (approximately,
    from 33 categories on). The search is exact up to 20,000 distinct rows (5,000 above 64
    encoded columns) and at any size up to 8 encoded columns; beyond, it stays within the
    leaves of a random projection tree, and so its cost grows linearly with the number of rows.

    The original algorithm also perturbs the neighbour and walks through the rows in turn; here
    rows are independent of each other.

    References
    ----------
    Bucila, C., Caruana, R. and Niculescu-Mizil, A. (2006). "Model compression". Proceedings of
    the 12th ACM SIGKDD International Conference on Knowledge Discovery and Data Mining.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.augment import munge
    >>> X = np.array([[1, 20], [2, 10], [3, 40], [4, 30]])
    >>> synthetic = munge(X, 6, random_state=0)
    >>> synthetic.shape, synthetic.dtype == X.dtype
    ((6, 2), True)
    >>> bool((synthetic >= X.min(axis=0)).all() and (synthetic <= X.max(axis=0)).all())
    True
    """
    _check_container(X)
    _check_parameters(n_rows, swap_probability, local_variance)
    swap_only = _check_categorical(categorical, X)
    weight = check_sample_weight(sample_weight, X.shape[0])
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))

    used = np.flatnonzero(weight)
    # Weights of 0.1 act as weights of 1, to the last digit.
    weight = weight[used] / weight.max()
    columns = [
        _read_column(name, column, used, fixed)
        for (name, column), fixed in zip(named_columns(X), swap_only, strict=True)
    ]
    base = _draw_base(weight, int(n_rows), rng)
    neighbour = neighbours(columns, base, rng)
    swapped = _choose_columns(columns, base, neighbour, swap_probability, rng)
    synthetic = [
        _swap(column, base, neighbour, chosen, local_variance, rng)
        for column, chosen in zip(columns, swapped, strict=True)
    ]
    return _assemble(X, synthetic, len(base))


AUGMENTERS: dict[str, Callable[..., Any]] = {"munge": munge}


def _check_container(X: Any) -> None:
    """Refuse what munge could not return in the container it came in."""
    if issparse(X):
        raise TypeError(
            "munge needs a dense X, got a sparse matrix: nearest neighbours and noise would make "
            "it dense. Pass X.toarray() if it fits in memory"
        )
    if not isinstance(X, np.ndarray) and not is_frame(X):
        raise TypeError(
            f"X must be a NumPy array or a pandas DataFrame, got {type(X).__name__}. "
            "Pass np.asarray(X), or X.to_pandas() for other data frames"
        )
    if X.ndim != 2:
        raise ValueError(f"X must have 2 dimensions, got {X.ndim}. Pass X.reshape(-1, 1)?")
    if 0 in X.shape:
        raise ValueError(f"X must have at least one row and one column, got shape {X.shape}")


def _check_parameters(n_rows: int, swap_probability: float, local_variance: float) -> None:
    """Refuse scalar parameters that are no number or out of range."""
    if not isinstance(n_rows, Integral) or isinstance(n_rows, bool):
        raise TypeError(f"n_rows must be an integer, got {n_rows!r}")
    if n_rows < 0:
        raise ValueError(f"n_rows must be at least 0, got {n_rows}")
    for name, value in (("swap_probability", swap_probability), ("local_variance", local_variance)):
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 <= swap_probability <= 1:
        raise ValueError(f"swap_probability must be in [0, 1], got {swap_probability}")
    if not 0 < local_variance < np.inf:
        raise ValueError(f"local_variance must be above 0 and finite, got {local_variance}")


def _check_categorical(categorical: ArrayLike | None, X: Any) -> Mask:
    """Return the mask over columns that `categorical` describes."""
    n_columns = X.shape[1]
    entries = [] if categorical is None else np.asarray(categorical, dtype=object).ravel().tolist()
    if entries and all(isinstance(entry, (bool, np.bool_)) for entry in entries):
        if len(entries) != n_columns:
            raise ValueError(f"categorical is a mask of {len(entries)}, X has {n_columns} columns")
        return np.array(entries, dtype=bool)
    mask = np.zeros(n_columns, dtype=bool)
    names = [] if isinstance(X, np.ndarray) else list(X.columns)
    for entry in entries:
        if isinstance(entry, str):
            if entry not in names:
                known = f"the columns are {names}" if names else "X is an array: give positions"
                raise ValueError(
                    f"categorical names column {entry!r}, which X does not have; {known}"
                )
            mask |= np.array([name == entry for name in names])
        elif not isinstance(entry, (int, np.integer)) or isinstance(entry, bool):
            raise TypeError(
                f"categorical must hold positions, names or only booleans, got {entry!r}"
            )
        elif not -n_columns <= entry < n_columns:
            raise ValueError(f"categorical names column {entry}, X has {n_columns} columns")
        else:
            mask[entry] = True
    return mask


def _read_column(name: Any, column: Any, used: Ints, swap_only: bool) -> Column:
    """Take the used rows of one column and find out what it holds."""
    if type(column.dtype).__name__ == "SparseDtype":
        raise TypeError(
            f"munge needs a dense X, column {name!r} is sparse: use X[column].sparse.to_dense()"
        )
    # An ndarray, or pandas' extension array where it is one.
    stored = np.ascontiguousarray(column) if isinstance(column.dtype, np.dtype) else column.array
    if len(used) < len(stored):
        stored = stored.take(used)
    numbers = _as_numbers(stored)
    if numbers is not None:
        if np.isinf(numbers).any():
            raise ValueError(
                f"X holds infinity in column {name!r}: make it finite or missing (NaN)"
            )
        if not swap_only and _is_quantity(numbers, integers=stored.dtype.kind != "f"):
            numbers[np.isnan(numbers)] = np.inf
            return Column(stored, numbers, numeric=True)
    try:
        return Column(stored, _factorize(stored), numeric=False)
    except TypeError as error:
        raise TypeError(
            f"X holds values that cannot be compared in column {name!r}: {error}"
        ) from error


def _as_numbers(stored: Any) -> Floats | None:
    """Return a new float64 array, NaN where missing, or None for a column of no numbers."""
    if stored.dtype.kind in "iuf":
        if isinstance(stored, np.ndarray):
            return stored.astype(np.float64)
        return np.array(stored.to_numpy(dtype=np.float64, na_value=np.nan))
    if not isinstance(stored, np.ndarray) or stored.dtype.kind != "O":
        return None
    missing = np.array([is_missing(value) for value in stored])
    kinds = set(map(type, stored[~missing]))
    if not kinds or bool in kinds or not all(issubclass(kind, _NUMBERS) for kind in kinds):
        return None
    return np.where(missing, np.nan, stored).astype(np.float64)


def _is_quantity(numbers: Floats, *, integers: bool) -> bool:
    """Whether numbers have an extent that noise makes sense for, and are no codes."""
    present = numbers[~np.isnan(numbers)]
    if not present.size or (integers and np.abs(present).max() > _EXACT_INTEGER):
        return False
    # A glance at the first rows spares continuous columns the sort of all.
    if np.unique(present[:1000]).size > _FEW_VALUES:
        return True
    n_values = np.unique(present).size
    return n_values > _FEW_VALUES or n_values * 2 > present.size


def _factorize(stored: Any) -> Ints:
    """Return the number of each row's value among the distinct ones; missing is one value."""
    if not isinstance(stored, np.ndarray):
        return np.asarray(stored.factorize(use_na_sentinel=False)[0])
    if stored.dtype.kind != "O":
        return np.unique(stored, return_inverse=True)[1]
    # Mixed types do not sort, so a table in the order of appearance.
    table: dict[Any, int] = {}
    values = (None if is_missing(value) else value for value in stored)
    return np.array([table.setdefault(value, len(table)) for value in values])


def _draw_base(weight: Floats, n_rows: int, rng: Generator) -> Ints:
    """Repeat every row in proportion to its weight; the fractions left are drawn at random."""
    expected = n_rows * (weight / weight.sum())
    counts = np.floor(expected).astype(np.intp)
    left = n_rows - int(counts.sum())
    if left > 0:
        # Systematic sampling over shuffled rows: exact in expectation, least variance.
        order = rng.permutation(len(weight))
        reach = np.cumsum((expected - counts)[order])
        points = (rng.random() + np.arange(left)) * (reach[-1] / left)
        hit = np.minimum(np.searchsorted(reach, points, side="right"), len(weight) - 1)
        np.add.at(counts, order[hit], 1)
    return np.repeat(np.arange(len(weight)), counts)


def _choose_columns(
    columns: list[Column], base: Ints, neighbour: Ints, probability: float, rng: Generator
) -> Mask:
    """Draw the rows that each column is swapped in, at least one differing column a row."""
    swapped = np.array([rng.random(len(base), dtype=np.float32) < probability for _ in columns])
    differs = np.array([column.keys[base] != column.keys[neighbour] for column in columns])
    rows = np.flatnonzero(~(swapped & differs).any(axis=0))
    # Reservoir sampling: each differing column is the pick with equal probability.
    n_seen = np.zeros(len(rows))
    pick = np.full(len(rows), -1)
    for j, differ in enumerate(differs[:, rows]):
        n_seen += differ
        pick[differ & (rng.random(len(rows)) * n_seen < 1)] = j
    swapped[pick[pick >= 0], rows[pick >= 0]] = True
    return swapped


def _swap(
    column: Column, base: Ints, neighbour: Ints, chosen: Mask, local_variance: float, rng: Generator
) -> Any:
    """Return the synthetic values of one column."""
    values = column.stored.take(np.where(chosen, neighbour, base))
    if not column.numeric:
        return values
    ours, theirs = column.keys[base], column.keys[neighbour]
    noisy = np.flatnonzero(chosen & (ours != theirs) & np.isfinite(ours) & np.isfinite(theirs))
    ours, theirs = ours[noisy], theirs[noisy]
    # The range is scaled down before it is used: the noise of huge values would overflow.
    with np.errstate(over="ignore"):  # beyond the range of floats is beyond the column's range
        spread = np.abs(ours - theirs) / local_variance
        drawn = theirs + spread * rng.standard_normal(len(noisy))
    present = column.keys[np.isfinite(column.keys)]
    drawn = np.clip(drawn, present.min(), present.max())
    if (present == np.rint(present)).all():
        drawn = np.rint(drawn)
    drawn, ours, theirs = (_as_stored(part, column.stored) for part in (drawn, ours, theirs))
    # Rounding and clipping may lead back to where the row came from.
    values[noisy] = np.where(drawn == ours, theirs, drawn)
    return values


def _as_stored(drawn: Floats, stored: Any) -> Any:
    """Convert drawn numbers to what the column stores."""
    if stored.dtype.kind != "O":
        return drawn.astype(f"{stored.dtype.kind}{stored.dtype.itemsize}")
    kinds = {type(value) for value in stored if not is_missing(value)}
    kind = kinds.pop() if len(kinds) == 1 else float
    return np.array([kind(value) for value in drawn.tolist()], dtype=object)


def _assemble(X: Any, synthetic: list[Any], n_rows: int) -> Any:
    """Put synthetic columns into the container of X."""
    if isinstance(X, np.ndarray):
        return np.column_stack(synthetic).astype(X.dtype, copy=False)
    import pandas as pd

    # With the dtype given, pandas does not guess a new one for columns of objects.
    series = {j: pd.Series(values, dtype=X.dtypes.iloc[j]) for j, values in enumerate(synthetic)}
    frame = pd.DataFrame(series, index=pd.RangeIndex(n_rows))
    frame.columns = X.columns
    return frame
