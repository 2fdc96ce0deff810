"""What a saved student says: its state to manifest and tensors, and back with every check.

The state is what a student's pickle holds: plain numbers, strings, lists, dictionaries and arrays.
"""

import math
from operator import lt
from typing import Any

import numpy as np

from skdistill.files.artefact import BadArtefactError, bad, decode, encode, require

# The kinds of layers and the names of their arrays, in order.
LAYER_ARRAYS: dict[str, tuple[str, ...]] = {
    "linear": ("weight", "bias"),
    "affine": ("scale", "shift"),
    "layer_norm": ("scale", "shift", "epsilon"),
    "relu": (),
    "tanh": (),
    "gelu": (),
    "silu": (),
}
_KEYS = (
    "classes", "n_features", "feature_names", "versions", "preprocessor", "encoding", "layers",
    "format", "sha256",
)  # fmt: skip
# What the preprocessing says of itself, beside mean and scale among the tensors.
_ENCODER = ("kind", "categories", "numeric", "category_columns", "has_missing")
_MOST_LAYERS = 1000
# One long string among many short ones makes a wide array; this bounds what a short file can ask.
_MOST_CHARACTERS = 1 << 24
_LABEL_DTYPES = {
    "bool": bool,
    **{f"{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": float for bits in (16, 32, 64)},
}


def pack(state: dict[str, Any]) -> bytes:
    """Return the bytes of a student's file, which are sure to load."""
    content = encode(*_to_parts(state))
    try:
        unpack(content)
    except BadArtefactError as error:
        raise ValueError(f"This student cannot go into a file: {error}") from error
    return content


def unpack(content: bytes) -> dict[str, Any]:
    """Return the state of the student in the bytes of its file."""
    return from_parts(*decode(content))


def check_file_holds(preprocessor: Any) -> None:
    """Raise where the preprocessing is code and no dictionary, which no file of ours holds."""
    if preprocessor is not None and not isinstance(preprocessor, dict):
        raise TypeError(
            f"The preprocessor ({type(preprocessor).__name__}) cannot go into the file: it is "
            "code, and the file holds arrays only. Convert the student to ONNX with "
            "skl2onnx.to_onnx(student, X) after `import skdistill.onnx`, keep it with "
            "skops.io.dump, or fit with preprocessor='auto' or None."
        )


