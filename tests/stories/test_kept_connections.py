"""A connection that is kept: each answer on it is a request's own, whatever became of the request before."""

import asyncio
import contextlib
import itertools
import re
import secrets
from collections.abc import Iterator

import h11
import pytest

from benchmarks.stub import StubServer
from sentinel.services import Stores
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.hostile_requests import SMUGGLED

pytestmark = pytest.mark.anyio

HANG_S = 30
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nX-Real-IP: 203.0.113.7\r\nConnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@pytest.fixture
def shaken(own_stores: Stores) -> Iterator[GatewayProcess]:
    """A gateway whose Redis may die."""
    shared = {"pg_dsn": own_stores.pg_dsn, "redis_url": own_stores.redis_url, "upstream_port": free_port()}
    with running_gateway(**shared) as running:
        yield running
        assert "Traceback" not in running.log_text()


async def statuses(gateway: GatewayProcess, head: bytes, rest: bytes) -> list[int]:
    """Says a head and the begin of its body, waits for an answer, then says the rest and `LAST`, to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(HANG_S):
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(rest + LAST)
            while data := await reader.read(65_536):
                answer += data
    writer.close()
    return [int(status) for status in _STATUS.findall(answer)]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_the_rest_of_a_body_that_was_answered_early_is_no_request(gateway, stub, key, framing):
    """Refused, for a path of our own, or answered by the upstream: the connection ends, or goes on behind the body."""
    allowed = f"Authorization: Bearer {key}\r\nX-Real-IP: 203.0.113.7\r\n"
    refused = f"X-Api-Key: sk-other\r\n{allowed}"
    cases = [
        ("/v1/x", refused, 400),
        ("/v1/x", f"Expect: 100-continue\r\n{refused}", 400),
        ("/v1/x", allowed.replace("203.0.113.7", "unknown"), 400),
        ("/v1/files", f"X-Stub-Early: 1\r\n{allowed}", 200),
        ("/health", "", 405),
        ("/sentinel/verdict", allowed, 400),
        ("/admin/api/login", allowed, 404),
    ]
    for path, lines, status in cases:
        body = b"hello" + SMUGGLED
        if framing == "length":
            frame, begin, rest = f"Content-Length: {len(body)}", b"hello", SMUGGLED
        else:
            frame = "Transfer-Encoding: chunked"
            begin = b"%x\r\nhello" % len(body)
            rest = SMUGGLED + b"\r\n0\r\n\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}{frame}\r\n\r\n".encode()
        got = await statuses(gateway, head + (b"" if "100-continue" in lines else begin), rest)
        assert got[0] == status, (path, got)
        assert len(got) <= 2, (path, got)
        assert b"/smuggled" not in [request.path for request in stub.requests], path


async def test_an_answer_before_the_end_of_its_request_says_that_the_connection_ends(gateway, stub, key):
    """The client must not send its next request where nobody reads it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    lines = f"authorization: Bearer {key}\r\nx-real-ip: 203.0.113.7\r\nx-stub-early: 1\r\n"
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\n{lines}"
    writer.write(f"{head}transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    writer.close()


class Caller:
    """One connection after the other, each kept for as long as it lets itself be; what comes back is read strictly."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._key = "sk-" + secrets.token_hex(24)
        self.kinds = itertools.islice(itertools.cycle(KINDS), number, None)
        self.answered: list[tuple[str, int]] = []

    async def call(self, times: int) -> None:
        """Raises h11.RemoteProtocolError for anything that is not the one answer to what was asked."""
        while len(self.answered) < times:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            machine = h11.Connection(h11.CLIENT)
            with contextlib.suppress(ConnectionError):
                while len(self.answered) < times and machine.our_state is h11.IDLE:
                    await self._ask(machine, reader, writer)
                    if machine.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                        assert machine.trailing_data == (b"", False)
                        machine.start_next_cycle()
            writer.close()

    async def _ask(self, machine: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = next(self.kinds)
        key = "sk-" + secrets.token_hex(24) if "new" in kind else self._key
        headers = [("host", "x"), ("authorization", f"Bearer {key}"), ("x-real-ip", "203.0.113.7")]
        pieces = [b"a" * 5000] * 4
        if "refused" in kind:
            headers.append(("x-api-key", "sk-other"))
        if "early" in kind:
            headers.append(("x-stub-early", "1"))
        if kind == "get":
            request = h11.Request(method="GET", target="/v1/models", headers=headers)
            pieces = []
        else:
            request = h11.Request(
                method="POST", target="/v1/files", headers=[*headers, ("transfer-encoding", "chunked")]
            )
        writer.write(machine.send(request) or b"")
        for piece in pieces:
            writer.write(machine.send(h11.Data(data=piece)) or b"")
            await asyncio.sleep(0)
        writer.write(machine.send(h11.EndOfMessage()) or b"")
        status = 0
        async with asyncio.timeout(HANG_S):
            while True:
                event = machine.next_event()
                if event is h11.NEED_DATA:
                    data = await reader.read(65_536)
                    if not data and not status:
                        raise ConnectionResetError
                    machine.receive_data(data)
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.EndOfMessage):
                    self.answered.append((kind, status))
                    return


KINDS = ("get", "post", "new", "post refused", "post early", "get", "new early", "post")


async def test_while_redis_dies_and_comes_back_each_answer_is_a_requests_own(shaken, own_stores):
    callers = [Caller(shaken.port, number) for number in range(8)]
    async with StubServer(any_key=True, port=shaken.upstream_port):
        calling = asyncio.gather(*(caller.call(40) for caller in callers))
        for _ in range(3):
            await asyncio.to_thread(own_stores.valkey.kill)
            await asyncio.to_thread(own_stores.valkey.start)
        await calling
    for kind, status in itertools.chain.from_iterable(caller.answered for caller in callers):
        assert status == (400 if "refused" in kind else 200), kind
