"""Anything fitted to answers: adapters, names, alignment, pooling, soft targets, hidden layers."""

from skdistill.teachers.adapters import CallableTeacher, TeachersLeftBehind, TorchTeacher

__all__ = ["CallableTeacher", "TeachersLeftBehind", "TorchTeacher"]
