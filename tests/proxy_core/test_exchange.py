"""One connection to the upstream: every answer is fed whole, byte by byte, and broken off at each byte."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from proxy_core.errors import ClientGone, UpstreamCut, UpstreamError, UpstreamTimeout
from proxy_core.exchange import MAX_HEAD_BYTES, READ_HIGH_WATER_BYTES, Connection, Limits

pytestmark = pytest.mark.anyio

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
FIRST_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"
INFORMED = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LENGTH
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"
HTTP_1_0 = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """The lowest seam: what a connection writes is kept, what it is told comes from the test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False
        self.reading = True

    def set_write_buffer_limits(self, high=None, low=None) -> None: ...

    def write(self, data) -> None:
        self.sent += data

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connected(**limits) -> tuple[Connection, Wire]:
    connection, wire = Connection(Limits(**limits), lambda _: None), Wire()
    connection.connection_made(wire)
    return connection, wire


def asked(*, bodiless: bool = False, **limits) -> tuple[Connection, Wire]:
    connection, wire = connected(**limits)
    connection.begin(bodiless=bodiless)
    connection.write(b"GET / HTTP/1.1\r\n\r\n")
    connection.request_sent()
    return connection, wire


async def read_all(connection: Connection) -> bytes:
    body = b""
    while chunk := await connection.read():
        body += chunk
    return body


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize(
    ("answer", "status", "body", "reusable"),
    [
        (LENGTH, 200, b"hello", True),
        (CHUNKED, 200, b"hello", True),
        (INFORMED, 200, b"hello", True),
        (NO_CONTENT, 204, b"", True),
        (NOT_MODIFIED, 304, b"", True),
        (HTTP_1_0, 200, b"hello", False),
        (LENGTH.replace(b"Content-Type: text/plain", b"Connection: close"), 200, b"hello", False),
    ],
)
async def test_an_answer_is_the_same_however_it_is_cut_into_packets(answer, status, body, reusable, size):
    connection, _ = asked()
    for start in range(0, len(answer), size):
        connection.data_received(answer[start : start + size])
    assert (await connection.response_head()).status == status
    assert await read_all(connection) == body
    assert connection.can_be_reused is reusable


async def read_answer(connection):
    await connection.response_head()
    return await read_all(connection)


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, INFORMED])
async def test_an_answer_broken_off_at_any_byte_is_an_error_and_never_an_end(answer):
    for end in range(len(answer)):
        connection, _ = asked()
        connection.data_received(answer[:end])
        connection.connection_lost(None)
        with pytest.raises((UpstreamError, UpstreamCut)) as caught:
            await read_answer(connection)
        assert isinstance(caught.value, UpstreamCut) == (connection.head is not None)
        assert not connection.can_be_reused


async def test_what_arrived_before_the_break_is_passed_on_first():
    connection, _ = asked()
    connection.data_received(FIRST_CHUNK)
    connection.connection_lost(ConnectionResetError())
    await connection.response_head()
    assert await connection.read() == b"hel"
    with pytest.raises(UpstreamCut):
        await connection.read()


async def test_a_body_without_framing_ends_with_the_connection_but_not_with_a_reset():
    connection, _ = asked()
    connection.data_received(UNTIL_CLOSE)
    connection.connection_lost(None)
    assert await read_all(connection) == b"hello"
    assert not connection.can_be_reused

    connection, _ = asked()
    connection.data_received(UNTIL_CLOSE)
    connection.connection_lost(ConnectionResetError())
    with pytest.raises(UpstreamCut):
        await read_all(connection)


async def test_the_answer_to_head_ends_with_its_head_and_the_next_answer_is_read_afresh():
    connection, _ = asked(bodiless=True)
    connection.data_received(LENGTH.removesuffix(b"hello"))
    assert (await connection.response_head()).headers[-1] == (b"content-length", b"5")
    assert connection.whole_body() == b""
    assert connection.can_be_reused
    connection.begin(bodiless=False)
    connection.request_sent()
    connection.data_received(CHUNKED)
    assert await read_all(connection) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES,
    ],
    ids=[
        "no HTTP",
        "HTTP/2.0",
        "both framings",
        "two lengths",
        "negative length",
        "NUL",
        "101",
        "endless 1xx",
        "endless head",
    ],
)
async def test_a_hostile_answer_is_refused_and_its_connection_closed(answer):
    connection, wire = asked()
    for start in range(0, len(answer), 4096):
        connection.data_received(answer[start : start + 4096])
    with pytest.raises(UpstreamError):
        await connection.response_head()
    assert wire.closed


async def test_a_bad_chunk_size_in_the_middle_is_a_cut():
    connection, wire = asked()
    connection.data_received(FIRST_CHUNK + b"zz\r\n")
    with pytest.raises(UpstreamCut):
        await read_all(connection)
    assert wire.closed


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x"])
async def test_bytes_after_an_answer_never_become_the_next_answer(extra):
    connection, wire = asked()
    connection.data_received(LENGTH + extra)
    assert await read_all(connection) == b"hello"
    assert not connection.can_be_reused

    connection, wire = asked()
    connection.data_received(LENGTH)
    connection.busy = False  # given back to the pool
    connection.data_received(extra)
    assert wire.closed


async def test_an_unread_body_stops_the_upstream_and_reading_lets_it_go_on():
    connection, wire = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    connection.data_received(b"x" * (READ_HIGH_WATER_BYTES + 1))
    assert not wire.reading
    await connection.read()
    assert wire.reading


