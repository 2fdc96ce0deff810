"""What files of rows and files of soft targets have in common: footers, columns, metadata."""

import copy
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from fsspec.implementations.local import LocalFileSystem

from skdistill.scale.bundle import TeacherBundle, TeacherLabeller, log_proba_columns
from skdistill.scale.storage import (
    absolute,
    clear_leftovers,
    find_files,
    is_newer,
    is_whole,
    open_place,
    write_whole,
)

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        "Parquet files need further packages: pip install skdistill[dask] (or pyarrow and pandas)."
    ) from error

_FORMAT = 1
# The key under which a file of soft targets says how it was made.
KEY = b"skdistill"
FITTED_ON = "Name the columns that the teachers were fitted on with columns=[...]"
# The end of a Parquet file: the length of the footer, and the magic number.
_TAIL, _MAGIC = 8, b"PAR1"


def fingerprint(file: Any) -> tuple[int, str]:
    """Return the size of a Parquet file and the SHA-256 of its footer, which sums up its content.

    The file is left at its beginning.
    """
    size = file.seek(0, io.SEEK_END)
    if size < _TAIL:
        raise ValueError(f"it has {size} bytes and is no Parquet file")
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - _TAIL:
        raise ValueError("it does not end as a Parquet file does: it is cut off or damaged")
    file.seek(size - _TAIL - length)
    footer = hashlib.sha256(file.read(length)).hexdigest()
    file.seek(0)
    return size, footer


def check_has(columns: Any, parquet: pq.ParquetFile, way_out: str) -> None:
    """Raise if a file lacks columns."""
    missing = [name for name in columns if name not in parquet.schema_arrow.names]
    if missing:
        raise ValueError(
            f"it lacks the column(s) {missing}; it has {parquet.schema_arrow.names}. {way_out}"
        )


def metadata_of(fs: Any, path: str) -> dict[str, Any] | None:
    """Return what a target says of itself, or None where it is no target of ours."""
    try:
        with fs.open(path, "rb") as file:
            written = pq.read_metadata(file).metadata or {}
        return json.loads(written[KEY])
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None


@dataclass(frozen=True)
class FileTask:
    """One file to label: a few strings, which travel to a worker.

    Attributes
    ----------
    source, target : str
        Files, as URLs where they are not local.
    columns, features : tuple of str
        The columns that are read, and what the teachers call them.
    batch_rows : int
        The rows that the teachers are asked about at once.
    """

    source: str
    target: str
    labeller: TeacherLabeller
    classes: tuple[Any, ...]
    columns: tuple[str, ...]
    features: tuple[str, ...]
    batch_rows: int

    def run(self) -> bool:
        """Label the file unless that is done; tell whether there was work."""
        fs, target = open_place(self.target)
        clear_leftovers(fs, target)
        source_fs, source = open_place(self.source)
        with source_fs.open(source, "rb") as file:
            wanted = self._metadata(file)
            done = is_whole(fs, target) and metadata_of(fs, target) == wanted
            # A changed value need change neither the size of a file nor its footer.
            if done and not is_newer(source_fs, source, fs, target):
                return False
            content = self._labelled(file, wanted)
        write_whole(fs, target, content)
        return True

    def _metadata(self, file: Any) -> dict[str, Any]:
        """Return what the target's metadata has to say: from which teachers and rows it came."""
        size, footer = fingerprint(file)
        return {
            "format": _FORMAT,
            "teachers": self.labeller.digest,
            "averaging": self.labeller.averaging,
            "teacher_weights": list(self.labeller.teacher_weights),
            "columns": list(self.columns),
            "source_size": size,
            "source_footer_sha256": footer,
        }

    def _labelled(self, file: Any, metadata: dict[str, Any]) -> bytes:
        """Return the target as bytes: it is small, and is written in one go."""
        schema = pa.schema(
            [pa.field(name, pa.float32(), False) for name in log_proba_columns(self.classes)],
            metadata={KEY: json.dumps(metadata)},
        )
        parquet = pq.ParquetFile(file)
        check_has(self.columns, parquet, FITTED_ON)
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, schema, use_dictionary=False) as writer:
            for log_proba in self._batches(parquet):
                arrays = [pa.array(np.ascontiguousarray(column)) for column in log_proba.T]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        return buffer.getvalue()

    def _batches(self, parquet: pq.ParquetFile) -> Iterator[np.ndarray]:
        """Yield the log-probabilities of one batch of rows after another."""
        n_done = 0
        for batch in parquet.iter_batches(self.batch_rows, columns=list(self.columns)):
            if batch.num_rows:
                rows = batch.to_pandas().set_axis(list(self.features), axis=1)
                yield self.labeller.log_proba(rows, first_row=n_done)
            n_done += batch.num_rows
        if n_done != parquet.metadata.num_rows:
            raise ValueError(
                f"the file holds {n_done} rows and its footer says {parquet.metadata.num_rows}"
            )


