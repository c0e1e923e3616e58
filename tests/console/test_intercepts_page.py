"""The intercepts as an operator uses them: found, followed live, explained, let in, exported. On the real house."""

import csv
import io
import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.console.test_accessibility import serious
from tests.console.test_bindings_page import hint_of, rows
from tests.support.consoles import House
from tests.support.waiting import until

OWN, OTHER = "192.0.2.1", "198.51.100.77"


def fingerprint_of(house: House, key: str) -> str:
    return house.api.post("/bindings/lookup", json={"key": key}).json()["fingerprint"]


def intercepted(house: House, address: str = OTHER, **headers: str) -> tuple[str, str]:
    """A key that is bound to `OWN` and was refused at ``address``; it and its fingerprint."""
    key = house.new_key()
    assert house.use(key, OWN) == 200
    fingerprint = fingerprint_of(house, key)
    until(lambda: house.api.post("/bindings/lookup", json={"key": key}).json()["binding"] is not None)
    assert house.use(key, address, **headers) == 403
    until(lambda: len(logged(house, fingerprint)) == 1)
    return key, fingerprint


def logged(house: House, fingerprint: str) -> list[dict]:
    return house.api.get("/logs", params={"fingerprint": fingerprint}).json()["items"]


def open_why(page: Page):
    page.get_by_role("button", name="Why?").first.click()
    dialog = page.get_by_role("dialog", name="Why this was intercepted")
    expect(dialog).to_be_visible()
    return dialog


def test_a_real_intercept_appears_in_the_live_tail_and_pausing_holds_the_list(house, sign_in):
    key = house.new_key()
    assert house.use(key, OWN) == 200
    page = sign_in(f"/intercepts?fingerprint={fingerprint_of(house, key)}")
    expect(page.get_by_text("Nothing matches these filters")).to_be_visible()
    page.get_by_role("button", name="Follow live").click()
    expect(page).to_have_url(re.compile("tail=1"))
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    assert house.use(key, OTHER) == 403
    expect(rows(page)).to_have_count(1)
    expect(rows(page).nth(0)).to_contain_text(OTHER)

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()
    assert house.use(key, "198.51.100.78") == 403
    expect(page.get_by_text("1 more since")).to_be_visible()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Continue").click()
    expect(rows(page)).to_have_count(2)
    expect(rows(page).nth(0)).to_contain_text("198.51.100.78")


def test_clicks_on_cells_filter_and_a_copied_link_shows_the_same(house, sign_in):
    key, fingerprint = intercepted(house)
    assert house.use(key, "198.51.100.99") == 403
    until(lambda: len(logged(house, fingerprint)) == 2)
    page = sign_in(f"/intercepts?hint={key.removeprefix('sk-')[:4]}")
    page.locator(".grid").get_by_role("button", name=hint_of(key)).first.click()
    expect(page).to_have_url(re.compile(f"fingerprint={fingerprint}"))
    page.locator(".grid").get_by_role("button", name="198.51.100.99").click()
    expect(rows(page)).to_have_count(1)
    expect(page.get_by_label("Address or network", exact=True)).to_have_value("198.51.100.99")

    copied = page.context.new_page()
    copied.goto(page.url)
    expect(rows(copied)).to_have_count(1)
    page.get_by_role("button", name="Remove the filter Address or network: 198.51.100.99").click()
    expect(rows(page)).to_have_count(2)
    page.get_by_label("Address or network", exact=True).fill("198.51.100.64/28")
    page.get_by_label("Address or network", exact=True).press("Enter")
    expect(rows(page)).to_have_count(1)
    page.go_back()
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_label("Address or network", exact=True)).to_have_value("")


