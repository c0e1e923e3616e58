"""A hundred tabs that were opened and closed leave nothing behind in the console."""

import re
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support import admin
from tests.support.consoles import House
from tests.support.waiting import eventually

TABS = 100


def held(house: House) -> dict:
    return httpx.get(f"{house.console.url}/health").json()


def descriptors(house: House) -> int:
    return len(list(Path(f"/proc/{house.console.process.pid}/fd").iterdir()))


@pytest.mark.anyio
async def test_a_hundred_tabs_leave_nothing_behind(house):
    """Each opens its page and its WebSocket as a browser does, and goes away without a word."""
    async with httpx.AsyncClient(base_url=house.console.url) as visitor:
        await visitor.post("/login", data={"name": "admin", "password": admin.ADMIN_PASSWORD})
        await eventually(lambda: held(house)["tabs"] == 0)
        before = descriptors(house)
        for _ in range(TABS):
            page = (await visitor.get("/about")).text
            client_id = re.search(r"['\"]client_id['\"]: ?['\"]([0-9a-f-]{36})", page)[1]
            query = f"client_id={client_id}&tab_id={client_id}&document_id={client_id}&next_message_id=0"
            url = house.console.url.replace("http", "ws")
            target = f"{url}/_nicegui_ws/socket.io/?{query}&implicit_handshake=true&EIO=4&transport=websocket"
            async with connect(target) as socket:
                assert (await socket.recv()).startswith("0{")
                await socket.send("40")
                assert (await socket.recv()).startswith("40{")
        assert held(house)["tabs"] > 0
        await eventually(lambda: held(house)["tabs"] == 0)
        await eventually(lambda: descriptors(house) <= before)