# What a file's metadata say of the call that made it; the same for all shards.
_SETTINGS = ("averaging", "teacher_weights")


class LabelledParquet:
    """Rows in Parquet files with soft targets, one shard a file.

    What :func:`label_parquet` returns and ``DistilledClassifier.fit_stream`` takes. A shard is
    read when it is asked for, and nothing is kept.

    Parameters
    ----------
    source : str, path-like or list of them
        The files that hold the features: a file, folder, glob, list, or fsspec URLs of them.
    targets : str or path-like, default=None
        The folder of soft targets, one file for each file of `source` and of the same relative
        name, as `label_parquet` writes them. None: the files of `source` hold both, as an engine
        writes them that ran ``bundle.labeller()`` over its own tables.
    bundle : TeacherBundle
        The teachers; names the classes and the features. Targets of other teachers are refused.
    columns : list of str, default=None
        The columns that the student sees; None: those of the bundle.
    label : str, default=None
        The column of `source` that holds true labels, which may be missing in some rows.
    skipped : dict, default=None
        Files of `source` to leave out, and why.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels of the columns of soft targets.
    sources, targets : list of str
        The files, shard by shard.
    quarantined : dict of str to str
        Damaged files that were left out, and why.

    Raises
    ------
    FileNotFoundError
        If there is no file, or one has no soft targets.
    """

    def __init__(
        self,
        source: Any,
        targets: Any = None,
        *,
        bundle: TeacherBundle,
        columns: Any = None,
        label: str | None = None,
        skipped: dict[str, str] | None = None,
    ) -> None:
        # Lists of both, from label_parquet, are paired already.
        paired = isinstance(targets, list)
        pairs = list(zip(source, targets, strict=True)) if paired else pair_files(source, targets)
        self.bundle = bundle
        self.classes = bundle.classes
        self.columns = list(bundle.feature_names if columns is None else columns)
        self.label = label
        self.quarantined = dict(skipped or {})
        pairs = [pair for pair in pairs if pair[0] not in self.quarantined]
        self.sources: list[str] = [source for source, _ in pairs]
        self.targets: list[str] = [target for _, target in pairs]
        self._settings: dict[str, Any] = {}
        if self.sources != self.targets:
            self._read_settings()

    def _read_settings(self) -> None:
        """Raise where soft targets are missing; learn how the first of them were made."""
        pairs = zip(self.sources, self.targets, strict=True)
        missing = [source for source, target in pairs if not is_whole(*open_place(target))]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(self.sources)} files have no soft targets yet, the first "
                f"is {missing[0]}. Run label_parquet again: it skips finished files."
            )
        if self.targets:
            metadata = metadata_of(*open_place(self.targets[0])) or {}
            self._settings = {key: metadata.get(key) for key in _SETTINGS}

    def with_label(self, label: str | None) -> Self:
        """Return the same shards with another column of true labels.

        Parameters
        ----------
        label : str or None
            The column's name.

        Returns
        -------
        shards : LabelledParquet
        """
        other = copy.copy(self)
        other.label = label
        return other

    def __repr__(self) -> str:
        """Say how many shards there are, and of what."""
        first = f", the first {self.sources[0]!r}" if self.sources else ""
        quarantined = f", {len(self.quarantined)} quarantined" if self.quarantined else ""
        label = "" if self.label is None else f", label={self.label!r}"
        return f"<LabelledParquet: {len(self)} shards{first}{quarantined}{label}>"

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self.sources)

    def __getitem__(self, shard: int) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Read a shard.

        Parameters
        ----------
        shard : int
            Its number.

        Returns
        -------
        X : DataFrame of shape (n, n_features)
            The columns that the student sees.
        proba : ndarray of shape (n, n_classes), float64
            Soft targets; rows sum to 1.
        y : ndarray of shape (n,), or None
            True labels, None or NaN where a row has none; None without `label`.

        Raises
        ------
        ValueError
            If the shard is damaged, or its targets belong to other rows or teachers.
        """
        if not -len(self) <= shard < len(self):
            raise IndexError(f"There are {len(self)} shards; {shard} is none of them.")
        source, target = self.sources[shard], self.targets[shard]
        try:
            return self._read(source, target)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ValueError(f"{source}: {error}") from error

    def _read(self, source: str, target: str) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Read the rows of a file and their targets."""
        names = [*self.columns, *([] if self.label is None else [self.label])]
        targets = log_proba_columns(self.classes)
        fs, path = open_place(source)
        with fs.open(path, "rb") as file:
            size, footer = fingerprint(file)
            parquet = pq.ParquetFile(file)
            wanted = [*names, *targets] if source == target else names
            check_has(self.columns, parquet, FITTED_ON)
            check_has(names, parquet, "Name the column of true labels with label='...', or None")
            check_has(wanted, parquet, "Rows without soft targets go through label_parquet")
            table = parquet.read(columns=wanted)
        belongs_to = {"source_size": size, "source_footer_sha256": footer}
        other = table if source == target else self._read_targets(target, belongs_to)
        log_proba = np.column_stack([other.column(name).to_numpy() for name in targets])
        if len(log_proba) != table.num_rows:
            raise ValueError(f"it has {table.num_rows} rows and {len(log_proba)} soft targets")
        proba = np.exp(log_proba.astype(np.float64))
        X = table.select(self.columns).to_pandas()
        y = None
        if self.label is not None:
            y = table.column(self.label).to_pandas().to_numpy()
        return X, proba / proba.sum(axis=1, keepdims=True), y

    def _read_targets(self, target: str, belongs_to: dict[str, Any]) -> Any:
        """Read soft targets that belong to these rows and teachers."""
        fs, path = open_place(target)
        metadata = metadata_of(fs, path) or {}
        for key, value in {"teachers": self.bundle.digest, **belongs_to}.items():
            if metadata.get(key) != value:
                raise ValueError(
                    f"the soft targets in {target} belong to another file or other teachers ({key} "
                    "differs). Run label_parquet again"
                )
        for key, value in self._settings.items():
            if metadata.get(key) != value:
                raise ValueError(
                    f"the soft targets in {target} were made with {key}={metadata.get(key)!r}, "
                    f"those of the first shard with {value!r}: a run of label_parquet was left "
                    "half done. Run it again"
                )
        with fs.open(path, "rb") as file:
            return pq.read_table(file)


