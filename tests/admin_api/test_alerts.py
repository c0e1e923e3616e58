"""Intercepts become alerts: once, whatever dies or comes twice, quiet for a while, and with what the log says."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import msgspec
import pytest
import redis as sync_redis

from admin_api.jobs import alerts, apply
from admin_api.jobs.alerts import Alerts
from admin_api.jobs.ingest import Ingest, IngestLimits
from admin_api.jobs.live import Remembered
from admin_api.jobs.postgres import Postgres
from admin_api.schemas.alerts import AlertKind
from proxy_core.cache import connect
from proxy_core.contracts import EventBatch, LiveSettings, Reason
from tests.admin_api.batches import KEY, NOW, batch, confirmed, intercept, new_binding, send, touch
from tests.support.alert_parts import new_target
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

LIVE = LiveSettings(alert_threshold_count=5, alert_threshold_s=300, alert_cooldown_s=3600)


class Jobs:
    """What a worker does with batches, step by step."""

    def __init__(self, redis, postgres: Postgres, live: LiveSettings) -> None:
        self.redis = redis
        self.postgres = postgres
        self.alerts = Alerts(redis, postgres, Remembered(postgres, live))

    async def apply(self, *batches: EventBatch) -> None:
        await self.postgres.run(lambda connection: apply.apply_batches(connection, batches), limit_s=10)

    async def ingest(self, *batches: EventBatch) -> int:
        await self.apply(*batches)
        return await self.alerts.notice(batches)


@pytest.fixture
async def jobs_with(pg_dsn, redis_url) -> AsyncIterator:
    opened = []

    async def make(**live) -> Jobs:
        postgres, client = await Postgres.connect(pg_dsn), connect(redis_url, timeout_s=5.0)
        opened.extend((client, postgres))
        return Jobs(client, postgres, msgspec.structs.replace(LIVE, **live))

    yield make
    for each in opened:
        await each.aclose()


@pytest.fixture
async def jobs(jobs_with) -> Jobs:
    return await jobs_with()


async def counts(pg) -> list[tuple[int, int]]:
    """Refused and observed, of each alert."""
    return [tuple(row) for row in await pg.fetch("SELECT enforced_count, observed_count FROM alert ORDER BY id")]


def burst(count: int, **given) -> EventBatch:
    return batch(intercept(repeat_count=count, **given))


async def test_the_threshold_raises_one_alert_that_says_who_from_where_and_to_what_it_is_bound(jobs: Jobs, pg):
    binding = await new_binding(pg)
    assert await jobs.ingest(burst(4)) == 0
    observed = batch(intercept(client="2001:db8::7", enforced=False, at=NOW + 1))
    assert await jobs.ingest(observed) == 1
    row = await pg.fetchrow("SELECT * FROM alert")
    assert (row["kind"], row["key_hash"], row["key_hint"], row["binding_id"]) == (
        "key_intercepted", KEY, "abcd…wxyz", binding,
    )  # fmt: skip
    assert (row["enforced_count"], row["observed_count"]) == (4, 1)
    facts = json.loads(row["facts"])
    assert facts["addresses"] == [{"address": "198.51.100.7", "count": 4}, {"address": "2001:db8::7", "count": 1}]
    assert facts["bound_networks"] == ["203.0.113.0/24", "2001:db8::/64"]
    assert datetime.fromisoformat(facts["since"]) == row["since"] == datetime.fromtimestamp(NOW, UTC)


async def test_a_flood_is_one_alert_whose_count_grows(jobs: Jobs, pg):
    for number in range(20):
        await jobs.ingest(burst(10, at=NOW + number, client=f"198.18.0.{number}"))
    assert await counts(pg) == [(200, 0)]


async def test_only_the_most_frequent_addresses_are_named_and_all_are_counted(jobs: Jobs, pg):
    await jobs.ingest(batch(*(intercept(client=f"198.18.0.{number}", repeat_count=number) for number in range(1, 16))))
    facts = json.loads(await pg.fetchval("SELECT facts FROM alert"))
    assert [each["count"] for each in facts["addresses"]] == list(range(15, 5, -1))
    assert facts["address_count"] == 15


async def test_after_the_cool_down_a_flood_that_goes_on_is_a_new_alert_of_what_is_new(jobs: Jobs, pg):
    await jobs.ingest(burst(7))
    await pg.execute("UPDATE alert SET quiet_until = now()")
    await jobs.ingest(burst(6, at=NOW + 61))
    assert await counts(pg) == [(7, 0), (6, 0)]


async def test_without_a_cool_down_what_was_told_is_not_told_again(jobs_with, pg):
    jobs = await jobs_with(alert_cooldown_s=0)
    await jobs.ingest(burst(5))
    await jobs.ingest(burst(2, at=NOW + 61))
    assert await counts(pg) == [(5, 0)]
    await jobs.ingest(burst(3, at=NOW + 122))
    assert await counts(pg) == [(5, 0), (5, 0)]


async def test_intercepts_further_apart_than_the_window_raise_nothing(jobs: Jobs, pg):
    for number in range(10):
        await jobs.ingest(burst(2, at=NOW - 4000 + number * 400))
    assert await counts(pg) == []


async def test_keys_are_counted_each_for_itself(jobs: Jobs, pg):
    many = [intercept(fingerprint=bytes([number]) * 32) for number in range(10)]
    assert await jobs.ingest(batch(*many, *many[:4])) == 0
    assert await jobs.ingest(batch(*(intercept(fingerprint=bytes([0]) * 32) for _ in range(3)))) == 1
    assert await pg.fetchval("SELECT key_hash FROM alert") == bytes(32)


async def test_uses_of_a_banned_key_raise_nothing(jobs: Jobs, pg):
    await jobs.ingest(burst(100, reason=Reason.KEY_BANNED))
    assert await counts(pg) == []


async def test_uses_of_a_key_that_was_banned_do_not_count_for_its_alert(jobs: Jobs, pg):
    await jobs.ingest(burst(5))
    await jobs.ingest(burst(100, reason=Reason.KEY_BANNED, at=NOW + 1))
    assert await counts(pg) == [(5, 0)]


async def test_as_long_as_no_key_is_near_its_threshold_postgresql_is_not_asked(jobs: Jobs, monkeypatch):
    asked = []

    async def ask(_postgres, keys, _live) -> int:
        asked.extend(key.fingerprint for key in keys)
        return 0

    monkeypatch.setattr(alerts, "raise_intercepted", ask)
    one = burst(3)
    for _ in range(3):
        await jobs.alerts.notice([one])  # the same again
    await jobs.alerts.notice([burst(4, at=NOW + 1000), burst(4, at=NOW + 2000)])  # each alone in its window
    await jobs.alerts.notice([burst(100, reason=Reason.KEY_BANNED)])
    assert asked == []
    await jobs.alerts.notice([burst(1, at=NOW + 2290)])
    assert asked == [KEY]


async def test_zero_turns_alerts_off(jobs_with, pg):
    jobs = await jobs_with(alert_threshold_count=0)
    await jobs.ingest(burst(100))
    assert await counts(pg) == []


async def test_a_batch_that_comes_twice_counts_once(jobs: Jobs, pg):
    one = burst(3)
    for _ in range(3):
        assert await jobs.ingest(one) == 0
    assert await jobs.ingest(burst(2)) == 1
    assert await counts(pg) == [(5, 0)]


async def test_a_worker_that_dies_before_the_intercepts_are_counted_loses_no_alert(jobs: Jobs, pg):
    one = burst(5)
    await jobs.apply(one)
    assert await jobs.ingest(one) == 1
    assert await counts(pg) == [(5, 0)]


async def test_a_worker_that_dies_after_they_are_counted_loses_no_alert(jobs: Jobs, pg):
    one = burst(5)
    await jobs.apply(one)
    await pg.execute("ALTER TABLE alert RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await jobs.alerts.notice([one])
    await pg.execute("ALTER TABLE away RENAME TO alert")
    assert await jobs.ingest(one) == 1
    assert await counts(pg) == [(5, 0)]


async def test_losing_redis_forgets_the_way_to_the_threshold_and_no_alert(jobs: Jobs, pg):
    await jobs.ingest(burst(4))
    await jobs.redis.flushall()
    assert await jobs.ingest(burst(4, at=NOW + 1)) == 0
    assert await jobs.ingest(burst(1, at=NOW + 2)) == 1
    await jobs.redis.flushall()
    assert await jobs.ingest(burst(50, at=NOW + 3)) == 0
    assert await counts(pg) == [(59, 0)]


async def test_many_workers_at_once_raise_one_alert_that_counts_everything(jobs_with, pg):
    workers = [await jobs_with() for _ in range(3)]
    batches = [burst(2, client=f"198.18.0.{number}") for number in range(30)]
    raised = await asyncio.gather(*(workers[number % 3].ingest(one) for number, one in enumerate(batches)))
    assert sum(raised) == 1
    assert await counts(pg) == [(60, 0)]


async def test_an_alert_goes_to_the_targets_that_want_it(jobs: Jobs, pg):
    wants = await new_target(pg, "https://a.test/")
    await new_target(pg, "https://b.test/", events=["archive_run"])
    await new_target(pg, "https://c.test/", enabled=False)
    await jobs.ingest(burst(5))
    assert [row["target_id"] for row in await pg.fetch("SELECT target_id FROM alert_delivery")] == [wants]


async def test_a_changed_threshold_is_obeyed(jobs_with, pg):
    await pg.execute("""INSERT INTO runtime_setting VALUES (1, '{"alert_threshold_count": 3, "unknown": 1}', 'root')""")
    jobs = await jobs_with()
    assert await jobs.ingest(burst(2)) == 0
    assert await jobs.ingest(burst(1, at=NOW + 1)) == 1


async def test_ingestion_confirms_nothing_whose_alert_is_not_stored(pg, jobs: Jobs, redis_url):
    await pg.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                     "RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available'; END $$")  # fmt: skip
    await pg.execute("CREATE TRIGGER refuse BEFORE INSERT ON alert EXECUTE FUNCTION refuse()")
    limits = IngestLimits(block_s=0.05, claim_every_s=0.02, claim_idle_s=0.05, backoff_first_s=0.02)
    ingest = Ingest(jobs.redis, jobs.postgres, limits, alerts=jobs.alerts)
    one = burst(5)
    with sync_redis.Redis.from_url(redis_url) as stream:
        send(stream, one)
        task = asyncio.create_task(ingest.drain(3600))
        await eventually(lambda: not ingest._postgres_state.available)
        assert not confirmed(stream, one)
        await pg.execute("DROP TRIGGER refuse ON alert")
        await eventually(lambda: confirmed(stream, one))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await counts(pg) == [(5, 0)]


async def test_a_key_that_got_its_owner_is_told_once_and_only_to_who_wants_to_know(jobs: Jobs, pg):
    async def bound(number: int, source: str = "first_use") -> int:
        binding = await new_binding(pg, bytes([number]) * 32)
        await pg.execute(
            "INSERT INTO binding_network (binding_id, network, source) VALUES ($1, '203.0.113.7/32', $2)",
            binding, source,
        )  # fmt: skip
        return binding

    await jobs.apply(batch(touch(await bound(1))))  # nobody wants to know yet
    await new_target(pg, "https://a.test/", events=["binding_created"])
    first, second, imported = await bound(2), await bound(3), await bound(4, "operator")
    await jobs.apply(batch(touch(first), touch(second), touch(imported)))
    await jobs.apply(batch(touch(first), touch(second)))
    third = await bound(5)
    await jobs.apply(batch(touch(third)))
    rows = await pg.fetch("SELECT kind, binding_id, facts FROM alert ORDER BY id")
    assert [(row["kind"], row["binding_id"], json.loads(row["facts"])["count"]) for row in rows] == [
        (AlertKind.BINDING_CREATED, None, 2),
        (AlertKind.BINDING_CREATED, third, 1),
    ]
    assert [each["binding_id"] for each in json.loads(rows[0]["facts"])["keys"]] == [first, second]


async def test_old_alerts_go_with_the_log_but_not_while_they_are_due(jobs: Jobs, pg):
    await new_target(pg, "https://a.test/")
    await jobs.ingest(burst(5))
    await pg.execute("UPDATE alert SET raised_at = now() - interval '181 days'")
    await alerts.prune(jobs.postgres, LIVE)
    assert len(await counts(pg)) == 1
    await pg.execute("UPDATE alert_delivery SET state = 'delivered'")
    await alerts.prune(jobs.postgres, msgspec.structs.replace(LIVE, log_retention_days=0))
    assert len(await counts(pg)) == 1
    await alerts.prune(jobs.postgres, LIVE)
    assert await counts(pg) == []
