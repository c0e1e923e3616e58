"""``/v1/realtime``: a WebSocket that answers two events, echoes other frames, answers pings, closes (RFC 6455)."""

import asyncio
import base64
import hashlib
import struct
from collections.abc import Mapping

import msgspec

from benchmarks.stub import dialects

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_WHOLE_TEXT = 0x81
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA
MAX_FRAME_BYTES = 16 * 1024 * 1024


class _Event(msgspec.Struct):
    """What the stub looks at in a client's event."""

    type: str = ""


class EchoSocket:
    """Each data frame goes back as it came (opcode, FIN, payload), unmasked, unless it is an event with an answer."""

    def __init__(self, transport: asyncio.Transport, first: Mapping[bytes, bytes]) -> None:
        self._transport = transport
        self._first = first
        self._buffer = b""

    def accept(self) -> None:
        digest = hashlib.sha1(self._first.get(b"sec-websocket-key", b"") + _GUID, usedforsecurity=False).digest()
        offered = [item.strip() for item in self._first.get(b"sec-websocket-protocol", b"").split(b",")]
        protocol = b"Sec-WebSocket-Protocol: realtime\r\n" if b"realtime" in offered else b""
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (base64.b64encode(digest), protocol)
        )

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while (size := self._frame_size()) is not None and len(self._buffer) >= size:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            self._answer(frame)

    def _frame_size(self) -> int | None:
        """Whole length of the frame at the front, None while its header is incomplete."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, header = buffer[1] & 0x7F, 2
        if length >= 126:
            header = 4 if length == 126 else 10
            if len(buffer) < header:
                return None
            length = int.from_bytes(buffer[2:header], "big")
        if length > MAX_FRAME_BYTES or not buffer[1] & 0x80:
            self._transport.write(struct.pack("!BBH", 0x80 | _CLOSE, 2, 1009 if buffer[1] & 0x80 else 1002))
            self._transport.close()
            return None
        return header + 4 + length

    def _answer(self, frame: bytes) -> None:
        marker = frame[1] & 0x7F
        start = {126: 4, 127: 10}.get(marker, 2)
        payload = _unmask(frame[start : start + 4], frame[start + 4 :])
        opcode = frame[0] & 0x0F
        if opcode == _PONG:
            return
        if frame[0] == _WHOLE_TEXT and (events := _answers(payload)):
            for event in events:
                self._transport.write(bytes([_WHOLE_TEXT]) + _length(len(event)) + event)
            return
        first = (frame[0] & 0xF0) | (_PONG if opcode == _PING else opcode)
        self._transport.write(bytes([first]) + _length(len(payload)) + payload)
        if opcode == _CLOSE:
            self._transport.close()


def _answers(payload: bytes) -> list[bytes]:
    """The realtime events that answer a client's event; none for what is not one that has an answer."""
    try:
        kind = msgspec.json.decode(payload, type=_Event).type
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return dialects.realtime(kind)


def _unmask(mask: bytes, payload: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


def _length(length: int) -> bytes:
    if length < 126:
        return bytes([length])
    return b"\x7e" + struct.pack("!H", length) if length < 65536 else b"\x7f" + struct.pack("!Q", length)