def _to_parts(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Split a state into a manifest of JSON values and float arrays."""
    check_file_holds(state["preprocessor_"])
    tensors = {
        f"layers.{i}.{name}": array
        for i, (kind, *arrays) in enumerate(state["layers_"])
        for name, array in zip(LAYER_ARRAYS[kind], arrays, strict=True)
    }
    names = state.get("feature_names_in_")
    manifest = {
        "classes": _written_labels(state["classes_"]),
        "encoding": None,
        "feature_names": None if names is None else [str(name) for name in names],
        "layers": [kind for kind, *_ in state["layers_"]],
        "n_features": int(state["n_features_in_"]),
        "preprocessor": None,
        "versions": state["_versions"],
    }
    if (encoding := state["encoding_"]) is not None:
        sizes = [len(edges) for edges in encoding["edges"]]
        manifest["encoding"] = {"n_bins": encoding["n_bins"], "sizes": sizes}
        tensors["encoding.edges"] = np.concatenate(encoding["edges"])
    if (encoder := state["preprocessor_"]) is not None:
        manifest["preprocessor"] = _written_encoder(encoder)
        if len(encoder["mean"]):
            tensors |= {f"preprocessor.{name}": encoder[name] for name in ("mean", "scale")}
    return manifest, tensors


def _written_labels(classes: np.ndarray) -> dict[str, Any]:
    """Write class labels with a tag from which the same array is made."""
    values = classes.tolist()
    kinds = {type(value) for value in values}
    tag = {"U": "str", "O": "object"}.get(classes.dtype.kind, classes.dtype.name)
    plain = len(kinds) == 1 and kinds <= {str, int, bool, float}
    if not plain or (tag not in {"str", "object"} and tag not in _LABEL_DTYPES):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(
            f"Class labels must be strings, integers, booleans or floats to go into a file, all of "
            f"one type; these are {names} (dtype {classes.dtype}). Fit on such labels, or save the "
            "student with skops.io.dump."
        )
    return {"dtype": tag, "values": values}


def _written_encoder(encoder: dict[str, Any]) -> dict[str, Any]:
    """Write a TabularEncoder without its float arrays."""
    categories = []
    for values in encoder["categories"]:
        if values.dtype.kind == "U":
            categories.append({"dtype": "str", "values": values.tolist()})
        else:
            numbers = [None if math.isnan(value) else value for value in values.tolist()]
            categories.append({"dtype": "float64", "values": numbers})
    written = {name: encoder[name].tolist() for name in _ENCODER[2:]}
    return {"kind": "tabular", "categories": categories, **written}


def from_parts(manifest: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Put the state of a student together again, refusing whatever is not one."""
    left = dict(tensors)
    labels, n_features, names, versions, encoder, encoding, layers, *_ = _fields(
        manifest, _KEYS, "its manifest has other keys than a student's"
    )
    state: dict[str, Any] = {"classes_": _read_labels(labels), "n_features_in_": n_features}
    require(_is_count(n_features), "n_features is no positive integer")
    if names is not None:
        require(_is_list_of(names, str), "feature_names are no strings")
        require(len(names) == n_features == len(set(names)), "feature_names are not one a column")
        state["feature_names_in_"] = np.array(names, dtype=object)
    right = isinstance(versions, dict) and _is_list_of(list(versions.values()), str)
    require(right, "its versions are no strings")
    state["preprocessor_"], width = _read_encoder(encoder, n_features, left)
    state["encoding_"], width = _read_encoding(encoding, width, left)
    state["layers_"], width = _read_layers(layers, width, left)
    n_classes = len(state["classes_"])
    require(width == n_classes, f"it has {n_classes} classes and {width} outputs")
    require(not left, f"it has unknown tensors {sorted(left)!r:.200}")
    return state


def _fields(entry: Any, names: tuple[str, ...], reason: str) -> list[Any]:
    """Return the values of a JSON object that has these keys and no others."""
    require(isinstance(entry, dict) and set(entry) == set(names), reason)
    return [entry[name] for name in names]


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _take(
    left: dict[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: type
) -> np.ndarray:
    """Take a tensor that must be there with this shape and dtype."""
    require(name in left, f"tensor {name} is missing")
    tensor = left.pop(name)
    require(
        tensor.shape == shape and tensor.dtype == dtype,
        f"tensor {name} is {tensor.dtype.name} {tensor.shape}, not {np.dtype(dtype).name} {shape}",
    )
    return tensor


def _text_array(values: list[str], what: str) -> np.ndarray:
    """Make an array of strings, unless it would be far larger than the file."""
    require(len(values) * max(map(len, values)) <= _MOST_CHARACTERS, f"{what} are too long")
    array = np.array(values, dtype=str)
    require(array.tolist() == values, f"{what} end in NUL")
    return array


def _read_labels(entry: Any) -> np.ndarray:
    """Read class labels."""
    tag, values = _fields(entry, ("dtype", "values"), "it has no classes")
    require(isinstance(values, list) and len(values) >= 1, "it has no classes")
    if tag == "str":
        require(_is_list_of(values, str), "its classes are no strings")
        array = _text_array(values, "its classes")
    elif tag == "object":
        kinds = {type(value) for value in values}
        require(len(kinds) == 1 and kinds <= {str, int, bool, float}, "its classes are mixed")
        array = np.array(values, dtype=object)
    else:
        require(isinstance(tag, str) and tag in _LABEL_DTYPES, "its classes have an unknown dtype")
        require(_is_list_of(values, _LABEL_DTYPES[tag]), f"its classes are not {tag}")
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, dtype=tag)
        except (OverflowError, ValueError):
            bad(f"its classes are not {tag}")
        # What a smaller dtype rounds or wraps is no label of that dtype.
        require(array.tolist() == values, f"its classes are not {tag}")
    require(len(set(values)) == len(values), "its classes repeat")
    return array


def _read_encoder(
    entry: Any, n_features: int, left: dict[str, np.ndarray]
) -> tuple[dict[str, Any] | None, int]:
    """Read the preprocessing, and how many columns it makes."""
    if entry is None:
        return None, n_features
    unknown = "its preprocessor is unknown"
    kind, listed, numeric, columns, missing = _fields(entry, _ENCODER, unknown)
    require(kind == "tabular", unknown)
    require(_is_list_of(numeric, int) and _is_list_of(columns, int), "columns are no integers")
    require(numeric == sorted(numeric) and columns == sorted(columns), "columns are not in order")
    # The lengths first: n_features may be any number, and the range of it any size.
    require(len(numeric) + len(columns) == n_features, "columns are not those of n_features")
    require(sorted(numeric + columns) == list(range(n_features)), "columns are not those expected")
    require(_is_list_of(missing, bool) and len(missing) == len(numeric), "has_missing does not fit")
    categories = _read_categories(listed)
    require(len(categories) == len(columns), "categories do not fit the columns")
    shape = (len(numeric),)
    mean = _take(left, "preprocessor.mean", shape, np.float64) if numeric else np.empty(0)
    scale = _take(left, "preprocessor.scale", shape, np.float64) if numeric else np.empty(0)
    require(bool((scale > 0).all()), "a scale is not positive")
    encoder = {
        "numeric": np.array(numeric, dtype=np.intp),
        "category_columns": np.array(columns, dtype=np.intp),
        "has_missing": np.array(missing, dtype=bool),
        "mean": mean,
        "scale": scale,
        "categories": categories,
    }
    return encoder, len(numeric) + sum(missing) + sum(map(len, categories))


def _read_categories(entries: Any) -> list[np.ndarray]:
    """Read the categories of each column."""
    require(_is_list_of(entries, dict), "its categories are no list")
    arrays, characters = [], 0
    for entry in entries:
        dtype, values = _fields(entry, ("dtype", "values"), "a category column has other keys")
        require(isinstance(values, list) and len(values) >= 1, "a column has no categories")
        if dtype == "str":
            require(_is_list_of(values, str), "categories are no strings")
            arrays.append(_text_array(values, "its categories"))
            characters += arrays[-1].size * arrays[-1].dtype.itemsize
            require(characters <= 4 * _MOST_CHARACTERS, "its categories are too long")
        else:
            require(dtype == "float64", "categories have an unknown dtype")
            numbers = values[:-1] if values[-1] is None else values
            require(_is_list_of(numbers, float), "categories are no floats")
            missing = [math.nan] * (len(values) - len(numbers))
            arrays.append(np.array([*numbers, *missing], dtype=np.float64))
            require(not np.isinf(arrays[-1]).any(), "a category is infinite")
            values = numbers
        require(all(map(lt, values, values[1:])), "categories are not in order")
    return arrays


def _read_encoding(
    entry: Any, width: int, left: dict[str, np.ndarray]
) -> tuple[dict[str, Any] | None, int]:
    """Read the bins, and how many columns they make."""
    if entry is None:
        return None, width
    n_bins, sizes = _fields(entry, ("n_bins", "sizes"), "its bins are unknown")
    require(_is_count(n_bins), "n_bins is no positive integer")
    require(_is_list_of(sizes, int) and len(sizes) == width, "bins are not one set a column")
    require(all(1 <= size <= n_bins + 1 for size in sizes), "a column has a wrong number of bins")
    flat = _take(left, "encoding.edges", (sum(sizes),), np.float64)
    edges = np.split(flat, np.cumsum(sizes)[:-1])
    require(all(map(_are_edges, edges)), "the edges of bins do not increase")
    # A column of two bins or more stands behind them once again as a number.
    n_outputs = sum(size - 1 + (size > 2) for size in sizes)
    return {"n_bins": n_bins, "edges": edges}, n_outputs or 1


def _are_edges(edges: np.ndarray) -> bool:
    """Tell whether edges increase, by widths whose slope and offset float32 can hold."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        widths = np.diff(edges)
        largest = np.maximum(1.0, np.abs(edges[:-1])) / widths
    return bool((widths > 0).all() and (largest < np.finfo(np.float32).max).all())


def _read_layers(
    kinds: Any, width: int, left: dict[str, np.ndarray]
) -> tuple[list[list[Any]], int]:
    """Read the layers, each of which must take what the one before gives."""
    require(_is_list_of(kinds, str) and len(kinds) >= 1, "its layers are no list")
    require(len(kinds) <= _MOST_LAYERS, f"it has more than {_MOST_LAYERS} layers")
    layers = []
    for i, kind in enumerate(kinds):
        require(kind in LAYER_ARRAYS, f"layer {i} is of the unknown kind {kind[:80]!r}")
        shapes: list[tuple[int, ...]] = [(width,), (width,), ()]
        if kind == "linear":
            n_out = left.get(f"layers.{i}.bias", np.empty(0)).size
            require(n_out >= 1, f"layer {i} is empty")
            shapes = [(width, n_out), (n_out,)]
            width = n_out
        arrays = [
            _take(left, f"layers.{i}.{name}", shape, np.float32)
            for name, shape in zip(LAYER_ARRAYS[kind], shapes, strict=False)
        ]
        if kind == "layer_norm":
            require(bool(arrays[2] >= 0), f"layer {i} has a negative epsilon")
        layers.append([kind, *arrays])
    return layers, width
