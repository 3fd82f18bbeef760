"""All that `make test` checks, in order: lint, format, types, the import contract, then pytest.

The static checks say nothing when they pass. pytest comes last and its summary is the last thing printed; it runs in
a network namespace that holds only loopback (see loopback.py), with warnings as errors (see pyproject.toml).
Arguments go to pytest.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SOURCES = ["voicegate", "tests", "bench", "tools"]

STATIC_CHECKS = {
    "ruff check": [BIN / "ruff", "check", "--quiet", *SOURCES],
    "ruff format": [BIN / "ruff", "format", "--check", "--quiet", *SOURCES],
    # Tests of different rooms share file names (conftest.py), so a module is known by its path from the root.
    "mypy --strict": [BIN / "mypy", "--strict", "--explicit-package-bases", "--no-error-summary", *SOURCES],
    "import contract": [BIN / "lint-imports", "--config", ROOT / "tools" / "importlinter.ini"],
}


def main(arguments: list[str]) -> int:
    failed = [name for name, command in STATIC_CHECKS.items() if not passes(name, [str(word) for word in command])]
    if failed:
        return 1
    pytest = [sys.executable, "-m", "pytest", *arguments]
    isolated = [sys.executable, str(ROOT / "tools" / "loopback.py"), *pytest]
    return subprocess.run(isolated, cwd=ROOT, check=False).returncode  # noqa: S603 - our own words


def passes(name: str, command: list[str]) -> bool:
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if finished.returncode:
        print(f"voicegate: {name} failed\n{finished.stdout}{finished.stderr}", file=sys.stderr, flush=True)
    return finished.returncode == 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
