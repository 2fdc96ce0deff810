"""Settings of the process under which small networks train fast, and the way back."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from threadpoolctl import threadpool_limits

__all__ = ["no_denormals", "one_thread"]


class _ThreadLimit:
    """Count of the trainings that asked for one thread, and the settings to restore."""

    lock = threading.Lock()
    users = 0
    before = 1
    blas: Any = None


@contextlib.contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Let torch and NumPy use one thread, and restore the setting when the last user leaves."""
    if not wanted:
        yield
        return
    with _ThreadLimit.lock:
        if _ThreadLimit.users == 0:
            _ThreadLimit.before = torch.get_num_threads()
            torch.set_num_threads(1)
            _ThreadLimit.blas = threadpool_limits(1, user_api="blas")
        _ThreadLimit.users += 1
    try:
        yield
    finally:
        with _ThreadLimit.lock:
            _ThreadLimit.users -= 1
            if _ThreadLimit.users == 0:
                _ThreadLimit.blas.restore_original_limits()
                torch.set_num_threads(_ThreadLimit.before)


@contextlib.contextmanager
def no_denormals() -> Iterator[None]:
    """Take denormal numbers as zero: moments of idle units decay into them, and they are slow."""
    already = bool((torch.tensor([1e-40]) * 1.0 == 0).all())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)
