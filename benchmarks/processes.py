"""The processes of a run: started pinned to a core, their CPU time read, all of them stopped whatever happens.

CPU time is that of a whole process tree (a server's parent, its workers, its helpers), from ``/proc``.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_STOP_S = 15.0


class BenchError(Exception):
    """The run cannot go on; the message says why and what to do."""


class Bench:
    """Owns every process it starts: ``with Bench(folder) as bench``; leaving stops them, last started first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def start(
        self, name: str, command: Sequence[str], *, core: int, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Its stdout is piped to us, its stderr goes to ``<folder>/<name>.log``."""
        log = (self.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - we have no threads here
        )
        self._running.append((process, log))
        return process

    def log_of(self, name: str) -> str:
        """The last lines a process wrote, for a message that says why it did not come up."""
        path = self.folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else ""

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        for entry in list(self._running):
            if entry[0] is process:
                self._running.remove(entry)
                _end(process)
                entry[1].close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, _ in reversed(self._running[:]):
            self.stop(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        # What it may have left in its session: it had the whole time limit to clean up itself.
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(
    ready: Callable[[], bool], *, limit_s: float, what: str, alive: subprocess.Popen[bytes], why: Callable[[], str]
) -> None:
    """Poll until ready. Raises BenchError, with ``why()``, when the process ends or the limit passes first."""
    deadline = time.monotonic() + limit_s
    while not ready():
        if alive.poll() is not None:
            raise BenchError(f"{what} ended with status {alive.returncode} before it was ready\n{why()}")
        if time.monotonic() > deadline:
            raise BenchError(f"{what} was not ready after {limit_s:.0f} s\n{why()}")
        time.sleep(0.05)


def listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def healthy(port: int) -> bool:
    """``GET /health`` is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tree_of(root: int) -> list[int]:
    """The process and all its descendants that are alive now; empty when the process is gone."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    if _stat(root) is None:
        return []
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def cpu_s(*roots: int) -> float | None:
    """User and system seconds of the trees so far; None when there is no process."""
    pids = [pid for root in roots for pid in tree_of(root)]
    if not pids:
        return None
    stats = [fields for pid in pids if (fields := _stat(pid)) is not None]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) * _TICK_S


def rss_mib(*roots: int) -> float | None:
    """Resident memory of the trees; pages shared between their processes count once for each."""
    pids = [pid for root in roots for pid in tree_of(root)]
    if not pids:
        return None
    stats = [fields for pid in pids if (fields := _stat(pid)) is not None]
    return sum(int(fields[21]) for fields in stats) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/<pid>/stat`` from the third on (the second, the name, may contain anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
