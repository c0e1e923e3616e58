"""A body that trickles, sent by somebody who has not even signed in, holds no connection for ever."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Litestar, post
from litestar.params import JSONBody

from admin_api import slow_bodies
from admin_api.app import create_admin_app
from admin_api.problems import HANDLERS
from admin_api.settings import AdminSettings
from admin_api.slow_bodies import bound_bodies
from proxy_core.settings import load
from tests.support import admin

pytestmark = pytest.mark.anyio

SCOPE = {
    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
    "path": "/login", "raw_path": b"/login", "root_path": "", "query_string": b"", "client": ("203.0.113.7", 1),
    "server": ("127.0.0.1", 7000), "headers": [(b"content-type", b"application/json"), (b"content-length", b"50000")],
}  # fmt: skip


@post("/login", status_code=200, sync_to_thread=False)
def login(data: JSONBody[dict[str, str]]) -> int:
    return len(data["password"])


def small_app() -> Litestar:
    """With the middleware, and no store to ask."""
    return Litestar([login], middleware=[bound_bodies], exception_handlers=HANDLERS, openapi_config=None, debug=False)


def admin_app() -> Litestar:
    settings = load(
        AdminSettings,
        downstream_url="http://127.0.0.1:9",
        pg_dsn="postgresql://nobody@127.0.0.1:9/none",
        redis_url="redis://127.0.0.1:9/0",
        hmac_secret=admin.HMAC_SECRET,
        admin_jwt_secret=admin.JWT_SECRET,
    )
    app = create_admin_app(settings)
    app.state.rooms = None  # nobody gets as far as to enter them
    return app


async def answer(parts: AsyncIterator[bytes], app: Litestar | None = None) -> tuple[int, Any]:
    """Of an application whose client sends these parts."""
    path = "/login" if app is None else "/admin/api/login"
    app = app or small_app()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        async for part in parts:
            return {"type": "http.request", "body": part, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(30):
        await app({**SCOPE, "path": path, "raw_path": path.encode()}, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


async def test_a_body_of_a_byte_now_and_then_is_given_up(monkeypatch):
    monkeypatch.setattr(slow_bodies, "BODY_S", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    status, problem = await answer(trickle())
    assert (status, problem["code"]) == (408, "request_timeout")


@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")  # of what 3.0 will want
@pytest.mark.parametrize("make", [lambda: None, admin_app], ids=["", "the admin API's"])
async def test_a_body_that_never_begins_is_given_up(monkeypatch, make):
    monkeypatch.setattr(slow_bodies, "BODY_S", 0.05)

    async def silence() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    assert (await answer(silence(), make()))[0] == 408


async def test_a_body_in_many_parts_is_read(monkeypatch):
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"password":"'
        for _ in range(100):
            yield b"a" * 10
        yield b'"}'

    assert await answer(parts()) == (200, 1000)
