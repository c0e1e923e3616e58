"""Owns one child process: started on a leash (see `sentinel.leash`), stopped in order, its last words kept in a log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sentinel import leash
from sentinel.errors import ProcessFailed

LOG_KEPT_BYTES = 10_000_000


class Account(NamedTuple):
    """The system user that a process runs as when we are root."""

    name: str
    uid: int
    gid: int


class Child:
    """One process, from `start` to `stop`; may be started again after it ended.

    ``log`` takes stdout and stderr; None passes ours on.
    ``grace_s`` is the time that the process has after ``stop_signal`` before SIGKILL; ``orphan_grace_s`` the same after
    our own death. ``keep_fds`` stay open in the leash, not in the process: a lock held there outlives us by exactly as
    long as the process does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 10.0,
        orphan_grace_s: float = 3.0,
        keep_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        self._command = [str(part) for part in command]
        self._env = dict(env)
        self._cwd = cwd
        self._account = account
        self._stop_signal = stop_signal
        self._grace_s = grace_s
        self._orphan_grace_s = orphan_grace_s
        self._keep_fds = tuple(keep_fds)
        self._leash: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._report = -1

    def __repr__(self) -> str:
        state = "not started" if self._leash is None else self.ending() or "running"
        return f"<Child {self.name} pid={self.pid} {state}>"

    def start(self) -> None:
        """Returns when the process exists (not when it is ready). Raises ProcessFailed when it cannot be executed."""
        if self.is_running():
            return
        self._release()
        lifeline_read, self._lifeline = os.pipe()
        self._report, report_write = os.pipe()
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, lifeline_read)
            stack.callback(os.close, report_write)
            output = None if self.log is None else stack.enter_context(_opened_log(self.log))
            self._leash = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, str(lifeline_read), str(report_write)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lifeline_read, report_write, *self._keep_fds),
                start_new_session=True,
            )
        with contextlib.suppress(BrokenPipeError):
            _write_all(self._lifeline, self._spec().encode() + b"\n")
        self.pid = int(_read_line(self._report) or 0)
        if not self.pid:
            self._release()
            raise ProcessFailed(f"{self.name} could not be started: {self.last_words(3)}")

    def is_running(self) -> bool:
        return self._leash is not None and self._leash.poll() is None

    @property
    def exit_status(self) -> int | None:
        """As a shell gives it: 128 + n after signal n; None while it runs."""
        return None if self._leash is None else self._leash.poll()

    def ending(self) -> str | None:
        """How it ended, in words; None while it runs."""
        status = self.exit_status
        if status is None:
            return None
        if status > 128:
            with contextlib.suppress(ValueError):
                return f"ended by {signal.Signals(status - 128).name}"
        return f"ended with status {status}"

    def fileno(self) -> int:
        """Readable (at its end) once the process has ended: for `select`."""
        return self._report

    def last_words(self, lines: int = 15) -> str:
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        if self.is_running():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, as a crash would look; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10.0)

    def wait(self, timeout_s: float) -> int:
        """Raises subprocess.TimeoutExpired."""
        return 0 if self._leash is None else self._leash.wait(timeout_s)

    def ask_to_stop(self) -> None:
        if self.is_running():
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lifeline, b"s")

    def stop(self) -> None:
        """Orderly within ``grace_s``, else SIGKILL. Idempotent; no process of ours is left when it returns."""
        self.ask_to_stop()
        self._release()

    def _release(self) -> None:
        if self._leash is not None:
            try:
                self._leash.wait(self._grace_s + 5.0)
            except subprocess.TimeoutExpired:
                self._leash.kill()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                self._leash.wait()
        for descriptor in (self._lifeline, self._report):
            if descriptor >= 0:
                os.close(descriptor)
        self._lifeline = self._report = -1

    def _spec(self) -> str:
        return json.dumps(
            {
                "command": self._command,
                "env": self._env,
                "cwd": str(self._cwd),
                "uid": self._account and self._account.uid,
                "gid": self._account and self._account.gid,
                "stop_signal": int(self._stop_signal),
                "grace_s": self._grace_s,
                "orphan_grace_s": self._orphan_grace_s,
            }
        )


def _opened_log(path: Path) -> "BinaryIO":
    if path.exists() and path.stat().st_size > LOG_KEPT_BYTES:
        path.replace(path.with_suffix(path.suffix + ".1"))
    return path.open("ab")


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 32)
        if not part:
            break
        line += part
    return line.strip()


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
