"""The list of bindings as an operator uses it, on the real house."""

import json
import re
import secrets
import shlex
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.support.consoles import House


def make(house: House, note: str, count: int, **fields: object) -> list[str]:
    """Bindings of keys of their own, each with its own address; their keys."""
    keys = ["sk-" + secrets.token_hex(24) for _ in range(count)]
    lines = [
        json.dumps({"key": key, "networks": [f"192.0.2.{number % 256}/32"], "note": f"{note} {number:03}"} | fields)
        for number, key in enumerate(keys)
    ]
    headers = {"content-type": "application/x-ndjson"}
    report = house.api.post("/bindings/import", content="\n".join(lines), headers=headers).json()
    assert report["created"] == count, report
    return keys


def rows(page: Page):
    return page.locator(".grid tbody tr")


def first_key(page: Page) -> str:
    return rows(page).nth(0).get_by_role("link").inner_text()


def hint_of(key: str) -> str:
    bare = key.removeprefix("sk-")
    return f"{bare[:4]}…{bare[-4:]}"


def test_list_pages_forth_and_back_and_a_copied_link_shows_the_same_page(house, sign_in, note):
    make(house, note, 60)
    page = sign_in(f"/bindings?note={note}&sort=first_used_at")
    expect(rows(page)).to_have_count(50)
    first = first_key(page)
    page.get_by_role("button", name="Next").click()
    expect(rows(page)).to_have_count(10)
    expect(page.get_by_text("Page 2")).to_be_visible()
    second = first_key(page)

    copied = page.context.new_page()
    copied.goto(page.url)
    expect(rows(copied)).to_have_count(10)
    assert first_key(copied) == second

    page.get_by_role("button", name="Previous").click()
    expect(rows(page)).to_have_count(50)
    assert first_key(page) == first
    page.go_back()
    expect(rows(page)).to_have_count(10)


def test_typing_a_network_a_hint_or_a_key_finds_its_binding(house, sign_in, note):
    (key,) = make(house, note, 1, networks=["203.0.113.0/24"])
    page = sign_in("/bindings")
    search = page.get_by_label("Hint, note, address, network or key, then Enter")
    search.fill("203.0.113.77")
    search.press("Enter")
    expect(page).to_have_url(re.compile("network=203.0.113.77"))
    expect(page.get_by_role("link", name=hint_of(key))).to_be_visible()

    page.goto(f"{house.console.url}/bindings")
    search.fill(key.removeprefix("sk-")[:4])
    search.press("Enter")
    expect(page).to_have_url(re.compile("hint="))
    expect(page.get_by_role("link", name=hint_of(key))).to_be_visible()


def test_a_click_on_a_cell_filters_by_it_and_the_chip_takes_it_back(house, sign_in, note):
    make(house, note, 2)
    make(house, note, 1, status="banned", ban_reason="resold")
    page = sign_in(f"/bindings?note={note}")
    expect(rows(page)).to_have_count(3)
    page.locator(".grid").get_by_role("button", name="Banned").click()
    expect(rows(page)).to_have_count(1)
    expect(page).to_have_url(re.compile("status=banned"))
    page.get_by_role("button", name="Remove the filter Status: Banned").click()
    expect(rows(page)).to_have_count(3)
    assert "status" not in page.url


def test_a_removed_chip_takes_its_choice_along_and_back_brings_both_again(house, sign_in, note):
    make(house, note, 2)
    make(house, note, 1, status="banned", ban_reason="resold")
    page = sign_in(f"/bindings?note={note}")
    status = page.get_by_role("combobox", name="Status")
    status.select_option("Banned")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Remove the filter Status: Banned").click()
    expect(rows(page)).to_have_count(3)
    expect(status).to_have_value("")
    page.go_back()
    expect(rows(page)).to_have_count(1)
    expect(status).to_have_value("banned")


def test_a_list_shows_itself_as_an_api_call_with_its_filters(house, sign_in, note):
    make(house, note, 1)
    page = sign_in(f"/bindings?note={note}&status=active&sort=first_used_at")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="As an API call").click()
    command = page.get_by_role("dialog").locator("pre").inner_text()
    url = re.search(r'"\$API(.*)"', command)[1]
    answer = house.api.get(url).json()
    assert [each["note"] for each in answer["items"]] == [f"{note} 000"]
    assert dict(parse_qsl(urlsplit(url).query)).items() >= {"status": "active", "sort": "first_used_at"}.items()


