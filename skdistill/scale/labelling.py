"""label_parquet: the teachers on a Dask cluster or in this process, one Parquet file a task."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from skdistill.scale.bundle import TeacherBundle
from skdistill.scale.parquet import FileTask, LabelledParquet, pair_files
from skdistill.teachers.progress import live_line, track

if TYPE_CHECKING:
    from distributed import Client, Future

_Run = Callable[[Sequence[FileTask]], dict[str, BaseException]]
# Errors name this many files; the exception holds them all.
_SHOWN = 5


class LabellingError(RuntimeError):
    """Some files could not be labelled; all others are.

    Attributes
    ----------
    failures : dict of str to str
        The files, and why.
    """

    def __init__(self, message: str, failures: dict[str, str] | None = None) -> None:
        super().__init__(message, failures)
        self.failures = dict(failures or {})

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


def label_parquet(
    source: Any,
    bundle: TeacherBundle,
    out: Any,
    *,
    client: Client | None = None,
    columns: Any = None,
    batch_rows: int = 65_536,
    averaging: str = "auto",
    teacher_weights: Any = None,
    on_bad_partition: str = "raise",
    verbose: int = 0,
) -> LabelledParquet:
    """Ask the teachers about every row of Parquet files, and store their log-probabilities.

    For each file of `source` one file of the same name is written to `out`, whole or not at all,
    with a row for each row in the same order. Its metadata say from which teachers and which file
    it came, so that a rerun skips what is finished, and labels again what changed. Workers get
    paths and a digest; they need to reach the files and the folder of the bundle.

    Parameters
    ----------
    source : str, path-like or list of them
        Parquet files: a file, a folder, a glob, or a list; local paths or fsspec URLs.
    bundle : TeacherBundle
        The teachers.
    out : str or path-like
        The folder of the soft targets.
    client : distributed.Client, default=None
        A Dask cluster; None: this process. The bytes written are the same.
    columns : list of str, default=None
        The columns to ask the teachers about, in the order in which they were fitted, where the
        files call them otherwise than the bundle; None: the bundle's `feature_names`.
    batch_rows : int, default=65536
        Rows that teachers are asked about at once; bounds the memory of a worker.
    averaging : {"auto", "logits", "proba"}, default="auto"
        The space in which teachers are averaged, as in `DistilledClassifier`.
    teacher_weights : array-like of shape (n_teachers,), default=None
        Weights >= 0; None: equal.
    on_bad_partition : {"raise", "quarantine"}, default="raise"
        What to do about files that cannot be labelled, because they are damaged, a teacher fails
        on them, or they take their worker down every time. In any case all other files are
        labelled first. "quarantine": warn, and leave them out of the result.
    verbose : int, default=0
        With 1, one live line on standard error counts the files.

    Returns
    -------
    targets : LabelledParquet
        The shards, for ``DistilledClassifier.fit_stream``.

    Raises
    ------
    FileNotFoundError
        If `source` names no file.
    LabellingError
        If files could not be labelled, with their names and the reasons, or the cluster went away.
    ValueError
        If a parameter is not usable.

    Warns
    -----
    UserWarning
        If files are quarantined.

    Notes
    -----
    A file that takes its worker down is tried again elsewhere, as often as the scheduler's
    ``distributed.scheduler.allowed-failures`` says, and at the end once more with no other file
    beside it, so that no innocent file is blamed. A file that fails by its storage (an OSError)
    is tried once more at the end.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdistill import DistilledClassifier
    >>> from skdistill.distributed import TeacherBundle, label_parquet
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> teacher = LogisticRegression(max_iter=1000).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         X[i::3].to_parquet(Path(folder) / f"rows-{i}.parquet")
    ...     bundle = TeacherBundle.save(
    ...         [teacher], f"{folder}/teachers", classes=[0, 1, 2], feature_names=list(X.columns)
    ...     )
    ...     targets = label_parquet(f"{folder}/*.parquet", bundle, f"{folder}/soft")
    ...     student = DistilledClassifier(random_state=0).fit_stream(targets)
    >>> student.score(X, y) > 0.9
    True
    """
    _check(bundle, client, batch_rows, on_bad_partition)
    columns = list(bundle.feature_names if columns is None else columns)
    if len(columns) != len(bundle.feature_names):
        raise ValueError(
            f"columns must name {len(bundle.feature_names)} columns, one for each feature of the "
            f"bundle {bundle.feature_names}; got {columns}."
        )
    pairs = pair_files(source, out)
    task = partial(
        FileTask,
        labeller=bundle.labeller(averaging=averaging, teacher_weights=teacher_weights),
        classes=tuple(bundle.classes.tolist()),
        columns=tuple(columns),
        features=tuple(bundle.feature_names),
        batch_rows=int(batch_rows),
    )
    tasks = [task(*pair) for pair in pairs]
    run = _run_here if client is None else partial(_run_on_cluster, client)
    with live_line("label_parquet", verbose):
        errors = _with_second_try(run, tasks)
    failures = {s: _reason(errors[s]) for s, _ in pairs if s in errors}
    if failures:
        message = _message(failures, len(tasks))
        if on_bad_partition == "raise" or len(failures) == len(tasks):
            raise LabellingError(message, failures)
        warnings.warn(f"Quarantined: {message}", UserWarning, stacklevel=2)
    # The files that were labelled: more may have come into the folder meanwhile.
    sources, targets = map(list, zip(*pairs, strict=True))
    return LabelledParquet(sources, targets, bundle=bundle, columns=columns, skipped=failures)


def _check(bundle: Any, client: Any, batch_rows: Any, on_bad_partition: Any) -> None:
    """Raise where a parameter is not usable."""
    if not isinstance(bundle, TeacherBundle):
        raise TypeError(
            f"bundle must be a TeacherBundle, got {type(bundle).__name__}. Make one with "
            "TeacherBundle.save(teachers, path, classes=..., feature_names=...)."
        )
    if client is not None and not hasattr(client, "submit"):
        raise TypeError(
            f"client must be a distributed.Client or None, got {type(client).__name__}. Make one "
            "with distributed.Client(address)."
        )
    if not isinstance(batch_rows, Integral) or batch_rows < 1:
        raise ValueError(f"batch_rows must be an integer >= 1; got {batch_rows!r}.")
    if on_bad_partition not in ("raise", "quarantine"):
        raise ValueError(
            f"on_bad_partition must be 'raise' or 'quarantine'; got {on_bad_partition!r}."
        )


def _message(failures: dict[str, str], n_files: int) -> str:
    """Name the files and the reasons."""
    shown = [f"{path}: {reason}" for path, reason in list(failures.items())[:_SHOWN]]
    more = f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    others = ", all others are" if len(failures) < n_files else ""
    return (
        f"{len(failures)} of {n_files} files could not be labelled{others}: "
        f"{'; '.join(shown)}{more}."
    )


def _with_second_try(run: _Run, tasks: Sequence[FileTask]) -> dict[str, BaseException]:
    """Run tasks, and once more those whose failure may not be their own; return the errors."""
    errors = run(tasks)
    # Storage may answer again.
    if again := [task for task in tasks if _is_temporary(errors.get(task.source))]:
        errors = {s: e for s, e in errors.items() if not _is_temporary(e)} | run(again)
    # A file that took its worker down may have had innocent neighbours there.
    for task in tasks:
        if _killed_its_worker(errors.get(task.source)):
            del errors[task.source]
            errors |= run([task])
    return errors


def _is_temporary(error: BaseException | None) -> bool:
    """Tell an error of storage that may not come again from one that will."""
    return isinstance(error, OSError) and not isinstance(error, PermissionError)


def _killed_its_worker(error: BaseException | None) -> bool:
    """Tell the error that Dask's scheduler gives where workers died; it need not be installed."""
    return type(error).__name__ == "KilledWorker"


