"""Operators, sessions, service tokens and the audit as an administrator uses them, on the real house."""

import json
import re
import secrets

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.test_accessibility import serious
from tests.console.test_bindings_page import rows
from tests.support import admin
from tests.support.consoles import House

PASSWORD = "a long pass phrase"
HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def name() -> str:
    return f"op-{secrets.token_hex(4)}"


def add(house: House, name: str, role: str = "operator") -> dict:
    made = house.api.post("/operators", json={"name": name, "role": role, "password": PASSWORD})
    assert made.status_code == 201, made.text
    return made.json()


def enter(house: House, name: str, password: str = PASSWORD) -> httpx.Response:
    headers = {"user-agent": HOSTILE, "x-real-ip": "198.51.100.7"}
    body = {"name": name, "password": password}
    return httpx.post(f"{house.gateway.url}/admin/api/login", json=body, headers=headers, timeout=30)


def of(page, name: str):
    return page.locator(".grid tbody tr").filter(has_text=name)


def test_an_operator_is_added_and_a_short_password_is_refused_where_it_was_typed(house, sign_in, name):
    page = sign_in("/operators")
    page.get_by_role("button", name="Add an operator").click()
    dialog = page.get_by_role("dialog", name="Add an operator")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Role").select_option("operator")
    dialog.get_by_label("Password").fill("short")
    dialog.get_by_role("button", name="Add an operator").click()
    expect(dialog.get_by_role("alert").last).to_have_text("The password needs at least 12 characters.")
    expect(dialog.get_by_label("Name")).to_have_value(name)
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Add an operator").click()
    expect(page.get_by_text(f"Added {name}.")).to_be_visible()
    expect(of(page, name)).to_contain_text("Operator")
    assert enter(house, name).status_code == 200


def test_a_role_and_a_disabling_are_undone(house, sign_in, name):
    add(house, name)
    page = sign_in("/operators")
    of(page, name).get_by_role("button", name="Change role").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Role").select_option("viewer")
    dialog.get_by_role("button", name="Change role").click()
    expect(of(page, name)).to_contain_text("Viewer")
    page.get_by_role("button", name="Undo").click()
    expect(of(page, name)).to_contain_text("Operator")
    of(page, name).get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(of(page, name)).to_contain_text("Disabled")
    assert enter(house, name).status_code == 401
    of(page, name).get_by_role("button", name="Enable").click()
    expect(of(page, name)).to_contain_text("Active")
    assert enter(house, name).status_code == 200


def test_a_password_is_reset_and_an_operator_removed(house, sign_in, name):
    add(house, name)
    page = sign_in("/operators")
    of(page, name).get_by_role("button", name="Reset password").click()
    page.get_by_role("dialog").get_by_label("New password").fill("another long pass phrase")
    page.get_by_role("dialog").get_by_role("button", name="As an API call").click()
    call = page.get_by_role("dialog", name="The same as an API call")
    expect(call).to_contain_text('{"password":"…"}')
    call.get_by_role("button", name="Close").click()
    expect(call).to_have_count(0)
    page.get_by_role("dialog").get_by_role("button", name="Reset password").click()
    expect(page.get_by_text(f"{name} has another password now.")).to_be_visible()
    assert enter(house, name, "another long pass phrase").status_code == 200
    of(page, name).get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(of(page, name)).to_have_count(0)


def test_the_last_administrator_stays_and_the_operator_is_told_why(house, sign_in):
    page = sign_in("/operators")
    of(page, "admin").first.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.get_by_text("Not possible as things are.")).to_be_visible()
    assert house.api.get("/me").status_code == 200


def test_one_sees_where_one_is_signed_in_and_ends_it(house, sign_in, name):
    add(house, name)
    token = enter(house, name).json()["access_token"]
    page = sign_in("/sessions", name=name, password=PASSWORD)
    expect(rows(page)).to_have_count(2)
    expect(rows(page).filter(has_text="this one")).to_have_count(1)
    expect(rows(page).filter(has_text=HOSTILE)).to_have_count(1)
    rows(page).filter(has_text=HOSTILE).get_by_role("button", name="End").click()
    page.get_by_role("dialog").get_by_role("button", name="End").click()
    expect(rows(page)).to_have_count(1)
    me = httpx.get(f"{house.gateway.url}/admin/api/me", headers={"authorization": f"Bearer {token}"}, timeout=30)
    assert me.status_code == 401
    assert page.title() == "Your sessions · Key-IP Sentinel"


def test_an_administrator_sees_and_ends_another_operators_sessions(house, sign_in, name):
    made = add(house, name)
    enter(house, name)
    page = sign_in("/operators")
    of(page, name).get_by_role("link", name="Sessions").click()
    expect(page).to_have_url(re.compile(f"operator={made['id']}"))
    page.get_by_role("button", name="End", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="End").click()
    expect(page.get_by_text("Signed in nowhere")).to_be_visible()


