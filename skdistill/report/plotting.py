"""What all displays share: axes made late, one palette, and their numbers as a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, Self

# Okabe & Ito (2008): told apart with any kind of colour vision. Their greys differ too, and every
# use adds a marker, a dash or a hatch of its own.
BLACK, BLUE, GREEN, ORANGE = "#000000", "#0072B2", "#009E73", "#E69F00"
GREY = "#BBBBBB"


def _load(module: str, caller: str) -> Any:
    """Import a module of the extra, or say where it comes from."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{caller} needs {module.partition('.')[0]}, which comes with skdistill[plot]: "
            "pip install 'skdistill[plot]'"
        ) from error


def find_axes(caller: str, ax: Any) -> Any:
    """Return the axes that were passed, or those of a new figure."""
    pyplot = _load("matplotlib.pyplot", caller)
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def as_frame(numbers: Any) -> Any:
    """Return columns, or rows, as a pandas.DataFrame."""
    return _load("pandas", "frame()").DataFrame(numbers)


class Display(ABC):
    """Numbers that can be drawn, in scikit-learn's manner."""

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None: in a new figure.

        Returns
        -------
        self : Display
            The display itself.
        """
        return self._plot(ax)

    def _plot(self, ax: Any, **style: Any) -> Self:
        """Draw on the axes that were passed, or on those of a new figure."""
        self.ax_ = find_axes(f"{type(self).__name__}.plot", ax)
        self.figure_ = self.ax_.figure
        self._draw(**style)
        return self

    @abstractmethod
    def _draw(self) -> None:
        """Draw on `ax_`."""

    @classmethod
    def _check_matplotlib(cls, maker: str) -> None:
        """Raise, before anything is computed, if matplotlib is not installed."""
        _load("matplotlib.pyplot", f"{cls.__name__}.{maker}")
