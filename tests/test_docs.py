"""The site names everything public, its code runs, and CI builds it."""

import re
import subprocess
import sys
import textwrap
import warnings
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import skdistill

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
API = (DOCS / "api.rst").read_text(encoding="utf-8")
GUIDE = (DOCS / "guide.rst").read_text(encoding="utf-8")

MODULES = [
    name for name in skdistill.__all__ if name.islower() and hasattr(skdistill, name)
    and (ROOT / "skdistill" / f"{name}.py").exists()
]
PUBLIC = [
    *(name for name in skdistill.__all__ if name not in MODULES and not name.startswith("__")),
    *(
        f"{module}.{name}"
        for module in MODULES
        for name in import_module(f"skdistill.{module}").__all__
        # What the package itself offers is documented there.
        if name not in skdistill.__all__
    ),
]
