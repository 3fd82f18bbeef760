"""Make this clone ready: `python3 tools/setup.py run` for `make up`, `python3 tools/setup.py test` for `make test`.

    run                                       test
     │                                         │
     ▼                                         ▼
    .venv + voicegate                         .venv + voicegate[test] + Debian's chromium, firefox-esr, …
                                               and from npm the stock browser SDK, and TypeScript;
                                               pion/dtls where Go is present
     └──── written down in .venv/.ready-run    └──── written down in .venv/.ready-test

A stamp names the place, the Python and the `pyproject.toml` it was made for. While it fits, nothing here starts pip or
apt, so a clone that was set up once works without a network. Whatever cannot be had ends in one line that says so.

The file runs before anything is installed: standard library only, and old Pythons must get as far as being told.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)

# What the tests run besides Python: the program looked for, and the Debian package that holds it.
PROGRAMS = {
    "chromium": "chromium",
    "firefox-esr": "firefox-esr",
    "openssl": "openssl",
    "espeak-ng": "espeak-ng",
    "redis-server": "redis-server",
    "npm": "npm",
}

# What the tests take from npm, by its folder in .venv: one archive as it was published, without what it depends on.
NPM_PACKAGES = {
    "npm": "@openai/agents-realtime@0.20.0",  # the stock browser SDK, whose bundle runs in the tests unmodified
    "typescript": "typescript@5.9.3",  # which compiles against our own package's types
}


class Unavailable(Exception):
    """Something the clone needs cannot be had here. The message is the one line its user reads."""


def main(purpose: str) -> None:
    if sys.version_info[:2] < OLDEST_PYTHON:
        here = f"{sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}"
        raise Unavailable(f"Python 3.11 or newer is needed and {here}; name another: make PYTHON=/path/to/python3.11")
    install_packages(purpose)
    if purpose == "test":
        install_programs()
        for name, package in NPM_PACKAGES.items():
            install_npm_package(VENV / name, package)
        fetch_pion()


def install_packages(purpose: str) -> None:
    """The virtual environment with voicegate in it, in place, so that an edit is run without installing it again."""
    stamps = {name: VENV / f".ready-{name}" for name in ("run", "test")}
    place = [str(ROOT), sys.version.split()[0]]
    wanted = [*place, hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()]
    # What the tests need holds all that a run needs.
    enough = [stamps["test"]] if purpose == "test" else [stamps["run"], stamps["test"]]
    if any(read_stamp(stamp) == wanted for stamp in enough):
        return

    say("setting up .venv (once)")
    # Scripts in an environment name its absolute path: one that was moved or belongs to another Python starts anew.
    moved = any(stamp.exists() and read_stamp(stamp)[:2] != place for stamp in stamps.values())
    run(
        [sys.executable, "-m", "venv", *(["--clear"] if moved else []), str(VENV)],
        "cannot make a virtual environment; on Debian: apt-get install python3-venv",
    )
    target = f"{ROOT}[test]" if purpose == "test" else str(ROOT)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    run([*pip, "--editable", target], "cannot install the Python packages; is the package index reachable?")
    stamps[purpose].write_text("\n".join(wanted), encoding="utf-8")


def read_stamp(stamp: Path) -> list[str]:
    return stamp.read_text(encoding="utf-8").splitlines() if stamp.exists() else []


def install_programs() -> None:
    """The programs the tests talk to, from Debian's packages, when one is not on the path."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return
    by_hand = f"the tests need {', '.join(missing)}; as root: apt-get install {' '.join(missing)}"
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (as_root and shutil.which("sudo") is None):
        raise Unavailable(by_hand)

    say(f"installing {', '.join(missing)} (once)")
    # RUNLEVEL=1 keeps invoke-rc.d from starting a redis daemon: the tests start their own and end it.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    apt = [*as_root, *environment, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    run([*apt, "update"], by_hand)
    run([*apt, "install", "-y", "--no-install-recommends", *missing], by_hand)


def install_npm_package(folder: Path, package: str) -> None:
    """The archive of this package, unpacked into this folder."""
    stamp = folder / ".ready"
    if read_stamp(stamp) == [package]:
        return
    say(f"getting {package} (once)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    otherwise = f"cannot get {package}; is the npm registry reachable?"
    run(["npm", "pack", "--silent", "--pack-destination", str(folder), package], otherwise)
    (archive,) = folder.glob("*.tgz")
    shutil.unpack_archive(archive, folder)
    stamp.write_text(package, encoding="utf-8")


def fetch_pion() -> None:
    """The modules of the Go peer. Nothing depends on them but its test, which is skipped where there is no Go."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    folder = ROOT / "tests" / "interop" / "peers" / "pion"
    stamp = VENV / ".ready-pion"
    wanted = [hashlib.sha256((folder / "go.sum").read_bytes()).hexdigest()]
    if go is None or read_stamp(stamp) == wanted:
        return
    say("getting pion/dtls (once)")
    try:
        run([go, "-C", str(folder), "mod", "download"], "cannot get pion/dtls: its test will be skipped")
    except Unavailable as reason:
        say(str(reason))
    else:
        stamp.write_text("\n".join(wanted), encoding="utf-8")


def run(command: list[str], otherwise: str) -> None:
    """Runs quietly. A failure is told in one line: ours, and the first thing that pip or apt called an error."""
    finished = subprocess.run(  # noqa: S603 - our own words
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        said = (finished.stdout + finished.stderr).splitlines()
        errors = [line.strip() for line in said if line.strip().startswith(("ERROR: ", "E: "))]
        raise Unavailable(f"{otherwise} ({errors[0]})" if errors else otherwise)


def say(what: str) -> None:
    print(f"voicegate: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Unavailable as unavailable:
        say(str(unavailable))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