async def test_a_request_not_sent_to_its_end_spoils_the_connection():
    connection, _ = connected()
    connection.begin(bodiless=False)
    connection.write(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
    connection.data_received(LENGTH)
    assert await read_all(connection) == b"hello"
    assert not connection.can_be_reused


async def test_continue_is_told_from_a_final_answer():
    connection, _ = asked()
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await connection.wait_continue(60)
    connection, _ = asked()
    connection.data_received(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    assert not await connection.wait_continue(60)


async def test_time_limits_end_the_wait_for_the_head_and_between_chunks():
    connection, wire = asked(head_s=30.0)
    reading = asyncio.create_task(connection.response_head())
    await asyncio.sleep(0)
    connection.check_deadline(time.monotonic() + 29)
    assert not reading.done()
    connection.check_deadline(time.monotonic() + 31)
    with pytest.raises(UpstreamTimeout):
        await reading
    assert wire.closed

    connection, wire = asked(idle_s=30.0)
    connection.data_received(FIRST_CHUNK)
    assert await connection.read() == b"hel"
    reading = asyncio.create_task(connection.read())
    await asyncio.sleep(0)
    connection.check_deadline(time.monotonic() + 31)
    with pytest.raises(UpstreamCut):
        await reading


async def test_a_limit_of_zero_is_no_limit():
    connection, _ = asked(head_s=0.0)
    reading = asyncio.create_task(connection.response_head())
    await asyncio.sleep(0)
    connection.check_deadline(time.monotonic() + 1e9)
    connection.data_received(LENGTH)
    assert (await reading).status == 200


async def test_the_first_failure_is_the_one_that_is_told():
    connection, wire = asked()
    connection.fail(ClientGone())
    connection.fail(UpstreamCut("later"))
    connection.connection_lost(None)
    with pytest.raises(ClientGone):
        await connection.response_head()
    assert wire.closed


async def test_a_blocked_writer_is_released_when_the_connection_is_lost():
    connection, _ = asked()
    connection.pause_writing()
    blocked = asyncio.create_task(connection.drain())
    await asyncio.sleep(0)
    assert not blocked.done()
    connection.connection_lost(ConnectionResetError())
    await blocked


async def test_repr_tells_the_state():
    connection, _ = connected()
    assert repr(connection) == "<Connection idle>"
    connection.begin(bodiless=False)
    assert repr(connection) == "<Connection waiting for the response head>"
    connection.data_received(FIRST_CHUNK)
    assert repr(connection) == "<Connection 200, reading>"
    connection.connection_lost(None)
    assert repr(connection) == "<Connection closed>"


async def test_who_waits_for_100_continue_does_not_take_the_answer_from_who_waits_for_it():
    """The upload waits for leave while the handler waits for the answer already: each gets its own news."""
    connection, _ = asked()
    answering = asyncio.create_task(connection.response_head())
    asking_leave = asyncio.create_task(connection.wait_continue(30))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await asking_leave
    connection.data_received(LENGTH)
    async with asyncio.timeout(5):
        assert (await answering).status == 200


async def test_a_final_answer_ends_the_wait_for_100_continue():
    connection, _ = asked()
    asking_leave = asyncio.create_task(connection.wait_continue(30))
    await asyncio.sleep(0)
    connection.data_received(LENGTH)
    assert not await asking_leave


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class SocketWire(Wire):
    """A wire with a socket under it."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__()
        self._raw = raw

    def get_extra_info(self, name, default=None):
        return self._raw if name == "socket" else default


@pytest.fixture
async def handshake() -> AsyncIterator[tuple[Connection, SocketWire, socket.socket]]:
    with socket.socket() as raw:
        connection, wire = Connection(Limits(), lambda _: None), SocketWire(raw)
        connection.connection_made(wire)
        connection.begin(bodiless=False)
        connection.expect_upgrade()
        yield connection, wire, raw


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_after_a_switch_every_byte_is_passed_on(handshake, size):
    """Also those that came with the head, and those that look like HTTP."""
    connection, wire, raw = handshake
    rest = b"\x81\x05hello" + SWITCH + b"HTTP/1.1 200 OK\r\n\r\n"
    for start in range(0, len(SWITCH + rest), size):
        connection.data_received((SWITCH + rest)[start : start + size])
    assert (await connection.response_head()).status == 101
    assert connection.arrived() == rest
    assert connection.arrived() is None
    assert not wire.closed
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_switched_connection_stops_reading_when_nobody_takes_its_bytes(handshake):
    connection, wire, _ = handshake
    connection.data_received(SWITCH)
    connection.data_received(b"x" * (READ_HIGH_WATER_BYTES + 1))
    assert not wire.reading
    connection.arrived()
    assert wire.reading


async def test_a_switched_connection_may_be_silent_for_ever(handshake):
    """Neither end has to say anything; the limit of an answer's silence is not for it."""
    connection, _, _ = handshake
    connection.data_received(SWITCH)
    news = connection.more_whenever()
    connection.check_deadline(time.monotonic() + 1e9)
    assert not news.done()
    connection.data_received(b"x")
    assert news.done()


async def test_the_end_of_a_switched_connection_is_told_and_it_is_never_used_again(handshake):
    connection, _, _ = handshake
    connection.data_received(SWITCH)
    assert not connection.can_be_reused
    connection.connection_lost(None)
    assert connection.arrived() == b""


async def test_a_refused_handshake_is_an_ordinary_answer(handshake):
    connection, _, _ = handshake
    connection.data_received(LENGTH)
    assert (await connection.response_head()).status == 200
    assert await connection.read() == b"hello"
