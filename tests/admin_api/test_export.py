"""``/logs/export``: exactly what the filter lets through, streamed, and harmless to spreadsheets."""

import asyncio
import contextlib
import csv
import io
import json
import os
from datetime import UTC, datetime

import pytest
from litestar.testing import RequestFactory

from admin_api import export
from admin_api.schemas.logs import InterceptView
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

MANY = """
INSERT INTO intercept (event_id, at, key_hash, key_hint, client, reason, enforced, method, path, user_agent, gateway)
SELECT sha256(number::text::bytea), now() - number * interval '1 ms', '', '', '10.0.0.1', 'key_banned', true, 'GET',
       '/' || number, repeat('u', 200), 'gw'
FROM generate_series(1, $1::integer) number
"""
CURSORS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'sentinel-admin' AND state LIKE 'idle in transaction%'
"""


async def add(admin_pg, path: str, agent: str = "sdk", client: str = "10.0.0.1", reason: str = "key_banned") -> None:
    await admin_pg.execute(
        "INSERT INTO intercept VALUES "
        "($1, now(), 'k', '+86…0000', $2, '{10.0.0.0/8,::/64}', $3, false, 'GET', $4, $5, 'g', 2)",
        os.urandom(16), client, reason, path, agent,
    )  # fmt: skip


async def exported(api, **chosen) -> str:
    answer = await api.get("/logs/export", params=chosen)
    assert answer.status_code == 200, answer.text
    return answer.content.decode()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_a_csv_export_holds_the_fields_of_the_list_under_the_same_names(api, admin_pg):
    await add(admin_pg, "/v1/chat")
    answer = await api.get("/logs/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="sentinel-intercepts-')
    assert answer.headers["content-disposition"].endswith('Z.csv"')
    (row,) = rows_of(answer.text)
    item = (await api.get("/logs")).json()["items"][0]
    assert list(row) == list(item)
    assert (row["client"], row["enforced"], row["binding_id"]) == ("10.0.0.1", "false", "")
    assert (row["bound_networks"], row["repeat_count"]) == ("10.0.0.0/8 ::/64", "2")
    assert datetime.fromisoformat(row["at"]) == datetime.fromisoformat(item["at"])


async def test_json_lines_are_the_items_of_the_list(api, admin_pg):
    for number in range(3):
        await add(admin_pg, f"/{number}")
    answer = await api.get("/logs/export", params={"format": "jsonl"})
    assert answer.headers["content-type"] == "application/jsonl"
    assert [json.loads(line) for line in answer.text.splitlines()] == (await api.get("/logs")).json()["items"]


async def test_an_export_has_exactly_the_rows_of_the_filtered_list(api, admin_pg):
    await add(admin_pg, "/in", client="10.0.0.5")
    await add(admin_pg, "/elsewhere", client="10.0.1.5")
    await add(admin_pg, "/other", client="10.0.0.5", reason="key_bound_to_other_address")
    chosen = {"network": "10.0.0.0/24", "reason": "key_banned", "enforced": "false"}
    assert [row["path"] for row in rows_of(await exported(api, **chosen))] == ["/in"]
    assert len(rows_of(await exported(api))) == 3


async def test_cells_that_a_spreadsheet_would_compute_are_neutralised_and_all_are_quoted(api, admin_pg):
    agents = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", ' =cmd|" /C calc"!A0', "\uff1d1", 'a","=b', "plain"]
    for agent in agents:
        await add(admin_pg, "/", agent=agent)
    text = await exported(api)
    found = {row["user_agent"] for row in rows_of(text)}
    assert found == {f"'{agent}" for agent in agents[:8]} | {'a","=b', "plain"}
    assert {row["hint"] for row in rows_of(text)} == {"'+86…0000"}
    assert all(line.startswith('"') and line.endswith('"') for line in text.split("\r\n")[:-1] if "\r" not in line)


async def test_the_byte_order_mark_is_there_when_asked_for(api, admin_pg):
    for form in ("csv", "jsonl"):
        assert (await exported(api, format=form, bom="true")).startswith("\ufeff")
        assert not (await exported(api, format=form)).startswith("\ufeff")


@pytest.mark.parametrize(("name", "value"), [("format", "xlsx"), ("bom", "maybe"), ("network", "10.0.0.1/8")])
async def test_what_cannot_be_exported_is_refused(api, name, value):
    answer = await api.get("/logs/export", params={name: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_all_rows_of_a_large_export_arrive_in_order(api, admin_pg):
    await admin_pg.execute(MANY, 20_000)
    paths = [row["path"] for row in rows_of(await exported(api))]
    assert paths == [f"/{number}" for number in range(1, 20_001)]


async def test_rows_are_fetched_as_they_are_sent_and_no_cursor_stays_open_when_the_client_leaves(api, admin_pg):
    """60 MB do not fit into what lies between the server and a client that does not read.

    The pieces are held until the cursor was seen: httpx closes the connection with an iterator that is let go.
    """
    await admin_pg.execute(MANY, 100_000)
    assert await admin_pg.fetchval(CURSORS) == 0
    async with (
        api.stream("GET", "/logs/export", params={"format": "jsonl"}) as answer,
        contextlib.aclosing(answer.aiter_bytes()) as pieces,
    ):
        await anext(pieces)
        await eventually_async(lambda: admin_pg.fetchval(CURSORS))
    await eventually_async(lambda: none_open(admin_pg))
    assert (await api.get("/logs")).status_code == 200


async def none_open(admin_pg) -> bool:
    return await admin_pg.fetchval(CURSORS) == 0


async def test_a_client_that_leaves_ends_the_reading():
    """Of rows without end, so that nothing else ends it; the client leaves while a piece is being sent."""
    left = asyncio.Event()
    ended = False

    async def endless():
        nonlocal ended
        try:
            while True:
                yield ROW
        finally:
            ended = True

    async def send(message) -> None:
        if message["type"] == "http.response.body":
            left.set()
        await asyncio.sleep(0)

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    rows = endless()
    file = await export.as_file(rows, export.as_json_lines(rows), name="rows.jsonl", media_type="application/jsonl")
    response = file.to_asgi_response(None, request=RequestFactory().get())
    async with asyncio.timeout(30):
        await response({"type": "http"}, receive, send)
    assert ended


async def test_pieces_come_before_the_rows_have_ended():
    """So that an export of any size takes the memory of one piece."""
    asked = 0

    async def endless():
        nonlocal asked
        while True:
            asked += 1
            yield ROW

    for pieces in (export.as_csv(endless(), ["path", "user_agent"]), export.as_json_lines(endless())):
        first = await anext(pieces)
        assert export.PIECE_BYTES <= len(first) < export.PIECE_BYTES + 1000
        asked_before = asked
        await anext(pieces)
        assert asked <= 2.2 * asked_before
        await pieces.aclose()


ROW = InterceptView(
    event_id="00", at=datetime.now(UTC), client=None, hint="", fingerprint="", binding_id=None, bound_networks=[],
    reason="key_banned", enforced=True, repeat_count=1, method="GET", path="/v1", user_agent="u" * 100, gateway="g",
    peer=None,
)  # fmt: skip
