"""The parameter `hints`: what is allowed, and which teacher a hint names."""

import numpy as np
import pytest

from skdistill import Hint
from skdistill.teachers.hints import active_hints


@pytest.mark.parametrize(
    "wrong",
    [
        {"teacher": 0.0},
        {"teacher": None},
        {"layer": 1.5},
        {"layer": ""},
        {"student_layer": None},
        {"kind": "l2"},
        {"weight": -1},
        {"weight": np.inf},
        {"weight": True},
        {"channel_axis": 0},
    ],
)
def test_values_that_are_not_allowed_are_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"'{name}' parameter of Hint must be") as error:
        Hint(**{"layer": 0, **wrong})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("kind", ["mse", "cosine", "attention"])
def test_leaves_go_with_relation_alone(kind):
    with pytest.raises(ValueError, match=f"kind='{kind}'.* needs the 'layer' of the teacher"):
        Hint(kind=kind)


def test_teachers_go_by_place_or_by_name():
    names = ["net", "forest"]
    hints = [Hint("forest", 0), Hint(0, 0), Hint(-1, 0), Hint("none", 0, weight=0)]
    assert [(a.teacher, a.where) for a in active_hints(hints, names)] == [
        (1, "hints[0]"),
        (0, "hints[1]"),
        (1, "hints[2]"),
    ]
    with pytest.raises(ValueError, match=r"hints\[0\] names teacher 2; there are 2"):
        active_hints([Hint(2, 0)], names)
    with pytest.raises(ValueError, match="names the teacher 'tree'; there are net, forest"):
        active_hints([Hint("tree", 0)], names)
