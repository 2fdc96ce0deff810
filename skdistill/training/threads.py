"""One thread for arithmetic, and afterwards what there was before, also where users overlap."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import threadpoolctl
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, OpenMP and BLAS use one thread, and restore what each of them had."""
    libraries = ThreadpoolController()
    # Not user_api="openmp": Visual C++ has one count for the process, the others one a thread.
    openmp = libraries.select(prefix=["libgomp", "libomp", "libiomp"])
    blas = libraries.select(user_api="blas", prefix="vcomp")
    # BLAS that runs on OpenMP has the count of its thread, which is restored after it.
    with _torch_on_one(), _openmp_on_one(openmp), _BLAS.on_one(blas):
        yield


@contextmanager
def _torch_on_one() -> Iterator[None]:
    """Let torch use one thread in this thread; a process without torch stays without it."""
    torch: Any = sys.modules.get("torch")
    with _lock:
        before = torch.get_num_threads() if hasattr(torch, "set_num_threads") else 1
    if before == 1:
        yield
        return
    try:
        with _lock:
            torch.set_num_threads(1)
            # A thread new to torch takes for good what any other set last: that must not be 1.
            other = threading.Thread(target=torch.set_num_threads, args=(before,))
            other.start()
            other.join()
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _openmp_on_one(libraries: ThreadpoolController) -> Iterator[None]:
    """Let the libraries use one thread in this thread."""
    before = libraries.limit(limits=None)
    try:
        libraries.limit(limits=1)
        yield
    finally:
        before.restore_original_limits()


class _SharedLimit:
    """A limit of the process: set by the first user, undone when the last leaves."""

    def __init__(self) -> None:
        self._users: set[object] = set()

    @contextmanager
    def on_one(self, libraries: ThreadpoolController) -> Iterator[None]:
        """Let the libraries use one thread."""
        me = object()
        # An interrupt may come between any two lines: what is set is put back from the first on.
        try:
            with _lock:
                if not self._users:
                    self._before = libraries.limit(limits=None)
                    self._users.add(me)
                    _let_this_thread_set_blas()
                    libraries.limit(limits=1)
                self._users.add(me)
            yield
        finally:
            with _lock:
                last = self._users == {me}
                self._users.discard(me)
                if last:
                    _let_this_thread_set_blas()
                    self._before.restore_original_limits()
                    _let_this_thread_set_blas()


def _let_this_thread_set_blas() -> None:
    """Undo that OpenBLAS obeys one thread alone, where threadpoolctl has it so (since 3.8)."""
    openblas = threadpoolctl.OpenBLASController
    if hasattr(openblas, "clear_controlling_thread"):
        # By force: the last user need not be the thread that came first, which may live on.
        openblas.clear_controlling_thread(force=True)


_BLAS = _SharedLimit()
