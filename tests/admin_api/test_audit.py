"""``/audit``: every change is there, found by who, what and when."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


@pytest.fixture
async def entries(admin_dsn):
    """Four of them; the newest is a script's."""
    connection = await asyncpg.connect(admin_dsn)
    for kind, actor, action, subject, ago in (
        ("user", "eve", "binding:ban", ("binding", "7"), 300),
        ("user", "eve", "binding:unban", ("binding", "7"), 200),
        ("local", "root", "user:add", ("user", "1"), 100),
        ("token", "script", "binding:ban", ("binding", "77"), 0),
    ):
        await connection.execute(
            "INSERT INTO admin_audit (at, actor_kind, actor, address, action, subject_kind, subject_id, before) "
            """VALUES ($1, $2, $3, '2001:db8::1', $4, $5, $6, '{"status": "active"}')""",
            NOW - timedelta(seconds=ago), kind, actor, action, *subject,
        )  # fmt: skip
    await connection.close()


async def found(api, **filters) -> list[tuple[str, str]]:
    answer = await api.get("/audit", params=filters)
    assert answer.status_code == 200, answer.text
    return [(item["actor"], item["action"]) for item in answer.json()["items"]]


BAN, UNBAN, ADD, SCRIPT = (
    ("eve", "binding:ban"),
    ("eve", "binding:unban"),
    ("root", "user:add"),
    ("script", "binding:ban"),
)


async def test_each_filter_chooses_entries_newest_first(api, entries):
    assert await found(api) == [SCRIPT, ADD, UNBAN, BAN]
    assert await found(api, actor="eve") == [UNBAN, BAN]
    assert await found(api, action="binding:ban") == [SCRIPT, BAN]
    assert await found(api, action="binding:") == [SCRIPT, UNBAN, BAN]
    assert await found(api, action="binding_") == []
    assert await found(api, subject_kind="binding", subject_id="7") == [UNBAN, BAN]
    at = (NOW - timedelta(seconds=200)).isoformat()
    assert await found(api, **{"from": at}) == [SCRIPT, ADD, UNBAN]
    assert await found(api, to=at) == [BAN]


async def test_an_entry_is_shown_whole(api, entries):
    item = (await api.get("/audit", params={"limit": 1})).json()["items"][0]
    assert item.pop("id") > 0
    assert datetime.fromisoformat(item.pop("at")) == NOW
    assert item == {
        "actor_kind": "token",
        "actor": "script",
        "address": "2001:db8::1",
        "action": "binding:ban",
        "subject_kind": "binding",
        "subject_id": "77",
        "subject_name": "",
        "reason": "",
        "before": {"status": "active"},
        "after": None,
        "request_id": "",
    }


async def test_pages_hold_each_entry_once(api, entries):
    first = (await api.get("/audit", params={"limit": 3})).json()
    await api.put("/settings", json={"version": 0, "values": {"mode": "observe"}})
    second = (await api.get("/audit", params={"limit": 3, "cursor": first["next"]})).json()
    assert [item["actor"] for item in first["items"] + second["items"]] == ["script", "root", "eve", "eve"]
    assert second["next"] is None
    assert (await api.get("/audit", params={"cursor": "bm90aGluZw"})).status_code == 400


@pytest.mark.parametrize(("role", "status"), [("viewer", 200), ("operator", 200), ("admin", 200)])
async def test_every_operator_may_see_what_was_done(as_role, role, status):
    assert (await (await as_role(role)).get("/audit")).status_code == status


async def test_nobody_sees_it_without_signing_in_and_bad_filters_are_refused(anonymous, api):
    assert (await anonymous.get("/audit")).status_code == 401
    for bad in ({"actor": "a\0"}, {"from": "0001-01-01T00:00:00+10:00"}, {"limit": 0}):
        assert (await api.get("/audit", params=bad)).status_code == 400
