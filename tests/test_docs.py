"""The site names everything public, and its code runs."""

import re
import textwrap
from inspect import ismodule
from pathlib import Path

import pytest

import skdistill

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
API = (DOCS / "api.rst").read_text(encoding="utf-8")


def public_names():
    """Return every public name as it is written after ``skdistill.``."""
    found = []
    for name in {*skdistill.__all__, "distributed", "onnx"} - {"__version__"}:
        thing = getattr(skdistill, name)
        if not ismodule(thing):
            found.append(name)
        # A room exports more, for the other rooms.
        elif not hasattr(thing, "__path__"):
            found += [f"{name}.{n}" for n in thing.__all__ if n not in skdistill.__all__]
    return found


def code_blocks(text):
    """Return the Python blocks of a page."""
    found = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def test_every_public_name_is_documented_once():
    listed = re.findall(r"^(?:   |\.\. data:: | {10})([A-Za-z_.]+)$", API, re.MULTILINE)
    assert sorted(listed) == sorted(public_names())


# The guide says that its small set makes fits warn of it.
@pytest.mark.filterwarnings("default:The teachers are worse than a plain student")
@pytest.mark.slow
@pytest.mark.parametrize("page", ["guide.rst", "beyond.rst"])
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = code_blocks(text)
    assert len(blocks) == text.count("code-block:: python")
    namespace = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)


# Teachers of two epochs are.
@pytest.mark.filterwarnings("default:The teachers are worse than a plain student")
@pytest.mark.slow
def test_the_tutorial_runs_in_fewer_epochs_and_the_two_lines_after_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    plain = (DOCS / "plain_torch.py").read_text(encoding="utf-8")
    plain, n = re.subn(r"^(N_TEACHERS|\w+_EPOCHS) = \d+$", r"\1 = 2", plain, flags=re.MULTILINE)
    assert n == 3
    namespace = {}
    exec(compile(plain, "plain_torch.py", "exec"), namespace)
    two_lines, recipe = code_blocks((DOCS / "tutorial.rst").read_text(encoding="utf-8"))
    for code in (two_lines.replace(".fit(", ".set_params(max_epochs=2).fit("), recipe):
        exec(compile(code.replace("max_epochs=50", "max_epochs=2"), "tutorial", "exec"), namespace)
    X_test, y_test = namespace["X_test"], namespace["y_test"]
    accuracy = dict(re.findall(r"^(\w+) +([\d.]+)%$", capsys.readouterr().out, re.MULTILINE))
    assert sorted(accuracy) == ["distilled", "ensemble", "plain"]
    assert min(map(float, accuracy.values())) > 60
    assert namespace["student"].score(X_test, y_test) > 0.6
    # The same network, as the tutorial says.
    n_weights = sum(p.numel() for p in namespace["distilled"].parameters())
    assert namespace["recipe"].student_.n_parameters_ == n_weights


def test_every_page_is_reached_from_the_index():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    pages = {path.stem for path in DOCS.glob("*.rst")} - {"index", "sg_execution_times"}
    assert pages <= set(re.findall(r"^   ([\w/]+)$", index, re.MULTILINE))


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.rst")), ids=lambda path: path.name)
def test_links_to_examples_lead_somewhere(path):
    for name in re.findall(r"auto_examples/(plot_\w+)", path.read_text(encoding="utf-8")):
        assert (ROOT / "examples" / f"{name}.py").exists()
