"""What files of rows and files of soft targets have in common: footers, columns, metadata."""

import hashlib
import io
import json
from typing import Any

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        "Parquet files need further packages: pip install skdistill[dask] (or pyarrow and pandas)."
    ) from error

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
