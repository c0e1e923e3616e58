"""What the first answer to a browser holds: all of the page, rows included. Nothing is left to the socket."""

from collections.abc import Iterator

import httpx
import pytest

from tests.console.test_bindings_page import hint_of
from tests.support import admin
from tests.support.consoles import House
from tests.support.waiting import until


@pytest.fixture
def visitor(house: House) -> Iterator[httpx.Client]:
    """A browser that runs no scripts."""
    with httpx.Client(base_url=house.console.url, timeout=30) as client:
        client.post("/login", data={"name": "admin", "password": admin.ADMIN_PASSWORD})
        yield client


def test_lists_come_with_their_rows(house, visitor):
    """A page whose answer does not wait for its rows never has them, however often it is asked for."""
    key = house.new_key()
    assert house.use(key, "203.0.113.7") == 200
    assert house.use(key, "203.0.113.8") == 403
    fingerprint = house.binding_of(key)["fingerprint"]
    for path in ("/bindings", "/intercepts"):
        until(lambda path=path: hint_of(key) in visitor.get(path, params={"fingerprint": fingerprint}).text)


def test_the_dashboard_comes_with_its_figures(visitor):
    until(lambda: "north" in visitor.get("/").text)