def test_a_time_range_and_two_moments_bound_the_list(house, sign_in):
    _, fingerprint = intercepted(house)
    page = sign_in(f"/intercepts?fingerprint={fingerprint}")
    page.get_by_label("Range", exact=True).select_option("1h")
    expect(page).to_have_url(re.compile("range=1h"))
    expect(rows(page)).to_have_count(1)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    expect(page.get_by_label("From (UTC)", exact=True)).to_be_hidden()
    page.get_by_label("Range", exact=True).select_option("Between two moments")
    page.get_by_label("From (UTC)", exact=True).fill(f"{tomorrow:%Y-%m-%dT%H:%M}")
    page.get_by_label("From (UTC)", exact=True).blur()
    expect(page.get_by_text("Nothing matches these filters")).to_be_visible()
    expect(page).to_have_url(re.compile("from=.*Z"))
    page.get_by_role("button", name="Clear the filters").click()
    expect(page).to_have_url(re.compile("/intercepts$"))


def test_a_whole_key_is_found_and_stands_in_no_url(house, sign_in):
    key, fingerprint = intercepted(house)
    page = sign_in("/intercepts")
    page.get_by_label("Key, hint or fingerprint").fill(key)
    page.get_by_label("Key, hint or fingerprint").press("Enter")
    expect(page).to_have_url(re.compile(f"fingerprint={fingerprint}"))
    expect(rows(page)).to_have_count(1)
    assert key not in page.url


def test_a_refusal_is_explained_hop_by_hop(house, sign_in):
    """The gateway's peer is the test itself, at a loopback address that the gateway trusts."""
    _, fingerprint = intercepted(house)
    page = sign_in(f"/intercepts?fingerprint={fingerprint}")
    hops = open_why(page).locator(".hops li")
    expect(hops).to_have_text(
        [
            re.compile("Connection from127.0.0.1a trusted proxy"),
            re.compile(f"X-Real-IP{OTHER}"),
            re.compile(f"Judged by the address{OTHER}"),
            re.compile(f"bound to.*{OWN}/32"),
            re.compile("the address lies in none of them"),
            re.compile("Refused.*north"),
            re.compile("If it came nowRefused"),
        ]
    )


def test_an_address_is_let_in_for_a_day_and_that_is_undone(house, sign_in):
    key, fingerprint = intercepted(house)
    page = sign_in(f"/intercepts?fingerprint={fingerprint}")
    open_why(page).get_by_role("button", name="Allow this address for 24 h").click()
    expect(page.get_by_text(f"{OTHER} may use the key for 24 hours.")).to_be_visible()
    ends = {each["network"]: each["expires_at"] for each in house.binding_of(key)["networks"]}
    assert ends[f"{OWN}/32"] is None
    assert timedelta(hours=23) < datetime.fromisoformat(ends[f"{OTHER}/32"]) - datetime.now(UTC) <= timedelta(days=1)
    until(lambda: house.use(key, OTHER) == 200)

    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Undone.")).to_be_visible()
    assert [each["network"] for each in house.binding_of(key)["networks"]] == [f"{OWN}/32"]


def test_letting_in_for_good_keeps_the_end_of_another_network(house, sign_in):
    key, fingerprint = intercepted(house)
    end = "2099-01-01T00:00:00Z"
    networks = [f"{OWN}/32", {"network": "203.0.113.0/24", "expires_at": end}]
    found = house.binding_of(key)
    assert house.api.put("/bindings/ip", json={"id": found["id"], "networks": networks}).status_code == 200
    page = sign_in(f"/intercepts?fingerprint={fingerprint}")
    open_why(page).get_by_role("button", name="Allow it for good").click()
    expect(page.get_by_text(f"{OTHER} may use the key from now on.")).to_be_visible()
    ends = {each["network"]: each["expires_at"] for each in house.binding_of(key)["networks"]}
    assert ends == {f"{OWN}/32": None, f"{OTHER}/32": None, "203.0.113.0/24": end}

    page.goto(f"{house.console.url}/bindings/{found['id']}")
    page.get_by_label("These networks and no others").fill(f"{OWN}\n203.0.113.0/24")
    page.get_by_role("button", name="Save the networks").click()
    expect(page.get_by_text("Saved; gateways follow")).to_be_visible()
    ends = {each["network"]: each["expires_at"] for each in house.binding_of(key)["networks"]}
    assert ends == {f"{OWN}/32": None, "203.0.113.0/24": end}


