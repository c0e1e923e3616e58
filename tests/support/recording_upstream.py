"""An upstream that keeps every byte which reaches it, and reads them more strictly than any server would.

It answers each request with the bytes that it was given, so that it can also answer with what no server should.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'

_HEAD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ((?:/|\*)[\x21-\x7e\x80-\xff]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


class Arrived(NamedTuple):
    """One request as the upstream got it: header names in lower case, as Sentinel writes them."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known == name]


class Malformed(AssertionError):
    """Bytes reached the upstream that Sentinel never writes."""


def read_one(data: bytes) -> tuple[Arrived, bytes] | None:
    """The first request of ``data`` and what follows it; None while it is incomplete. Raises Malformed."""
    head = _HEAD.match(data)
    if head is None:
        if b"\r\n\r\n" in data:
            raise Malformed(data[:200])
        return None
    lines = [line.partition(b": ") for line in head[3].split(b"\r\n")[:-1]]
    headers = [(name, value) for name, _, value in lines]
    names = [name for name, _ in headers]
    if names.count(b"host") != 1 or names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        raise Malformed(head[0])
    rest = data[head.end() :]
    body: bytes | None = b""
    if b"content-length" in names:
        length = int(dict(headers)[b"content-length"])
        body, rest = (rest[:length], rest[length:]) if len(rest) >= length else (None, rest)
    elif b"transfer-encoding" in names:
        if dict(headers)[b"transfer-encoding"] != b"chunked":
            raise Malformed(head[0])
        body, rest = _dechunked(rest)
    return None if body is None else (Arrived(head[1], head[2], headers, body), rest)


def _dechunked(data: bytes) -> tuple[bytes | None, bytes]:
    body = b""
    while (size := _CHUNK.match(data)) is not None:
        length = int(size[1], 16)
        if length == 0:
            return (body, data[size.end() + 2 :]) if data[size.end() :][:2] == b"\r\n" else (None, data)
        chunk = data[size.end() :][: length + 2]
        if len(chunk) < length + 2:
            return None, data
        if not chunk.endswith(b"\r\n"):
            raise Malformed(chunk[:200])
        body += chunk[:-2]
        data = data[size.end() + length + 2 :]
    if b"\r\n" in data:
        raise Malformed(data[:200])
    return None, data


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: "RecordingUpstream") -> None:
        self._upstream = upstream
        self._unread = b""
        self.received = bytearray()
        self.closed = False
        self.transport: asyncio.Transport

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._upstream.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._unread += data
        with contextlib.suppress(Malformed):  # the test finds it again in `requests`
            while (found := read_one(self._unread)) is not None:
                request, self._unread = found
                self._upstream.answer(self, request)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True


class RecordingUpstream:
    """``answers`` by target; every other request gets `OK`. An answer that is None stays out.

    An answer that ends in `CLOSE` is followed by the end of the connection.
    """

    CLOSE = b"\x00close"

    def __init__(self) -> None:
        self.connections: list[_Connection] = []
        self.answers: dict[bytes, bytes | None] = {}

    def answer(self, connection: _Connection, request: Arrived) -> None:
        answer = self.answers.get(request.target, OK)
        if answer is not None:
            connection.transport.write(answer.removesuffix(self.CLOSE))
            if answer.endswith(self.CLOSE):
                connection.transport.close()

    @property
    def received(self) -> bytes:
        return b"".join(bytes(connection.received) for connection in self.connections)

    def requests(self) -> list[Arrived]:
        """Every whole request that arrived. Raises Malformed where anything else than requests arrived."""
        found = []
        for connection in self.connections:
            rest = bytes(connection.received)
            while (one := read_one(rest)) is not None:
                found.append(one[0])
                rest = one[1]
        return found

    def unfinished(self) -> list[bytes]:
        """What is left of each connection after its whole requests: the begin of one that was broken off."""
        found = []
        for connection in self.connections:
            rest = bytes(connection.received)
            while (one := read_one(rest)) is not None:
                rest = one[1]
            found.append(rest)
        return [rest for rest in found if rest]


@contextlib.asynccontextmanager
async def recording_upstream(port: int) -> AsyncIterator[RecordingUpstream]:
    upstream = RecordingUpstream()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(upstream), "127.0.0.1", port)
    try:
        yield upstream
    finally:
        server.close()
        for connection in upstream.connections:
            connection.transport.abort()
        await server.wait_closed()
