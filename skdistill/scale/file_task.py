"""Labelling one Parquet file, on whichever worker."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdistill.scale.labeller import TeacherLabeller, log_proba_columns
from skdistill.scale.parquet import FITTED_ON, KEY, check_has, fingerprint, metadata_of, pa, pq
from skdistill.scale.storage import clear_leftovers, is_newer, is_whole, open_place, write_whole

_FORMAT = 1


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
