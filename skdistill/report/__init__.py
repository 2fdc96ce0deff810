"""A student beside its teachers: scores, verdicts, costs, displays."""
