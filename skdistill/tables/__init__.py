"""Any container of rows to columns, and to the numbers that the student reads.

``frames`` hides the difference between arrays and DataFrames, ``checks`` holds the checks of sample
weights, labels and probabilities, ``rows`` reads what `fit` was given. ``encoder`` makes the matrix
that a student sees (``columns`` decides what each column is), ``bins`` the piecewise-linear
encoding behind it. ``warn`` warns at the user's line.

Two files are imported by path, as what they need would slow the way to `predict`: ``folds`` (which
rows are held out; scikit-learn's model selection) and ``synthetic`` with ``neighbours`` (rows for
the teachers to label; SciPy's trees).
"""

from skdistill.tables.bins import Lines, PiecewiseLinearEncoding, encode_lines
from skdistill.tables.checks import (
    SUM_TOLERANCE,
    check_labels,
    check_sample_weight,
    encode_among,
    find_improper,
    normalise,
)
from skdistill.tables.encoder import TabularEncoder, check_matrix
from skdistill.tables.frames import (
    as_table,
    columns_of,
    is_frame,
    is_missing,
    n_rows,
    names_of,
    rows_with_missing,
    stack_rows,
    take_rows,
)
from skdistill.tables.rows import Rows, check_teacher_proba, read_rows
from skdistill.tables.warn import warn_user

__all__ = [
    "SUM_TOLERANCE",
    "Lines",
    "PiecewiseLinearEncoding",
    "Rows",
    "TabularEncoder",
    "as_table",
    "check_labels",
    "check_matrix",
    "check_sample_weight",
    "check_teacher_proba",
    "columns_of",
    "encode_among",
    "encode_lines",
    "find_improper",
    "is_frame",
    "is_missing",
    "n_rows",
    "names_of",
    "normalise",
    "read_rows",
    "rows_with_missing",
    "stack_rows",
    "take_rows",
    "warn_user",
]
