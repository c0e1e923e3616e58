"""One client connection: the byte stream cut into requests, one exchange at a time, and the client's leaving noticed.

Rules for whoever edits this file:

- One exchange at a time. Bytes of a pipelined request wait in ``_held`` until the answer before it is out.
- The parser is fed in pieces that end where a head or a body ends, so that a piece never holds two requests and the
  head of each is recorded byte for byte.
- Memory is bounded: ``_held`` stops reading at its limit, only JSON routes hold a body and no more than they may.
"""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

import httptools

from benchmarks.stub import dialects, routes
from benchmarks.stub.keys import presented_key
from benchmarks.stub.reply import Reply, next_request_id
from benchmarks.stub.requests import RecordedRequest
from benchmarks.stub.routes import MAX_JSON_BYTES
from benchmarks.stub.switches import WELL_BEHAVED, Switches
from benchmarks.stub.websocket import EchoSocket

if TYPE_CHECKING:
    from benchmarks.stub.server import StubServer

MAX_HEAD_BYTES = 1024 * 1024
_HELD_BYTES = 256 * 1024
_DRAIN_BYTES = 256 * 1024
"""Go reads this much of an unwanted body before it gives the connection up."""
_LINGER_S = 0.5
"""Go waits this long between its last byte and closing, so that the answer survives the client's unread upload."""
_CRLF = b"\r\n"


