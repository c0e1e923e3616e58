"""The other pages as an operator uses them: dashboard, one binding, settings, archive, first check, the frame."""

import re
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from admin_api.schemas.settings import SettingValues
from console.setting_fields import SETTINGS
from tests.console.conftest import fill_in
from tests.support import admin
from tests.support.consoles import House, running_console


@pytest.fixture
def owner(house: House) -> str:
    """A key that 203.0.113.7 owns."""
    key = house.new_key()
    assert house.use(key, "203.0.113.7") == 200
    return key


def hint_of(key: str) -> str:
    bare = key.removeprefix("sk-")
    return f"{bare[:4]}…{bare[-4:]}"


def detail(house: House, key: str) -> str:
    return f"/bindings/{house.binding_of(key)['id']}"


# --- one binding -----------------------------------------------------------------------------------------------------


def test_an_edited_network_is_enforced_at_once(house, sign_in, owner):
    assert house.use(owner, "198.51.100.9") == 403
    page = sign_in(detail(house, owner))
    field = page.get_by_label("These networks and no others")
    field.fill("203.0.113.7\n198.51.100.9/24")
    expect(page.get_by_text("Line 2: 198.51.100.9/24 has host bits set; 198.51.100.0/24?")).to_be_visible()
    expect(page.get_by_role("button", name="Save the networks")).to_be_disabled()
    field.fill("203.0.113.7\n198.51.100.0/24")
    expect(page.get_by_text("+ 198.51.100.0/24")).to_be_visible()
    page.get_by_role("button", name="Save the networks").click()
    expect(page.get_by_text("Saved; gateways follow within a second.")).to_be_visible()
    expect(page.locator(".timeline")).to_contain_text("edited the networks")
    assert house.use(owner, "198.51.100.9") == 200


def test_an_address_that_was_refused_is_allowed_with_one_click(house, sign_in, owner):
    assert house.use(owner, "192.0.2.77") == 403
    page = sign_in(detail(house, owner))
    row = page.locator(".grid tr", has_text="192.0.2.77")
    expect(row).to_contain_text("Refused", timeout=30_000)
    row.get_by_role("button", name="Allow").click()
    expect(page.locator(".grid tr", has_text="192.0.2.77").filter(has_text="Allowed by now")).to_be_visible()
    assert house.use(owner, "192.0.2.77") == 200


def test_the_decide_box_says_what_would_happen_and_why(house, sign_in, owner):
    page = sign_in(detail(house, owner))
    page.get_by_label("To a request with this key from the address").fill("192.0.2.1")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_text("Refused (403)")).to_be_visible()
    expect(page.get_by_text("the key is bound, and the address lies outside of its networks").first).to_be_visible()


def test_of_two_who_edit_at_once_one_is_told(house, sign_in, owner):
    page = sign_in(detail(house, owner))
    found = house.binding_of(owner)
    house.api.put("/bindings/note", json={"id": found["id"], "note": "meanwhile"})
    page.get_by_label("Note").fill("mine")
    page.get_by_role("button", name="Save the note").click()
    expect(page.get_by_text("Somebody changed it meanwhile.")).to_be_visible()
    assert house.binding_of(owner)["note"] == "meanwhile"


def test_a_ban_with_a_reason_shows_there_and_lifts(house, sign_in, owner):
    page = sign_in(detail(house, owner))
    page.get_by_role("button", name="Ban", exact=True).click()
    page.get_by_label("For how long").select_option("24 hours")
    page.get_by_label("Reason (kept in the audit)").last.fill("resold")
    page.get_by_role("button", name="Ban the key").click()
    expect(page.get_by_text("Banned: resold.")).to_be_visible()
    assert house.use(owner, "203.0.113.7") == 403
    assert house.binding_of(owner)["ban_expires_at"] is not None
    page.get_by_role("button", name="Lift ban").click()
    page.get_by_role("button", name="Lift the ban").click()
    expect(page.get_by_text("Lifted the ban.")).to_be_visible()
    assert house.use(owner, "203.0.113.7") == 200


