"""A WebSocket upstream for stories, and ways to it: directly, or through a gateway."""

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.support.gateways import GatewayProcess

Handler = Callable[[ServerConnection], Awaitable[None]]
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.9"


async def echo(socket: ServerConnection) -> None:
    """Each message goes back as it came; ``close CODE REASON`` has the server close."""
    async for message in socket:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await socket.close(int(code), reason)
        else:
            await socket.send(message)


class SocketUpstream:
    """What came to it: handshakes (also refused ones), and its sockets in the order of their opening.

    ``before_answer``: what it waits for before it answers a handshake.
    """

    def __init__(self) -> None:
        self.handshakes: list[Request] = []
        self.sockets: list[ServerConnection] = []
        self.refusal: Response | None = None
        self.handler: Handler = echo
        self.before_answer: Callable[[], Awaitable[None]] | None = None

    def refuse(self, status: int, body: bytes, **headers: str) -> None:
        """Every handshake from now on is answered like this."""
        lines = Headers({"content-length": str(len(body)), **headers})
        self.refusal = Response(status, http.HTTPStatus(status).phrase, lines, body)

    async def on_request(self, _: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        if self.before_answer is not None:
            await self.before_answer()
        return self.refusal

    async def on_socket(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        await self.handler(socket)


@contextlib.asynccontextmanager
async def socket_upstream(port: int, selects: str | None = "realtime") -> AsyncIterator[SocketUpstream]:
    """``selects`` is the subprotocol that it takes if it is offered. It has no limit of its own for messages."""
    upstream = SocketUpstream()

    def select(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((protocol for protocol in offered if selects is not None and protocol.startswith(selects)), None)

    server: Server = await serve(
        upstream.on_socket,
        "127.0.0.1",
        port,
        process_request=upstream.on_request,
        select_subprotocol=select,
        max_size=None,
        ping_interval=None,
        close_timeout=2,
    )
    try:
        yield upstream
    finally:
        server.close()
        for socket in upstream.sockets:
            socket.transport.abort()
        await server.wait_closed()


async def closed(socket: ServerConnection) -> tuple[int | None, str | None]:
    """How it was closed, once it is."""
    async with asyncio.timeout(30):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


def opened(gateway: GatewayProcess, path: str = "/v1/realtime", *, address: str = HOME, **more: Any) -> connect:
    """A client's socket through the gateway, from an address that nginx has seen; ``more`` goes to `connect`."""
    headers = {"x-real-ip": address, **more.pop("headers", {})}
    return connect(f"ws://127.0.0.1:{gateway.port}{path}", additional_headers=headers, ping_interval=None, **more)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