def pair_files(source: Any, targets: Any) -> list[tuple[str, str]]:
    """Return the source files with the files of their targets, which have the same names."""
    fs, paths, names = find_files(source, ".parquet")
    urls = paths if isinstance(fs, LocalFileSystem) else [fs.unstrip_protocol(p) for p in paths]
    if targets is None:
        return [(url, url) for url in urls]
    folder = absolute(targets)
    target_fs, place = open_place(folder)
    if type(target_fs) is type(fs):
        _check_apart(source, paths, place)
    return [(url, f"{folder}/{name}") for url, name in zip(urls, names, strict=True)]


def _check_apart(source: Any, paths: list[str], folder: str) -> None:
    """Raise where soft targets would overwrite rows, or be taken for rows by the next run."""
    inside = [p for p in paths if p.startswith(f"{folder}/")]
    if inside:
        raise ValueError(
            f"The folder of soft targets {folder} holds files of source ({inside[0]}), which would "
            "be overwritten. Choose another folder."
        )
    for one in source if isinstance(source, list | tuple) else [source]:
        fs, place = open_place(one)
        if folder.startswith(f"{place}/") and fs.isdir(place):
            raise ValueError(
                f"The folder of soft targets {folder} lies inside source {place}: the next run "
                "would take soft targets for rows. Choose a folder beside it."
            )
