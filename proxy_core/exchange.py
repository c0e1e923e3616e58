"""The exchange: one HTTP/1.1 connection to the upstream and the request and response that it carries.

Where it stands in the walk: `handler` takes a connection from the pool in `upstream`, writes a request head that
`headers` serialised, reads the response head and then the body, chunk by chunk. Nothing here knows of keys.

Rules for whoever edits this file:

- A connection serves one exchange at a time, and one reader waits on it: the waiting costs one future, no task.
- The parser callbacks only move state; whoever waits is woken once per packet, after all of it was parsed, so that a
  short answer costs one turn of the event loop.
- Time limits are deadlines that one sweep per worker looks at. A timer per request would cost more than it tells.
- A response counts as complete only when its framing says so. A break before that is an error, never an end.
- After ``101`` to a handshake (`expect_upgrade`) the bytes are no HTTP any more: they are passed on as they come, and
  what they mean is `frames`' business.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import httptools
import msgspec

from proxy_core.errors import ProxyError, UpstreamCut, UpstreamError, UpstreamTimeout

SWITCHING = 101
MAX_HEAD_BYTES = 65_536
MAX_INFORMATIONAL = 16
READ_HIGH_WATER_BYTES = 65_536
WRITE_HIGH_WATER_BYTES = 65_536
_VERSIONS = ("1.1", "1.0")
KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""Of a connection that has switched protocols: two minutes after the other machine vanished, it counts as broken."""


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """Status and header lines of the final response, names in lower case, hop-by-hop headers still in."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Limits(msgspec.Struct, frozen=True):
    """Limits of the exchange, each a setting, which says what zero means."""

    connections: int = 4096
    pool_wait_s: float = 5.0
    connect_s: float = 5.0
    head_s: float = 600.0
    idle_s: float = 330.0
    keepalive_s: float = 55.0


class Connection(asyncio.Protocol):
    """One connection to the upstream and the exchange that it carries at the moment.

    It is its own parser's callback object: httptools calls the ``on_*`` methods while `data_received` feeds it.
    """

    __slots__ = (
        "_bodiless",
        "_buffered",
        "_chunks",
        "_complete",
        "_continue",
        "_deadline",
        "_drained",
        "_error",
        "_head_bytes",
        "_headers",
        "_informational",
        "_leave",
        "_limits",
        "_loop",
        "_on_closed",
        "_parser",
        "_paused",
        "_request_sent",
        "_reusable",
        "_transport",
        "_upgrading",
        "_waiter",
        "busy",
        "head",
        "idle_since",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(self, limits: Limits, on_closed: Callable[["Connection"], None]) -> None:
        self._limits = limits
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[bool] | None = None
        self._leave: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._paused = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._error: ProxyError | None = None
        self._bodiless = self._complete = self._reusable = self._request_sent = self._continue = False
        self._head_bytes = self._informational = self._buffered = 0
        self._upgrading = False
        self.head: ResponseHead | None = None
        self.busy = False
        self.idle_since = 0.0
        self.sent_bytes = self.received_bytes = 0

    def __repr__(self) -> str:
        if not self.is_open:
            state = "closed"
        elif not self.busy:
            state = "idle"
        elif self.head is None:
            state = "waiting for the response head"
        else:
            state = f"{self.head.status}, complete" if self._complete else f"{self.head.status}, reading"
        return f"<Connection {state}>"

    # -- the exchange, in the order of its life

    def begin(self, *, bodiless: bool) -> None:
        """Starts an exchange. ``bodiless`` says that the response has no body whatever its headers say (HEAD)."""
        self.busy = True
        self.head = None
        self._bodiless = bodiless
        self._complete = self._reusable = self._request_sent = self._continue = False
        self._head_bytes = self._informational = self._buffered = 0

    def expect_upgrade(self) -> None:
        """The request is a WebSocket handshake: after ``101`` this is a plain connection, which serves nothing else."""
        self._upgrading = True

    def write(self, data: bytes) -> None:
        """Sends part of the request. A connection already lost is not an error here: the reader will be told."""
        transport = self._transport
        if transport is not None and self._error is None:
            self.sent_bytes += len(data)
            transport.write(data)

    async def drain(self) -> None:
        """Waits until the upstream takes more of the request, or the exchange is over."""
        if self._drained is not None and self._error is None:
            await self._drained

    def request_sent(self) -> None:
        """The whole request was written: only now may the connection be used again after the response."""
        self._request_sent = True

    async def wait_continue(self, limit_s: float) -> bool:
        """Waits for ``100 Continue``; False if the upstream gave a final answer or nothing within the limit.

        The uploader waits here while another task waits for the answer, so it has a future of its own.
        """
        if self._may_send_body():
            return self._continue
        self._leave = self._loop.create_future()
        try:
            async with asyncio.timeout(limit_s):
                await self._leave
        except TimeoutError:
            return False
        finally:
            self._leave = None
        return self._continue

    def _may_send_body(self) -> bool:
        return self._continue or self.head is not None or self._error is not None

    async def response_head(self) -> ResponseHead:
        """Raises UpstreamError before the head came, or whatever `fail` was given."""
        limit = self._limits.head_s
        deadline = time.monotonic() + limit if limit and self.head is None else 0.0
        while self.head is None:
            if self._error is not None:
                raise self._error
            if not await self._news(deadline):
                raise self.fail(UpstreamTimeout("the upstream did not answer in time"))
        return self.head

    async def read(self) -> bytes:
        """All body bytes that have arrived, at least one; ``b""`` at the end. Raises UpstreamCut on a break."""
        while (data := self.arrived()) is None:
            self.check_silence(in_time=await self.more())
        return data

    def arrived(self) -> bytes | None:
        """`read` without waiting, for streams, where a coroutine for each piece would cost: None means `more`."""
        if self._chunks:
            return self._take()
        if self._error is not None:
            raise self._error
        return b"" if self._complete else None

    def more(self) -> "asyncio.Future[bool]":
        """Done when `arrived` has news; its result belongs to `check_silence`."""
        limit = self._limits.idle_s
        return self._news(time.monotonic() + limit if limit else 0.0)

    def more_whenever(self) -> "asyncio.Future[bool]":
        """`more` without a time limit: a WebSocket may be silent for as long as both ends like."""
        return self._news(0.0)

    def check_silence(self, *, in_time: bool) -> None:
        """Raises UpstreamCut when nothing came within the time limit."""
        if not in_time:
            raise self.fail(UpstreamCut("the upstream went silent in the middle of its answer"))

    def whole_body(self) -> bytes | None:
        """The rest of the body if all of it has arrived, else None. Takes it."""
        return self._take() if self._complete else None

    def fail(self, error: ProxyError) -> ProxyError:
        """Ends the exchange: the reader gets ``error``, unless the whole answer is here already. Idempotent."""
        if self._error is None and self.busy and not self._complete:
            self._error = error
        self.abort()
        self._wake()
        return self._error or error

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def can_be_reused(self) -> bool:
        return self._complete and self._reusable and self._request_sent and self._error is None and self.is_open

    def abort(self) -> None:
        """Closes at once, whatever is under way. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    def discard(self) -> None:
        """Nobody will ask this connection again. Idempotent.

        An error knows the frames that it went through, and they know us: kept, it would keep the client's request,
        and the server the client's connection, until the garbage collector comes.
        """
        self.abort()
        self._error = None

    # -- what the sweep asks

    def check_deadline(self, now: float) -> None:
        if self._deadline and self._deadline < now:
            self._wake(in_time=False)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            # Bytes that nobody asked for: an answer to them would belong to the next request.
            self.abort()
            return
        self.received_bytes += len(data)
        if self.head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrading and self.head is not None:
                self._switch(data[upgrade.args[0] :])
            else:
                self.fail(UpstreamError("the upstream switched protocols without being asked to"))
        except httptools.HttpParserError as exc:
            self.fail(self._broken(f"the upstream's answer is not HTTP/1.1: {type(exc).__name__}"))
        if self.head is None and self._head_bytes > MAX_HEAD_BYTES:
            self.fail(UpstreamError("the upstream's response head is too large"))
        if self._waiter is not None or self._leave is not None:
            self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy and not self._complete and self._error is None:
            if exc is None and self.head is not None and self._ends_with_connection():
                self._complete = True
                self._reusable = False
            else:
                self._error = self._broken("the upstream closed the connection")
        self._transport = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._wake()
        self._on_closed(self)

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # -- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            self._reusable = False
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < 200 and not (status == SWITCHING and self._upgrading):
            self._informational += 1
            self._head_bytes = 0
            self._continue = self._continue or status == 100
            if self._informational > MAX_INFORMATIONAL:
                self.fail(UpstreamError("the upstream sent informational responses without end"))
            return
        if self._parser.get_http_version() not in _VERSIONS:  # llhttp takes HTTP/2.0 and 0.9 as text, too
            self.fail(UpstreamError("the upstream's answer is not HTTP/1.1"))
            return
        self.head = ResponseHead(status, headers)
        if self._bodiless:
            # llhttp cannot be told that this answer ends here: what follows needs a parser of its own.
            self._reusable = self._parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)
            self._complete = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._reusable = False
            return
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > READ_HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def on_message_complete(self) -> None:
        if self.head is not None and not self._complete and self.head.status != SWITCHING:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()

    # -- helpers

    def _switch(self, first: bytes) -> None:
        """No HTTP from here on. Silence ends no such connection: the kernel has to ask whether the other end lives."""
        self._parser = cast("httptools.HttpResponseParser", SimpleNamespace(feed_data=self.on_body))
        if first:
            self.on_body(first)
        raw = cast("socket.socket", cast("asyncio.Transport", self._transport).get_extra_info("socket"))
        for level, option, value in KEEP_ALIVE:
            raw.setsockopt(level, option, value)

    def _news(self, deadline: float) -> "asyncio.Future[bool]":
        """Done with the next packet or the connection's end; with False when the deadline (0: none) passed first.

        A future and not a coroutine: one frame less to resume.
        """
        self._waiter = waiter = self._loop.create_future()
        self._deadline = deadline
        return waiter

    def _wake(self, *, in_time: bool = True) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(in_time)
        leave = self._leave
        if leave is not None and not leave.done() and self._may_send_body():
            leave.set_result(None)

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        return data

    def _broken(self, what: str) -> ProxyError:
        return UpstreamError(f"{what} before answering") if self.head is None else UpstreamCut(what)

    def _ends_with_connection(self) -> bool:
        headers = self.head.headers if self.head is not None else ()
        return not any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