def _run_here(tasks: Sequence[FileTask]) -> dict[str, BaseException]:
    """Label file after file in this process; return the errors."""
    errors: dict[str, BaseException] = {}
    for task in track("file", tasks, len(tasks)):
        try:
            task.run()
        except Exception as error:
            errors[task.source] = error
    return errors


def _reason(error: BaseException) -> str:
    """Say what was wrong with a file; a dead worker cannot say it itself."""
    if _killed_its_worker(error):
        return (
            "its worker died every time (KilledWorker): out of memory, or a crash in a teacher. "
            "Lower batch_rows, write smaller files, or look into the worker's log"
        )
    return f"{type(error).__name__}: {error}".rstrip(".")


def _run_on_cluster(client: Client, tasks: Sequence[FileTask]) -> dict[str, BaseException]:
    """Submit the tasks to a Dask cluster, wait for them all and return the errors."""
    from distributed import as_completed
    from distributed.scheduler import NoWorkerError

    futures: dict[Future, str] = {}
    for task in tasks:
        # Named after the file, for the dashboard and the logs; no two runs share a key.
        key = f"label-{task.source.rpartition('/')[2]}-{uuid4().hex}"
        futures[client.submit(task.run, key=key, pure=False)] = task.source
    errors: dict[str, BaseException] = {}
    n_done = 0
    try:
        for future in track("file", as_completed(futures), len(futures)):
            if future.status == "cancelled":
                raise CancelledError
            error = future.exception() if future.status == "error" else None
            if isinstance(error, NoWorkerError):
                # That says nothing about the file, which must not be put into quarantine.
                raise CancelledError
            n_done += 1
            if error is not None:
                errors[futures[future]] = error
    except CancelledError:
        raise LabellingError(
            f"The cluster went away when {n_done} of {len(tasks)} files were done. Run "
            "label_parquet again: it skips finished files."
        ) from None
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(futures), force=True)
    return errors
