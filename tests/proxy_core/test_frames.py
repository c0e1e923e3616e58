"""The upstream's end of a WebSocket, fed whole, byte by byte and cut, with a server of the same library at the
other."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.frames import Close, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from proxy_core.errors import UpstreamCut, UpstreamTimeout
from proxy_core.frames import UpstreamSocket

pytestmark = pytest.mark.anyio

MAX_BYTES = 1000
Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[number : number + 1] for number in range(len(data))]


def in_threes(data: bytes) -> list[bytes]:
    return [data[number : number + 3] for number in range(0, len(data), 3)]


class Wire:
    """Stands in for `exchange.Connection` after a switch: what the test lets arrive, and what was written."""

    def __init__(self) -> None:
        self.upstream = Protocol(SERVER, state=OPEN, max_size=None)
        self.arriving: list[bytes] = []
        self.ended = False
        self.broken = False
        self.takes = True
        self._news = asyncio.Event()

    def let_arrive(self, cut: Cut = whole) -> None:
        """What the server has said by now, in packets."""
        for data in self.upstream.data_to_send():
            self.arriving += [packet for packet in cut(data) if packet]
        self._news.set()

    def end(self, *, broken: bool = False) -> None:
        self.ended, self.broken = True, broken
        self._news.set()

    def heard(self) -> list[Any]:
        """The frames that the server got."""
        return self.upstream.events_received()

    # -- what `UpstreamSocket` asks of a connection

    def arrived(self) -> bytes | None:
        if self.arriving:
            return self.arriving.pop(0)
        if self.broken:
            raise UpstreamCut("gone")
        return b"" if self.ended else None

    def more_whenever(self) -> "asyncio.Task[bool]":
        self._news.clear()
        return asyncio.ensure_future(self._news.wait())

    def write(self, data: bytes) -> None:
        self.upstream.receive_data(data)

    async def drain(self) -> None:
        if not self.takes:
            await asyncio.Event().wait()


@pytest.fixture
def wire() -> Iterator[Wire]:
    return Wire()


def socket_on(wire: Wire, *, max_message_bytes: int = MAX_BYTES, send_limit_s: float = 0.0) -> UpstreamSocket:
    return UpstreamSocket(wire, max_message_bytes=max_message_bytes, send_limit_s=send_limit_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", [whole, byte_by_byte, in_threes], ids=lambda cut: cut.__name__)
async def test_messages_are_the_same_however_they_are_cut_into_packets(wire, cut):
    """Text and binary, empty ones, in fragments, with pings between the fragments."""
    socket = socket_on(wire)
    server = wire.upstream
    server.send_text("grüße".encode())
    server.send_binary(b"\x00\xff")
    server.send_text(b"")
    server.send_text("ä".encode()[:1], fin=False)
    server.send_ping(b"between")
    server.send_continuation("ä".encode()[1:], fin=False)
    server.send_continuation(b"", fin=True)
    server.send_binary(b"a", fin=False)
    server.send_continuation(b"b", fin=True)
    server.send_close(4001, "bye")
    wire.let_arrive(cut)
    assert [await socket.receive() for _ in range(5)] == ["grüße", b"\x00\xff", "", "ä", b"ab"]
    assert await socket.receive() is None
    assert socket.close_received == Close(4001, "bye")
    assert socket.fault is None
    assert [frame.opcode for frame in wire.heard()] == [Opcode.PONG, Opcode.CLOSE]


async def test_a_ping_is_answered_with_what_was_in_it(wire):
    socket = socket_on(wire)
    wire.upstream.send_ping(b"are you there")
    wire.upstream.send_text(b"x")
    wire.let_arrive()
    assert await socket.receive() == "x"
    (pong,) = wire.heard()
    assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"are you there")


@pytest.mark.parametrize(("data", "text"), [("grüße".encode(), True), (b"\x00\xff", False), (b"", True)])
async def test_what_is_sent_arrives_as_it_is(wire, data, text):
    await socket_on(wire).send(data, text=text)
    (frame,) = wire.heard()
    assert (bytes(frame.data), frame.opcode) == (data, Opcode.TEXT if text else Opcode.BINARY)
    assert frame.fin


async def test_the_largest_message_passes_and_a_larger_one_is_a_fault(wire):
    socket = socket_on(wire)
    wire.upstream.send_binary(b"x" * MAX_BYTES)
    wire.upstream.send_binary(b"x" * (MAX_BYTES + 1))
    wire.let_arrive()
    assert await socket.receive() == b"x" * MAX_BYTES
    assert await socket.receive() is None
    assert socket.fault == 1009


async def test_fragments_that_are_too_large_together_are_a_fault(wire):
    socket = socket_on(wire)
    wire.upstream.send_binary(b"x" * MAX_BYTES, fin=False)
    wire.upstream.send_continuation(b"x", fin=True)
    wire.let_arrive()
    assert await socket.receive() is None
    assert socket.fault == 1009


async def test_without_a_limit_a_message_may_be_of_any_size(wire):
    socket = socket_on(wire, max_message_bytes=0)
    wire.upstream.send_binary(b"x" * 5_000_000)
    wire.let_arrive()
    assert await socket.receive() == b"x" * 5_000_000


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x81\x02\xff\xfe", 1007),
        (b"\xc1\x01a", 1002),
        (b"\x83\x01a", 1002),
        (b"\x80\x01a", 1002),
        (b"\x81\x81\0\0\0\0a", 1002),
        (b"\x09\x01a", 1002),
        (b"\x88\x01\x03", 1002),
    ],
    ids=[
        *("text that is no UTF-8", "an extension that was not offered", "an opcode that nobody knows"),
        *("a continuation of nothing", "a masked frame", "a ping in fragments", "half a close code"),
    ],
)
@pytest.mark.parametrize("cut", [whole, byte_by_byte], ids=lambda cut: cut.__name__)
async def test_what_is_against_the_protocol_ends_it_and_is_told(wire, raw, code, cut):
    socket = socket_on(wire)
    wire.arriving = cut(raw)
    assert await socket.receive() is None
    assert socket.fault == code
    assert socket.close_received is None
    (close,) = wire.heard()
    assert Close.parse(bytes(close.data)).code == code


async def test_a_connection_that_breaks_is_no_end(wire):
    socket = socket_on(wire)
    wire.upstream.send_text(b"begun", fin=False)
    wire.let_arrive()
    wire.end()
    with pytest.raises(UpstreamCut):
        await socket.receive()


async def test_whoever_waits_for_a_message_gets_it_when_it_comes(wire):
    socket = socket_on(wire)
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    wire.upstream.send_text(b"late")
    wire.let_arrive(byte_by_byte)
    assert await receiving == "late"


async def test_an_upstream_that_takes_nothing_has_a_limit(wire):
    wire.takes = False
    with pytest.raises(UpstreamTimeout):
        await socket_on(wire, send_limit_s=0.01).send(b"x", text=True)


async def test_nothing_is_sent_after_the_upstreams_close(wire):
    """Its reader is about to tell; a message would be against the protocol."""
    socket = socket_on(wire)
    wire.upstream.send_close(1000)
    wire.let_arrive()
    assert await socket.receive() is None
    wire.heard()
    await socket.send(b"too late", text=True)
    assert wire.heard() == []


@pytest.mark.parametrize(("code", "told"), [(1000, 1000), (4999, 4999), (None, 1005), (1005, 1005), (1006, 1005)])
async def test_goodbye_is_said_with_a_code_that_may_be_sent(wire, code, told):
    wire.end()
    await socket_on(wire).close(code, "bye" if code else "", limit_s=60)
    (close,) = wire.heard()
    assert Close.parse(bytes(close.data)).code == told


async def test_goodbye_is_said_once(wire):
    socket = socket_on(wire)
    wire.end()
    await socket.close(1000, "", limit_s=60)
    await socket.close(1001, "", limit_s=60)
    assert len(wire.heard()) == 1


@pytest.mark.parametrize("broken", [False, True], ids=["stays", "breaks"])
async def test_goodbye_does_not_wait_for_ever(wire, broken):
    """For an upstream that never closes, and for none that is gone."""
    if broken:
        wire.end(broken=True)
    await socket_on(wire).close(1000, "", limit_s=60 if broken else 0.01)
