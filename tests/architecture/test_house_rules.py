"""House rules that a machine can check: every module can be read in one sitting and says what it is for."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# The aim is 400 and 60; these are where a reader's patience ends.
MOST_LINES_A_FILE = 500
MOST_LINES_A_FUNCTION = 80


def modules() -> Iterator[tuple[str, str]]:
    """Every module of the package: its path from the root, and its text."""
    for path in sorted((ROOT / "voicegate").rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_a_file_can_be_read_in_one_sitting() -> None:
    assert [path for path, text in modules() if len(text.splitlines()) > MOST_LINES_A_FILE] == []


def test_a_function_fits_on_a_page() -> None:
    lengths = {(path, node.name): (node.end_lineno or 0) - node.lineno + 1 for path, node in functions()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_A_FUNCTION} == {}


def test_a_module_says_what_it_is_for() -> None:
    assert [path for path, text in modules() if not ast.get_docstring(ast.parse(text))] == []


def test_a_name_says_what_it_gives_without_get() -> None:
    assert [(path, node.name) for path, node in functions() if node.name.lstrip("_").startswith("get_")] == []
