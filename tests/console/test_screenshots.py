"""Pictures of the main pages for the README: made anew with ``SCREENSHOTS=docs/screenshots``, else only looked at.

They show a house of their own that has had some traffic.
"""

import json
import os
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sentinel.services import Stores
from tests.support import databases
from tests.support.consoles import House, running_house

FOLDER = os.environ.get("SCREENSHOTS", "")
NOTES = ("Alice, office", "Bob (contractor)", "财务部 月度报表", "CI runner", "", "", "研发一组", "客服机器人", "")
KEYS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SHOTS = (
    ("dashboard", "/", ".chart svg", {}),
    ("bindings", "/bindings", ".grid tbody tr", {"color_scheme": "dark"}),
    ("intercepts", "/intercepts", ".grid tbody tr", {}),
    ("binding-zh", "/bindings/{used}", ".timeline li", {"locale": "zh-CN"}),
    ("settings-zh", "/settings", ".setting", {"locale": "zh-CN", "color_scheme": "dark"}),
)
HISTORY = """
INSERT INTO hourly_metric (at, part, requests, allowed, intercepted, observed, claims, errors, bytes_in, bytes_out,
    added_time, partial)
SELECT date_trunc('hour', now()) - hour * interval '1 hour', 'gone', 900 + 700 * sin(hour / 3.8) + hour * 7,
    800, 12 + (hour * 37) % 60, (hour * 13) % 9, 3, '{}', 0, 0, '{}', false
FROM generate_series(1, 23) hour
"""


@pytest.fixture(scope="module")
def house(stores: Stores, migrated_template: str) -> Iterator[House]:
    databases.empty(stores.redis_url)
    with (
        databases.fresh_database(stores.postgres, migrated_template) as dsn,
        running_house(dsn, stores.redis_url) as running,
    ):
        databases.sql(stores.postgres, HISTORY, dsn.partition("?")[0].rpartition("/")[2])
        yield running


@pytest.fixture(scope="module")
def used(house: House) -> int:
    """The id of a binding with a past, among others."""
    draw = random.Random(7)
    lines = []
    for number in range(90):
        networks = [f"203.0.{draw.randrange(256)}.{draw.randrange(1, 255)}/32"]
        networks += [f"2001:db8:{number:x}::/64"] if number % 8 == 0 else []
        line = {"key": "sk-" + "".join(draw.choices(KEYS, k=48)), "networks": networks, "note": draw.choice(NOTES)}
        line |= {"status": "banned", "ban_reason": "resold"} if number % 13 == 0 else {}
        line |= {"mode": "observe"} if number % 11 == 0 else {}
        lines.append(json.dumps(line))
    headers = {"content-type": "application/x-ndjson"}
    assert house.api.post("/bindings/import", content="\n".join(lines), headers=headers).status_code == 200
    key = house.new_key()
    for address in ("203.0.113.7", "203.0.113.7", "198.51.100.9", "198.51.100.9", "192.0.2.44", "2001:db8:1::9"):
        house.use(key, address, **{"user-agent": "openai-python/3.2.0"})
    return house.binding_of(key)["id"]


@pytest.mark.parametrize(("name", "path", "shown", "options"), SHOTS, ids=[shot[0] for shot in SHOTS])
def test_the_main_pages_as_the_readme_shows_them(house, sign_in, used, name, path, shown, options):
    page: Page = sign_in(path.format(used=used), viewport={"width": 1440, "height": 860}, **options)
    expect(page.locator(shown).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(FOLDER or folder, f"{name}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target)
        assert 10_000 < target.stat().st_size < 400_000


def test_a_drag_over_the_chart_looks_closer_and_the_url_restores_it(house, sign_in, used):
    page = sign_in("/")
    chart = page.locator(".chart")
    expect(chart.locator("svg")).to_be_visible()
    page.wait_for_load_state("networkidle")
    foot = page.locator(".chart-foot")
    whole = foot.inner_text()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 120, steps=8)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole range")).to_be_visible()
    expect(page).to_have_url(re.compile("since="))
    expect(foot).not_to_have_text(whole)
    zoomed = foot.inner_text()
    page.reload()
    expect(foot).to_have_text(zoomed)
    page.get_by_role("button", name="Whole range").click()
    expect(foot).not_to_have_text(zoomed)
