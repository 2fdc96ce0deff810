"""What all displays share: axes made late, one palette, and their numbers as a frame."""

from __future__ import annotations

from typing import Any

__all__ = ["BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "as_frame", "check_matplotlib", "find_axes"]

# Okabe & Ito (2008): told apart with any kind of colour vision. Their greys differ too, and every
# use adds a marker, a dash or a hatch of its own.
BLACK, BLUE, GREEN, ORANGE = "#000000", "#0072B2", "#009E73", "#E69F00"
GREY = "#BBBBBB"


def check_matplotlib(caller: str) -> None:
    """Raise, before anything is computed, if matplotlib is not installed."""
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which comes with skdistill[plot]: "
            "pip install 'skdistill[plot]'"
        ) from error
    assert matplotlib.pyplot


def find_axes(caller: str, ax: Any) -> Any:
    """Return the axes that were passed, or those of a new figure."""
    check_matplotlib(caller)
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def as_frame(columns: dict[str, Any]) -> Any:
    """Return columns as a pandas.DataFrame."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "frame() needs pandas, which comes with skdistill[plot]: pip install 'skdistill[plot]'"
        ) from error
    return pd.DataFrame(columns)
