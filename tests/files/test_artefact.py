"""The file of a student: equal after a round trip, refused when damaged, whole after a crash."""

import copy
import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from sklearn.preprocessing import StandardScaler
from students_zoo import LABELS, TABLES, freeze, make_student, make_table

from skdistill import BadArtefactError, StudentClassifier, TorchStudent, UnsupportedFormatError
from skdistill.files import decode, pack, read_bytes, unpack
from skdistill.files.artefact import FORMAT, encode
from skdistill.tables import TabularEncoder

N_MUTATIONS = 12_000


def content_of(student):
    """Return the bytes that `save` writes."""
    return pack(student.__getstate__())


def parts_of(student):
    """Return manifest and tensors, to be tampered with; `encode` writes a digest that fits."""
    manifest, tensors = decode(content_of(student))
    del manifest["sha256"]
    return manifest, tensors


@pytest.fixture(scope="module")
def mixed():
    return make_student("mixed", embedding=True, norm="layer_norm", labels="str", n_bins=3)


# ---- round trips


@pytest.mark.parametrize("embedding", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_a_loaded_student_is_the_saved_one(tmp_path, table, embedding):
    student = make_student(table, embedding=embedding)
    student.save(tmp_path / "one.safetensors")
    loaded = StudentClassifier.load(tmp_path / "one.safetensors")
    X = make_table(table, seed=1, unseen=True)
    np.testing.assert_array_equal(loaded.predict_proba(X), student.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), student.predict(X))
    if table in {"plain", "numbers", "far"}:
        rows = X.astype(np.float32)
        np.testing.assert_array_equal(loaded.predict_proba(rows), student.predict_proba(rows))
    loaded.save(str(tmp_path / "two.safetensors"))
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_all_that_can_be_seen_of_the_parts_comes_back(tmp_path, mixed):
    mixed.save(tmp_path / "student")
    loaded = StudentClassifier.load(tmp_path / "student")
    assert vars(loaded).keys() == vars(mixed).keys()
    for part in ("preprocessor_", "encoding_"):
        before, after = vars(getattr(mixed, part)), vars(getattr(loaded, part))
        assert before.keys() == after.keys()
        for name in before:
            np.testing.assert_equal(after[name], before[name])
            assert type(after[name]) is type(before[name])
            if isinstance(before[name], np.ndarray):
                assert after[name].dtype == before[name].dtype
    assert loaded.n_parameters_ == mixed.n_parameters_


