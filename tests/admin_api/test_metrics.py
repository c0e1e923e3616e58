"""``/metrics``: every worker of every gateway in Prometheus' format, for whoever has the scope."""

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from proxy_core import keyspace
from proxy_core.histogram import Histogram
from tests.support.admin import client, running_admin, token_for
from tests.support.vitals import beat, silent

pytestmark = pytest.mark.anyio

OF_WORKER = ("gateway", "worker")


async def scraped(api) -> dict[tuple[str, ...], float]:
    """Value by name, gateway, worker and the other label values."""
    answer = await api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, *(sample.labels.pop(name) for name in OF_WORKER if sample.labels), *sample.labels.values()): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_counters_of_each_worker_are_there_with_its_labels(api, redis_url):
    counts = {"requests": 9, "allowed": 5, "key_banned": 2, "answered_2xx": 5}
    await beat(redis_url, 'ea"st', pid=1, counts=counts, batches_dropped=3, open_exchanges=4, redis_available=False)
    await beat(redis_url, "west", pid=1, counts={"requests": 1}, settings_version=12)
    found = await scraped(api)
    assert found["sentinel_requests_total", 'ea"st', "1"] == 9
    assert found["sentinel_requests_total", "west", "1"] == 1
    assert found["sentinel_outcomes_total", 'ea"st', "1", "key_banned"] == 2
    assert found["sentinel_upstream_answers_total", 'ea"st', "1", "2xx"] == 5
    assert found["sentinel_batches_dropped_total", 'ea"st', "1"] == 3
    assert found["sentinel_exchanges_open", 'ea"st', "1"] == 4
    assert found["sentinel_worker_redis_up", 'ea"st', "1"] == 0
    assert found["sentinel_settings_version", "west", "1"] == 12
    assert found["sentinel_worker_info", "west", "1", "1.2.3"] == 1
    assert found["sentinel_redis_up",] == 1


async def test_bytes_and_added_time_of_each_worker_and_the_lag_of_the_stream(api, redis_url):
    histogram = Histogram()
    for ms in (0.01, 0.3, 0.3, 900, 5000):
        histogram.add(int(ms * 1e6))
    await beat(redis_url, pid=1, bytes_in=5, bytes_out=7, added_time=tuple(histogram.counts))
    await beat(redis_url, pid=2)
    async with Redis.from_url(redis_url) as redis:
        seconds, _ = await redis.time()
        await redis.xadd(keyspace.EVENTS_STREAM, {b"a": b"b"}, id=f"{seconds - 60}000-0")
    found = await scraped(api)
    assert found["sentinel_upstream_sent_bytes_total", "east", "1"] == 5
    assert found["sentinel_upstream_received_bytes_total", "east", "1"] == 7
    name = "sentinel_added_seconds_bucket"
    buckets = {float(labels[2]): value for (family, *labels), value in found.items() if family == name}
    below = {s: max(value for bound, value in buckets.items() if bound <= s) for s in (0.0001, 0.001, 1.5)}
    assert below == {0.0001: 1, 0.001: 3, 1.5: 4}
    assert buckets[float("inf")] == 5
    assert 60 <= found["sentinel_event_stream_lag_seconds",] < 300


async def test_a_worker_that_is_gone_is_a_series_that_ends(api, redis_url):
    await beat(redis_url, pid=1)
    await beat(redis_url, pid=2)
    await silent(redis_url, "east:1", 9)
    workers = {labels[1] for name, *labels in await scraped(api) if name == "sentinel_exchanges_open"}
    assert workers == {"2"}


async def test_a_scraper_needs_a_token_with_the_scope_and_no_other(anonymous, admin_dsn):
    assert (await anonymous.get("/metrics")).status_code == 401
    connection = await asyncpg.connect(admin_dsn)
    for name, scope in (("sst_right", "metrics:read"), ("sst_wrong", "bindings:read")):
        await connection.execute(
            "INSERT INTO service_token (name, token_hash, hint, scopes, created_by) "
            "VALUES ($1, sha256($1::text::bytea), 'sst_', ARRAY[$2::text], 'me')",
            name,
            scope,
        )
    await connection.close()
    assert (await anonymous.get("/metrics", headers={"authorization": "Bearer sst_right"})).status_code == 200
    refused = await anonymous.get("/metrics", headers={"authorization": "Bearer sst_wrong"})
    assert (refused.status_code, refused.json()["extra"]) == (403, {"scope": "metrics:read"})


async def test_without_redis_a_scrape_says_so(own_stores):
    own_stores.valkey.stop()
    with running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
        token = await token_for(own_stores.pg_dsn, "root", "viewer")
        async with client(server.url, token) as api:
            found = await scraped(api)
    assert found == {("sentinel_redis_up",): 0}
