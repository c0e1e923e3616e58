"""Signing in and out, time-outs, and what guards the way: cookies, headers, origins."""

import re
import secrets
import tempfile
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from console.app import safe_path
from console.session import COOKIE
from tests.console.conftest import fill_in
from tests.support import admin
from tests.support.consoles import running_console


def form(**fields: str) -> dict[str, str]:
    return {"name": "admin", "password": admin.ADMIN_PASSWORD} | fields


def test_a_link_leads_there_after_signing_in_and_the_token_stays_on_the_server(house, sign_in):
    page = sign_in("/bindings?status=banned&note=x")
    assert page.url == f"{house.console.url}/bindings?status=banned&note=x"
    cookies = {each["name"]: each for each in page.context.cookies()}
    assert set(cookies) == {COOKIE}
    assert (cookies[COOKIE]["httpOnly"], cookies[COOKIE]["sameSite"]) == (True, "Lax")
    assert "eyJ" not in page.content()
    assert page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)").find("eyJ") == -1


def test_a_wrong_password_is_told_in_the_language_of_the_browser(house, open_browser):
    page = open_browser(locale="zh-CN").new_page()
    page.goto(f"{house.console.url}/")
    fill_in(page, "admin", "wrong")
    expect(page.get_by_text("用户名或密码错误。")).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_text("Name or password is wrong.")).to_be_visible()


def test_a_lockout_is_told_with_the_time_that_is_left(house, open_browser):
    """At an address of its own: the console passes on where its visitors are."""
    page = open_browser(extra_http_headers={"x-real-ip": "203.0.113.99"}).new_page()
    name = f"nobody-{secrets.token_hex(4)}"
    for _ in range(9):
        answer = httpx.post(
            f"{house.console.url}/login", data=form(name=name, password="no"), headers={"x-real-ip": "203.0.113.99"}
        )
    assert "problem=too_many_attempts" in answer.headers["location"]
    page.goto(house.console.url + answer.headers["location"])
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"Too many attempts\. Try again in \d+:\d\d\."))
    elsewhere = httpx.post(f"{house.console.url}/login", data=form(), headers={"x-real-ip": "203.0.113.98"})
    assert elsewhere.headers["location"] == "/"


def test_signing_out_ends_the_session_everywhere(house, sign_in):
    page = sign_in("/bindings")
    other = page.context.new_page()
    other.goto(f"{house.console.url}/settings")
    expect(other.get_by_role("heading", name="Settings")).to_be_visible()
    cookie = page.context.cookies()[0]["value"]
    page.get_by_role("button", name="Account: admin").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    expect(other).to_have_url(re.compile("why=ended&next=%2Fsettings"))
    again = httpx.get(f"{house.console.url}/bindings", headers={"cookie": f"{COOKIE}={cookie}"})
    assert again.status_code == 303


def test_a_session_that_was_revoked_elsewhere_leads_to_the_sign_in_page(house, sign_in):
    password = "a long pass phrase"
    name = f"gone{secrets.token_hex(4)}"
    made = house.api.post("/operators", json={"name": name, "role": "viewer", "password": password}).json()
    page = sign_in("/bindings", name=name, password=password)
    edited = house.api.patch(f"/operators/{made['id']}", json={"version": made["version"], "disabled": True})
    assert edited.status_code == 200
    page.get_by_role("link", name="Archive").click()
    expect(page).to_have_url(re.compile("/login"))
    expect(page.get_by_text("Your session has ended. Sign in again.")).to_be_visible()


def test_a_fresh_cookie_comes_with_each_sign_in_and_the_old_one_is_worth_nothing(house):
    with httpx.Client(base_url=house.console.url) as visitor:
        visitor.post("/login", data=form())
        first = visitor.cookies[COOKIE]
        visitor.post("/login", data=form())
        assert visitor.cookies[COOKIE] != first
    old = httpx.get(f"{house.console.url}/bindings", headers={"cookie": f"{COOKIE}={first}"})
    assert old.headers["location"].startswith("/login")


def test_pages_come_with_headers_that_let_no_foreign_script_run(house):
    answer = httpx.get(f"{house.console.url}/login")
    policy = answer.headers["content-security-policy"]
    nonce = re.search(r"'nonce-([^']+)'", policy)[1]
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert len(re.findall(r"<script", answer.text)) == answer.text.count(f'<script nonce="{nonce}"') > 3
    assert nonce not in httpx.get(f"{house.console.url}/login").text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_an_inline_script_that_got_into_a_page_does_not_run(house, browser):
    """In a browser that nobody watches: it reports each script that it did not run."""
    page = browser.new_page()
    page.goto(f"{house.console.url}/bindings")
    fill_in(page, "admin", admin.ADMIN_PASSWORD)
    page.wait_for_selector("#content")
    page.evaluate("""() => {
        const image = document.createElement('div');
        image.innerHTML = "<img src='data:,x' onerror='document.title = `owned`'>";
        document.body.append(image);
        const script = document.createElement('script');
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
    }""")
    page.wait_for_function("document.querySelector('img[onerror]').complete")
    assert page.title() == "Bindings · Key-IP Sentinel"
    page.close()


@pytest.mark.parametrize("path", ["/login", "/logout", "/_nicegui_ws/socket.io/"])
def test_a_page_of_another_site_cannot_post_or_connect(house, path):
    for origin, status in (("https://evil.example", 403), ("null", 403)):
        answer = httpx.post(house.console.url + path, data=form(), headers={"origin": origin})
        assert answer.status_code == status, origin


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/bindings?x=1", "/bindings?x=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/login?next=/login", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("", "/"),
    ],
)
def test_after_signing_in_one_stays_here(wanted, path):
    assert safe_path(wanted) == path


def test_whoever_does_nothing_is_signed_out_and_told_why_though_the_page_refreshes_itself(house, open_browser):
    with (
        tempfile.TemporaryDirectory() as folder,
        running_console(Path(folder), house.gateway.url, SENTINEL_CONSOLE_IDLE_MINUTES="0.05") as console,
    ):
        page = open_browser(console.url).new_page()
        page.goto(f"{console.url}/login?next=/")
        fill_in(page, "admin", admin.ADMIN_PASSWORD)
        expect(page).to_have_url(re.compile("why=idle"))
        expect(page.get_by_text("You were signed out, since nobody used the console for a while.")).to_be_visible()
