"""The frozen student and its forward pass: with tables, all that a server loads."""

from skdistill.student.classifier import StudentClassifier

__all__ = ["StudentClassifier"]
