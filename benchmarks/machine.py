"""The machine and the versions that a result belongs to."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

from benchmarks import nginx, wrk

_PACKAGES = ("granian", "litestar", "uvloop", "httptools", "msgspec", "redis", "hiredis", "asyncpg")


class Machine(msgspec.Struct, frozen=True):
    """``load_before``: the one-minute load average at the start; well above 0 means that others disturbed the run."""

    at: str
    cpu: str | None
    cores: int | None
    memory_mib: int | None
    kernel: str
    python: str
    load_before: float | None
    commit: str | None
    versions: dict[str, str | None]


def describe() -> Machine:
    return Machine(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=_cpu_model(),
        cores=os.cpu_count(),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=platform.release(),
        python=platform.python_version(),
        load_before=os.getloadavg()[0],
        commit=_commit(),
        versions={"nginx": nginx.version(), "wrk": wrk.version(), **{name: _installed(name) for name in _PACKAGES}},
    )


def missing_tools() -> list[str]:
    return [name for name, version in (("nginx", nginx.version()), ("wrk", wrk.version())) if version is None]


def _cpu_model() -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
