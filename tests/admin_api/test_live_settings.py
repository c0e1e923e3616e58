"""``/settings``: validated whole, versioned, audited, and obeyed by every worker of a gateway at once."""

import asyncio
import json
import secrets
import time

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from benchmarks.stub import StubServer
from proxy_core import keyspace
from proxy_core.contracts import LiveSettings
from proxy_core.live_settings import LOOK_EVERY_S
from tests.support.admin import client, running_admin, token_for
from tests.support.gateways import free_port, running_gateway

pytestmark = pytest.mark.anyio

BY_MESSAGE_S = LOOK_EVERY_S - 1
"""What came by message came before the next look without one. On an idle machine it takes milliseconds."""

HOOK = "https://user:pass@hooks.example.com:8443/services/T000/secret?token=abc"


async def put(api: httpx.AsyncClient, version: int, **values) -> httpx.Response:
    return await api.put("/settings", json={"version": version, "values": values})


async def test_before_anything_was_stored_the_environments_first_values_are_shown(api):
    answer = (await api.get("/settings")).json()
    assert (answer["version"], answer["changed_by"], answer["changed_at"]) == (0, None, None)
    assert set(answer["values"]) == set(LiveSettings.__struct_fields__) - {"version"}
    assert (answer["values"]["mode"], answer["values"]["archive_days"]) == ("enforce", 90)


async def test_a_change_makes_the_next_version_and_keeps_what_it_does_not_name(api):
    assert (await put(api, 0, networks_per_key=3)).status_code == 200
    answer = await put(api, 1, mode="observe")
    assert answer.status_code == 200
    assert answer.json()["published"] is True
    now = (await api.get("/settings")).json()
    assert now == answer.json()
    assert (now["version"], now["changed_by"]) == (2, "root")
    assert (now["values"]["mode"], now["values"]["networks_per_key"]) == ("observe", 3)


async def test_values_written_whole_come_back_the_same(api):
    whole = (await api.get("/settings")).json()["values"] | {"alert_webhook_url": HOOK, "ipv6_prefix": 56}
    assert (await put(api, 0, **whole)).json()["values"] == whole


async def test_a_change_that_changes_nothing_makes_no_version(api):
    await put(api, 0, mode="observe")
    again = await put(api, 1, mode="observe")
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert len((await api.get("/settings/history")).json()["items"]) == 1
    assert len((await api.get("/audit", params={"action": "settings:change"})).json()["items"]) == 1


async def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused(api):
    await put(api, 0, mode="observe")
    stale = await put(api, 0, networks_per_key=2)
    assert (stale.status_code, stale.json()["code"], stale.json()["extra"]) == (409, "stale_version", {"version": 1})
    assert (await api.get("/settings")).json()["values"]["networks_per_key"] == 1


async def test_of_many_who_save_at_once_exactly_one_wins(api):
    """Each version is stored once, whoever else has read the one before."""
    for version in range(3):
        saved = await asyncio.gather(*(put(api, version, networks_per_key=10 * version + n + 2) for n in range(6)))
        assert sorted(answer.status_code for answer in saved) == [200] + [409] * 5
    history = (await api.get("/settings/history")).json()["items"]
    assert [item["version"] for item in history] == [3, 2, 1]


@pytest.mark.parametrize(
    "values",
    [
        {"ipv4_prefix": 7},
        {"ipv4_prefix": 33},
        {"ipv6_prefix": 31},
        {"ipv6_prefix": 129},
        {"networks_per_key": 0},
        {"networks_per_key": 65},
        {"max_concurrent_per_key": -1},
        {"max_concurrent_per_address": 100_001},
        {"networks_per_key": "many"},
        {"networks_per_key": 1.5},
        {"networks_per_key": True},
        {"archive_days": -1},
        {"log_retention_days": 10**9},
        {"alert_threshold_s": 0},
        {"alert_threshold_count": -1},
        {"alert_cooldown_s": -1},
        {"mode": "sometimes"},
        {"mode": None},
        {"bind_on": "whenever"},
        {"alert_webhook_url": "ftp://example.com/"},
        {"alert_webhook_url": "https://"},
        {"alert_webhook_url": "https:///path"},
        {"alert_webhook_url": "https://[::1/"},
        {"alert_webhook_url": "https://host:99999/"},
        {"alert_webhook_url": "https://a b/"},
        {"alert_webhook_url": "https://host/\u0000"},
        {"alert_webhook_url": "https://host/" + "a" * 2100},
        {"no_such_setting": 1},
        {"mode": "observe", "ipv4_prefix": 64},
    ],
)
async def test_one_bad_value_refuses_the_whole_change_and_is_named(api, values):
    answer = await put(api, 0, **values)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    bad = "ipv4_prefix" if "ipv4_prefix" in values else next(iter(values))
    assert any(bad in fault["field"] or bad in fault["detail"] for fault in answer.json()["faults"]), answer.text
    assert (await api.get("/settings")).json()["version"] == 0