def test_a_key_is_banned_from_its_intercept(house, sign_in):
    key, fingerprint = intercepted(house)
    page = sign_in(f"/intercepts?fingerprint={fingerprint}")
    open_why(page).get_by_role("button", name="Ban", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Ban the key").click()
    expect(page.get_by_text("Banned the key.")).to_be_visible()
    assert house.binding_of(key)["status"] == "banned"
    dialog = open_why(page)
    expect(dialog).to_contain_text("the key is banned")
    expect(dialog.get_by_role("button", name="Allow it for good")).to_have_count(0)


def test_files_hold_exactly_what_the_filters_let_through(house, sign_in):
    key, fingerprint = intercepted(house)
    assert house.use(key, "198.51.100.99") == 403
    until(lambda: len(logged(house, fingerprint)) == 2)
    page = sign_in(f"/intercepts?fingerprint={fingerprint}&network=198.51.100.99&range=24h")
    expect(rows(page)).to_have_count(1)
    with page.expect_download() as saved:
        page.get_by_role("link", name="Export JSON lines").click()
    lines = [json.loads(line) for line in saved.value.path().read_text().splitlines()]
    assert [(line["client"], line["fingerprint"]) for line in lines] == [("198.51.100.99", fingerprint)]
    assert re.fullmatch(r"sentinel-intercepts-\w+\.jsonl", saved.value.suggested_filename)

    page.get_by_role("button", name="Remove the filter Address or network: 198.51.100.99").click()
    expect(rows(page)).to_have_count(2)
    with page.expect_download() as saved:
        page.get_by_role("link", name="Export CSV").click()
    table = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
    assert sorted(line["client"] for line in table) == [OTHER, "198.51.100.99"]


def test_a_file_is_for_those_who_are_signed_in_and_a_bad_filter_says_so(house, sign_in, open_browser):
    nobody = open_browser().request.get("/intercepts/export?format=csv", max_redirects=0)
    assert (nobody.status, nobody.headers["location"].partition("?")[0]) == (303, "/login")
    page = sign_in("/about")
    answer = page.request.get("/intercepts/export?format=csv&network=nonsense")
    assert answer.status == 400
    assert "The input is not valid" in answer.text()
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_viewer_is_told_why_and_offered_no_change(house, sign_in):
    _, fingerprint = intercepted(house)
    name, password = f"v{secrets.token_hex(4)}", "a long pass phrase"
    house.api.post("/operators", json={"name": name, "role": "viewer", "password": password})
    page = sign_in(f"/intercepts?fingerprint={fingerprint}", name=name, password=password)
    dialog = open_why(page)
    expect(dialog).to_contain_text("the address lies in none of them")
    expect(dialog.get_by_role("link", name="Open the binding")).to_be_visible()
    for action in ("Allow it for good", "Ban"):
        expect(dialog.get_by_role("button", name=action, exact=True)).to_have_count(0)


def test_hostile_user_agents_and_filters_are_text(house, sign_in):
    hostile = "<img src=x onerror=document.title='owned'>{{7*7}}"
    _, fingerprint = intercepted(house, **{"user-agent": hostile})
    page = sign_in(f"/intercepts?fingerprint={fingerprint}", locale="zh-CN")
    page.get_by_role("button", name="原因").click()
    dialog = page.get_by_role("dialog", name="拦截原因")
    expect(dialog).to_contain_text(hostile)
    expect(dialog.locator(".hops")).to_contain_text("密钥归属上述网段")
    assert page.title() == "拦截记录 · Key-IP Sentinel"
    wrong = dict.fromkeys(("reason", "network", "from", "range", "cursor", "gateway"), hostile)
    page.goto(f"{house.console.url}/intercepts?{urlencode(wrong)}")
    expect(page.get_by_text("筛选条件无效")).to_be_visible()
    assert page.title() == "拦截记录 · Key-IP Sentinel"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_explanation_has_no_serious_fault_of_accessibility(house, sign_in, theme):
    _, fingerprint = intercepted(house)
    page = sign_in(f"/intercepts?fingerprint={fingerprint}&tail=1", color_scheme=theme)
    open_why(page)
    assert serious(page) == []
