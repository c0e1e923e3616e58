"""axe-core finds nothing serious on any page, in either theme, nor in a dialog or an open search."""

import secrets

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from console.pages import PAGES
from tests.support.consoles import House

SERIOUS = ("serious", "critical")
THEMES = ("light", "dark")
PATHS = [page.path for page in PAGES if "{" not in page.path]


def serious(page: Page) -> list[str]:
    """What is wrong, where: readable in a failure."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['any'][:1] and node['any'][0]['message'][:160]}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


@pytest.fixture(scope="module")
def used_key(house: House) -> str:
    """A key with an owner, refusals, and a hostile user agent."""
    key = house.new_key()
    assert house.use(key, "203.0.113.7") == 200
    assert house.use(key, "198.51.100.9", **{"user-agent": "<b>agent</b>"}) == 403
    return key


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("path", PATHS)
def test_no_page_has_a_serious_fault(house, sign_in, used_key, path, theme):
    page = sign_in(path, color_scheme=theme)
    page.wait_for_selector("h1")
    page.wait_for_load_state("networkidle")
    assert serious(page) == []


@pytest.mark.parametrize("theme", THEMES)
def test_the_page_of_a_binding_has_none(house, sign_in, used_key, theme):
    page = sign_in(f"/bindings/{house.binding_of(used_key)['id']}", color_scheme=theme)
    page.wait_for_selector(".timeline li")
    page.get_by_label("These networks and no others").fill("0.0.0.0/0\nnonsense")
    page.wait_for_selector(".card-foot p.fault")
    assert serious(page) == []


@pytest.mark.parametrize("theme", THEMES)
def test_signing_in_dialogs_and_the_search_have_none(house, open_browser, sign_in, used_key, theme):
    gate = open_browser(color_scheme=theme).new_page()
    gate.goto(f"{house.console.url}/login?problem=wrong_credentials")
    gate.wait_for_selector("#name")
    assert serious(gate) == []
    page = sign_in("/bindings", color_scheme=theme)
    page.locator(".grid tbody input[type=checkbox]").first.check()
    page.get_by_role("button", name="Ban", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type(secrets.token_hex(2))
    page.wait_for_selector("#search-list li")
    assert serious(page) == []
