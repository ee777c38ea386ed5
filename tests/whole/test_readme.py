"""The blocks of our pages run, top to bottom, as a reader would type them."""

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "clusters.md",
    ROOT / "docs" / "reproducibility.md",
    ROOT / "docs" / "statistics.md",
    ROOT / "docs" / "storing.md",
]
BLOCKS = [
    pytest.param(block, id=f"{page.name} line {block.line}")
    for page in PAGES
    for block in Sybil(parsers=[PythonCodeBlockParser()]).parse(page)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_block_of_a_page(block):
    block.evaluate()
