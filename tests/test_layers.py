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
    {"_select", "_kinds", "_cast"},
    {"_strided"},
    {"_sparse", "_rows"},
    {"_convert", "_batching", "pooling"},
    {"_base"},
    {"_tensor_to_array"},
    {"__init__"},
]
ROW = {name: depth for depth, names in enumerate(ROWS) for name in names}
OPTIONAL = [  # not tqdm: torch.hub imports it where it is installed
    *("dask", "matplotlib", "pandas", "polars", "ray"),
    *("sentence_transformers", "transformers"),
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


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_run_down(path):
    for name in project_imports(path):
        inside = room(path) == name and path.parent != ROOT
        assert inside or ROW[name] < ROW[room(path)]


def test_importing_the_package_imports_nothing_optional():
    code = (
        "import sys, sklearn_torch_bridge; "
        f"print(*[name for name in {OPTIONAL!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
