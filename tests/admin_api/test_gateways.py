"""``/gateways``: who runs, and whether what they record arrives."""

import os
import secrets

import asyncpg
import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from benchmarks.stub import StubServer
from proxy_core import keyspace
from tests.admin_api.batches import batch, entry, intercept
from tests.support.admin import client, running_admin, token_for
from tests.support.gateways import free_port, running_gateway
from tests.support.vitals import beat, silent
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


async def listed(api) -> dict[str, dict]:
    answer = await api.get("/gateways")
    assert answer.status_code == 200, answer.text
    return {gateway["name"]: gateway for gateway in answer.json()["items"]}


async def test_without_gateways_the_list_is_empty(api):
    assert (await api.get("/gateways")).json() == {
        "items": [],
        "stream": {"length": 0, "pending": 0, "dead": 0, "lag_s": 0.0},
        "next": None,
    }


async def test_a_gateways_workers_are_added_up(api, redis_url):
    await beat(redis_url, pid=1, workers=2, settings_version=4, open_exchanges=3, touches_pending=1, spooled_bytes=10)
    await beat(redis_url, pid=2, workers=2, settings_version=5, open_exchanges=4, intercepts_pending=2, version="1.3")
    await beat(redis_url, "west:7000", pid=1, batches_unconfirmed=6, batches_dropped=1, draining=True)
    found = await listed(api)
    assert list(found) == ["east", "west:7000"]
    east, west = found["east"], found["west:7000"]
    assert (east["alive"], east["workers_alive"], east["workers_expected"]) == (True, 2, 2)
    assert (east["open_exchanges"], east["lag_events"], east["spooled_bytes"]) == (7, 3, 10)
    assert (east["versions"], east["settings_versions"]) == (["1.2.3", "1.3"], [4, 5])
    assert [worker["pid"] for worker in east["workers"]] == [1, 2]
    assert (west["lag_batches"], west["batches_dropped"], west["workers"][0]["draining"]) == (6, 1, True)
    assert west["age_s"] < 60


async def test_a_worker_without_a_heartbeat_counts_no_more_and_its_gateway_is_listed_for_an_hour(api, redis_url):
    for pid in (1, 2):
        await beat(redis_url, pid=pid, workers=2)
    await silent(redis_url, "east:1", 9)
    east = (await listed(api))["east"]
    assert (east["alive"], east["workers_alive"], east["workers_expected"]) == (True, 1, 2)
    for pid in (1, 2):
        await silent(redis_url, f"east:{pid}", 1200)
    east = (await listed(api))["east"]
    assert (east["alive"], east["workers_alive"], east["workers"]) == (False, 0, [])
    assert 1200 <= east["age_s"] < 1300
    for pid in (1, 2):
        await silent(redis_url, f"east:{pid}", 3700)
    assert await listed(api) == {}


async def test_heartbeats_of_another_version_are_borne(api, redis_url):
    await beat(redis_url, pid=1)
    async with Redis.from_url(redis_url) as redis:
        said = msgspec.msgpack.decode(await redis.get(keyspace.heartbeat("east:1")))
        await redis.set(keyspace.heartbeat("east:1"), msgspec.msgpack.encode(said | {"from_the_future": 1}))
        assert (await listed(api))["east"]["alive"] is True
        await redis.set(keyspace.heartbeat("east:1"), b"\xc1")
        assert (await listed(api))["east"]["alive"] is False


async def test_what_waits_in_the_event_stream_is_told(api, redis_url):
    async with Redis.from_url(redis_url) as redis:
        seconds, _ = await redis.time()
        await redis.xadd(keyspace.EVENTS_STREAM, entry(batch(intercept())), id=f"{seconds - 120}000-7")
        for _ in range(2):
            await redis.xadd(keyspace.EVENTS_STREAM, entry(batch(intercept())))
        await redis.xadd(keyspace.DEAD_LETTERS_STREAM, {b"a": b"b"})
        stream = (await api.get("/gateways")).json()["stream"]
        assert 120 <= stream.pop("lag_s") < 300
        assert stream == {"length": 3, "pending": 0, "dead": 1}
        await redis.xgroup_create(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP, id="0")
        await redis.xreadgroup(keyspace.EVENTS_GROUP, "one", {keyspace.EVENTS_STREAM: ">"}, count=2)
        assert (await api.get("/gateways")).json()["stream"]["pending"] == 2


async def test_without_redis_the_list_says_that_it_is_unavailable(own_stores):
    own_stores.valkey.stop()
    with running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
        token = await token_for(own_stores.pg_dsn, "root", "viewer")
        async with client(server.url, token) as api:
            answer = await api.get("/gateways")
    assert (answer.status_code, answer.json()["code"], answer.json()["extra"]) == (
        503,
        "store_unavailable",
        {"store": "redis"},
    )


def of_workers(metrics: str, start: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(start)]


async def test_a_gateways_workers_tell_of_the_requests_that_they_served(api, admin_database, redis_url):
    """Both workers, whoever served what; and when the gateway has stopped, the day's figures are complete."""
    key, upstream_port = "sk-" + secrets.token_hex(24), free_port()
    chosen = {"pg_dsn": admin_database, "redis_url": redis_url, "upstream_port": upstream_port}
    async with StubServer([key], port=upstream_port):
        with running_gateway(**chosen, workers=2, name="real") as gateway:
            await eventually_async(lambda: alive(api, 2))
            for address, times in (("203.0.113.7", 6), ("198.51.100.9", 4)):
                for _ in range(times):
                    async with httpx.AsyncClient(timeout=30) as fresh:
                        sent = {"authorization": f"Bearer {key}", "x-real-ip": address}
                        await fresh.get(f"{gateway.url}/v1/models", headers=sent)
            await eventually_async(lambda: served(api, 10))
            metrics = (await api.get("/metrics")).text
            assert len(of_workers(metrics, "sentinel_requests_total{")) == 2
            real = (await listed(api))["real"]
            for worker in real["workers"]:
                os.kill(worker["pid"], 0)
    connection = await asyncpg.connect(admin_database)
    assert await connection.fetchval("SELECT count(*) FROM binding") == 1
    await connection.close()
    assert await listed(api) == {}
    today = (await api.get("/dashboard")).json()["today"]
    assert {name: today[name] for name in ("requests", "allowed", "bound", "refused_total", "refused")} == {
        "requests": 10,
        "allowed": 6,
        "bound": 1,
        "refused_total": 4,
        "refused": {"key_bound_to_other_address": 4},
    }
    assert today["other"]["answered_2xx"] == 6


async def alive(api, workers: int) -> bool:
    return (await listed(api)).get("real", {}).get("workers_alive") == workers


async def served(api, requests: int) -> bool:
    metrics = (await api.get("/metrics")).text
    return sum(of_workers(metrics, "sentinel_requests_total{")) == requests
