"""What the figures were measured on: a benchmark result without its machine means nothing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("voicegate", "trio", "cryptography", "pylibsrtp", "av", "aiortc", "wrtc")


def describe() -> dict[str, object]:
    """The machine, the interpreter and the versions of what is compared, ready for JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def cpu_seconds(process_id: int) -> float:
    """User and system time that a process has used so far, all of its threads together (proc(5), stat fields 14
    and 15)."""
    stat = Path(f"/proc/{process_id}/stat").read_text()
    # The second field is the command in parentheses and may itself hold spaces, so count from the last parenthesis.
    fields = stat.rpartition(")")[2].split()
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    return (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")


def resident_octets(process_id: int) -> int:
    """Memory that a process has resident (proc(5), statm field 2)."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
