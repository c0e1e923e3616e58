"""One answer on its way out: head, framing, body under backpressure, and whatever the switches bend.

A reply is started once, may be told to go on (`resume`) when the connection drains, and ends by `Outlet.finished`,
by `Outlet.cut`, or never (a stall): then only the client's leaving ends it.
"""

import itertools
import time
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from typing import Protocol

from benchmarks.stub.dialects import Answer, StreamAnswer
from benchmarks.stub.pacing import TimerWheel
from benchmarks.stub.requests import Stats
from benchmarks.stub.switches import WELL_BEHAVED, Switches

_BLOCK_BYTES = 64 * 1024
_BURST = 16
"""Pieces written in one go before other connections get their turn."""


class Outlet(Protocol):
    """What a reply needs of its connection."""

    paused: bool

    def write(self, data: bytes) -> None: ...
    def finished(self, *, close: bool) -> None: ...
    def cut(self, *, reset: bool) -> None: ...


class Reply:
    """``keep_alive`` and ``chunkable`` (HTTP/1.1) say what the request allows; ``head_only`` answers HEAD."""

    def __init__(
        self,
        outlet: Outlet,
        answer: Answer | StreamAnswer,
        request_id: bytes,
        switches: Switches,
        wheel: TimerWheel,
        stats: Stats,
        *,
        keep_alive: bool,
        chunkable: bool,
        head_only: bool,
    ) -> None:
        self._outlet = outlet
        self._answer = answer
        self._stream = answer if isinstance(answer, StreamAnswer) else None
        self._whole = answer if isinstance(answer, Answer) else None
        self._request_id = request_id
        self._switches = switches
        self._wheel = wheel
        self._stats = stats
        self._head_only = head_only
        streamed = self._stream is not None
        self._chunked = chunkable and not switches.close and (streamed or switches.chunk_bytes is not None)
        self._close = not keep_alive or switches.close or (streamed and not chunkable)
        self._left = switches.body_limit
        self._sent = 0
        self._started_at = 0.0
        self._waiting = False
        self._over = False

    def start(self) -> None:
        switches, answer = self._switches, self._whole
        if switches is WELL_BEHAVED and answer is not None and answer.length is None:
            self._outlet.write(self._head(answer) if self._head_only else self._head(answer) + answer.body)
            self._end()
            return
        for status in switches.informational:
            self._outlet.write(b"HTTP/1.1 %d %b\r\nLink: </s.css>; rel=preload\r\n\r\n" % (status, _phrase(status)))
        if switches.stall_head:
            return
        if switches.delay_s:
            self._wheel.at(self._wheel.now() + switches.delay_s, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        if self._over:
            return
        answer = self._answer
        if self._head_only or answer.status in (204, 304):
            self._outlet.write(self._head(answer))
            self._end()
            return
        self._outlet.write(self._head(answer))
        if self._stream is not None and self._stream.opening:
            self._put(self._stream.opening)
        self._started_at = self._wheel.now()
        self._go_on()

    def resume(self) -> None:
        """The connection drained: go on where backpressure stopped us."""
        if self._waiting:
            self._waiting = False
            self._go_on()

    def abandon(self) -> None:
        """The connection is gone; timers that still hold us do nothing."""
        self._over = True

    def _go_on(self) -> None:
        self._next_frame()
        self._next_block()

    def _next_frame(self) -> None:
        """Send what is due; come back for the next frame by its own deadline, so that pace does not drift."""
        answer, switches = self._stream, self._switches
        if self._over or answer is None:
            return
        for _ in range(_BURST):
            if self._left is not None and self._sent >= self._left:
                self._halt()
                return
            if self._sent >= switches.frames:
                self._put(answer.closing)
                self._end()
                return
            if self._outlet.paused:
                self._waiting = True
                return
            self._put(answer.frame % (self._sent, time.monotonic_ns()))
            self._sent += 1
            self._stats.frames += 1
            if switches.interval_s:
                self._wheel.at(self._started_at + self._sent * switches.interval_s, self._next_frame)
                return
        self._wheel.at(0.0, self._next_frame)

    def _next_block(self) -> None:
        answer = self._whole
        if self._over or answer is None:
            return
        total = len(answer.body) if answer.length is None else answer.length
        size = self._switches.chunk_bytes or _BLOCK_BYTES
        end = total if self._left is None else min(total, self._left)
        for _ in range(_BURST):
            if self._outlet.paused:
                self._waiting = True
                return
            if self._sent >= end:
                break
            stop = min(self._sent + size, end)
            self._put(answer.body[self._sent : stop] if answer.length is None else download_bytes(self._sent, stop))
            self._sent = stop
        else:
            self._wheel.at(0.0, self._next_block)
            return
        if self._left is not None:
            self._halt()
        else:
            self._end()

    def _halt(self) -> None:
        """The limit of a cut or stall switch is reached; a stall leaves the connection open and silent."""
        if self._switches.cut_after is not None:
            self._over = True
            self._outlet.cut(reset=self._switches.cut_with_reset)

    def _end(self) -> None:
        self._over = True
        if self._chunked and not self._head_only:
            self._outlet.write(b"0\r\n\r\n")
        self._outlet.finished(close=self._close)

    def _put(self, payload: bytes) -> None:
        if self._chunked:
            payload = b"%x\r\n%b\r\n" % (len(payload), payload)
        self._outlet.write(payload)

    def _head(self, answer: Answer | StreamAnswer) -> bytes:
        status = answer.status
        if self._chunked:
            framing = b"Transfer-Encoding: chunked\r\n"
        elif self._whole is None or self._switches.close or status in (204, 304):
            framing = b""
        else:
            length = self._whole.length
            framing = b"Content-Length: %d\r\n" % (len(self._whole.body) if length is None else length)
        if self._close:
            framing += b"Connection: close\r\n"
        version = b"HTTP/1.0" if self._switches.http10 else b"HTTP/1.1"
        return b"%b %d %b\r\nContent-Type: %b\r\nX-Oneapi-Request-Id: %b\r\nX-New-Api-Version: stub\r\n%b%b%b\r\n" % (
            version,
            status,
            _phrase(status),
            answer.content_type,
            self._request_id,
            _date(),
            answer.headers,
            framing,
        )


_serial = itertools.count(1)


def next_request_id() -> bytes:
    """In New API's form: a time followed by what makes it unique."""
    return b"20261009085320%08d" % next(_serial)


def download_bytes(start: int, stop: int) -> bytes:
    """Bytes ``start`` to ``stop`` of the endless deterministic download: a block of SHA-256 digests, repeated."""
    block = _block()
    offset = start % _BLOCK_BYTES
    length = stop - start
    if offset + length <= _BLOCK_BYTES:
        return block[offset : offset + length]
    repeats = (offset + length) // _BLOCK_BYTES + 1
    return (block * repeats)[offset : offset + length]


@cache
def _block() -> bytes:
    return b"".join(sha256(index.to_bytes(4, "big")).digest() for index in range(_BLOCK_BYTES // 32))


@cache
def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


_date_line = (0, b"")


def _date() -> bytes:
    global _date_line
    now = int(time.time())
    if _date_line[0] != now:
        text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        _date_line = (now, f"Date: {text}\r\n".encode())
    return _date_line[1]
