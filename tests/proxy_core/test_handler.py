"""The handler's own care, beside what the stories show of whole requests: whose connection it gives back, and when."""

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest

from proxy_core.contracts import LiveSettings, RequestHead, UpstreamProfile
from proxy_core.exchange import Limits
from proxy_core.handler import Gateway, Rooms
from proxy_core.upstream import Origin, Upstream
from proxy_core.watch import ClientWatch, Patience

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Intake:
    """Requests that need no decision."""

    def next_request_id(self) -> bytes:
        return b"r-1"

    def read(self, story: Any) -> tuple[RequestHead, None]:
        story.live = LiveSettings()
        return RequestHead([]), None

    def write_head(self, *_facts: Any) -> bytes:
        return b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_a_connection_that_another_request_took_meanwhile_is_left_to_it():
    """A whole answer gives its connection back before the client has it; a slow client must not give it back again."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():  # a request line, or the end
            while await reader.readline() != b"\r\n":
                pass
            writer.write(ANSWER)
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    upstream = Upstream(Origin("127.0.0.1", server.sockets[0].getsockname()[1]), Limits())
    others: Any = MagicMock()  # a request that nobody has to decide on asks nothing of them
    rooms: Any = Rooms(
        intake=Intake(),  # type: ignore[arg-type]
        admission=others,
        concurrency=others,
        events=others,
        upstream=upstream,
        watch=ClientWatch(Patience(0.0, 0.0, 0.0), others, others),
        roster=others,
        profile=UpstreamProfile.NEW_API,
        body_max_bytes=0,
        server_timing=False,
    )
    sending, go_on = asyncio.Event(), asyncio.Event()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sending.set()
        await go_on.wait()
        sent.append(message)

    scope = {"method": "GET", "client": None}
    first = asyncio.create_task(Gateway(rooms)(scope, asyncio.get_running_loop().create_future, send))
    await sending.wait()
    taken = upstream.take_idle()
    assert taken is not None
    taken.begin(bodiless=False)
    go_on.set()
    await first
    assert sent[-1]["body"] == b"ok"
    assert taken.busy
    assert taken.is_open
    await upstream.aclose()
    await ended.wait()
    server.close()
    await server.wait_closed()