def test_a_form_shows_itself_as_an_api_call(house, sign_in, owner):
    page = sign_in(detail(house, owner))
    editor = page.locator(".card-foot", has=page.get_by_role("button", name="Save the networks"))
    editor.get_by_role("button", name="As an API call").click()
    expect(page.get_by_role("dialog")).to_contain_text('-X PUT "$API/bindings/ip"')
    expect(page.get_by_role("dialog")).to_contain_text('"networks":["203.0.113.7/32"]')


@pytest.mark.parametrize("path", ["/bindings/999999999", "/bindings/abc", "/bindings/%3Cscript%3E", "/no/such/page"])
def test_what_is_not_there_is_said_so(house, sign_in, path):
    page = sign_in(path)
    expect(page.locator("#content")).to_contain_text(re.compile("There is no such"))


def test_hostile_agents_and_paths_are_text(house, sign_in, owner):
    agent = "<img src=x onerror=document.title=1>{{7*7}}"
    assert house.use(owner, "192.0.2.5", **{"user-agent": agent}) == 403
    page = sign_in(detail(house, owner))
    expect(page.locator(".timeline")).to_contain_text(agent)
    assert page.title() == "Binding · Key-IP Sentinel"


# --- dashboard -------------------------------------------------------------------------------------------------------


def test_the_dashboard_counts_what_happens_while_one_looks(house, sign_in, owner):
    page = sign_in("/")
    tile = page.locator(".tile", has=page.get_by_text("Refused", exact=True))
    before = int(tile.locator(".tile-value").inner_text().replace(",", ""))
    assert house.use(owner, "192.0.2.6") == 403
    expect(tile.locator(".tile-value")).not_to_have_text(f"{before:,}", timeout=40_000)
    expect(page.get_by_role("table", name="Gateways")).to_contain_text("north")
    expect(page.get_by_role("link", name=hint_of(owner)).first).to_be_visible()


# --- settings --------------------------------------------------------------------------------------------------------


def test_every_live_setting_can_be_changed_in_the_console():
    assert set(SETTINGS) == set(SettingValues.__struct_fields__)


def test_a_switch_among_the_settings_is_saved_and_told_in_words(sign_in, house):
    page = sign_in("/settings")
    page.get_by_role("combobox", name="Running streams of a revoked key").select_option("Break off")
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Running streams of a revoked key: Finish → Break off")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert house.api.get("/settings").json()["values"]["cut_on_revocation"] is True
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("combobox", name="Running streams of a revoked key")).to_have_value("false")


def test_a_setting_is_changed_with_its_consequence_before_it_and_the_gateway_obeys(house, sign_in, owner):
    page = sign_in("/settings")
    page.get_by_role("combobox", name="Mode").select_option("Observe")
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Mode: Enforce → Observe")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved; gateways follow within a second.")).to_be_visible()
    for _ in range(3):
        assert house.use(owner, "192.0.2.8") == 200
    expect(page.get_by_role("table", name="History")).to_contain_text("first stored")

    page.get_by_role("combobox", name="Mode").select_option("Enforce")
    expect_impact(page)
    page.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("Enforcing would have refused")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("table", name="History")).to_contain_text("Mode: Observe → Enforce")
    assert house.use(owner, "192.0.2.8") == 403


def expect_impact(page) -> None:
    """The records are on their way to PostgreSQL: asked for until they are there."""
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.get_by_role("button", name="What would enforcing refuse?").click()
    expect(page.get_by_text(re.compile("Enforcing would have refused"))).to_be_visible()


@pytest.mark.parametrize(
    ("setting", "wrong", "right", "why"),
    [
        ("Networks per key", "65", "64", "a whole number from 1 to 64"),
        ("Webhook", "hooks.example.com/x", "https://hooks.example.com/x", "an http or https URL with a host"),
    ],
)
def test_what_will_not_do_is_said_while_one_types_and_is_not_saved(sign_in, setting, wrong, right, why):
    page = sign_in("/settings")
    field = page.get_by_label(setting, exact=True)
    field.fill(wrong)
    expect(page.locator(".setting .fault:visible")).to_have_text(re.compile(why))
    expect(field).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(re.compile(f"This cannot be saved. {setting}: {why}"))).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    field.fill(right)
    expect(page.locator(".setting .fault:visible")).to_have_count(0)


# --- archive ---------------------------------------------------------------------------------------------------------


