"""Raw HTTP/1.1 over a socket: what the stub's tests send and see, byte for byte."""

import asyncio
import json
from typing import Any, NamedTuple, Self

LIMIT_S = 20.0
KEY = "sk-" + "k" * 48
AUTHORIZATION = ("Authorization", f"Bearer {KEY}")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection: ``async with Wire(port) as wire``. Every read is bounded, so that a hang fails."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), LIMIT_S)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status, and headers by lower-case name (the last line wins)."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), LIMIT_S)
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in headers.items()}

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), LIMIT_S)

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body, b"" for the last."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), LIMIT_S), 16)
        return (await self.exactly(size + 2))[:-2]

    async def to_end(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(-1), LIMIT_S)

    async def answer(self, *, has_body: bool = True) -> Answer:
        """A whole answer, whatever its framing."""
        status, headers = await self.head()
        if not has_body:
            return Answer(status, headers, b"")
        if "content-length" in headers:
            return Answer(status, headers, await self.exactly(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            chunks = []
            while chunk := await self.chunk():
                chunks.append(chunk)
            return Answer(status, headers, b"".join(chunks))
        return Answer(status, headers, await self.to_end())


def request(method: str, target: str, *headers: tuple[str, str], body: bytes | None = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: stub", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + (body or b"")


async def ask(port: int, method: str, target: str, *headers: tuple[str, str], body: bytes | None = None) -> Answer:
    """One request on a connection of its own, with the accepted key."""
    return await ask_bare(port, method, target, AUTHORIZATION, *headers, body=body)


async def ask_bare(port: int, method: str, target: str, *headers: tuple[str, str], body: bytes | None = None) -> Answer:
    """One request with just these headers."""
    async with Wire(port) as wire:
        await wire.send(request(method, target, *headers, body=body))
        return await wire.answer(has_body=method != "HEAD")
