"""Settings of the process under which small networks train fast, and the way back."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["no_denormals", "one_thread"]


class _ThreadLimit:
    """The trainings that asked for one thread, and the settings to restore."""

    lock = threading.Lock()
    users: ClassVar[set[object]] = set()
    before = 1
    blas: Any = None


@contextlib.contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Let torch and NumPy use one thread, and restore the setting when the last user leaves."""
    if not wanted:
        yield
        return
    me = object()
    # An interrupt may come between any two lines: what is set is put back from the first on.
    try:
        with _ThreadLimit.lock:
            first = not _ThreadLimit.users
            if first:
                _ThreadLimit.before = torch.get_num_threads()
                libraries = ThreadpoolController()
                # Without a limit yet: what is to be restored.
                _ThreadLimit.blas = libraries.limit(limits=None, user_api="blas")
            _ThreadLimit.users.add(me)
            if first:
                torch.set_num_threads(1)
                libraries.limit(limits=1, user_api="blas")
        yield
    finally:
        with _ThreadLimit.lock:
            last = _ThreadLimit.users == {me}
            _ThreadLimit.users.discard(me)
            if last:
                try:
                    _ThreadLimit.blas.restore_original_limits()
                finally:
                    torch.set_num_threads(_ThreadLimit.before)


@contextlib.contextmanager
def no_denormals() -> Iterator[None]:
    """Take denormal numbers as zero: moments of idle units decay into them, and they are slow."""
    already = bool((torch.tensor([1e-40]) * 1.0 == 0).all())
    try:
        torch.set_flush_denormal(True)
        yield
    finally:
        torch.set_flush_denormal(already)
