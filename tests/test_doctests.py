"""Doctests that pytest's collector leaves out: methods of classes that say they live elsewhere.

It takes a method to belong to a class only where both name the same module.
"""

import doctest
import inspect

import pytest

import skdistill


def examples_left_out():
    """Yield the doctests of methods whose class names another module than they do."""
    for name in skdistill.__all__:
        public = getattr(skdistill, name)
        if not inspect.isclass(public):
            continue
        for found in doctest.DocTestFinder(exclude_empty=True).find(public, module=False, globs={}):
            method = vars(public).get(found.name.rpartition(".")[2])
            home = getattr(inspect.unwrap(getattr(method, "__func__", method)), "__module__", None)
            if method is not None and found.examples and home != public.__module__:
                yield found


LEFT_OUT = list(examples_left_out())


def test_those_of_the_student_are_among_them():
    assert {"StudentClassifier.save", "StudentClassifier.to_torch"} <= {t.name for t in LEFT_OUT}


@pytest.mark.parametrize("example", LEFT_OUT, ids=lambda example: example.name)
def test_the_example_of_a_method_runs(example):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example).failed == 0
