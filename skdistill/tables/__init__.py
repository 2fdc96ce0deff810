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
from skdistill.tables.encoder import TabularEncoder, Transformer, check_matrix
from skdistill.tables.frames import (
    as_table,
    columns_of,
    is_frame,
    n_rows,
    names_of,
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
    "check_matrix",
    "check_teacher_proba",
    "columns_of",
    "encode_among",
    "encode_lines",
    "find_improper",
    "is_frame",
    "n_rows",
    "names_of",
    "normalise",
    "read_rows",
    "stack_rows",
    "take_rows",
    "warn_user",
]
