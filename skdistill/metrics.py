"""Numbers that set a student beside its teacher and its labels.

Every score is a mean of one value a row, so that two models can be compared row by row. Columns
of ``y_proba`` are classes in the order of `labels`, a classifier's ``classes_``.
"""

from skdistill.report.metrics import (
    agreement_score,
    expected_calibration_error,
    gap_recovered,
    log_loss_by_row,
    multiclass_brier_score,
    paired_difference,
    predictive_kl,
)

__all__ = [
    "agreement_score",
    "expected_calibration_error",
    "gap_recovered",
    "log_loss_by_row",
    "multiclass_brier_score",
    "paired_difference",
    "predictive_kl",
]
