"""``/dashboard``: figures that are right, quick however much there is, and honest when a store is away."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.admin_api.batches import new_binding
from tests.support.admin import client, running_admin, token_for
from tests.support.vitals import beat, silent

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
INTERCEPTS = """
INSERT INTO intercept (event_id, at, key_hash, key_hint, reason, enforced, method, path, user_agent, gateway,
                       repeat_count)
SELECT sha256(($1 || number)::text::bytea), now() - $2::interval - number * interval '1 ms', $1::text::bytea, $1,
       'key_banned', true, 'GET', '/', '', 'gw', $4
FROM generate_series(1, $3::integer) number
"""
BINDINGS = """
INSERT INTO binding (key_hash, key_hint, first_used_at, last_used_at)
SELECT sha256(number::text::bytea), '', now() - number * interval '1 s', now()
FROM generate_series(1, $1::integer) number
"""


async def shown(api) -> dict:
    answer = await api.get("/dashboard")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_empty_house(api):
    found = await shown(api)
    assert found["stores"] == {"redis": "available", "postgresql": "available"}
    assert (found["today"]["requests"], found["today"]["refused"]) == (0, {})
    assert found["totals"]["bindings"] == {"count": 0, "estimated": False}
    assert (found["most_intercepted"]["items"], found["newest_bindings"]) == ([], [])


async def test_todays_figures_are_those_of_all_gateways(api, redis_url):
    east = {"requests": 20, "allowed": 9, "allowed_unbound": 1, "observed": 2, "bound": 3, "answered_2xx": 9}
    await beat(redis_url, "east", counts=east | {"key_banned": 4})
    await beat(
        redis_url, "west", pid=1, counts={"requests": 5, "key_banned": 1, "invalid_api_key": 3, "client_gone": 1}
    )
    await beat(redis_url, "west", pid=2)
    await beat(redis_url, "gone")
    await silent(redis_url, "gone:7", 600)
    found = await shown(api)
    assert found["today"] == {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "requests": 25,
        "allowed": 10,
        "unbound": 1,
        "observed": 2,
        "bound": 3,
        "refused_total": 8,
        "refused": {"invalid_api_key": 3, "key_banned": 5},
        "other": {"answered_2xx": 9, "client_gone": 1},
    }
    assert found["gateways"] == {"alive": 2, "known": 3, "workers": 3}


async def test_bindings_are_counted_by_status_and_the_newest_are_shown(api, admin_pg):
    await admin_pg.execute(BINDINGS, 30)
    await admin_pg.execute(
        "UPDATE binding SET status = 'banned' WHERE id IN (SELECT id FROM binding ORDER BY id DESC LIMIT 4)"
    )
    await admin_pg.execute(
        "UPDATE binding SET status = 'banned', ban_expires_at = now() - interval '1 s' WHERE id IN "
        "(SELECT id FROM binding WHERE status = 'active' ORDER BY first_used_at DESC LIMIT 3)"
    )
    newest = await new_binding(admin_pg, os.urandom(32), last_used_at=time.time() + 60)
    await admin_pg.execute(
        "INSERT INTO binding_network (binding_id, network, source) VALUES ($1, '10.0.0.0/24', 'operator')", newest
    )
    found = await shown(api)
    totals = {name: (total["count"], total["estimated"]) for name, total in found["totals"].items()}
    assert (totals["bindings"], totals["active"], totals["banned"]) == ((31, False), (27, False), (4, False))
    assert len(found["newest_bindings"]) == 10
    assert (found["newest_bindings"][0]["id"], found["newest_bindings"][0]["networks"]) == (newest, ["10.0.0.0/24"])
    assert {binding["status"] for binding in found["newest_bindings"][:4]} == {"active"}, "a ban that is over is none"
    times = [binding["first_used_at"] for binding in found["newest_bindings"]]
    assert times == sorted(times, reverse=True)


async def test_many_rows_are_estimated_and_it_is_said(api, admin_pg):
    await admin_pg.execute(BINDINGS, 10_001)
    assert (await shown(api))["totals"]["bindings"] == {"count": 10_001, "estimated": True}
    await admin_pg.execute(BINDINGS.replace("sha256(", "sha256('x' || "), 20_000)
    await admin_pg.execute("ANALYZE binding")
    bindings = (await shown(api))["totals"]["bindings"]
    assert bindings["estimated"] is True
    assert 28_000 < bindings["count"] < 32_000


async def test_the_keys_with_the_most_intercepts_of_the_last_day_come_first(api, admin_pg):
    owned = b"o" * 32
    binding_id = await new_binding(admin_pg, owned)
    await admin_pg.execute(INTERCEPTS, owned.decode(), timedelta(hours=1), 3, 10)
    await admin_pg.execute(INTERCEPTS, "seldom", timedelta(0), 12, 1)
    await admin_pg.execute(INTERCEPTS, "yesterday", timedelta(hours=25), 50, 1)
    top = (await shown(api))["most_intercepted"]
    assert [(key["hint"], key["intercepts"], key["binding_id"]) for key in top["items"]] == [
        (owned.decode(), 30, binding_id),
        ("seldom", 12, None),
    ]
    assert top["estimated"] is False


async def test_under_a_flood_only_the_newest_intercepts_are_looked_at_and_it_is_said(api, admin_pg):
    await admin_pg.execute(INTERCEPTS, "before", timedelta(hours=1), 10, 1)
    await admin_pg.execute(INTERCEPTS, "flood", timedelta(0), 20_000, 1)
    top = (await shown(api))["most_intercepted"]
    assert [(key["hint"], key["intercepts"]) for key in top["items"]] == [("flood", 20_000)]
    assert top["estimated"] is True
    assert datetime.fromisoformat(top["since"]) > NOW - timedelta(hours=1)


async def test_without_redis_there_are_no_figures_of_today_but_all_else(own_stores):
    own_stores.valkey.stop()
    with running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
        token = await token_for(own_stores.pg_dsn, "root", "viewer")
        async with client(server.url, token) as api:
            found = await shown(api)
    assert found["stores"] == {"redis": "unavailable", "postgresql": "available"}
    assert (found["today"], found["gateways"]) == (None, None)
    assert found["totals"]["bindings"]["count"] == 0
