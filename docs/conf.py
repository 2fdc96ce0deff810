"""How the site is built: python -m sphinx -W -b html docs docs/_build/html."""

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml

project = "skdistill"
author = "skdistill developers"
copyright = author
version = release = installed_version("skdistill")

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
# The package's docstrings write code in single quotes of this kind.
default_role = "literal"

autosummary_generate = True
toc_object_entries_show_parents = "hide"  # the list of a page's names is narrow
autodoc_typehints = "none"  # numpydoc's sections say more than the annotations
numpydoc_show_class_members = False  # autosummary's template lists them

html_theme = "pydata_sphinx_theme"
html_title = "skdistill"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/logo.svg"
html_theme_options = {
    "logo": {
        "text": "skdistill",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 4,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Pages without pages below them need no sidebar of them.
html_sidebars = {
    name: []
    for name in (
        *("guide", "beyond", "tutorial", "comparison", "measured", "edge", "security"),
        "auto_examples/*",  # the overview has pictures, and lines of code are wide
    )
}
html_show_sourcelink = False
html_math_renderer = "mathml"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]+\.py$",  # a script is not an example
    "default_thumb_file": str(Path(__file__).parent / "_static" / "logo.svg"),
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skdistill",),
    "download_all_examples": False,
    "remove_config_comments": True,
    "ignore_repr_types": r"Display",  # they draw; their address in memory tells nothing
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1,
}

copybutton_prompt_text = ">>> "
copybutton_exclude = ".linenos, .gp, .go"


def mathml(tex: str, *, as_block: bool) -> str:
    """Return a formula as MathML, which browsers draw without a script from elsewhere."""
    # docutils knows the paired commands \bigl and \bigr, and not the single ones.
    return latex2mathml.tex2mathml(tex.replace(r"\Big/", "/"), as_block=as_block)


def visit_inline_math(self: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    self.body.append(mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    self.body.append(f'<div class="math-block">{mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def escape_shapes(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the underscore of a shape like (n, n_features_in_) from being read as a link."""
    lines[:] = [re.sub(r"(shape \([^)`]*)_([,)])", r"\1\\_\2", line) for line in lines]


def skip_generated(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out set_fit_request and its like: scikit-learn writes them, and documents them."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Any) -> None:
    """Register the formulas' renderer and the two repairs of docstrings."""
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", escape_shapes, priority=900)  # after numpydoc
    app.connect("autodoc-skip-member", skip_generated)
