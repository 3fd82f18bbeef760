"""voicegate.d.ts as TypeScript reads it: strictly, as a package that somebody has installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.test_module import PACKAGE

SOURCES = Path(__file__).parent / "types"
COMPILER = Path(sys.prefix, "typescript", "package", "lib", "tsc.js")  # from tools/setup.py

# Of the default library only the names are wanted: its own check takes longer than all the rest.
OPTIONS = [
    "--noEmit",
    "--strict",
    "--exactOptionalPropertyTypes",
    "--noUncheckedIndexedAccess",
    "--skipDefaultLibCheck",
]
SETTINGS = ["--target", "es2022", "--lib", "es2022,dom", "--module", "preserve"]


def complaints(folder: Path) -> list[tuple[str, int]]:
    """The files and lines that the compiler complains about, with the package in this folder's node_modules."""
    sources = sorted(str(path) for path in folder.glob("*.ts"))
    command = ["node", str(COMPILER), *OPTIONS, *SETTINGS, "--pretty", "false", *sources]
    finished = subprocess.run(  # noqa: S603 - our own words
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    found = re.findall(r"^(.+?)\((\d+),\d+\): error", finished.stdout, re.MULTILINE)
    assert (finished.returncode == 0) == (not found), finished.stdout + finished.stderr
    return [(Path(name).name, int(line)) for name, line in found]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if shutil.which("node") is None or not COMPILER.exists():
        pytest.fail("TypeScript is not installed: tools/setup.py does it")
    for source in SOURCES.iterdir():
        shutil.copy(source, tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "node_modules" / "voicegate")
    return tmp_path


def test_what_is_right_compiles_and_what_is_wrong_does_not(project: Path) -> None:
    lines = (SOURCES / "mistakes.ts").read_text().splitlines()
    wrong = [("mistakes.ts", number) for number, line in enumerate(lines, 1) if line.endswith("// wrong")]
    assert len(wrong) > 10
    assert sorted(set(complaints(project))) == wrong


def test_a_mistake_in_the_types_themselves_is_found(project: Path) -> None:
    (project / "mistakes.ts").unlink()
    types = project / "node_modules" / "voicegate" / "voicegate.d.ts"
    types.write_text(types.read_text() + "export const nonsense: NoSuchType;\n")
    assert [name for name, _ in complaints(project)] == ["voicegate.d.ts"]