def test_a_removed_chip_of_the_archive_takes_its_choice_along(house, sign_in, owner):
    found = house.binding_of(owner)
    assert house.api.post("/bindings/unbind", json={"ids": [found["id"]]}).status_code == 200
    page = sign_in(f"/archive?fingerprint={found['fingerprint']}&restored=true")
    expect(page.get_by_text("Nothing matches these filters")).to_be_visible()
    page.get_by_role("button", name="Remove the filter Restored: restored").click()
    expect(page.get_by_role("combobox", name="Restored")).to_have_value("")
    expect(page.get_by_label(f"Select {hint_of(owner)}")).to_be_visible()


def test_an_unbound_key_is_restored_from_the_archive(house, sign_in, owner):
    found = house.binding_of(owner)
    assert house.api.post("/bindings/unbind", json={"ids": [found["id"]]}).status_code == 200
    page = sign_in(f"/archive?fingerprint={found['fingerprint']}")
    page.get_by_label(f"Select {hint_of(owner)}").check()
    page.get_by_role("button", name="Restore", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Restore the binding").click()
    expect(page.get_by_text("Restored the binding.")).to_be_visible()
    assert [each["network"] for each in house.binding_of(owner)["networks"]] == ["203.0.113.7/32"]


# --- the frame -------------------------------------------------------------------------------------------------------


def test_slash_focuses_the_search_and_a_whole_key_finds_its_binding_without_a_trace_in_the_url(house, sign_in, owner):
    page = sign_in("/")
    page.wait_for_selector(".tile")
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name="Search")).to_be_focused()
    page.keyboard.insert_text(owner)  # as pasting does: nobody types fifty characters
    expect(page.locator("#search-list li")).to_have_text(re.compile("Find the binding of this key"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/bindings/\d+$"))
    expect(page.get_by_role("heading", name=hint_of(owner))).to_be_visible()
    assert owner not in house.console.log_text()


def test_the_search_offers_what_a_text_may_mean_and_the_pages(house, sign_in):
    page = sign_in("/")
    page.get_by_role("combobox", name="Search").fill("192.0.2.1")
    expect(page.get_by_role("option", name="Bindings around 192.0.2.1")).to_be_visible()
    page.get_by_role("combobox", name="Search").fill("sett")
    page.get_by_role("option", name="Go to Settings").click()
    expect(page).to_have_url(re.compile("/settings$"))


def test_the_language_changes_without_a_load_and_is_remembered(house, sign_in):
    page = sign_in("/bindings?status=banned")
    page.evaluate("window.stays = true")
    page.get_by_role("button", name="Language").click()
    page.get_by_role("menuitemradio", name="简体中文").click()
    expect(page.get_by_role("heading", name="绑定", exact=True)).to_be_visible()
    assert page.evaluate("window.stays") is True
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    expect(page.get_by_role("button", name="移除筛选 状态: 已封禁")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="绑定", exact=True)).to_be_visible()


def test_the_theme_is_chosen_and_remembered(house, sign_in):
    page = sign_in("/bindings", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    page.wait_for_function(f"{ground} !== '{light}'")
    dark = page.evaluate(ground)
    page.reload()
    page.wait_for_selector("h1")
    assert page.evaluate(ground) == dark


def test_times_are_relative_with_the_absolute_on_hover_in_the_chosen_zone(house, sign_in, owner):
    page = sign_in(detail(house, owner), timezone_id="Asia/Shanghai")
    shown = page.locator(".facts rel-time").first
    expect(shown).to_have_attribute("title", re.compile(r"GMT\+8\n\d{4}-.*Z$"))
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("menuitemradio", name="UTC").click()
    expect(page.locator(".facts rel-time").first).to_have_attribute("title", re.compile("UTC\n"))


def test_without_the_admin_api_the_page_says_what_goes_on_being_enforced(house, open_browser):
    """The session is there, the admin API is not any more."""
    with tempfile.TemporaryDirectory() as folder, running_console(Path(folder), "http://127.0.0.1:9") as console:
        page = open_browser(console.url).new_page()
        page.goto(f"{console.url}/login")
        fill_in(page, "admin", admin.ADMIN_PASSWORD)
        expect(page.get_by_text("The admin API does not answer.")).to_be_visible()
