"""A store that is away for long is told, and that it is back, however many workers notice."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.sending import Sender
from admin_api.jobs.deliveries import Deliveries
from admin_api.jobs.outages import Outages
from admin_api.jobs.postgres import Postgres
from proxy_core.cache import connect
from tests.support.alert_parts import new_target
from tests.support.receivers import Receiver

pytestmark = pytest.mark.anyio


class Clock:
    now = 1_764_000_000.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """Two workers that look at the same stores; time passes between looks as the test says."""

    def __init__(self, clock: Clock, *workers: Outages) -> None:
        self._clock = clock
        self._workers = workers

    async def look(self, after_s: float = 0.0) -> None:
        self._clock.now += after_s
        for worker in self._workers:
            await worker.look()


@pytest.fixture
async def watch(own_stores) -> AsyncIterator[Watch]:
    clock, opened, workers = Clock(), [], []
    for _ in range(2):
        postgres = await Postgres.connect(own_stores.pg_dsn, max_connections=1)
        client = connect(own_stores.redis_url, timeout_s=1.0)
        sender = Sender(PrivateTargets.ALL, "")
        opened += [postgres, client]
        workers.append(Outages(client, postgres, Deliveries(postgres, sender), sender, clock=clock))
    yield Watch(clock, *workers)
    for each in opened:
        await each.aclose()


async def told(dsn: str) -> list[tuple[str, str, int | None]]:
    pg = await asyncpg.connect(dsn)
    rows = await pg.fetch("SELECT kind, facts FROM alert ORDER BY id")
    await pg.close()
    facts = [(row["kind"], json.loads(row["facts"])) for row in rows]
    return [(kind, each["store"], each.get("seconds")) for kind, each in facts]


async def subscribe(dsn: str, there: Receiver) -> None:
    pg = await asyncpg.connect(dsn)
    await new_target(pg, there.url)
    await pg.close()


def said(there: Receiver) -> list[tuple[str, str]]:
    messages = [json.loads(got.body) for got in there.received]
    return [(message["type"], message["data"]["store"]) for message in messages]


async def test_redis_away_is_told_while_it_is_away_and_its_return_too(own_stores, watch: Watch, there: Receiver):
    await subscribe(own_stores.pg_dsn, there)
    await watch.look()
    own_stores.valkey.stop()
    await watch.look(1)
    await watch.look(20)
    assert await told(own_stores.pg_dsn) == []
    await watch.look(11)
    assert said(there) == [("store_outage", "redis")]
    await watch.look(60)
    own_stores.valkey.start()
    await watch.look(10)
    assert await told(own_stores.pg_dsn) == [("store_outage", "redis", None), ("store_recovered", "redis", 101)]
    assert said(there) == [("store_outage", "redis")]  # the rest is the jobs' work again


async def test_postgresql_away_is_told_at_once_by_one_worker_and_its_return_is_stored(
    own_stores, watch: Watch, there: Receiver
):
    await subscribe(own_stores.pg_dsn, there)
    await watch.look()
    own_stores.postgres.stop()
    for after_s in (1, 20, 11, 60):
        await watch.look(after_s)
    assert said(there) == [("store_outage", "postgresql")]
    own_stores.postgres.start()
    await watch.look(10)
    await watch.look(10)
    assert await told(own_stores.pg_dsn) == [("store_recovered", "postgresql", 101)]


async def test_a_restart_is_no_outage(own_stores, watch: Watch):
    await watch.look()
    own_stores.valkey.stop()
    await watch.look(1)
    own_stores.valkey.start()
    await watch.look(20)
    await watch.look(60)
    assert await told(own_stores.pg_dsn) == []


async def test_two_outages_are_two(own_stores, watch: Watch):
    for _ in range(2):
        await watch.look(100)
        own_stores.valkey.stop()
        await watch.look(1)
        await watch.look(40)
        own_stores.valkey.start()
        await watch.look(1)
    assert await told(own_stores.pg_dsn) == [("store_outage", "redis", None), ("store_recovered", "redis", 41)] * 2