def test_one_changes_ones_own_password(house, sign_in, name):
    add(house, name, "viewer")
    page = sign_in("/sessions", name=name, password=PASSWORD)
    page.get_by_role("button", name="Change password").click()
    dialog = page.get_by_role("dialog", name="Change password")
    new = "quite another pass phrase"
    for old, again, told in (
        ("wrong", "different entirely", "The two new passwords differ."),
        ("wrong", new, "Name or password is wrong."),
    ):
        dialog.get_by_label("Present password").fill(old)
        dialog.get_by_label("New password", exact=True).fill(new)
        dialog.get_by_label("New password again").fill(again)
        dialog.get_by_role("button", name="Change password").click()
        expect(dialog.get_by_role("alert").last).to_have_text(told)
    dialog.get_by_label("Present password").fill(PASSWORD)
    dialog.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("Your password was changed.")).to_be_visible()
    assert enter(house, name, new).status_code == 200
    expect(page.get_by_role("link", name="Operators")).to_have_count(0)


def test_a_token_is_shown_once_works_from_its_network_and_is_revoked(house, sign_in, name):
    page = sign_in("/tokens")
    page.get_by_role("button", name="Make a token").click()
    dialog = page.get_by_role("dialog", name="Make a token")
    dialog.get_by_label("Name").fill(f"{name} {HOSTILE}")
    dialog.get_by_role("button", name="Make a token").click()
    expect(dialog.get_by_role("alert").last).to_have_text("A token without a scope could do nothing: choose one.")
    dialog.get_by_label("bindings:read").check()
    dialog.get_by_label("Good from").fill("203.0.113.9/24")
    dialog.get_by_role("button", name="Make a token").click()
    expect(dialog.get_by_role("alert").last).to_contain_text("203.0.113.0/24?")
    dialog.get_by_label("Good from").fill("203.0.113.0/24")
    dialog.get_by_role("button", name="Make a token").click()
    token = page.locator("code.secret").inner_text()

    def status(address: str) -> int:
        headers = {"authorization": f"Bearer {token}", "x-real-ip": address}
        return httpx.get(f"{house.gateway.url}/admin/api/bindings", headers=headers, timeout=30).status_code

    assert (status("203.0.113.7"), status("198.51.100.7")) == (200, 401)
    page.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_text(token)).to_have_count(0)
    expect(of(page, name)).to_contain_text("203.0.113.0/24")
    of(page, name).get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke the token").click()
    expect(of(page, name)).to_contain_text("Revoked")
    assert status("203.0.113.7") == 401
    assert page.title() == "Service tokens · Key-IP Sentinel"


def test_the_audit_shows_who_changed_what_before_and_after(house, sign_in, name):
    key = "sk-" + secrets.token_hex(24)
    line = json.dumps({"key": key, "networks": ["192.0.2.1/32"]})
    house.api.post("/bindings/import", content=line, headers={"content-type": "application/x-ndjson"})
    found = house.binding_of(key)
    note = {"id": found["id"], "note": f"{name} {HOSTILE}"}
    assert house.api.put("/bindings/note", json=note).status_code == 200
    assert house.api.post("/bindings/ban", json={"ids": [found["id"]], "reason": "resold"}).status_code == 200
    page = sign_in(f"/audit?subject_kind=binding&subject_id={found['id']}")
    expect(rows(page)).to_have_count(3)
    expect(rows(page).nth(0)).to_contain_text("Banned")
    expect(rows(page).nth(0)).to_contain_text("Status: Active → Banned")
    expect(rows(page).nth(0)).to_contain_text("resold")
    page.locator(".grid").get_by_role("button", name="Note edited").click()
    expect(page).to_have_url(re.compile("action=binding%3Anote"))
    expect(rows(page)).to_have_count(1)
    rows(page).nth(0).get_by_role("button", name="Details").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("tr.changed")).to_contain_text(f"{name} {HOSTILE}")
    expect(dialog.get_by_role("row", name="Mode")).to_contain_text("As set for all")
    assert page.title() == "Audit · Key-IP Sentinel"
    page.keyboard.press("Escape")
    page.get_by_label("What", exact=True).select_option("settings:")
    expect(page.get_by_text("Nothing matches these filters")).to_be_visible()
    page.go_back()
    expect(rows(page)).to_have_count(1)


def test_pages_of_administrators_are_hidden_from_others(house, sign_in, name):
    add(house, name)
    page = sign_in("/audit", name=name, password=PASSWORD)
    for title in ("Operators", "Service tokens"):
        expect(page.locator("nav.side").get_by_role("link", name=title)).to_have_count(0)
    for path in ("/operators", "/tokens", f"/sessions?operator={house.api.get('/me').json()['id']}"):
        page.goto(house.console.url + path)
        expect(page.get_by_text(re.compile("no such page|role does not allow"))).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_windows_have_no_serious_fault_of_accessibility(house, sign_in, theme):
    page = sign_in("/tokens", color_scheme=theme)
    page.get_by_role("button", name="Make a token").click()
    page.get_by_label("bindings:read").check()
    assert serious(page) == []
    page.goto(f"{house.console.url}/audit")
    page.get_by_role("button", name="Details").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert serious(page) == []


def test_signing_in_again_after_the_own_password_was_reset_elsewhere(house, sign_in, name):
    """A session that somebody ended leads to the sign-in page at its next step, and back."""
    made = add(house, name)
    page = sign_in("/sessions", name=name, password=PASSWORD)
    reset = {"password": "another long pass phrase"}
    assert house.api.post(f"/operators/{made['id']}/password", json=reset).status_code == 200
    page.get_by_role("link", name="First check").click()
    expect(page).to_have_url(re.compile(r"/login\?why=ended"))
    assert admin.ADMIN_PASSWORD not in page.content()
