"""``python -m benchmarks.console URL``: how long an operator waits for the list of bindings, in a real browser.

The console at URL runs already, before a database that `benchmarks.fill` filled; ``ADMIN_PASSWORD`` signs in. Needs
the system's Chromium. Times are from the click until the first row stands in the page, in ms.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

import click
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
FIRST_ROW = ".grid tbody tr"


@click.command()
@click.argument("url")
@click.option("--rounds", default=20, show_default=True)
def command(url: str, rounds: int) -> None:
    """Measure the list of bindings of the console at URL."""
    password = os.environ.get("ADMIN_PASSWORD", "")
    if not password:
        print("bench: ADMIN_PASSWORD is not set", file=sys.stderr)
        sys.exit(2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(locale="en-US")
        _sign_in(page, url, password)
        for name, visit in (("list from another page", _open_list), ("next page", _next), ("whole load", _load)):
            _say(name, [visit(page, url) for _ in range(rounds)])
        browser.close()


def _sign_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/bindings")
    page.locator("input[autocomplete=username]").fill("admin")
    page.locator("input[type=password]").fill(password)
    page.keyboard.press("Enter")
    page.locator(FIRST_ROW).first.wait_for()


def _open_list(page: Page, _url: str) -> float:
    page.locator("nav a[href$='/about']").click()
    page.locator(FIRST_ROW).first.wait_for(state="detached")
    return _timed(page, page.locator("nav a[href$='/bindings']").click)


def _next(page: Page, _url: str) -> float:
    first = page.locator(FIRST_ROW).first.inner_text()
    began = time.perf_counter()
    page.get_by_role("button", name="Next").click()
    page.wait_for_function(
        "([row, before]) => { const first = document.querySelector(row); return first && first.innerText !== before }",
        arg=[FIRST_ROW, first],
    )
    return (time.perf_counter() - began) * 1000


def _load(page: Page, url: str) -> float:
    return _timed(page, lambda: page.goto(f"{url}/bindings", wait_until="commit"))


def _timed(page: Page, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    page.locator(FIRST_ROW).first.wait_for()
    return (time.perf_counter() - began) * 1000


def _say(name: str, times_ms: list[float]) -> None:
    times_ms.sort()
    p95 = times_ms[min(len(times_ms) - 1, round(len(times_ms) * 0.95))]
    print(f"{name}: p50 {statistics.median(times_ms):.0f} ms, p95 {p95:.0f} ms, worst {times_ms[-1]:.0f} ms")


if __name__ == "__main__":
    command()
