"""Actions over everything that a filter lets through, as an operator uses them, on the real house."""

import contextlib
from collections.abc import Iterator

import psutil
from playwright.sync_api import expect

from console.bulk_run import BATCH_IDS
from tests.console.test_bindings_page import make, rows
from tests.support.waiting import until

MANY = 1_205
"""More than one call may change."""


@contextlib.contextmanager
def held(house) -> Iterator[None]:
    """The admin API takes requests and answers none, so that what is under way stays so."""
    main = psutil.Process(house.gateway.process.pid)
    processes = [main, *main.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def select_all_matching(page, count: int) -> None:
    page.get_by_label("Select all on this page").check()
    page.get_by_role("button", name="Select all that match").click()
    expect(page.get_by_text(f"{count:,} selected: all that match")).to_be_visible()


def banned(house, note) -> int:
    return len(house.api.get("/bindings", params={"note": note, "status": "banned", "limit": 200}).json()["items"])


def test_all_that_match_are_changed_also_when_the_page_is_closed_meanwhile(house, sign_in, note):
    """The confirmation names the count, the report is there when one comes back."""
    make(house, note, MANY - 1)
    make(house, note, 1, status="banned", ban_reason="before")
    page = sign_in(f"/bindings?note={note}")
    select_all_matching(page, MANY)
    page.get_by_role("region", name="Selected bindings").get_by_role("button", name="Unbind").click()
    dialog = page.get_by_role("dialog", name=f"Unbind {MANY:,} keys?")
    expect(dialog).to_contain_text("there is no undo")
    context = page.context
    with held(house):
        dialog.get_by_role("button", name=f"Unbind {MANY:,} keys").click()
        expect(page.get_by_text("It goes on when you leave or close this page")).to_be_visible()
        expect(page.get_by_text(f"0 of {MANY:,} done")).to_be_visible()
        page.close()
    until(lambda: len(house.api.get("/bindings", params={"note": note}).json()["items"]) == 1)

    page = context.new_page()
    page.goto(f"{house.console.url}/bindings?note={note}")
    report = page.get_by_role("status", name="Action over all that match")
    expect(report).to_contain_text(f"Unbound {MANY - 1:,} keys. One is banned and stays bound")
    expect(rows(page)).to_have_count(1)
    report.get_by_role("button", name="Close").click()
    expect(report).to_be_hidden()


def test_a_stopped_action_tells_how_many_were_not_tried(house, sign_in, note):
    make(house, note, MANY)
    page = sign_in(f"/bindings?note={note}")
    select_all_matching(page, MANY)
    page.get_by_role("region", name="Selected bindings").get_by_role("button", name="Ban", exact=True).click()
    dialog = page.get_by_role("dialog", name=f"Ban {MANY:,} keys?")
    with held(house):
        dialog.get_by_role("button", name=f"Ban {MANY:,} keys").click()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    report = page.get_by_role("status", name="Action over all that match")
    expect(report).to_contain_text(f"Banned {BATCH_IDS} keys. {MANY - BATCH_IDS:,} were not tried.")
    expect(rows(page)).to_have_count(50)


def test_fewer_than_one_call_may_change_can_still_be_undone(house, sign_in, note):
    make(house, note, 60)
    page = sign_in(f"/bindings?note={note}")
    select_all_matching(page, 60)
    page.get_by_role("region", name="Selected bindings").get_by_role("button", name="Ban", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Ban 60 keys").click()
    expect(page.get_by_text("Banned 60 keys.")).to_be_visible()
    assert banned(house, note) == 60
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Undone.")).to_be_visible()
    assert banned(house, note) == 0