class StubConnection(asyncio.Protocol):
    """Fed by the transport; a `Reply` writes through it."""

    def __init__(self, server: "StubServer") -> None:
        self._server = server
        self._stats = server.stats
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        self._request = RecordedRequest()
        self._route = routes.NOWHERE
        self._busy = False
        self._switches = WELL_BEHAVED
        self._refused = False
        self._reply: Reply | None = None
        self._replied = False
        self._head = b""
        self._in_body = False
        self._body_left: int | None = 0
        self._last = 0
        self._held = b""
        self._socket: EchoSocket | None = None
        self._closing = False
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._stats.connections += 1
        self._stats.open_connections += 1

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.feed(data)
        elif self._closing:
            return
        elif self._held or (self._busy and self._request.complete):
            self._hold(data)
        else:
            self._feed(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD_BYTES:
            self._transport.pause_reading()

    def _feed(self, data: bytes) -> None:
        while data and not self._closing:
            if self._busy and self._request.complete:
                self._hold(data)
                return
            size = self._piece(data)
            piece = data if size == len(data) else data[:size]
            data = data[size:]
            self._last = piece[-1]
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                self._upgraded(data)
                return
            except httptools.HttpParserError as error:
                self._malformed(error)
                return
            if len(self._head) > MAX_HEAD_BYTES:
                self._close_with(b"431 Request Header Fields Too Large")

    def _piece(self, data: bytes) -> int:
        """How many bytes to feed next: up to the end of a head or body, never across it."""
        if not self._in_body:
            seen = len(self._head)
            self._head += data
            end = self._head.find(b"\r\n\r\n", max(0, seen - 3))
            if end < 0:
                return len(data)
            self._head = self._head[: end + 4]
            return end + 4 - seen
        if self._body_left is not None:
            return min(len(data), self._body_left)
        if self._last in _CRLF:
            return 1
        end = data.find(b"\r\n\r\n")
        return len(data) if end < 0 else end + 4

    # What the parser tells, in this order

    def on_message_begin(self) -> None:
        self._request = RecordedRequest()

    def on_url(self, url: bytes) -> None:
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if self._in_body:
            request.trailers.append((name, value))
            return
        request.headers.append((name, value))
        request.first.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        request = self._request
        request.head, self._head = self._head, b""
        request.method = self._parser.get_method()
        request.http10 = self._parser.get_http_version() == "1.0"
        request.split_target()
        self._in_body = True
        chunked = b"transfer-encoding" in request.first
        self._body_left = None if chunked else int(request.first.get(b"content-length", b"0"))
        self._busy, self._replied = True, False
        self._stats.requests += 1
        self._stats.open_requests += 1
        self._judge(request)

    def _judge(self, request: RecordedRequest) -> None:
        """What the head decides: route, key, switches; and whether to answer before the body."""
        route = self._route = routes.find(request)
        recorded = self._server.record(request)
        if recorded or route.hashes:
            request.hash_body()
        if route.needs_key:
            key = presented_key(request)
            self._refused = key.suffix or not self._server.keys.accepts(key)
        else:
            self._refused = False
        try:
            self._switches = Switches.read(request.head, request.first)
        except ValueError:
            self._refused, self._switches = True, WELL_BEHAVED
        expects = request.first.get(b"expect", b"").lower() == b"100-continue" and not request.http10
        if self._refused and (expects or (self._body_left or 0) > _DRAIN_BYTES):
            self._start_reply(request, close=True)
        elif self._switches.early:
            self._start_reply(request, close=False)
        elif expects and self._body_left != 0:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        request, route = self._request, self._route
        if self._body_left is not None:
            self._body_left -= len(chunk)
        if self._closing:
            return
        request.take(chunk, hold=route.holds and request.body_bytes + len(chunk) <= MAX_JSON_BYTES)
        if self._refused and not self._replied and self._reply is None and request.body_bytes > _DRAIN_BYTES:
            self._start_reply(request, close=True)

    def on_message_complete(self) -> None:
        request = self._request
        self._in_body = False
        request.complete = True
        if self._parser.should_upgrade() and self._route.websocket and not self._refused:
            return
        if self._reply is None and not self._replied and not self._closing:
            self._start_reply(request, close=False)
        else:
            self._settle()

    def _start_reply(self, request: RecordedRequest, *, close: bool) -> None:
        request_id = next_request_id()
        answer = self._answer(request, request_id.decode())
        self._reply = reply = Reply(
            self,
            answer,
            request_id,
            WELL_BEHAVED if self._refused else self._switches,
            self._server.wheel,
            self._stats,
            keep_alive=not close and self._parser.should_keep_alive(),
            chunkable=not request.http10,
            head_only=request.method == b"HEAD",
        )
        reply.start()

    def _answer(self, request: RecordedRequest, request_id: str) -> dialects.Answer | dialects.StreamAnswer:
        route = self._route
        if not self._refused:
            if self._switches.status is not None:
                return dialects.openai_error(self._switches.status, "as the request asked", "stub_error", "stub")
            return route.answer(request, self._stats)
        key = presented_key(request)
        if route.needs_key and not self._server.keys.accepts(key):
            self._stats.refused += 1
            return dialects.new_api_abort(401, "Invalid token", request_id)
        if route.needs_key and key.suffix:
            return dialects.new_api_abort(403, "普通用户不支持指定渠道", request_id)
        return dialects.openai_error(400, "an x-stub- header has a value that means nothing", "stub_error")

    # What a reply does to its connection

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def finished(self, *, close: bool) -> None:
        self._reply = None
        self._replied = True
        self._stats.open_requests -= 1
        if close:
            self._linger()
        else:
            self._settle()

    def _settle(self) -> None:
        """Answer out and body in: the connection is free for the next request."""
        if not self._busy or not self._request.complete or not self._replied:
            return
        self._busy = False
        if self._held:
            held, self._held = self._held, b""
            self._transport.resume_reading()
            # Not from here: we may be inside the parser, which is not re-entrant.
            asyncio.get_running_loop().call_soon(self._feed_held, held)

    def _feed_held(self, held: bytes) -> None:
        newer, self._held = self._held, b""
        if not self._transport.is_closing():
            self._feed(held + newer)

    def _linger(self) -> None:
        """Close as Go does: our side at once, the rest when the client has closed or a moment later."""
        self._closing = True
        if self._request.complete:
            self._transport.close()
            return
        self._transport.write_eof()
        self._server.wheel.at(self._server.wheel.now() + _LINGER_S, self._transport.close)

    def cut(self, *, reset: bool) -> None:
        self._closing = True
        self._reply = None
        self._replied = True
        self._stats.open_requests -= 1
        if reset:
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.close()

    def _malformed(self, error: httptools.HttpParserError) -> None:
        """Go's answer to what it cannot parse. Faults in our own callbacks are not the client's."""
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
            raise error.__context__
        self._close_with(b"400 Bad Request")

    def _close_with(self, status: bytes) -> None:
        self._closing = True
        head = b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%b"
        self.write(head % (status, status))
        self._transport.close()

    def _upgraded(self, rest: bytes) -> None:
        """An accepted WebSocket echoes from here on; any other upgrade was answered as a plain request."""
        request = self._request
        if not self._busy or self._replied or self._reply is not None:
            self._parser = httptools.HttpRequestParser(self)
            if rest:
                self._feed(rest)
            return
        self._socket = EchoSocket(self._transport, request.first)
        self._socket.accept()
        if rest:
            self._socket.feed(rest)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._reply is not None:
            self._reply.resume()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.discard(self)
        self._stats.open_connections -= 1
        if self._reply is not None:
            self._reply.abandon()
        if self._busy and not self._replied:
            self._stats.open_requests -= 1
            if self._socket is None:
                self._stats.aborted += 1

    def abort(self) -> None:
        """The server is stopping."""
        self._closing = True
        if not self._transport.is_closing():
            self._transport.abort()
