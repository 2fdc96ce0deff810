"""Numbers that set a student beside its teacher and its labels."""

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