def test_a_question_shows_itself_as_an_api_call_with_what_was_typed(house, sign_in, note):
    (key,) = make(house, note, 1)
    page = sign_in(f"/bindings?note={note}")
    page.get_by_label(f"Select {hint_of(key)}").check()
    page.get_by_role("button", name="Ban", exact=True).click()
    dialog = page.get_by_role("dialog", name="Ban this key?")
    dialog.get_by_label("Reason").fill("it's resold")
    dialog.get_by_role("button", name="As an API call").click()
    command = page.get_by_role("dialog", name="The same as an API call").locator("pre").inner_text()
    assert command.startswith('curl -sS -f -H "$AUTH" -X POST "$API/bindings/ban"')
    sent = json.loads(shlex.split(command)[-1])
    assert (sent["ids"], sent["reason"]) == ([house.binding_of(key)["id"]], "it's resold")
    assert house.binding_of(key)["status"] == "active"


def test_bans_in_bulk_say_what_came_of_each_and_can_be_undone(house, sign_in, note):
    keys = make(house, note, 3)
    gone = house.binding_of(keys[0])["id"]
    page = sign_in(f"/bindings?note={note}")
    page.get_by_label("Select all on this page").check()
    expect(page.get_by_text("3 selected")).to_be_visible()
    assert house.api.post("/bindings/unbind", json={"ids": [gone]}).status_code == 200

    page.get_by_role("button", name="Ban", exact=True).click()
    dialog = page.get_by_role("dialog", name="Ban 3 keys?")
    dialog.get_by_label("Reason").fill("resold")
    dialog.get_by_role("button", name="Ban 3 keys").click()
    expect(page.get_by_text("Banned 2 keys. One is gone.")).to_be_visible()
    assert [house.binding_of(key)["status"] for key in keys[1:]] == ["banned", "banned"]
    assert house.binding_of(keys[1])["ban_reason"] == "resold"

    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Undone.")).to_be_visible()
    assert [house.binding_of(key)["status"] for key in keys[1:]] == ["active", "active"]


def test_an_unbound_key_comes_back_with_undo(house, sign_in, note):
    (key,) = make(house, note, 1)
    page = sign_in(f"/bindings?note={note}")
    page.get_by_label(f"Select {hint_of(key)}").check()
    page.get_by_role("button", name="Unbind", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Unbind the key").click()
    expect(page.get_by_text("Nothing matches these filters")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("link", name=hint_of(key))).to_be_visible()
    assert [each["network"] for each in house.binding_of(key)["networks"]] == ["192.0.2.0/32"]


def test_after_an_unbinding_the_next_address_binds(house, sign_in):
    key = house.new_key()
    assert house.use(key, "198.51.100.1") == 200
    assert house.use(key, "198.51.100.2") == 403
    page = sign_in(f"/bindings?hint={key.removeprefix('sk-')[:4]}")
    page.get_by_label(f"Select {hint_of(key)}").check()
    page.get_by_role("button", name="Unbind", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Unbind the key").click()
    expect(page.get_by_text("Unbound the key.")).to_be_visible()
    assert house.use(key, "198.51.100.2") == 200
    page.reload()
    expect(page.locator(".grid").get_by_text("198.51.100.2").first).to_be_visible()


def test_a_cancelled_question_changes_nothing(house, sign_in, note):
    (key,) = make(house, note, 1)
    page = sign_in(f"/bindings?note={note}")
    page.get_by_label(f"Select {hint_of(key)}").check()
    page.get_by_role("button", name="Ban", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Ban", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert house.binding_of(key)["status"] == "active"


def test_the_keyboard_alone_selects_and_opens(house, sign_in, note):
    make(house, note, 3)
    page = sign_in(f"/bindings?note={note}&sort=first_used_at&order=asc")
    expect(rows(page)).to_have_count(3)
    rows(page).nth(0).focus()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/bindings/\d+$"))


def test_a_viewer_sees_no_way_to_change_anything(house, sign_in, note):
    make(house, note, 1)
    password = "a long pass phrase"
    house.api.post("/operators", json={"name": f"v{note}", "role": "viewer", "password": password})
    page = sign_in(f"/bindings?note={note}", name=f"v{note}", password=password)
    expect(rows(page)).to_have_count(1)
    expect(page.locator("input[type=checkbox]")).to_have_count(0)


@pytest.mark.parametrize(
    "hostile",
    ["<script>document.title='owned'</script>", "<img src=x onerror=\"document.title='owned'\">", "{{ 7*7 }}${7*7}`"],
)
def test_a_hostile_note_is_text(house, sign_in, note, hostile):
    make(house, f"{note} {hostile}", 1)
    page = sign_in(f"/bindings?note={note}")
    expect(rows(page)).to_have_count(1)
    expect(rows(page).nth(0)).to_contain_text(hostile)
    assert page.title() == "Bindings · Key-IP Sentinel"
    page.goto(f"{house.console.url}/bindings?{urlencode({'note': hostile, 'hint': hostile, 'status': hostile})}")
    expect(page.get_by_text("These filters cannot be read")).to_be_visible()
    expect(page.get_by_role("button", name=f"Remove the filter Status: {hostile}")).to_be_visible()
    assert page.title() == "Bindings · Key-IP Sentinel"
