"""How notebooks draw an estimator's members: side by side."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["side_by_side"]


def side_by_side(members: Callable[[], Sequence[tuple[str, Any]]]) -> Any:
    """Return the block in which scikit-learn draws named estimators side by side.

    scikit-learn has no public way to make one. A public class that draws its members so is asked
    for it by the hook that every estimator may have; where that fails, or naming the members does,
    scikit-learn draws the plain block.
    """
    # Imported late, lest a process that only predicts load a package of trees.
    from sklearn.ensemble import VotingClassifier

    with warnings.catch_warnings():
        # What is wrong with the members is said by fit; drawing is no time for it.
        warnings.simplefilter("ignore")
        return VotingClassifier(list(members()))._sk_visual_block_()
