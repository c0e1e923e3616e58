"""A light reader of many SSE streams at once, which checks every frame: its number, its bytes, its delay.

A frame is lost, reordered or altered only by what the peer sent, never by how late we read; frames that arrive in one
chunk are told apart as coalesced: the peer read late, and passed several on together.
"""

import asyncio
import re
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from benchmarks.stub.dialects import chat_stream

PATH = "/v1/chat/completions"
MODEL = "stub-model"
_BODY = b'{"model":"stub-model","messages":[{"role":"user","content":"Count."}],"stream":true}'
_MARKED = re.escape(chat_stream(MODEL).frame).replace(rb"%d", rb"(\d+)")
_frame = re.compile(_MARKED).fullmatch
_SAMPLE = 8
"""Every eighth frame's delay is kept: enough for percentiles, light enough for one core."""


class Ask(NamedTuple):
    """What each stream asks the stub for."""

    frames: int
    interval_ms: int

    def request(self, host: str, key: str) -> bytes:
        return (
            f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Accept: text/event-stream\r\nContent-Length: {len(_BODY)}\r\n"
            f"x-stub-frames: {self.frames}\r\nx-stub-interval-ms: {self.interval_ms}\r\n\r\n"
        ).encode() + _BODY


class Tally(msgspec.Struct):
    """What all streams of a round saw together; ``failed`` holds the first few reasons of streams that broke."""

    frames: int = 0
    coalesced: int = 0
    lost: int = 0
    reordered: int = 0
    altered: int = 0
    finished: int = 0
    failed: list[str] = []
    sampling: bool = False

    @property
    def bad(self) -> int:
        return self.lost + self.reordered + self.altered


class StreamReader(asyncio.Protocol):
    """One stream. ``done`` is set when it ended, well or not; frames that never came are counted as lost then."""

    def __init__(self, request: bytes, frames: int, tally: Tally, delays_ns: "array[int]") -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._frames = frames
        self._tally = tally
        self._delays_ns = delays_ns
        self._parser = httptools.HttpResponseParser(self)
        self._next = 0
        self._tail = b""
        self._saw_done = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._end(f"status {status}")

    def on_body(self, chunk: bytes) -> None:
        found = None if self._tail else _frame(chunk)
        if found is not None:
            self._count(int(found[1]), int(found[2]))
            return
        self._tail += chunk
        frames = 0
        while (end := self._tail.find(b"\n\n") + 2) > 1:
            event, self._tail = self._tail[:end], self._tail[end:]
            frames += self._event(event)
        self._tally.coalesced += max(0, frames - 1)

    def _event(self, event: bytes) -> int:
        """1 for a content frame, 0 for what surrounds them."""
        found = _frame(event)
        if found is not None:
            self._count(int(found[1]), int(found[2]))
            return 1
        stream = chat_stream(MODEL)
        if event == b"data: [DONE]\n\n":
            self._saw_done = True
        elif event != stream.opening and event not in stream.closing:
            self._tally.altered += 1
        return 0

    def _count(self, seq: int, sent_ns: int) -> None:
        tally = self._tally
        tally.frames += 1
        if seq == self._next:
            self._next += 1
        elif seq > self._next:
            tally.lost += seq - self._next
            self._next = seq + 1
        else:
            tally.reordered += 1
        if tally.sampling and not seq % _SAMPLE:
            self._delays_ns.append(time.monotonic_ns() - sent_ns)

    def on_message_complete(self) -> None:
        self._end(None if self._saw_done else "ended without [DONE]")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"broken off: {error}")

    def _end(self, failure: str | None) -> None:
        if self.done.done():
            return
        self.done.set_result(None)
        tally = self._tally
        tally.lost += self._frames - self._next
        if failure is None:
            tally.finished += 1
        elif len(tally.failed) < 5:
            tally.failed.append(failure)
        if self._transport is not None:
            self._transport.close()


class Window(NamedTuple):
    """The measured middle of a round: all streams open, none ended."""

    seconds: float
    frames: int
    delays_ns: "array[int]"


async def read_streams(
    url: str, key: str, streams: int, ask: Ask, *, settle_s: float, seconds: float, mark: Callable[[], None]
) -> tuple[Tally, Window]:
    """Open ``streams`` evenly over a second, measure ``seconds`` of them, read all to their end.

    ``mark`` is called at the start and at the end of the window. Bounded: a stream that has not ended a good while
    after its time is given up, and its missing frames count as lost.
    """
    where = urlsplit(url)
    host, port = where.hostname or "127.0.0.1", where.port or 80
    loop = asyncio.get_running_loop()
    tally, delays_ns = Tally(), array("q")
    request = ask.request(f"{host}:{port}", key)
    readers: list[StreamReader] = []
    began = loop.time()
    for number in range(streams):
        await asyncio.sleep(max(0.0, began + number / streams - loop.time()))
        reader = StreamReader(request, ask.frames, tally, delays_ns)
        await loop.create_connection(lambda reader=reader: reader, host, port)  # type: ignore[misc] # mypy: lambda default
        readers.append(reader)
    await asyncio.sleep(settle_s)
    mark()
    tally.sampling, opened_at, frames_before = True, loop.time(), tally.frames
    await asyncio.sleep(seconds)
    tally.sampling, measured_s, frames_after = False, loop.time() - opened_at, tally.frames
    mark()
    left_s = ask.frames * ask.interval_ms / 1000 + 15.0
    await asyncio.wait([reader.done for reader in readers], timeout=left_s)
    for reader in readers:
        reader.connection_lost(None)
    return tally, Window(measured_s, frames_after - frames_before, delays_ns)
