"""History from the first request to the figure on the dashboard: gateway, Redis, worker, PostgreSQL."""

import httpx
import pytest

from benchmarks.stub import StubServer
from proxy_core.histogram import percentile_ms
from tests.admin_api.binding_rows import connected
from tests.support.gateways import free_port, running_gateway, running_worker
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

BODY = b"x" * 20_000


async def test_what_a_gateway_served_is_an_hour_of_history(own_stores, key):
    """The worker has it at its start; the gateway that has stopped owes nothing more of the hour."""
    shared = {"pg_dsn": own_stores.pg_dsn, "redis_url": own_stores.redis_url, "upstream_port": free_port()}
    async with connected(own_stores.pg_dsn) as pg:
        with running_gateway(**shared) as gateway:
            async with StubServer([key], port=gateway.upstream_port), httpx.AsyncClient(timeout=30) as client:
                for address, times in (("203.0.113.7", 5), ("198.51.100.9", 2)):
                    for _ in range(times):
                        sent = {"authorization": f"Bearer {key}", "x-real-ip": address}
                        await client.post(f"{gateway.url}/v1/chat/completions", content=BODY, headers=sent)
                await client.get(f"{gateway.url}/v1/models", headers={"authorization": "Bearer sk-!", **ADDRESS})
            assert gateway.stop() == 0
            with running_worker(gateway):
                await eventually_async(lambda: pg.fetchval("SELECT count(*) FROM hourly_metric"))
        hours = await pg.fetch("SELECT * FROM hourly_metric")
    assert sum(hour["requests"] for hour in hours) == 8
    assert sum(hour["allowed"] for hour in hours) == 5
    assert sum(hour["intercepted"] for hour in hours) == 2
    assert sum(hour["claims"] for hour in hours) == 1
    assert [hour["errors"] for hour in hours if hour["errors"] != "{}"] == ['{"invalid_api_key": 1}']
    assert 5 * len(BODY) < sum(hour["bytes_in"] for hour in hours) < 6 * len(BODY)
    assert sum(hour["bytes_out"] for hour in hours) > 5 * 100
    added = [sum(buckets) for buckets in zip(*(hour["added_time"] for hour in hours), strict=True)]
    assert sum(added) == 5
    assert (percentile_ms(added, 0.5) or 0) > 0
    assert [hour["partial"] for hour in hours] == [False] * len(hours)


ADDRESS = {"x-real-ip": "203.0.113.7"}
