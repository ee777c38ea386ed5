"""The one table of the house: its rooms, from the ground up, and who may enter which.

`whole/test_house.py` holds the imports to it. The map in ``ARCHITECTURE.md`` is made of
it and of the first line of each room's docstring: ``python tests/house.py`` writes it.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sklearn_torch_bridge"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- the map, by tests/house.py -->", "<!-- end of the map -->"

GROUND = [  # files; each may import those before it
    *("_types", "_errors", "_torch_private", "_packages", "_checks", "_devices"),
    *("_free_memory", "_tensor_bytes", "_pinned_memory", "_row_numbers"),
    *("_tokenizers", "pooling"),
]
FOLDERS = [  # from below; each may enter the ground floor, and those before it
    *("_convert", "_digest", "cache", "_pickling", "_replica", "models", "_compiled"),
    *("_results", "_known", "_rows", "_run", "_storing", "_estimators"),
    *("stats", "adapters", "inspection"),
]


def purpose(path):
    """Return the first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return text.splitlines()[0].replace("``", "`")


def house_map():
    """Write the rooms as a table, the uppermost first."""
    faces = {name: PACKAGE / name / "__init__.py" for name in reversed(FOLDERS)}
    rows = [f"| `{name}/` | {purpose(face)} |" for name, face in faces.items()]
    ground = ", ".join(f"`{name}.py`" for name in GROUND)
    head = ["| room | what it is for |", "|---|---|"]
    return "\n".join([*head, *rows, f"| the ground floor | {ground} |"])


def split_page():
    """Return what stands on the page before, in and after the map."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    written, after = rest.split(END)
    return before, written, after


if __name__ == "__main__":
    before, _, after = split_page()
    PAGE.write_text(f"{before}{BEGIN}\n{house_map()}\n{END}{after}", encoding="utf-8")
