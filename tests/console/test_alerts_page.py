"""Alerts and their targets as an administrator uses them: the real worker posts to a real receiver on loopback."""

import re
import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from standardwebhooks import Webhook

from tests.console.test_accessibility import serious
from tests.support.consoles import House
from tests.support.receivers import Receiver, receiver
from tests.support.waiting import until

THRESHOLD = 5
"""The first value of `alert_threshold_count`."""

HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def heard() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def name() -> str:
    return f"t-{secrets.token_hex(4)}"


def make(house: House, name: str, url: str) -> dict:
    body = {"name": name, "kind": "webhook", "url": url, "events": ["key_intercepted"]}
    made = house.api.post("/alerts/targets", json=body)
    assert made.status_code == 201, made.text
    return made.json()["target"]


def raised(house: House) -> dict:
    """An alert of a key of its own."""
    key = house.new_key()
    assert house.use(key, "192.0.2.1") == 200
    for number in range(THRESHOLD):
        assert house.use(key, f"198.51.100.{number}") == 403
    query = {
        "kind": "key_intercepted",
        "fingerprint": house.api.post("/bindings/lookup", json={"key": key}).json()["fingerprint"],
    }
    until(lambda: house.api.get("/alerts", params=query).json()["items"])
    return house.api.get("/alerts", params=query).json()["items"][0]


def state_of(house: House, alert_id: int, target: str) -> str:
    """Of the delivery to one target; other tests' targets get the alert too."""
    deliveries = house.api.get(f"/alerts/{alert_id}").json()["deliveries"]
    return next(each["state"] for each in deliveries if each["target_name"] == target)


def of(page, name: str):
    return page.locator(".grid tbody tr").filter(has_text=name)


def test_a_target_is_made_its_secret_shown_once_and_a_test_arrives_signed(house, sign_in, heard, name):
    page = sign_in("/targets")
    page.get_by_role("button", name="Add a target").click()
    dialog = page.get_by_role("dialog", name="Add a target")
    dialog.get_by_label("Name").fill(f"{name} {HOSTILE}")
    dialog.get_by_label("URL").fill("ftp://nowhere")
    dialog.get_by_role("button", name="Add a target").click()
    expect(dialog.get_by_role("alert").last).to_contain_text("The input is not valid.")
    dialog.get_by_label("URL").fill(heard.url)
    dialog.get_by_label("Key bound").check()
    dialog.get_by_role("button", name="Add a target").click()
    secret = page.locator("code.secret").inner_text()
    page.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_text(secret)).to_have_count(0)
    expect(of(page, name)).to_contain_text("Key bound, Key intercepted often")
    expect(page.get_by_text("/hook")).to_have_count(0)

    of(page, name).get_by_role("button", name="Send a test").click()
    expect(page.get_by_text(re.compile(rf"{name}.*: Delivered \(204\), after"))).to_be_visible()
    Webhook(secret).verify(heard.received[-1].body, heard.received[-1].headers)
    heard.answers = [500]
    of(page, name).get_by_role("button", name="Send a test").click()
    expect(page.get_by_text(re.compile(rf"{name}.*: The receiver refused it \(500\)"))).to_be_visible()
    assert page.title() == "Alert targets · Key-IP Sentinel"


def test_a_target_is_edited_disabled_rotated_and_removed(house, sign_in, heard, name):
    target = make(house, name, heard.url)
    path = f"/alerts/targets/{target['id']}"
    page = sign_in("/targets")
    of(page, name).get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog", name=f"Change {name}")
    dialog.get_by_label("Name").fill(f"{name}-new")
    dialog.get_by_label("Language").select_option("zh-CN")
    dialog.get_by_role("button", name="Save").click()
    expect(of(page, f"{name}-new")).to_contain_text("简体中文")
    of(page, name).get_by_role("button", name="Disable").click()
    expect(of(page, name)).to_contain_text("Disabled")
    page.get_by_role("button", name="Undo").click()
    expect(of(page, name)).to_contain_text("Enabled")

    of(page, name).get_by_role("button", name="New secret").click()
    page.get_by_role("dialog").get_by_role("button", name="New secret").click()
    secret = page.locator("code.secret").inner_text()
    assert secret.startswith("whsec_")
    page.get_by_role("button", name="I have kept it").click()
    expect(of(page, name)).to_contain_text("2 secrets")
    assert house.api.post(f"{path}/test").json()["outcome"] == "delivered"
    Webhook(secret).verify(heard.received[-1].body, heard.received[-1].headers)
    of(page, name).get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(of(page, name)).to_have_count(0)
    assert house.api.get(path).status_code == 404


def test_an_alert_shows_every_attempt_and_is_sent_again(house, sign_in, heard, name):
    target = make(house, name, heard.url)
    alert = raised(house)
    until(lambda: heard.received)
    page = sign_in(f"/alerts?fingerprint={alert['fingerprint']}&kind=key_intercepted")
    row = page.locator(".grid tbody tr").first
    expect(row).to_contain_text("Key intercepted often")
    row.get_by_role("link", name="Deliveries").click()
    expect(page).to_have_url(re.compile(f"/alerts/{alert['id']}$"))
    card = page.get_by_role("region", name=name)
    until(lambda: state_of(house, alert["id"], name) == "delivered")
    page.get_by_role("button", name="Refresh").click()
    expect(card.locator("tbody tr")).to_have_count(1)
    expect(card).to_contain_text("Delivered (204)")
    card.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("It is sent within seconds.")).to_be_visible()
    until(lambda: len(heard.received) == 2)
    assert heard.received[0].headers["webhook-id"] == heard.received[1].headers["webhook-id"]
    assert house.api.delete(f"/alerts/targets/{target['id']}").status_code == 204


def test_alerts_are_filtered_by_clicks_and_empty_lists_say_so(house, sign_in):
    alert = raised(house)
    page = sign_in(f"/alerts?fingerprint={alert['fingerprint']}")
    page.locator(".grid").get_by_role("button", name="Key intercepted often").click()
    expect(page).to_have_url(re.compile("kind=key_intercepted"))
    expect(page.get_by_label("Kind", exact=True)).to_have_value("key_intercepted")
    page.get_by_label("Kind", exact=True).select_option("store_outage")
    expect(page.get_by_text("Nothing matches these filters")).to_be_visible()
    page.goto(f"{house.console.url}/alerts/999999")
    expect(page.get_by_text("There is no such alert (any more)")).to_be_visible()


def test_a_viewer_sees_alerts_and_targets_and_changes_nothing(house, sign_in, heard, name):
    make(house, name, heard.url)
    password = "a long pass phrase"
    house.api.post("/operators", json={"name": name, "role": "viewer", "password": password})
    page = sign_in("/targets", name=name, password=password)
    expect(of(page, name)).to_have_count(1)
    assert page.locator("#content button").all_inner_texts() == ["As an API call", "First page", "Previous", "Next"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_alert_and_the_form_of_a_target_have_no_serious_fault(house, sign_in, theme):
    alert = raised(house)
    page = sign_in(f"/alerts/{alert['id']}", color_scheme=theme)
    page.wait_for_selector("h1")
    assert serious(page) == []
    page.goto(f"{house.console.url}/targets")
    page.get_by_role("button", name="Add a target").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert serious(page) == []
