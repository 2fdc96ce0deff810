"""Settings of the process under which small networks train fast, and the way back."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from threadpoolctl import ThreadpoolController

from skdistill.teachers.shared_setting import SharedSetting

__all__ = ["no_denormals", "one_thread"]


def _prepare_one_thread() -> tuple[Callable[[], object], Callable[[], object]]:
    threads, libraries = torch.get_num_threads(), ThreadpoolController()
    # Without a limit yet: what is to be restored.
    before = libraries.limit(limits=None, user_api="blas")

    def change() -> None:
        torch.set_num_threads(1)
        libraries.limit(limits=1, user_api="blas")

    def restore() -> None:
        try:
            before.restore_original_limits()
        finally:
            torch.set_num_threads(threads)

    return change, restore


_ONE_THREAD = SharedSetting(_prepare_one_thread)


def one_thread(wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Let torch and NumPy use one thread, and restore the setting when the last user leaves."""
    return _ONE_THREAD.use() if wanted else contextlib.nullcontext()


@contextlib.contextmanager
def no_denormals() -> Iterator[None]:
    """Take denormal numbers as zero: moments of idle units decay into them, and they are slow."""
    already = bool((torch.tensor([1e-40]) * 1.0 == 0).all())
    try:
        torch.set_flush_denormal(True)
        yield
    finally:
        torch.set_flush_denormal(already)
