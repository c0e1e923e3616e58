"""Owns the embedded PostgreSQL: its cluster is made once, then the server runs in the foreground as our child.

Unix socket only, in a folder that nobody but the account may enter: reaching the socket is the authentication.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from sentinel.child import Child
from sentinel.errors import ProcessFailed
from sentinel.services.binaries import postgres_programs
from sentinel.services.directory import DataDirectory
from sentinel.services.leftovers import end_leftovers

READY_WITHIN_S = 60.0  # crash recovery of a busy database takes a while
FAST_SHUTDOWN = signal.SIGINT
USER = DATABASE = "sentinel"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
}
# For tests only: a crash of the machine would cost the data.
FAST_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresStore:
    """The server and its life; ``start`` and ``stop`` may follow each other any number of times."""

    def __init__(self, directory: DataDirectory, *, fast: bool = False) -> None:
        self._directory = directory
        self._fast = fast
        self._programs = postgres_programs(directory)
        self._data = directory.path / "postgres"
        settings = SETTINGS | {"unix_socket_directories": str(directory.sockets)} | (FAST_SETTINGS if fast else {})
        self._child = Child(
            "postgres",
            [
                self._programs / "postgres",
                "-D",
                self._data,
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            env=_environment(),
            cwd=directory.path,
            log=directory.log("postgres"),
            account=directory.account,
            stop_signal=FAST_SHUTDOWN,
            orphan_grace_s=10.0,
            keep_fds=[directory.lock_fd],
        )

    @property
    def child(self) -> Child:
        return self._child

    @property
    def psql(self) -> Path:
        return self._programs / "psql"

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self._directory.sockets))}"

    def start(self) -> None:
        """Returns when connections are accepted."""
        if self._child.is_running():
            return
        end_leftovers(self._data, "postgres", FAST_SHUTDOWN)
        if not (self._data / "PG_VERSION").exists():
            self._make_cluster()
        self._child.start()
        self._wait_until_ready()

    def stop(self) -> None:
        self._child.stop()

    def kill(self) -> None:
        """SIGKILL to the server; its back ends notice and end."""
        self._child.kill()
        end_leftovers(self._data, "postgres", signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP to the server and all its back ends: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, sent: signal.Signals) -> None:
        for process_id in self._all_processes():
            with contextlib.suppress(ProcessLookupError):  # a back end whose client is gone may have ended meanwhile
                os.kill(process_id, sent)

    def _all_processes(self) -> list[int]:
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        return [self._child.pid, *map(int, children)]

    def _make_cluster(self) -> None:
        """Into a folder beside, renamed when complete: a first start that was interrupted leaves no half cluster."""
        if self._data.exists() and any(self._data.iterdir()):
            raise ProcessFailed(f"{self._data} is not empty and holds no PostgreSQL cluster; look what it is")
        part = self._directory.path / "postgres.new"
        shutil.rmtree(part, ignore_errors=True)
        self._directory.make_private(part)
        self._run(
            [
                self._programs / "initdb",
                *("-D", part, "-U", USER, "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
                *("--auth-local=trust", "--auth-host=reject"),
                *(["--no-sync"] if self._fast else []),
            ]
        )
        self._run(
            [self._programs / "postgres", "--single", "-D", part, *(["-F"] if self._fast else []), "template1"],
            stdin=f"CREATE DATABASE {DATABASE};\n",
        )
        with contextlib.suppress(FileNotFoundError):
            self._data.rmdir()
        part.rename(self._data)

    def _run(self, command: list[str | Path], stdin: str = "") -> None:
        account = self._directory.account
        with self._directory.log("postgres").open("a") as log:
            done = subprocess.run(
                [str(part) for part in command],
                input=stdin,
                text=True,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                check=False,
                user=account and account.uid,
                group=account and account.gid,
                extra_groups=None if account is None else [],
            )
        if done.returncode:
            raise ProcessFailed(
                f"{Path(command[0]).name} ended with status {done.returncode}:\n{self._child.last_words(5)}"
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            if not self._child.is_running() or time.monotonic() > deadline:
                ending = self._child.ending() or f"was not ready within {READY_WITHIN_S:.0f} s"
                self._child.stop()
                raise ProcessFailed(f"postgres {ending}:\n{self._child.last_words(8)}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """The server's own word in postmaster.pid: line 1 its number, line 8 its state; what pg_ctl waits for too."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._child.pid) and lines[7].strip() == "ready"


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
