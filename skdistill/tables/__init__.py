"""Any container of rows to columns, and to the numbers that the student reads.

``frames`` hides the difference between arrays and DataFrames. ``rows`` checks what `fit` was given
(weights, labels, probabilities), holds rows out and warns at the user's line. ``encoder`` makes the
matrix that a student sees, column by column, ``bins`` the piecewise-linear encoding behind it.

Two more are imported by path: ``folds`` (the default teacher's folds) and ``synthetic`` with
``neighbours`` (rows for the teachers to label), whose trees of SciPy would slow the way to
`predict`.
"""

from skdistill.tables.bins import Lines, PiecewiseLinearEncoding, encode_lines
from skdistill.tables.encoder import TabularEncoder, Transformer, prepare
from skdistill.tables.frames import (
    as_table,
    is_frame,
    n_rows,
    named_columns,
    stack_rows,
    take_rows,
)
from skdistill.tables.rows import (
    SUM_TOLERANCE,
    Rows,
    check_teacher_proba,
    encode_among,
    find_improper,
    normalise,
    read_rows,
    split_rows,
    warn_user,
)

__all__ = [
    "SUM_TOLERANCE",
    "Lines",
    "PiecewiseLinearEncoding",
    "Rows",
    "TabularEncoder",
    "Transformer",
    "as_table",
    "check_teacher_proba",
    "encode_among",
    "encode_lines",
    "find_improper",
    "is_frame",
    "n_rows",
    "named_columns",
    "normalise",
    "prepare",
    "read_rows",
    "split_rows",
    "stack_rows",
    "take_rows",
    "warn_user",
]
