"""Laws of the house: the order of its rooms, and what stays out of memory."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skdistill

ROOT = Path(skdistill.__file__).parent

# A room imports from rooms before it, inside functions too; losses is a file that imports nothing.
ORDER = (
    "losses",
    "tables",
    "student",
    "teachers",
    "training",
    "estimators",
    "files",
    "report",
    "scale",
)

# The deployed student knows its ways out: they look up when they are called.
REACHES_UP = {
    f"student.classifier.StudentClassifier.{method}"
    for method in ("save", "load", "to_onnx", "to_torch")
}

HEAVY = ("torch", "skorch", "xgboost", "lightgbm", "catboost")

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ORDER
    for path in [*sorted((ROOT / room).rglob("*.py")), ROOT / f"{room}.py"]
    if path.exists()
}


def imports_of(node: ast.AST, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted names that are imported, and the class and function that imports them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, place) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "relative imports are not read here"
            yield from ((f"{child.module}.{alias.name}", place) for alias in child.names)
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from imports_of(child, f"{place}.{child.name}")
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from imports_of(child, place)


def files_that(name: str) -> set[str]:
    """Return the files of the package that a file imports, ways out of the student left out."""
    found = set()
    for dotted, place in imports_of(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if dotted.startswith("skdistill.") and name + place not in REACHES_UP:
            inner = dotted.removeprefix("skdistill.")
            found.add(inner if inner in FILES else inner.rpartition(".")[0])
    return found - {name}


def test_every_import_is_of_a_room():
    for name in FILES:
        assert files_that(name) <= set(FILES), name


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down_from_room_to_room(name):
    own = ORDER.index(name.partition(".")[0])
    for target in files_that(name):
        assert ORDER.index(target.partition(".")[0]) <= own, f"{name} imports {target}"


def test_imports_make_no_circle():
    # A room's list of names is no stop on the way: its files import each other by path.
    graph = {name: files_that(name) for name in FILES if name not in ORDER or name == "losses"}
    assert list(TopologicalSorter(graph).static_order())


def test_importing_the_package_loads_nothing(fresh_process):
    code = """
    import skdistill
    loaded = {name.partition(".")[0] for name in sys.modules}
    print(*sorted(loaded & {"numpy", "scipy", "sklearn", "joblib", *%r}))
    """
    assert fresh_process(code % (HEAVY,)).split() == []


def test_the_estimators_load_without_torch_and_teachers(fresh_process):
    code = """
    import skdistill
    skdistill.StudentClassifier
    skdistill.DistilledClassifier
    skdistill.DistilledClassifierCV
    skdistill.TorchTeacher
    print(*sorted({name.partition(".")[0] for name in sys.modules} & set(%r)))
    """
    assert fresh_process(code % (HEAVY,), forbid=HEAVY).split() == []


def test_a_server_loads_the_student_and_tables_alone(fresh_process):
    code = """
    from skdistill import StudentClassifier
    rooms = {name.split(".")[1] for name in sys.modules if name.startswith("skdistill.")}
    print(*sorted(rooms))
    """
    assert fresh_process(code).split() == ["student", "tables"]


def test_every_public_name_resolves_and_shows():
    assert skdistill.__all__ == sorted(skdistill.__all__)
    assert set(skdistill.__all__) <= set(dir(skdistill))
    for name in skdistill.__all__:
        assert getattr(skdistill, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'skdistill' has no attribute 'Teacher'"):
        _ = skdistill.Teacher


def test_a_star_import_needs_no_extra(fresh_process):
    extras = ("dask", "distributed", "matplotlib", "onnx", "pandas", "pyarrow")
    code = "from skdistill import *; print(DistilledClassifier.__name__)"
    assert fresh_process(code, forbid=extras) == "DistilledClassifier\n"