@pytest.mark.parametrize(
    "classes",
    [
        *LABELS.values(),
        np.array([True, False], dtype=object),
        np.array([-0.25, 3.0], dtype=np.float32),
        np.array([0, 2**64 - 1], dtype=np.uint64),
        np.array([1, 2**80], dtype=object),
        np.array(['"', "\\", "\n", "😀"]),
    ],
)
def test_labels_keep_values_and_dtype(classes):
    student = freeze(make_table("numbers"), classes)
    loaded = unpack(content_of(student))["classes_"]
    assert loaded.tolist() == classes.tolist()
    assert loaded.dtype == classes.dtype


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["a", 1], dtype=object),
        np.array(["2020-01-01", "2021-01-01"], dtype="M8[D]"),
        np.array([(1, 2), None], dtype=object),
        np.array([1 + 2j, 3]),
        np.array([1.0, 2.0], dtype=np.longdouble),
    ],
)
def test_other_labels_are_refused_with_the_way_out(tmp_path, classes):
    with pytest.raises(TypeError, match=r"Class labels must be strings, integers.*skops"):
        freeze(make_table("numbers"), classes).save(tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_the_preprocessor_of_the_user_is_refused_with_the_way_out(tmp_path):
    student = freeze(make_table("numbers"), np.array([0, 1]), preprocessor=StandardScaler())
    with pytest.raises(TypeError, match=r"\(StandardScaler\) cannot go into the file.*ONNX.*skops"):
        student.save(tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_a_torch_student_has_no_file(tmp_path):
    student = TorchStudent._freeze(
        classes=np.array([0, 1]),
        n_features_in=3,
        feature_names_in=None,
        preprocessor=None,
        module=torch.nn.Bilinear(3, 3, 2),
    )
    for method in (student.save, student.to_onnx):
        with pytest.raises(TypeError, match=r"\(Bilinear\) is the user's own code.*torch\.onnx"):
            method(tmp_path / "student")


def test_equal_students_give_equal_files():
    first, second = (make_student("mixed", embedding=True) for _ in range(2))
    assert content_of(first) == content_of(second)
    assert content_of(first) != content_of(make_student("mixed", embedding=True, seed=1))


def test_anyone_reads_the_arrays(tmp_path):
    student = make_student("numbers")
    student.save(tmp_path / "student")
    tensors = safetensors.numpy.load_file(tmp_path / "student")
    np.testing.assert_array_equal(tensors["layers.0.weight"], student.layers_[0].arrays[0])
    np.testing.assert_array_equal(tensors["preprocessor.mean"], student.preprocessor_.mean_)
    assert tensors["layers.0.weight"].dtype == np.float32
    assert tensors["preprocessor.mean"].dtype == np.float64


def test_the_reference_student_is_small(tmp_path):
    X = np.random.default_rng(0).normal(size=(100, 20))
    student = freeze(X, np.array([0, 1]), preprocessor=TabularEncoder(), hidden=(64, 32))
    student.save(tmp_path / "student")
    assert (tmp_path / "student").stat().st_size < 20_000


def test_loading_and_predicting_needs_no_torch(tmp_path, fresh_process):
    make_student("mixed", embedding=True).save(tmp_path / "student")
    code = """
    import numpy as np
    from skdistill import StudentClassifier
    student = StudentClassifier.load(sys.argv[1])
    print(student.n_features_in_, "torch" in sys.modules)
    """
    forbidden = ("torch", "skorch", "onnx", "pandas")
    assert fresh_process(code, tmp_path / "student", forbid=forbidden).split() == ["6", "False"]


# ---- digests


def test_the_expected_digest_is_that_of_sha256sum(tmp_path):
    path = tmp_path / "student"
    make_student().save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for text in (digest, digest.upper(), f" {digest}\n"):
        assert isinstance(StudentClassifier.load(path, expected_sha256=text), StudentClassifier)
    make_student(seed=1).save(path)
    with pytest.raises(BadArtefactError, match=rf"SHA-256 is [0-9a-f]{{64}}, expected {digest}"):
        StudentClassifier.load(path, expected_sha256=digest)
    for text in ("", "0" * 63, "g" * 64, 5):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            StudentClassifier.load(path, expected_sha256=text)


def test_the_errors_are_of_one_family():
    assert issubclass(UnsupportedFormatError, BadArtefactError)
    assert issubclass(BadArtefactError, ValueError)


def test_no_file_is_no_bad_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        StudentClassifier.load(tmp_path / "none")


# ---- damage


def mutations(content, rng, n):
    """Yield damaged copies: flips, cuts, edits of the header, random, moved and added bytes."""
    header = 8 + int.from_bytes(content[:8], "little")
    text = b'0123456789abcdefNaInfty"{}[]:,.\\ -+eE\x00\xff'
    for i in range(n):
        damaged = bytearray(content)
        at = int(rng.integers(len(content)))
        in_header = int(rng.integers(8, header))
        match i % 8:
            case 0:
                damaged[at] ^= 1 << int(rng.integers(8))
            case 1:
                damaged[in_header] ^= 1 << int(rng.integers(8))
            case 2:
                del damaged[at:]
            case 3:
                damaged[in_header] = text[int(rng.integers(len(text)))]
            case 4:
                length = int(rng.integers(1, 40))
                damaged[at : at + length] = rng.bytes(length)
            case 5:
                del damaged[in_header : in_header + int(rng.integers(1, 12))]
            case 6:
                damaged[in_header:in_header] = bytes(rng.choice(list(text), rng.integers(1, 6)))
            case 7 if i % 16 == 7:
                damaged[:8] = int(rng.integers(2**63) >> int(rng.integers(63))).to_bytes(
                    8, "little"
                )
            case 7:
                damaged = bytearray(rng.bytes(int(rng.integers(0, 400))))
        yield bytes(damaged)


def test_a_damaged_file_is_refused_or_harmless(tmp_path, mixed):
    content = content_of(mixed)
    path, loaded, longest = tmp_path / "student", 0, 0
    for damaged in mutations(content, np.random.default_rng(0), N_MUTATIONS):
        try:
            unpack(damaged)
        except BadArtefactError as error:
            longest = max(longest, len(str(error)))
        else:
            path.write_bytes(damaged)
            assert content_of(StudentClassifier.load(path)) == content
            loaded += 1
    assert loaded < N_MUTATIONS // 100
    assert 0 < longest < 500


def edit(*path, to):
    """Return an edit that sets one entry of the manifest."""

    def apply(manifest, tensors):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = to(manifest[path[-1]]) if callable(to) else to

    return apply


def put(name, value):
    """Return an edit that sets one tensor, or takes it away."""

    def apply(manifest, tensors):
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value(tensors) if callable(value) else value

    return apply


def scaled(name, factor):
    """Return an edit that multiplies one tensor."""
    return lambda manifest, tensors: tensors.update({name: tensors[name] * factor})


f4, f8 = np.float32, np.float64
FORGERIES = {
    "extra key": (lambda m, t: m.update(a=1), "other keys"),
    "missing key": (lambda m, t: m.pop("layers"), "other keys"),
    "extra tensor": (put("zzz", np.zeros(3)), "unknown tensors"),
    "missing tensor": (put("layers.0.weight", None), "layers.0.weight is missing"),
    "transposed": (put("layers.0.weight", lambda t: t["layers.3.weight"].T), "layers.0.weight is"),
    "double weights": (put("layers.0.weight", np.zeros((3, 8), f8)), "float64"),
    "single means": (put("preprocessor.mean", np.zeros(2, f4)), "preprocessor.mean is float32"),
    "flat weight": (put("layers.0.weight", np.zeros(3, f4)), "layers.0.weight is"),
    "empty bias": (put("layers.0.bias", np.zeros(0, f4)), "layer 0 is empty"),
    "nan weight": (put("layers.0.bias", np.full(8, np.nan, f4)), "NaN or inf"),
    "inf mean": (put("preprocessor.mean", np.full(2, np.inf)), "NaN or inf"),
    "zero scale": (scaled("preprocessor.scale", 0.0), "not positive"),
    "negative scale": (scaled("preprocessor.scale", -1.0), "not positive"),
    "negative epsilon": (put("layers.1.epsilon", np.array(-1, f4)), "negative epsilon"),
    "edges decrease": (scaled("encoding.edges", -1.0), "do not increase"),
    "edges too near": (scaled("encoding.edges", 1e-310), "do not increase"),
    "unknown activation": (edit("layers", 2, to="exec"), "unknown kind 'exec'"),
    "layer is no text": (edit("layers", 2, to=7), "layers are no list"),
    "no layers": (edit("layers", to=[]), "layers are no list"),
    "too many layers": (edit("layers", to=["relu"] * 1001), "more than 1000 layers"),
    "layers are left out": (edit("layers", to=["relu"]), "classes and .* outputs"),
    "n_features": (edit("n_features", to=5), "columns|one a column"),
    "huge n_features": (edit("n_features", to=10**15), "one a column"),
    "n_features is a bool": (edit("n_features", to=True), "positive integer"),
    "n_features is a float": (edit("n_features", to=6.0), "positive integer"),
    "names repeat": (edit("feature_names", to=["a"] * 6), "one a column"),
    "names are numbers": (edit("feature_names", to=[1] * 6), "no strings"),
    "versions": (edit("versions", to={"numpy": 2}), "versions"),
    "fewer classes": (edit("classes", "values", to=["no"]), "1 classes and 3 outputs"),
    "classes repeat": (edit("classes", "values", to=["no"] * 3), "repeat"),
    "classes are mixed": (edit("classes", "values", to=["no", 1, 2]), "no strings"),
    "classes are nothing": (edit("classes", to=None), "no classes"),
    "empty classes": (edit("classes", "values", to=[]), "no classes"),
    "classes end in NUL": (edit("classes", "values", to=["a\0", "b", "c"]), "NUL"),
    "class dtype": (edit("classes", "dtype", to="M8[D]"), "unknown dtype"),
    "class dtype is a list": (edit("classes", "dtype", to=[]), "unknown dtype"),
    "classes overflow": (edit("classes", to={"dtype": "int8", "values": [1, 2, 300]}), "not int8"),
    "classes round": (edit("classes", to={"dtype": "float16", "values": [0.1, 1.0, 2.0]}), "not f"),
    "mixed objects": (edit("classes", to={"dtype": "object", "values": ["a", 1, 2]}), "mixed"),
    "unknown preprocessor": (edit("preprocessor", "kind", to="pickle"), "preprocessor is unknown"),
    "no preprocessor": (edit("preprocessor", to=None), "."),
    "columns overlap": (edit("preprocessor", "numeric", to=[0, 1]), "columns are not"),
    "columns in disorder": (edit("preprocessor", "numeric", to=[3, 0]), "not in order"),
    "columns are no integers": (edit("preprocessor", "numeric", to=["0", "3"]), "no integers"),
    "has_missing too short": (edit("preprocessor", "has_missing", to=[True]), "has_missing"),
    "has_missing of numbers": (edit("preprocessor", "has_missing", to=[1, 0]), "has_missing"),
    "categories are no list": (edit("preprocessor", "categories", to={}), "no list"),
    "categories left out": (edit("preprocessor", "categories", to=lambda c: c[:-1]), "do not fit"),
    "categories in disorder": (
        edit("preprocessor", "categories", 0, "values", to=lambda v: v[::-1]),
        "not in order",
    ),
    "no categories": (edit("preprocessor", "categories", 0, "values", to=[]), "no categories"),
    "categories of bytes": (edit("preprocessor", "categories", 0, "dtype", to="S"), "unknown"),
    "categories of floats": (edit("preprocessor", "categories", 0, "dtype", to="float64"), "no fl"),
    "long text": (
        edit("preprocessor", "categories", 0, "values", to=lambda v: [*v, "z" * 10**7]),
        "too long|header length",
    ),
    "more categories": (edit("preprocessor", "categories", 0, "values", to=["", "a"]), "bins"),
    "n_bins": (edit("encoding", "n_bins", to=0), "n_bins"),
    "too many bins": (edit("encoding", "n_bins", to=1), "wrong number of bins"),
    "bins are left out": (edit("encoding", "sizes", to=lambda s: s[1:]), "one set a column"),
    "bins are moved": (
        edit("encoding", "sizes", to=lambda s: [s[0] - 1, s[1] + 1, *s[2:]]),
        "wrong number of bins|do not increase|encoding.edges",
    ),
    "unknown encoding": (edit("encoding", to={"kind": "fourier"}), "bins are unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_with_a_good_digest_is_refused(tmp_path, mixed, name):
    forge, reason = FORGERIES[name]
    manifest, tensors = parts_of(mixed)
    manifest, tensors = copy.deepcopy(manifest), dict(tensors)
    forge(manifest, tensors)
    (tmp_path / "student").write_bytes(forged(manifest, tensors))
    with pytest.raises(BadArtefactError, match=reason):
        StudentClassifier.load(tmp_path / "student")


def forged(manifest, tensors):
    """Return a file with a digest that fits, whatever it holds."""
    try:
        return encode(manifest, tensors)
    except ValueError:
        return container(json.dumps(manifest))


def container(manifest, header=None):
    """Return a file without tensors around the text of a manifest."""
    text = json.dumps(header or {"__metadata__": {"skdistill": manifest}}).encode()
    return len(text).to_bytes(8, "little") + text


def test_numbers_at_the_ends_of_their_range_load_without_a_warning(tmp_path):
    manifest, tensors = parts_of(make_student("numbers"))
    tensors["preprocessor.scale"] = np.full(3, 5e-324)
    tensors["preprocessor.mean"] = np.full(3, 1e308)
    (tmp_path / "student").write_bytes(encode(manifest, tensors))
    assert isinstance(StudentClassifier.load(tmp_path / "student"), StudentClassifier)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "header length"),
        (b"\x00" * 7, "header length"),
        (b"\x00" * 8, "header length"),
        ((2**63).to_bytes(8, "little") + b"{}", "header length"),
        ((9 << 20).to_bytes(8, "little") + b" " * (9 << 20), "header length"),
        (container("", header={"a": 1}), "no safetensors file of skdistill"),
        (container("", header={"__metadata__": {"format": "pt"}}), "no safetensors file of sk"),
        (container("", header={"__metadata__": {"skdistill": 1}}), "no text"),
        (container("", header=[1]), "no JSON object"),
        (container("[]"), "no format version"),
        (container('{"format": "1"}'), "no format version"),
        (container('{"format": true}'), "no format version"),
        (container('{"format": 0}'), "unknown format 0"),
        (container('{"format": 1, "format": 1}'), "repeats the key 'format'"),
        (container('{"format": NaN}'), "holds NaN"),
        (container('{"format": -Infinity}'), "holds -Infinity"),
        (container('{"format": 1' + "0" * 5000 + "}"), "cannot be read"),
        (container("[" * 200_000), "cannot be read"),
        (container('{"format": 1, "a": "\\ud800"}'), "digest"),
        (container('{"format": 1, "a": "\ud800"}'), "invalid JSON|safetensors refuses it"),
        (container('{"format": 1}'), "digest"),
        (b"\x04" + b"\0" * 7 + b"\xff\xfe{}", "cannot be read"),
    ],
)
def test_a_file_that_is_no_student_is_refused(content, reason):
    with pytest.raises(BadArtefactError, match=reason):
        decode(content)


def test_other_dtypes_are_refused():
    for dtype in (np.int64, np.float16, np.bool_):
        tensors = {"a": np.zeros(2, dtype)}
        content = safetensors.numpy.save(tensors, {"skdistill": '{"format": 1}'})
        with pytest.raises(BadArtefactError, match="and not float32 or float64"):
            decode(content)


def test_a_newer_format_asks_for_an_upgrade():
    for version in (FORMAT + 1, 10**9):
        with pytest.raises(UnsupportedFormatError, match=rf"format {version}.*Upgrade"):
            decode(container(json.dumps({"format": version, "whatever": [1]})))


def test_a_student_too_large_to_load_is_not_saved():
    for lengths, reason in (
        ([90_000] * 100, "very many categories"),
        ([10**6, *range(20)], "long"),
    ):
        X = np.array([[f"{i:0{length}d}"] for i, length in enumerate(lengths)], dtype=object)
        student = freeze(X, np.array([0, 1]), preprocessor=TabularEncoder(), hidden=(1,))
        with pytest.raises(ValueError, match=reason):
            content_of(student)


def test_a_student_that_is_not_finite_is_not_saved(tmp_path):
    student = make_student()
    student.layers_[0].arrays[1][0] = np.nan
    with pytest.raises(ValueError, match=r"cannot go into a file.*layers\.0\.bias holds NaN"):
        student.save(tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("skdistill.files.artefact._LARGEST_FILE", 1000)
    with open(tmp_path / "student", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadArtefactError, match="larger than 1000 bytes"):
        read_bytes(tmp_path / "student")
