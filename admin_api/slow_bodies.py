"""How long the body of an admin request may take: the server itself would wait for it for ever.

Where it stands in the walk: around everything else, since a body is read before anybody has signed in.
"""

import asyncio
import time
from typing import Any

from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send

BODY_S = 60.0
BYTES_PER_S = 500.0
"""A body has `BODY_S`, and a second more for each `BYTES_PER_S` that have come."""


def bound_bodies(app: ASGIApp) -> ASGIApp:
    """A middleware: the request is answered 408 when its body is too slow."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, _Body(receive).receive, send)

    return bounded


class _Body:
    """After its last part, what is received tells that the client has left, and may take its time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ends_at = time.monotonic() + BODY_S
        self._complete = False

    async def receive(self) -> Any:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._ends_at - time.monotonic()):
                message: Any = await self._receive()
        except TimeoutError:
            raise HTTPException(status_code=408, detail="the request body did not arrive in time") from None
        self._ends_at += len(message.get("body", b"")) / BYTES_PER_S
        self._complete = not message.get("more_body", False)
        return message
