"""The command `sentinel` as its user starts it: a process, what it says, and what is left when it has ended."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

LIMIT_S = 60.0  # generous: it only ends a hang
MARK = "TEST_FOLDER"
OURS = ("SENTINEL_", "ALERT_", "ADMIN_", "ARCHIVE_", "DOWNSTREAM_URL", "PG_DSN", "REDIS_URL")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Ours without any settings of Sentinel. The mark is inherited by what has no other trace of the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {MARK: str(folder)} | settings


class Sentinel:
    """A running `sentinel` command on a data directory, with its stdout and stderr as far as they have come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said = threading.Condition()
        self._lines: dict[str, list[str]] = {"out": [], "err": []}
        self._open = {"out": True, "err": True}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream))
            for name, stream in (("out", process.stdout), ("err", process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def stdout(self) -> str:
        with self._said:
            return "".join(self._lines["out"])

    @property
    def stderr(self) -> str:
        with self._said:
            return "".join(self._lines["err"])

    def wait_for(self, text: str, stream: Literal["out", "err"] = "out") -> str:
        """What was said there, once ``text`` is in it; fails with stderr when the command ends before."""
        with self._said:
            self._said.wait_for(lambda: self._has(text, stream) or not self._open[stream], LIMIT_S)
            assert self._has(text, stream), f"sentinel never said {text!r}: {''.join(self._lines['err'])}"
            return "".join(self._lines[stream])

    def end(self, number: signal.Signals) -> int:
        """Sends the signal; the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(LIMIT_S)
        for reader in self._readers:
            reader.join(LIMIT_S)
        return status

    def _read(self, name: str, stream: IO[str] | None) -> None:
        assert stream is not None
        with stream:
            for line in stream:
                with self._said:
                    self._lines[name].append(line)
                    self._said.notify_all()
        with self._said:
            self._open[name] = False
            self._said.notify_all()

    def _has(self, text: str, stream: str) -> bool:
        return text in "".join(self._lines[stream])


@contextlib.contextmanager
def sentinel(folder: Path, *arguments: str, **settings: str) -> Iterator[Sentinel]:
    """Runs ``sentinel <arguments> --data-dir <folder>`` with another current folder; at the end it is stopped."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", *arguments, "--data-dir", str(folder)],
        env=environment(folder, **settings),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running = Sentinel(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        running.wait()


def processes_of(folder: Path) -> list[int]:
    """Every process that works on the folder: by its command line, environment or current folder."""
    wanted = os.fsencode(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # ended meanwhile, or somebody else's
                traces = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if wanted in traces + os.fsencode((entry / "cwd").readlink()):
                    found.append(int(entry.name))
    return found


def named(folder: Path, words: str) -> list[int]:
    """Those of the folder whose command line contains ``words``, the oldest first."""
    return sorted(
        number
        for number in processes_of(folder)
        if words.encode() in Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ")
    )


def all_gone(folder: Path) -> bool:
    """Waits until no process works on the folder any more."""
    deadline = time.monotonic() + LIMIT_S
    while processes_of(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill_all(folder: Path) -> None:
    """What a failed test has left."""
    for number in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
