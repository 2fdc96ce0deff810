"""Interrupts at any place of the package: Ctrl-C where a test says, and where code may be hit.

Python looks for signals between its instructions, so a KeyboardInterrupt may come out of any line.
A trace function raises it at a line, inside the frame, where the frame's own `finally` sees it.
"""

import ast
import dis
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import skorch

import skdistill

ROOT = str(Path(skdistill.__file__).parent)
# Ends training at an interrupt and hides it; what a teacher's net calls first in there is lost.
HIDES = skorch.NeuralNet.partial_fit.__code__

# A file and a line; with functions, the first line of each that runs.
Place = tuple[str, int]


@cache
def _repairs(path: str) -> frozenset[int]:
    """Return the lines of `finally` and `except`."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.Try):
            for part in [*node.finalbody, *node.handlers]:
                lines.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return frozenset(lines)


@cache
def _exits(code: CodeType) -> frozenset[int]:
    """Return where blocks of `with` are left in the normal way: three None are passed."""
    found = list(dis.get_instructions(code))
    nothing = [i.argval is None and i.opname == "LOAD_CONST" for i in found]
    spans = (n for n in range(len(found) - 2) if all(nothing[n : n + 3]))
    return frozenset(i.offset for n in spans for i in found[n : n + 8])


def _in_repair(frame: FrameType | None) -> bool:
    """Tell whether a frame, or one that called it, is leaving a block: nothing repairs a repair.

    The line of a `with` comes again when its block is left.
    """
    while frame is not None:
        path = frame.f_code.co_filename
        ours = path.startswith(ROOT)
        if ours and (frame.f_lineno in _repairs(path) or frame.f_lasti in _exits(frame.f_code)):
            return True
        frame = frame.f_back
    return False


class Interrupter:
    """Notes the places that a call comes by, or raises at one of them.

    Parameters
    ----------
    every_line : bool
        Whether each line is a place, or only the first of each function.
    """

    def __init__(self, every_line: bool = False) -> None:
        self.every_line = every_line
        self.found: dict[Place, None] = {}
        self._wanted: Place | None = None
        self.raised: KeyboardInterrupt | None = None

    def note(self, call: Callable[[], Any]) -> None:
        """Run a call and note the places that it comes by."""
        self._wanted = None
        with self._tracing():
            call()

    def interrupt(self, call: Callable[[], Any], place: Place) -> BaseException | None:
        """Run a call, interrupt it at a place, and return what came out."""
        self._wanted, self.raised = place, None
        try:
            with self._tracing():
                call()
        except BaseException as error:
            return error
        return None

    @contextmanager
    def _tracing(self) -> Iterator[None]:
        """Trace the frames of the package, and hand back to who traced before: coverage, say."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Trace the lines of a frame if it is the package's."""
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        if frame.f_back is not None and frame.f_back.f_code is HIDES:
            return None
        fresh = True

        def at_line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal fresh
            if event == "line" and (fresh or self.every_line):
                fresh = False
                self._at(frame)
            return at_line if self.every_line or fresh else None

        return at_line

    def _at(self, frame: FrameType) -> None:
        """Note a place, or raise there."""
        place = (frame.f_code.co_filename, frame.f_lineno)
        if self._wanted is None:
            if place not in self.found and not _in_repair(frame):
                self.found[place] = None
        elif place == self._wanted and self.raised is None and not _in_repair(frame):
            self.raised = KeyboardInterrupt()
            raise self.raised


def named(place: Place) -> str:
    """Write a place."""
    path, line = place
    return f"{Path(path).name}:{line}"
