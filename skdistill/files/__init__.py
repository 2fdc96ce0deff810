"""Students as files: safetensors with a manifest and a digest, and ONNX.

``artefact`` is the container: bytes, digest, errors, and any file written whole or not at all.
``manifest`` says what a student's file holds, and checks it. ``onnx`` has the public ``to_onnx``,
``onnx_graph`` writes the nodes of a student, ``converters`` teaches skl2onnx our classifiers; these
three need an extra and are not imported here.
"""

from skdistill.files.artefact import (
    BadArtefactError,
    UnsupportedFormatError,
    decode,
    read_bytes,
    sha256_of,
    write_atomically,
)
from skdistill.files.manifest import from_parts, pack, unpack

__all__ = [
    "BadArtefactError",
    "UnsupportedFormatError",
    "decode",
    "from_parts",
    "pack",
    "read_bytes",
    "sha256_of",
    "unpack",
    "write_atomically",
]
