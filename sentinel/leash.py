"""Owns one process on behalf of a supervisor: the process ends when the supervisor ends, however that one ends.

Run as a script in an interpreter of its own (standard library only, ``-I -S``), one leash per process. The supervisor
holds the write end of a pipe, the *lifeline*:

- its first line says what to run (not the command line, which every user of the machine could read: the environment
  holds secrets);
- a byte after it asks for an orderly stop: the stop signal, at most ``grace_s``, then SIGKILL to the process group;
- its closing means that the supervisor is gone: the same, within ``orphan_grace_s``.

Rejected: PR_SET_PDEATHSIG straight from the supervisor. It is tied to the *thread* that forked (test runners and
``asyncio.to_thread`` use many), it is cleared when the user changes, and it cannot escalate to SIGKILL. Here it is only
the second net, for a leash that was killed itself: the leash has one thread and asks for it after the user changed.

The leash lives in a session of its own, so a Ctrl-C on the terminal reaches neither it nor the process. It passes the
exit status on as a shell does: 128 + n for a process ended by signal n.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> int:
    lifeline_fd, report_fd = int(sys.argv[1]), int(sys.argv[2])
    spec = json.loads(_read_line(lifeline_fd))
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _note)
    process = _start(spec)
    os.write(report_fd, f"{process.pid}\n".encode())

    grace_s = _wait_for_end_or_order(process, lifeline_fd, wake_read, spec)
    if not _ended(process):
        _stop(process, signal.Signals(spec["stop_signal"]), grace_s)
    _kill_group(process)  # what the process left behind in its group, while its number cannot be anybody else's
    status = process.wait()
    return 128 - status if status < 0 else status


def _start(spec: dict[str, Any]) -> "subprocess.Popen[bytes]":
    leash_pid = os.getpid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def die_with_the_leash() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, spec["stop_signal"])
        if os.getppid() != leash_pid:
            os._exit(1)

    # preexec_fn is sound here: this interpreter has a single thread. It runs after the change of user.
    return subprocess.Popen(
        spec["command"],
        cwd=spec["cwd"],
        env=spec["env"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_the_leash,  # noqa: PLW1509
        user=spec["uid"],
        group=spec["gid"],
        extra_groups=None if spec["uid"] is None else [],
    )


def _wait_for_end_or_order(
    process: "subprocess.Popen[bytes]", lifeline_fd: int, wake_read: int, spec: dict[str, Any]
) -> float:
    """Returns the grace in seconds that the process has from now on (0 when it has ended)."""
    while not _ended(process):
        ready, _, _ = select.select([wake_read, lifeline_fd], [], [])
        if lifeline_fd in ready:
            ordered = os.read(lifeline_fd, 1)
            return float(spec["grace_s"] if ordered else spec["orphan_grace_s"])
        if set(os.read(wake_read, 64)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            return float(spec["grace_s"])
    return 0.0


def _stop(process: "subprocess.Popen[bytes]", stop_signal: signal.Signals, grace_s: float) -> None:
    os.kill(process.pid, stop_signal)
    os.kill(process.pid, signal.SIGCONT)  # a paused process could not obey
    deadline = time.monotonic() + grace_s
    while not _ended(process) and time.monotonic() < deadline:
        time.sleep(0.01)


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    """Looks without reaping, so that the process number stays ours until the group was cleared."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1)  # byte by byte: what follows the line is an order
        if not part:
            sys.exit(0)  # the supervisor ended before it had said what to run
        line += part
    return line


def _note(_number: int, _frame: object) -> None:
    """A handler must exist for the wake-up descriptor to be written."""


if __name__ == "__main__":
    sys.exit(main())
