"""A house in trouble under open pages: stores that die, more intercepts than a tail shows. What is so is said, and
everything comes back by itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.pages.intercepts import Tail
from sentinel.services import Stores
from tests.console.test_bindings_page import hint_of, rows
from tests.support import databases
from tests.support.consoles import House, running_house

OWNER, STRANGER = "203.0.113.7", "198.51.100.9"


@pytest.fixture(scope="module")
def frail_stores(migrated_cluster: Path) -> Iterator[Stores]:
    with databases.private_stores(migrated_cluster) as running:
        yield running


@pytest.fixture(scope="module")
def frail(frail_stores: Stores) -> Iterator[House]:
    """A house whose stores may be killed; each test starts them again."""
    with running_house(frail_stores.pg_dsn, frail_stores.redis_url) as running:
        yield running


@pytest.fixture
def owned(frail: House) -> str:
    """A key of `OWNER` that was refused to `STRANGER`, both on record."""
    key = frail.new_key()
    assert frail.use(key, OWNER) == 200
    assert frail.use(key, STRANGER) == 403
    return key


def beside(page: Page, url: str) -> Page:
    """Another tab of the same operator."""
    opened = page.context.new_page()
    opened.goto(url)
    return opened


def board_and_list(sign_in: Callable[..., Page], url: str, key: str) -> tuple[Page, Page]:
    """The dashboard, and the list that shows the binding of a key, both as on a good day."""
    board = sign_in("/", base=url)
    expect(board.get_by_role("table", name="Gateways")).to_contain_text("north")
    listing = beside(board, f"{url}/bindings?hint={key[3:7]}")
    expect(rows(listing)).to_have_count(1)
    return board, listing


def test_without_postgresql_pages_say_what_is_enforced_and_come_back_by_themselves(frail, frail_stores, sign_in, owned):
    url = frail.console.url
    board, listing = board_and_list(sign_in, url, owned)
    tail = beside(board, f"{url}/intercepts?hint={owned[3:7]}&tail=1")
    expect(rows(tail)).to_have_count(1)
    expect(tail.get_by_text("Live", exact=True)).to_be_visible()

    frail_stores.postgres.kill()
    banner = board.get_by_text(
        "PostgreSQL does not answer. Keys that gateways or Redis remember are enforced as before"
    )
    expect(banner).to_be_visible()
    expect(board.get_by_text("This could not be loaded")).to_be_visible()
    expect(tail.get_by_text("Interrupted")).to_be_visible()
    expect(rows(tail)).to_have_count(1)
    listing.get_by_role("button", name="Refresh").click()
    told = listing.get_by_role("alert").filter(has_text="This could not be loaded")
    expect(told).to_contain_text("Keys that gateways or Redis remember are enforced as before")
    told.get_by_role("button", name="Try again").click()
    expect(told).to_be_visible()
    one = beside(board, f"{url}/settings")
    expect(one.get_by_role("alert")).to_contain_text("This could not be loaded")
    assert frail.use(owned, OWNER) == 200
    assert frail.use(owned, STRANGER) == 403

    frail_stores.postgres.start()
    expect(rows(listing)).to_have_count(1)
    expect(rows(listing).nth(0)).to_contain_text(hint_of(owned))
    expect(one.get_by_role("heading", name="Settings")).to_be_visible()
    expect(tail.get_by_text("Live", exact=True)).to_be_visible()
    expect(banner).to_be_hidden()
    expect(board.get_by_text("This could not be loaded")).to_have_count(0)


def test_without_redis_the_dashboard_says_what_is_enforced_and_lists_go_on(frail, frail_stores, sign_in, owned):
    url = frail.console.url
    board, listing = board_and_list(sign_in, url, owned)

    frail_stores.valkey.kill()
    banner = board.get_by_text("Redis does not answer. Bindings are enforced from memory and PostgreSQL")
    expect(banner).to_be_visible()
    expect(board.locator(".tile", has_text="Refused")).to_contain_text("unknown")
    listing.get_by_role("button", name="Refresh").click()
    expect(rows(listing)).to_have_count(1)
    assert frail.use(owned, OWNER) == 200
    assert frail.use(owned, STRANGER) == 403

    frail_stores.valkey.start()
    expect(banner).to_be_hidden()
    expect(board.get_by_role("table", name="Gateways")).to_contain_text("north")


def test_a_tail_that_is_overrun_says_that_it_left_some_out(frail, frail_stores, sign_in, owned):
    page = sign_in(f"/intercepts?hint={owned[3:7]}&tail=1", base=frail.console.url)
    expect(rows(page)).to_have_count(1)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_text("More arrive than can be shown")).to_be_hidden()
    columns = "key_hash, key_hint, client, bound_networks, reason, enforced, method, path, user_agent, gateway"
    copies = f"""INSERT INTO intercept (event_id, at, {columns})
        SELECT sha256(event_id || n::text::bytea), now(), {columns}
        FROM intercept, generate_series(1, {Tail.ROWS_AT_ONCE + 10}) n WHERE key_hint = '{hint_of(owned)}'"""
    databases.sql(frail_stores.postgres, copies, frail_stores.pg_dsn.partition("?")[0].rpartition("/")[2])
    expect(rows(page)).to_have_count(Tail.ROWS_AT_ONCE + 1)
    expect(page.get_by_text("More arrive than can be shown")).to_be_visible()
