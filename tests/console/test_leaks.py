"""A hundred tabs that were opened and closed leave nothing behind in the console."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support import admin
from tests.support.consoles import House, Process, running_console
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

TABS = 100
CLIENT_ID = re.compile(r"""['"]client_id['"]: ?['"]([0-9a-f-]{36})""")


@pytest.fixture
def console(house: House) -> Iterator[Process]:
    """Of its own, so that nobody else has tabs in it."""
    with tempfile.TemporaryDirectory() as folder, running_console(Path(folder), house.gateway.url) as running:
        yield running


def held(console: Process) -> dict:
    return httpx.get(f"{console.url}/health").json()


def descriptors(console: Process) -> int:
    return len(list(Path(f"/proc/{console.process.pid}/fd").iterdir()))


async def open_and_leave(console: Process, visitor: httpx.AsyncClient) -> None:
    """Loads a page and opens its WebSocket as a browser does, and goes away without a word."""
    page = (await visitor.get("/about")).text
    client_id = CLIENT_ID.search(page)[1]
    query = f"client_id={client_id}&tab_id={client_id}&document_id={client_id}&next_message_id=0"
    url = f"{console.url.replace('http', 'ws', 1)}/_nicegui_ws/socket.io/"
    async with connect(f"{url}?{query}&implicit_handshake=true&EIO=4&transport=websocket") as socket:
        assert (await socket.recv()).startswith("0{")
        await socket.send("40")
        assert (await socket.recv()).startswith("40{")


async def test_a_hundred_tabs_leave_nothing_behind(console):
    async with httpx.AsyncClient(base_url=console.url, timeout=30) as visitor:
        await visitor.post("/login", data={"name": "admin", "password": admin.ADMIN_PASSWORD})
        await open_and_leave(console, visitor)
        await eventually(lambda: held(console)["tabs"] == 0)
        before = descriptors(console)
        for _ in range(TABS):
            await open_and_leave(console, visitor)
        meanwhile = held(console)
        assert (meanwhile["status"], meanwhile["sessions"]) == ("ok", 1)
        assert meanwhile["tabs"] > 1
        await eventually(lambda: held(console)["tabs"] == 0)
        # Connections to the admin API are kept for a while: some, not one a tab.
        await eventually(lambda: descriptors(console) < before + TABS / 4)
