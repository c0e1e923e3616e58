"""A crowd of clients in a process of its own: each has an address, a key and one connection, and never opens another.

    with running_crowd(edge, first=0, count=2500) as crowd:
        crowd.results()                  # Counter({"200": 2500}): each has opened its connection and sent a request
        crowd.ask("other")
        crowd.results()                  # Counter({"403": 2500}): each has sent one with its neighbour's key

Commands come on stdin, results leave on stdout, a line each. Blocking sockets, some at once: asyncio reserves 256 KiB
for each TLS connection, too much for ten thousand of them.
"""

import contextlib
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from tests.support.edge import Edge

ROOT = Path(__file__).parents[2]
AT_ONCE = 16
"""So many of a crowd wait for an answer at the same time."""

OWN_PORT = 20_000 + os.getpid() % 10_000
"""Each has it for itself, on its own address. Not one that the system gives out: ten thousand of those would be in the
way of everybody who listens on all addresses."""

SILENCE_LIMIT_S = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Crowd:
    """The test's end of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, key: Literal["own", "other"]) -> None:
        """Has each client send a request, with its own key or its neighbour's."""
        assert self.process.stdin is not None
        self.process.stdin.write(key + "\n")
        self.process.stdin.flush()

    def results(self) -> Counter[str]:
        """How many got what: a status, if all of the answer was right, or else what was wrong."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the crowd ended"
        return Counter(json.loads(line))


@contextlib.contextmanager
def running_crowd(edge: Edge, *, first: int, count: int) -> Iterator[Crowd]:
    """Clients ``first`` and following. They begin at once; the end of it closes all their connections."""
    arguments = (str(edge.port), str(edge.folder / "certificate.pem"), str(first), str(count))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.crowd", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Crowd(process)
    finally:
        process.kill()
        process.communicate()


def address_of(number: int) -> str:
    """In NETWORK, far from the addresses of other tests; Linux answers on all of 127.0.0.0/8."""
    return f"127.64.{number >> 8}.{number & 255}"


NETWORK = "127.64.0.0/16"


class Client:
    """One of them. Its uploads have a length of their own: another client's answer would be noticed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.address = address_of(number)
        self.key = f"sk-crowd{number:040d}"
        self._unread = b""

    def open(self, port: int, tls: ssl.SSLContext) -> None:
        own = (self.address, OWN_PORT)
        plain = socket.create_connection(("127.0.0.1", port), SILENCE_LIMIT_S, source_address=own)
        self._socket = tls.wrap_socket(plain, server_hostname="127.0.0.1")

    def send(self, key: str) -> None:
        body = b"x" * (self.number + 1)
        lines = ("POST /v1/files HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", f"Content-Length: {len(body)}")
        self._socket.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)

    def receive(self) -> str:
        while b"\r\n\r\n" not in self._unread:
            self._read()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        assert length is not None, head
        while len(self._unread) < int(length[1]):
            self._read()
        body, self._unread = json.loads(self._unread), b""
        status = head.split(b" ", 2)[1].decode()
        return status if self._is_right(status, body) else f"{status} {body}"

    def _is_right(self, status: str, body: dict) -> bool:
        if status == "200":
            return body["bytes"] == self.number + 1
        error = body["error"]
        return error["code"] == "key_bound_to_other_address" and f"came from {self.address}." in error["message"]

    def _read(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("closed by the server")
        self._unread += received


def main(port: int, certificate: str, first: int, count: int) -> None:
    os.nice(10)  # whoever tests beside this goes first
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tls = ssl.create_default_context(cafile=certificate)
    clients = [Client(first + n) for n in range(count)]
    keys = [client.key for client in clients]

    def begin(client: Client, key: str) -> None:
        client.open(port, tls)
        client.send(key)

    _tell(_each(clients, keys, begin))
    for command in sys.stdin:
        shift = 1 if command.strip() == "other" else 0
        _tell(_each(clients, keys[shift:] + keys[:shift], Client.send))


def _each(clients: list[Client], keys: list[str], step: Callable[[Client, str], None]) -> Iterator[str]:
    pairs = list(zip(clients, keys, strict=True))
    for start in range(0, len(pairs), AT_ONCE):
        now = pairs[start : start + AT_ONCE]
        lost = [_lost(lambda pair=pair: step(*pair)) for pair in now]
        for (client, _), sending in zip(now, lost, strict=True):
            yield sending or _lost(client.receive)


def _lost(step: Callable[[], str | None]) -> str:
    """What the step says (nothing if it says nothing), or how the connection failed."""
    try:
        return step() or ""
    except OSError as error:
        return repr(error)


def _tell(results: Iterable[str]) -> None:
    sys.stdout.write(json.dumps(Counter(results)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
