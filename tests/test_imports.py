"""Laws of the house: who may import whom, and what stays out of memory."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skdistill

ROOT = Path(skdistill.__file__).parent

# A new file takes its place here. A file imports from lower levels, or from its own level as
# long as no cycle arises; level 0 imports nothing of the package.
LEVELS = {
    "_adam": 0,
    "_alignment": 0,
    "_array_adam": 0,
    "_artefact": 0,
    "_calibration": 0,
    "_embedding": 0,
    "_forward": 0,
    "_hints": 0,
    "_html_repr": 0,
    "_inputs": 0,
    "_pickling": 0,
    "_pooling": 0,
    "_plotting": 0,
    "_progress": 0,
    "_threads": 0,
    "_versions": 0,
    "augment": 0,
    "losses": 0,
    "metrics": 0,
    "_adapter": 1,
    "_control": 1,
    "_agreement_display": 1,
    "_contenders": 1,
    "_cost": 1,
    "_array_loss": 1,
    "_batches": 1,
    "_bundle": 1,
    "_criterion": 1,
    "_distillation_display": 1,
    "_divergence": 1,
    "_folds": 1,
    "_hidden": 1,
    "_hint_terms": 1,
    "_incremental": 1,
    "_labelling": 1,
    "_manifest": 1,
    "_mlp": 1,
    "_modules": 1,
    "_net": 1,
    "_one_row": 1,
    "_parameters": 1,
    "_parquet": 1,
    "_report": 1,
    "_report_view": 1,
    "_roster": 1,
    "_rows": 1,
    "_self_distillation": 1,
    "_state": 1,
    "_sweep_display": 1,
    "_step": 1,
    "_steps": 1,
    "_storage": 1,
    "_sizing": 1,
    "_stream": 1,
    "_targets": 1,
    "_torch_student": 1,
    "_training_curve_display": 1,
    "_training_set": 1,
    "_verdict": 1,
    "student": 1,
    "teachers": 1,
    "__main__": 2,
    "_classifier": 2,
    "_search": 2,
    "onnx": 2,
    "_smallest": 3,
    "_tuning": 3,
    "distributed": 3,
}

# The deployed student sits low in the house; its two ways out look up when they are called.
UPWARD = {
    ("student", "StudentClassifier.to_torch"),
    ("student", "StudentClassifier.to_onnx"),
}

# Unpickling and predicting need none of these files.
TORCH_AT_TOP = {
    "_adam",
    "_array_loss",
    "_batches",
    "_criterion",
    "_divergence",
    "_hint_terms",
    "_mlp",
    "_modules",
    "_net",
    "_self_distillation",
    "_step",
    "_threads",
    "losses",
}

HEAVY = ("torch", "skorch", "xgboost", "lightgbm", "catboost")

FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix(): path
    for path in sorted(ROOT.rglob("*.py"))
    if path != ROOT / "__init__.py"
}


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the dotted names an import statement asks for, relative ones made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = ".".join(filter(None, ["skdistill" if node.level else "", node.module]))
    return [f"{package}.{alias.name}" for alias in node.names]


def imports_of(node: ast.AST, place: str = "", at_top: bool = True) -> Iterator[tuple]:
    """Yield (dotted name, qualified name of the place, whether importing the file runs it)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from ((name, place, at_top) for name in names_of(child))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_of(child, f"{place}.{child.name}".lstrip("."), False)
        elif isinstance(child, ast.ClassDef):
            yield from imports_of(child, f"{place}.{child.name}".lstrip("."), at_top)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports_of(child, place, False)
        else:
            yield from imports_of(child, place, at_top)


def inner_imports(name: str) -> list[tuple[str, str]]:
    """Return (file of the package, place) for each import of the package's own."""
    found = imports_of(ast.parse(FILES[name].read_text(encoding="utf-8")))
    return [
        (dotted.split(".")[1] if "." in dotted else "the root", place)
        for dotted, place, _ in found
        if dotted.split(".")[0] == "skdistill"
    ]


def test_every_file_has_a_level():
    assert set(FILES) - set(LEVELS) == set()


@pytest.mark.parametrize("name", [name for name in FILES if name in LEVELS])
def test_imports_point_down(name):
    for target, place in inner_imports(name):
        where = f"{name}.py imports {target} in {place or 'its top level'}"
        assert target in LEVELS, f"{where}: no file of the table"
        if (name, place) in UPWARD:
            continue
        assert LEVELS[name] > 0, f"{where}: level 0 imports nothing of the package"
        assert LEVELS[target] <= LEVELS[name], f"{where}: imports point down"


def test_imports_make_no_cycle():
    graph = {
        name: {target for target, place in inner_imports(name) if (name, place) not in UPWARD}
        for name in FILES
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", sorted(set(FILES) - TORCH_AT_TOP))
def test_torch_is_imported_where_it_is_needed(name):
    found = imports_of(ast.parse(FILES[name].read_text(encoding="utf-8")))
    at_top = {dotted.split(".")[0] for dotted, _, at_top in found if at_top}
    assert not at_top & set(HEAVY)


def test_the_parser_sees_all_kinds_of_imports():
    source = """
import torch.nn as nn
from . import losses
from .student import StudentClassifier
from skdistill import teachers
if TYPE_CHECKING:
    from ._net import Net
class A:
    def b(self):
        try:
            import skdistill.onnx
        except ImportError:
            pass
"""
    assert list(imports_of(ast.parse(source))) == [
        ("torch.nn", "", True),
        ("skdistill.losses", "", True),
        ("skdistill.student.StudentClassifier", "", True),
        ("skdistill.teachers", "", True),
        ("skdistill._net.Net", "", False),
        ("skdistill.onnx", "A.b", False),
    ]


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


def test_every_public_name_resolves_and_shows():
    assert skdistill.__all__ == sorted(skdistill.__all__)
    assert set(skdistill.__all__) <= set(dir(skdistill))
    for name in skdistill.__all__:
        assert getattr(skdistill, name) is not None


def test_public_names_are_those_that_resolve():
    lazy = {*skdistill._HOME, *skdistill._SUBMODULES, "__version__"}
    assert {*skdistill.__all__, "distributed", "onnx"} == lazy


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'skdistill' has no attribute 'Teacher'"):
        _ = skdistill.Teacher


def test_a_star_import_needs_no_extra(fresh_process):
    extras = ("dask", "distributed", "matplotlib", "onnx", "pandas", "pyarrow")
    code = "from skdistill import *; print(DistilledClassifier.__name__)"
    assert fresh_process(code, forbid=extras) == "DistilledClassifier\n"