@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"version": 0}', '{"version": -1, "values": {}}', "{", '{"version":0,"values":[]}']
)
async def test_what_is_no_change_at_all_is_refused(api, body):
    answer = await api.put("/settings", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_the_audit_says_what_changed_without_the_webhooks_secrets(api, admin_dsn):
    await put(api, 0, alert_webhook_url=HOOK, mode="observe")
    connection = await asyncpg.connect(admin_dsn)
    rows = await connection.fetch("SELECT * FROM admin_audit")
    await connection.close()
    assert [(row["actor"], row["action"], str(row["address"])) for row in rows] == [
        ("root", "settings:change", "198.51.100.10")
    ]
    assert json.loads(rows[0]["before"]) == {"version": 0, "mode": "enforce", "alert_webhook_url": ""}
    assert json.loads(rows[0]["after"]) == {
        "version": 1,
        "mode": "observe",
        "alert_webhook_url": "https://hooks.example.com:8443/…",
    }


async def test_the_webhooks_secrets_are_shown_to_those_who_may_change_them_only(api, as_role):
    await put(api, 0, alert_webhook_url=HOOK)
    assert (await api.get("/settings")).json()["values"]["alert_webhook_url"] == HOOK
    viewer = await as_role("viewer")
    for path in ("/settings", "/settings/history"):
        text = (await viewer.get(path)).text
        assert "hooks.example.com:8443" in text
        assert "T000" not in text
        assert "pass" not in text.replace("bypass", "")


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_only_administrators_change_settings(api, as_role, role):
    refused = await put(await as_role(role), 0, mode="observe")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert (await api.get("/settings")).json()["version"] == 0


async def test_the_history_is_read_page_by_page_and_a_foreign_cursor_is_refused(api):
    for version in range(5):
        await put(api, version, networks_per_key=version + 2)
    seen, cursor = [], None
    while True:
        page = (await api.get("/settings/history", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [(item["version"], item["values"]["networks_per_key"], item["changed_by"]) for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [(version, version + 1, "root") for version in (5, 4, 3, 2, 1)]
    assert (await api.get("/settings/history", params={"cursor": "nonsense"})).status_code == 400


async def test_a_stored_value_that_nobody_can_read_does_not_keep_operators_out(api, admin_dsn):
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute(
        "INSERT INTO runtime_setting VALUES (1, $1, 'x')",
        '{"mode": "never", "ipv6_prefix": 48, "of_a_newer_version": 1}',
    )
    shown = (await api.get("/settings")).json()
    assert (shown["version"], shown["values"]["mode"], shown["values"]["ipv6_prefix"]) == (1, "enforce", 48)
    assert (await put(api, 1, networks_per_key=2)).status_code == 200
    kept = json.loads(await connection.fetchval('SELECT "values" FROM runtime_setting WHERE version = 2'))
    assert (kept["mode"], kept["of_a_newer_version"]) == ("enforce", 1)
    await connection.close()


async def test_without_redis_a_change_is_stored_all_the_same_and_says_that_it_was_not_published(own_stores):
    own_stores.valkey.stop()
    with running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
        token = await token_for(own_stores.pg_dsn, "root", "admin")
        async with client(server.url, token) as api:
            answer = await put(api, 0, mode="observe")
            assert (answer.status_code, answer.json()["published"]) == (200, False)
            assert (await api.get("/settings")).json()["values"]["mode"] == "observe"


async def statuses(url: str, key: str, address: str, count: int) -> set[int]:
    """Each request on a connection of its own, so that they spread over the workers."""
    found = set()
    for _ in range(count):
        async with httpx.AsyncClient(timeout=30) as fresh:
            headers = {"authorization": f"Bearer {key}", "x-real-ip": address}
            found.add((await fresh.get(f"{url}/v1/models", headers=headers)).status_code)
    return found


async def test_every_worker_of_a_gateway_obeys_a_change_at_once_and_redis_may_lose_it(
    api, stores, admin_database, redis_url
):
    key, stranger = "sk-" + secrets.token_hex(24), "198.51.100.9"
    upstream_port = free_port()
    with running_gateway(
        pg_dsn=admin_database, redis_url=redis_url, upstream_port=upstream_port, workers=2, name="both"
    ) as gateway:
        async with StubServer([key], port=upstream_port):
            assert await statuses(gateway.url, key, "203.0.113.7", 4) == {200}
            assert await statuses(gateway.url, key, stranger, 12) == {403}
            await put(api, 0, mode="observe")
            saved = time.monotonic()
            while await statuses(gateway.url, key, stranger, 12) != {200}:
                assert time.monotonic() - saved < BY_MESSAGE_S, "a worker did not hear of the change"
            async with Redis.from_url(redis_url) as redis:
                await redis.flushall()
                assert await statuses(gateway.url, key, stranger, 12) == {200}
                await put(api, 1, mode="enforce")
                saved = time.monotonic()
                while await statuses(gateway.url, key, stranger, 12) != {403}:
                    assert time.monotonic() - saved < BY_MESSAGE_S, "a worker did not hear of the change"
                assert await redis.exists(keyspace.SETTINGS)
