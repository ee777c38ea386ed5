"""Imports run downwards only, and the package imports nothing optional."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_torch_bridge

ROOT = Path(sklearn_torch_bridge.__file__).parent
ROWS = [  # bottom row first; a subpackage counts as its folder
    {"_types", "_errors", "_optional"},
    {
        "_batching",
        "_cast",
        "_collections",
        "_contents",
        "_inputs",
        "_kinds",
        "_memory",
        "_plain",
        "_reads_only",
        "_script_copy",
        "_threads",
    },
    {
        "_array_rows",
        "_module_copy",
        "_precision",
        "_progress",
        "_segments",
        "_select",
        "_staging",
    },
    {"_bounds", "cache", "pooling"},
    {
        "_callbacks",
        "_digest",
        "_reading",
        "_replica",
        "_retry",
        "_strided",
        "_taps",
        "_tokens",
    },
    {"_snapshot", "_weights_file"},
    {"_compiler", "_export", "_join", "_saved_folder", "_sparse"},
    {"_compile", "_convert", "_share"},
    {"_rows", "_sink", "models"},
    {"_base", "_checked_rows", "_file_sink", "_forward", "_identity", "_recall"},
    {"_feeds", "_saving", "stats"},
    {"_extraction"},
    {"_feature_extractor", "_tensor_to_array"},
    {"_precompute", "adapters", "inspection"},
    {"__init__"},
]
ROW = {name: depth for depth, names in enumerate(ROWS) for name in names}
OPTIONAL = [
    *("dask", "distributed", "matplotlib", "pandas", "polars", "pyarrow", "ray"),
    *("sentence_transformers", "tqdm", "transformers"),
]


def room(path):
    """Give the module, or the subpackage, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def project_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, *inner = node.module.split(".")
            if package == ROOT.name:
                yield from inner[:1] or [alias.name for alias in node.names]


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_run_down(path):
    for name in project_imports(path):
        inside = room(path) == name and path.parent != ROOT
        assert inside or ROW[name] < ROW[room(path)]


def imported_by(code):
    """List the optional packages that a new interpreter has after `code`."""
    show = f"print(*[name for name in {OPTIONAL!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; {show}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.split()


def test_importing_the_package_imports_nothing_optional():
    """Beyond what torch (tqdm) and scikit-learn (pandas) import by themselves."""
    dependencies = imported_by("import torch, sklearn.utils.validation, scipy.sparse")
    assert imported_by("import sklearn_torch_bridge") == dependencies
