"""Owns the embedded Valkey: one server in the foreground as our child, on a Unix socket only the account may use."""

import signal
import socket
import time

from sentinel.child import Child
from sentinel.errors import ProcessFailed
from sentinel.services.binaries import valkey_program
from sentinel.services.directory import DataDirectory
from sentinel.services.leftovers import end_leftovers

READY_WITHIN_S = 60.0  # it reads its append-only file first
SOCKET = "valkey.sock"

# noeviction: events and claims live here; a full memory must be an error that is seen, not a silent loss.
SETTINGS = {"port": "0", "unixsocketperm": "700", "daemonize": "no", "save": "", "maxmemory-policy": "noeviction"}
DURABLE_SETTINGS = {"appendonly": "yes", "appendfsync": "everysec"}
# For tests only: nothing outlives the server.
FAST_SETTINGS = {"appendonly": "no"}


class ValkeyStore:
    """The server and its life; ``start`` and ``stop`` may follow each other any number of times."""

    def __init__(self, directory: DataDirectory, *, fast: bool = False) -> None:
        self._data = directory.owned_folder("valkey")
        self._socket = directory.sockets / SOCKET
        settings = SETTINGS | {"unixsocket": str(self._socket)} | (FAST_SETTINGS if fast else DURABLE_SETTINGS)
        self._child = Child(
            "valkey",
            [valkey_program(directory), *(part for name, value in settings.items() for part in (f"--{name}", value))],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            cwd=self._data,
            log=directory.log("valkey"),
            account=directory.account,
            orphan_grace_s=10.0,
            keep_fds=[directory.lock_fd],
        )

    @property
    def child(self) -> Child:
        return self._child

    @property
    def url(self) -> str:
        return f"unix://{self._socket}?db=0"

    def start(self) -> None:
        """Returns when commands are answered."""
        if self._child.is_running():
            return
        end_leftovers(self._data, "valkey-server", signal.SIGTERM)
        self._socket.unlink(missing_ok=True)
        self._child.start()
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if not self._child.is_running() or time.monotonic() > deadline:
                ending = self._child.ending() or f"was not ready within {READY_WITHIN_S:.0f} s"
                self._child.stop()
                raise ProcessFailed(f"valkey {ending}:\n{self._child.last_words(8)}")
            time.sleep(0.01)

    def stop(self) -> None:
        self._child.stop()

    def kill(self) -> None:
        self._child.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, new ones are accepted by the kernel, nothing answers."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.signal(signal.SIGCONT)

    def _answers(self) -> bool:
        """PING, not only a connection: while it loads its file it accepts and says LOADING."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False
