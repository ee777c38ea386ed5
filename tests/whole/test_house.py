"""The shape of the package: who imports whom, and names and lengths of its files."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import sklearn_torch_bridge
from tests.house import FOLDERS, GROUND, PAGE, house_map, split_page

ROOT = Path(sklearn_torch_bridge.__file__).parent
TESTS = Path(__file__).parents[1]
FILES = sorted(ROOT.rglob("*.py"))
OPTIONAL = [
    *("dask", "distributed", "matplotlib", "pandas", "polars", "pyarrow", "ray"),
    *("sentence_transformers", "tqdm", "transformers"),
]
MOST_ROOT_FILES = 12
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 45  # docstrings not counted

each_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(ROOT))
)


def room(path):
    """Name the folder, or the file of the ground floor, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def project_imports(path):
    """Yield for each import the rooms and the modules in them that it names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, *inner = node.module.split(".")
            if package == ROOT.name:
                for name in inner[:1] or [alias.name for alias in node.names]:
                    yield name, inner[1:]


@each_file
def test_imports_run_down_and_come_in_by_the_face(path):
    own = room(path)
    if own == "__init__":
        allowed = {*GROUND, *FOLDERS}
    elif own in GROUND:
        allowed = set(GROUND[: GROUND.index(own)])
    else:
        allowed = {*GROUND, *FOLDERS[: FOLDERS.index(own)]}
    for name, inner in project_imports(path):
        if name == own and path.parent != ROOT:
            continue
        assert name in allowed
        assert not inner, f"{name} is to be entered by its face"


def test_the_table_names_every_room():
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms == {*GROUND, *FOLDERS}
    assert len([path for path in FILES if path.parent == ROOT]) <= MOST_ROOT_FILES + 1


def test_no_two_files_have_one_name():
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_the_map_is_the_table():
    """Run `python tests/house.py` where they differ."""
    assert split_page()[1].strip() == house_map()


@pytest.mark.parametrize(
    "page",
    [*PAGE.parent.glob("*.md"), *PAGE.parent.glob("docs/*.md")],
    ids=lambda p: p.name,
)
def test_the_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/-])((?:\w+/)*test_\w+\.py)", text):
        assert (TESTS / name.removeprefix("tests/")).exists(), name
    for name in re.findall(r"`((?:\w+/)*_\w+\.py)`", text):
        assert any(path.match(name) for path in FILES), name


def docstring_lines(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield from range(first.lineno, first.end_lineno + 1)


@each_file
def test_files_and_functions_are_short(path):
    text = path.read_text()
    tree = ast.parse(text)
    told = set(docstring_lines(tree))
    assert len(text.splitlines()) - len(told) <= MOST_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            lines = set(range(node.lineno, node.end_lineno + 1)) - told
            assert len(lines) <= MOST_LINES_OF_A_FUNCTION, node.name


def file_of_tests(path):
    """Return where the tests of a module are to be found, by its name."""
    *folders, name = path.relative_to(ROOT).with_suffix("").parts
    place = [folder.removeprefix("_") for folder in folders]
    return Path(TESTS, *place, f"test_{name.removeprefix('_')}.py")


def has_code_of_its_own(path):
    """Return whether a module has functions, and not only constants and protocols."""
    for node in ast.parse(path.read_text()).body:
        is_protocol = "Protocol" in map(ast.unparse, getattr(node, "bases", []))
        inner = [node, *getattr(node, "body", [])]
        if not is_protocol and any(isinstance(one, ast.FunctionDef) for one in inner):
            return True
    return False


def test_the_tests_of_a_module_are_found_by_its_name():
    modules = [path for path in FILES if path.name != "__init__.py"]
    missing = [
        str(file_of_tests(path).relative_to(TESTS))
        for path in modules
        if has_code_of_its_own(path) and not file_of_tests(path).exists()
    ]
    assert missing == []


def test_importing_the_package_imports_nothing_optional():
    """Beyond what torch (tqdm) and scikit-learn (pandas) import by themselves."""
    show = f"print(*[name for name in {OPTIONAL!r} if name in sys.modules])"
    dependencies = "torch, sklearn.utils.validation, scipy.sparse"
    code = f"import sys, {dependencies}; {show}; import sklearn_torch_bridge; {show}"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    before, after = run.stdout.splitlines()
    assert before == after
