"""Ends server processes that an earlier supervisor left behind on the same data.

Only a leash that was itself killed can leave any. A server is known by what it works on, its current folder, never by a
pid file: numbers are reused, and the file may be gone.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

END_WITHIN_S = 10.0


def end_leftovers(folder: Path, program: str, stop_signal: signal.Signals) -> int:
    """Returns how many there were. Linux only: elsewhere the server's own lock on its data is what is left."""
    found = _working_in(folder, program)
    for process_id in found:
        _signal(process_id, stop_signal)
        _signal(process_id, signal.SIGCONT)
    deadline = time.monotonic() + END_WITHIN_S
    while _working_in(folder, program) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process_id in _working_in(folder, program):
        _signal(process_id, signal.SIGKILL)
    while _working_in(folder, program) and time.monotonic() < deadline + END_WITHIN_S:
        time.sleep(0.02)
    return len(found)


def _working_in(folder: Path, program: str) -> list[int]:
    if sys.platform != "linux":
        return []
    wanted = folder.resolve()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or somebody else's
            name = (entry / "comm").read_text().strip()
            if name == program and (entry / "cwd").readlink() == wanted:
                found.append(int(entry.name))
    return found


def _signal(process_id: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, number)
