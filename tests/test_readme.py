"""The README's blocks run, top to bottom, as a reader would type them."""

from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

README = Path(__file__).parent.parent / "README.md"
BLOCKS = list(Sybil(parsers=[PythonCodeBlockParser()]).parse(README))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_readme_block(block):
    block.evaluate()
