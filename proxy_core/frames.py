"""The upstream's end of a WebSocket: whole messages in and out over a connection that has switched protocols.

Where it stands in the walk: `relay` opens it on an `exchange.Connection` once the upstream answered ``101``, and moves
messages between it and the client's end, which the server keeps. The frames are the `websockets` library's.

Rules for whoever edits this file:

- One message is held at a time: what arrives while it is passed on waits in the connection, which then stops reading.
- Pings are answered here, at this end: the server does not show the client's, so neither side's can be passed through.
- No extension was offered, so a frame that uses one is a fault of the upstream.
"""

import asyncio
import collections
import logging

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from proxy_core.errors import UpstreamCut, UpstreamTimeout
from proxy_core.exchange import Connection

Message = str | bytes
"""Text or binary, as ASGI has them."""


class UpstreamSocket:
    """Messages are read by one reader. ``max_message_bytes`` 0 means without limit."""

    def __init__(self, connection: Connection, *, max_message_bytes: int, send_limit_s: float) -> None:
        self._connection = connection
        self._send_limit_s = send_limit_s
        logger = logging.getLogger(__name__)
        logger.setLevel(logging.WARNING)  # on debug level the library logs what is in the frames
        self._protocol = Protocol(CLIENT, state=OPEN, max_size=max_message_bytes or None, logger=logger)
        self._frames: collections.deque[Frame] = collections.deque()
        self._parts: list[bytes] = []
        self._text = False

    @property
    def close_received(self) -> Close | None:
        """What the upstream closed with; None while it has not, or if it left without a word."""
        return self._protocol.close_rcvd

    @property
    def fault(self) -> CloseCode | None:
        """The close code for what the upstream did against the protocol or its limits."""
        sent = self._protocol.close_sent
        return CloseCode(sent.code) if self._protocol.parser_exc is not None and sent is not None else None

    async def receive(self) -> Message | None:
        """The next message, whole; None when there are no more: see `close_received` and `fault`.

        Raises UpstreamCut when the connection broke.
        """
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.opcode is Opcode.CLOSE:
                    return None
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    self._parts.append(bytes(frame.data))
                    self._text = frame.opcode is Opcode.TEXT or (self._text and frame.opcode is Opcode.CONT)
                    if frame.fin:
                        return self._whole()
            if self._protocol.parser_exc is not None:
                return None
            data = self._connection.arrived()
            if data is None:
                await self._connection.more_whenever()
                continue
            if not data:
                raise UpstreamCut("the upstream closed a WebSocket's connection without a word")
            self._protocol.receive_data(data)
            self._frames.extend(event for event in self._protocol.events_received() if isinstance(event, Frame))
            self._flush()

    def _whole(self) -> Message | None:
        parts, self._parts = self._parts, []
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if not self._text:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            self._protocol.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
            self._protocol.parser_exc = exc
            self._flush()
            return None

    async def send(self, data: bytes, *, text: bool) -> None:
        """Returns when the upstream can take more. Raises UpstreamTimeout if it will not, UpstreamCut if it is gone."""
        if self._protocol.state is not OPEN:
            return  # it has closed, and its reader is about to say so
        if text:
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)
        self._flush()
        try:
            async with asyncio.timeout(self._send_limit_s or None):
                await self._connection.drain()
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not take a message in time") from None

    async def close(self, code: int | None, reason: str, *, limit_s: float) -> None:
        """Says goodbye, unless it was said, and waits a little for the upstream to close the connection.

        A ``code`` that nobody may send (1005, 1006) becomes a close without a code, as does None.
        """
        if self._protocol.state is OPEN:
            try:
                self._protocol.send_close(code, reason)
            except ProtocolError:
                self._protocol.send_close()
            self._flush()
        try:
            async with asyncio.timeout(limit_s):
                while self._connection.arrived() != b"":
                    await self._connection.more_whenever()
        except (TimeoutError, UpstreamCut):
            pass

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # the empty one asks to close our direction, which `Connection` does with the other
                self._connection.write(data)
