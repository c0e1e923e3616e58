"""Below ``/admin/ui/`` behind nginx, and at the root alone: links, WebSocket, cookie, sign-out."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.conftest import fill_in
from tests.support import admin
from tests.support.consoles import House, Process, running_console
from tests.support.nginxes import NGINX, running_nginx

PREFIX = "/admin/ui"

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here: apt-get install nginx")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def prefixed(house: House, folder: Path) -> Iterator[Process]:
    settings = {"SENTINEL_CONSOLE_PATH": PREFIX, "SENTINEL_TRUSTED_PROXIES": "127.0.0.1"}
    with running_console(folder, house.gateway.url, **settings) as console:
        yield console


@pytest.fixture(params=["kept", "cut off"])
def edge(request: pytest.FixtureRequest, prefixed: Process, folder: Path) -> Iterator[str]:
    """nginx that passes the prefix on, or cuts it off: both are common."""
    origin = prefixed.url.removesuffix(PREFIX)
    with running_nginx(folder, origin + ("/" if request.param == "cut off" else ""), PREFIX) as url:
        yield url


def test_everything_works_below_the_prefix(edge, sign_in):
    page = sign_in(f"{PREFIX}/bindings", base=edge)
    assert page.url == f"{edge}{PREFIX}/bindings"
    page.get_by_role("link", name="Settings").click()
    expect(page).to_have_url(f"{edge}{PREFIX}/settings")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Bindings", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Bindings", exact=True)).to_be_visible()
    page.get_by_role("button", name="Account: admin").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{edge}{PREFIX}/login?why=left")


def test_the_page_came_through_a_websocket(edge, open_browser):
    page = open_browser(edge).new_page()
    sockets = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(f"{edge}{PREFIX}/")
    fill_in(page, "admin", admin.ADMIN_PASSWORD)
    page.wait_for_selector(".tile")
    assert any(re.fullmatch(rf"ws://[^/]*{PREFIX}/_nicegui_ws/socket\.io/.*", url) for url in sockets)


def test_the_cookie_is_for_the_prefix_and_secure_behind_tls(edge):
    for scheme, secure in (("https", True), ("http", False)):
        answer = httpx.post(
            f"{edge}{PREFIX}/login",
            data={"name": "admin", "password": admin.ADMIN_PASSWORD},
            headers={"x-test-scheme": scheme},
        )
        assert answer.headers["location"] == f"{PREFIX}/"
        cookie = answer.headers["set-cookie"]
        assert f"Path={PREFIX};" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert ("Secure" in cookie) is secure


def test_a_prefix_that_a_client_names_is_ignored(house):
    answer = httpx.get(f"{house.console.url}/login", headers={"x-forwarded-prefix": "/evil"})
    assert "/evil" not in answer.text


def test_the_first_check_shows_the_way_through_the_proxy(edge, sign_in):
    page = sign_in(f"{PREFIX}/about", base=edge)
    expect(page.get_by_text("Sentinel sees you as 127.0.0.1, via 127.0.0.1: is that right?")).to_be_visible()
