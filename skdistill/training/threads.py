"""A setting of the process, such as its number of threads, that several may use at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Action = Callable[[], object]


class SharedSetting:
    """Changed while anyone uses it; what was before is restored when the last user leaves.

    `prepare` is called by the first user and returns two functions: one changes the setting, and is
    called for every user; the other restores what was when `prepare` was called.
    """

    def __init__(self, prepare: Callable[[], tuple[Action, Action]]) -> None:
        self._prepare = prepare
        self._lock = threading.Lock()
        self._users: set[object] = set()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Hold the setting for a block of code."""
        me = object()
        # An interrupt may come between any two lines: what is set is put back from the first on.
        try:
            with self._lock:
                if not self._users:
                    self._change, self._restore = self._prepare()
                self._users.add(me)
                self._change()
            yield
        finally:
            with self._lock:
                last = self._users == {me}
                self._users.discard(me)
                if last:
                    self._restore()
