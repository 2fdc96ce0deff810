"""Synthetic rows for the teachers to label."""

from skdistill.tables.synthetic import AUGMENTERS, munge

__all__ = ["AUGMENTERS", "munge"]
