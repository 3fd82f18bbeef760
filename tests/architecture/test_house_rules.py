"""House rules that a machine can check: every module can be read in one sitting and says what it is for."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = sorted((ROOT / "voicegate").rglob("*.py"))

# The aim is 400 and 60; these are where a reader's patience ends.
MOST_LINES_A_FILE = 500
MOST_LINES_A_FUNCTION = 80

every_module = pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@every_module
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_A_FILE


@every_module
def test_a_function_fits_on_a_page(path: Path) -> None:
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions(path)}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_A_FUNCTION} == {}


@every_module
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@every_module
def test_a_name_says_what_it_gives_without_get(path: Path) -> None:
    assert [node.name for node in functions(path) if node.name.lstrip("_").startswith("get_")] == []
