"""The archive while gateways serve: a key in use keeps its owner, one that was archived finds exactly one new owner."""

import asyncio
import contextlib
import secrets
from datetime import UTC, datetime

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import async_sessionmaker

from admin_api.database import make_engine
from admin_api.jobs.archive import Archive
from admin_api.jobs.postgres import Postgres
from admin_api.rooms import Newsroom
from benchmarks.stub import StubServer
from proxy_core.cache import Cache, connect
from proxy_core.contracts import LiveSettings
from proxy_core.tasks import Tasks
from tests.admin_api.binding_rows import connected
from tests.stories.owners import bound_networks
from tests.support.gateways import free_port, running_gateway, running_worker
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
OWNER, EAST, WEST = "203.0.113.7", "198.51.100.1", "198.51.100.2"


async def use(gateway, client: httpx.AsyncClient, key: str, address: str) -> int:
    sent = {"authorization": f"Bearer {key}", "x-real-ip": address}
    return (await client.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers=sent)).status_code


@contextlib.asynccontextmanager
async def archive_of(pg_dsn: str, redis_url: str):
    """Runs the job as the worker does."""
    engine, tasks, postgres = make_engine(pg_dsn, "test"), Tasks(), await Postgres.connect(pg_dsn)
    cache = Cache(connect(redis_url, timeout_s=2.0), timeout_s=2.0)
    news = Newsroom(async_sessionmaker(engine), cache, tasks)
    async with Redis.from_url(redis_url) as redis:

        async def run() -> int:
            return await Archive(redis, postgres, news, LiveSettings(archive_days=90)).run(datetime.now(UTC))

        try:
            yield run
        finally:
            await tasks.aclose()
            await postgres.aclose()
            await cache.aclose()
            await engine.dispose()


async def test_the_archive_races_with_traffic_on_two_gateways(own_stores):
    busy = ["sk-" + secrets.token_hex(24) for _ in range(4)]
    idle = ["sk-" + secrets.token_hex(24) for _ in range(8)]
    shared = {"pg_dsn": own_stores.pg_dsn, "redis_url": own_stores.redis_url, "upstream_port": free_port()}
    async with connected(own_stores.pg_dsn) as pg:
        with running_gateway(**shared, name="east") as east, running_gateway(**shared, name="west") as west:
            async with (
                StubServer([*busy, *idle], port=east.upstream_port),
                httpx.AsyncClient(timeout=30) as client,
                archive_of(own_stores.pg_dsn, own_stores.redis_url) as archive,
            ):

                async def used(keys: list[str]) -> list[int]:
                    return [await use(gateway, client, key, OWNER) for key in keys for gateway in (east, west)]

                assert set(await used(busy + idle)) == {200}
                with running_worker(east):
                    await eventually_async(lambda: ingested(pg, 2 * len(busy + idle)))
                    ids = await recent(pg)
                    # PostgreSQL cannot know yet that the busy ones are used again when the archive takes what is old.
                    await grow_old(pg)
                    assert set(await used(busy)) == {200}
                    await asyncio.gather(archive(), archive())
                    await eventually_async(lambda: are_there(pg, busy, ids))
                    # And while they are used.
                    await grow_old(pg)
                    statuses, *_ = await asyncio.gather(used(busy * 5), archive(), archive())
                    assert set(statuses) == {200}
                    await eventually_async(lambda: are_there(pg, busy))
                for key in busy:
                    assert await use(east, client, key, OWNER) == 200
                    assert await use(west, client, key, EAST) == 403
                for key in idle:
                    assert bound_networks(own_stores, own_stores.pg_dsn, key) == []
                    statuses = await asyncio.gather(use(east, client, key, EAST), use(west, client, key, WEST))
                    assert sorted(statuses) == [200, 403]
                    owner = EAST if statuses[0] == 200 else WEST
                    assert bound_networks(own_stores, own_stores.pg_dsn, key) == [f"{owner}/32"]


async def ingested(pg, requests: int) -> bool:
    return await pg.fetchval("SELECT sum(request_count) FROM binding") == requests


async def grow_old(pg) -> None:
    await pg.execute("UPDATE binding SET last_used_at = now() - interval '100 days'")


async def recent(pg) -> dict[str, int]:
    """The ids of the bindings that were used lately, by the hints of their keys."""
    return dict(await pg.fetch("SELECT key_hint, id FROM binding WHERE last_used_at > now() - interval '1 hour'"))


async def are_there(pg, keys: list[str], ids: dict[str, int] | None = None) -> bool:
    """With ``ids``: as the bindings that they were."""
    there = await recent(pg)
    hints = [f"{key[3:7]}…{key[-4:]}" for key in keys]
    return all(hint in there and (ids is None or there[hint] == ids[hint]) for hint in hints)
