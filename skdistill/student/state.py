"""A student's parts as plain data, which is what its pickles and files hold."""

from typing import Any

import numpy as np

from skdistill.tables import PiecewiseLinearEncoding, TabularEncoder, Transformer

# The names of the columns are left out: the student has them.
_ENCODER = ("numeric", "category_columns", "has_missing", "mean", "scale", "categories")


def plain_encoder(preprocessor: Transformer | None) -> Any:
    """Return our own encoder as a dictionary, anything else as it is."""
    if type(preprocessor) is not TabularEncoder:
        return preprocessor
    return {name: getattr(preprocessor, f"{name}_") for name in _ENCODER}


def rebuild_encoder(plain: Any, n_features: int, feature_names: Any = None) -> Any:
    """Return what :func:`plain_encoder` was given."""
    if not isinstance(plain, dict):
        return plain
    encoder = TabularEncoder()
    for name in _ENCODER:
        setattr(encoder, f"{name}_", plain[name])
    encoder.n_features_in_ = n_features
    if feature_names is not None:
        encoder.feature_names_in_ = np.asarray(feature_names, dtype=object)
    return encoder


def plain_encoding(encoding: PiecewiseLinearEncoding | None) -> dict[str, Any] | None:
    """Return the bins as a dictionary: slopes and offsets follow from the edges."""
    if encoding is None:
        return None
    return {"n_bins": int(encoding.n_bins), "edges": list(encoding.edges_)}


def rebuild_encoding(plain: dict[str, Any] | None) -> PiecewiseLinearEncoding | None:
    """Return what :func:`plain_encoding` was given."""
    if plain is None:
        return None
    return PiecewiseLinearEncoding.from_edges(plain["n_bins"], plain["edges"])


def plain_student(student: Any) -> dict[str, Any]:
    """Return all that a file needs to hold."""
    preprocessor = plain_encoder(student.preprocessor_)
    if preprocessor is not None and not isinstance(preprocessor, dict):
        raise TypeError(
            f"The preprocessor ({type(preprocessor).__name__}) cannot go into the file: it is "
            "code, and the file holds arrays only. Convert the student to ONNX with "
            "skl2onnx.to_onnx(student, X) after `import skdistill.onnx`, keep it with "
            "skops.io.dump, or fit with preprocessor='auto' or None."
        )
    names = getattr(student, "feature_names_in_", None)
    return {
        "classes": student.classes_,
        "n_features": int(student.n_features_in_),
        "feature_names": None if names is None else [str(name) for name in names],
        "preprocessor": preprocessor,
        "encoding": plain_encoding(student.encoding_),
        "layers": [(layer.kind, layer.arrays) for layer in student.layers_],
    }
