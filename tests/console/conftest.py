"""The console in a real browser, in front of the real house: one house per test worker, one Chromium a module.

Tests share them, so each makes keys and bindings of its own and looks for those.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support import admin, databases
from tests.support.consoles import House, running_house

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWPORT = {"width": 1440, "height": 900}
PATIENCE_MS = 30_000

expect.set_options(timeout=PATIENCE_MS)

SignIn = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One a module, and no asynchronous tests beside it: playwright's event loop runs as long as it is there."""
    if CHROMIUM is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("no Chromium: CI never skips the console's tests (.ci/run installs it)")
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def house(migrated_cluster: Path) -> Iterator[House]:
    """Shared: leave it running. Tests that break something start a house of their own.

    With stores of its own: it outlives this folder's tests, and its worker would take the records of others'.
    """
    with (
        databases.private_stores(migrated_cluster) as stores,
        running_house(stores.pg_dsn, stores.redis_url) as running,
    ):
        yield running


@pytest.fixture
def note() -> str:
    """What this test's bindings have in their notes, and no others."""
    return f"note-{secrets.token_hex(4)}"


class Watched:
    """What went wrong in a browser, and where it asked for something that is not ours."""

    def __init__(self, own: str) -> None:
        self._own = own
        self.elsewhere: list[str] = []
        self.errors: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("request", lambda request: self._note(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._hear(message.type, message.text))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != self._own:
            self.elsewhere.append(url)

    def _hear(self, kind: str, text: str) -> None:
        # A status that the page shows is no fault of the page.
        if kind == "error" and "the server responded with a status of" not in text:
            self.errors.append(text)


@pytest.fixture
def open_browser(browser: Browser, house: House) -> Iterator[Callable[..., BrowserContext]]:
    """``open_browser(base_url, locale="zh-CN")``: nobody is signed in; every page of it is watched.

    At the end of the test no page may have reported an error or asked anybody but the console for anything.
    """
    opened: list[tuple[BrowserContext, Watched]] = []

    def open_one(base_url: str = house.console.url, **options: object) -> BrowserContext:
        given = {"viewport": VIEWPORT, "locale": "en-US", "reduced_motion": "reduce"} | options
        context = browser.new_context(base_url=base_url, **given)
        context.set_default_timeout(PATIENCE_MS)
        watched = Watched(urlsplit(base_url).netloc)
        context.on("page", watched.watch)
        opened.append((context, watched))
        return context

    yield open_one
    for context, watched in opened:
        context.close()
        assert watched.errors == []
        assert watched.elsewhere == []


@pytest.fixture
def sign_in(open_browser: Callable[..., BrowserContext], house: House) -> SignIn:
    """``sign_in("/bindings?hint=ab")``: a page there, as the administrator, or as another ``name`` and ``password``."""

    def go(
        path: str = "/", *, name: str = "admin", password: str = admin.ADMIN_PASSWORD, base: str = "", **options: object
    ) -> Page:
        base = base or house.console.url
        page = open_browser(base, **options).new_page()
        page.goto(base + path)
        fill_in(page, name, password)
        page.wait_for_selector("#content")
        return page

    return go


def fill_in(page: Page, name: str, password: str) -> None:
    page.locator("#name").fill(name)
    page.locator("#password").fill(password)
    page.locator("button[type=submit]").click()
