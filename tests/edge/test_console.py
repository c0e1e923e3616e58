"""Operators through nginx as it is shipped: the real admin plane, and the real console in a real browser, over TLS."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from sentinel.services import Stores
from tests.console.conftest import PATIENCE_MS, browser, fill_in  # noqa: F401 - a fixture
from tests.support import admin
from tests.support.consoles import running_console
from tests.support.edge import CLIENT, Edge, running_edge
from tests.support.gateways import free_port

PASSWORD = {"name": "admin", "password": admin.ADMIN_PASSWORD}


@pytest.fixture(scope="module")
def operators_edge(stores: Stores, edge_dsn: str) -> Iterator[Edge]:
    """Both planes as systemd starts them: they trust nginx, and the admin API the console too."""
    placed = {"SENTINEL_CONSOLE_PATH": "/admin/ui", "SENTINEL_TRUSTED_PROXIES": "127.0.0.1"}
    with (
        tempfile.TemporaryDirectory() as folder,
        admin.running_admin(edge_dsn, stores.redis_url) as plane,
        running_console(Path(folder), plane.url, **placed) as console,
        running_edge([free_port(), free_port()], admin=_port(plane.url), console=_port(console.url)) as edge,
    ):
        yield edge


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def test_the_admin_api_signs_in_and_knows_from_where(operators_edge: Edge) -> None:
    """By the address that nginx saw, not by the one that was claimed."""
    transport = httpx.HTTPTransport(verify=operators_edge.tls(), http2=True, local_address=CLIENT)
    claimed = {"x-real-ip": "203.0.113.66", "x-forwarded-for": "203.0.113.66"}
    with httpx.Client(base_url=f"{operators_edge.url}/admin/api", transport=transport, headers=claimed) as client:
        answer = client.post("/login", json=PASSWORD)
        assert answer.status_code == 200, answer.text
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        assert client.get("/me").json()["name"] == "admin"
        [own] = [session for session in client.get("/sessions").json()["items"] if session["current"]]
        assert own["address"] == CLIENT
        assert client.post("/login", json=PASSWORD | {"password": "wrong"}).status_code == 401


def test_the_console_signs_in_and_lives_on_its_socket(operators_edge: Edge, browser: Browser) -> None:  # noqa: F811
    """What it shows comes through the WebSocket, not by asking again and again; the cookie is for TLS and this path."""
    context = browser.new_context(base_url=operators_edge.url, ignore_https_errors=True, locale="en-US")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    sockets: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda _: sockets.append(socket.url)))
    page.goto("/admin/ui")
    fill_in(page, "admin", admin.ADMIN_PASSWORD)
    page.wait_for_selector(".tile")
    assert page.url == f"{operators_edge.url}/admin/ui/"
    assert sockets
    assert {url.partition("?")[0] for url in sockets} == {
        f"wss://127.0.0.1:{operators_edge.port}/admin/ui/_nicegui_ws/socket.io/"
    }
    page.goto("/admin/ui/about")
    expect(page.get_by_text("Sentinel sees you as 127.0.0.1, via 127.0.0.1: is that right?")).to_be_visible()
    [cookie] = context.cookies()
    assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == ("/admin/ui", True, True)
    context.close()
