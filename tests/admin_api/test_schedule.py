"""The table of jobs: complete, explicit, and every job in it may run twice at once."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from admin_api.jobs import schedule
from admin_api.jobs.ingest import Ingest, IngestLimits
from proxy_core import keyspace
from proxy_core.contracts import LiveSettings
from proxy_core.heartbeat import EPOCH
from tests.admin_api.batches import batch, entry, intercept
from tests.admin_api.binding_rows import bind_many
from tests.admin_api.test_archive_job import housed

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
LISTED = re.compile(r"^(\w+) +(?:always|start|every).*?(\d+) s +(\d)", re.MULTILINE)


def test_every_job_stands_in_the_table_with_its_limit_and_attempts():
    listed = {name: (int(limit), int(attempts)) for name, limit, attempts in LISTED.findall(schedule.__doc__ or "")}
    assert listed.keys() == {job.__name__ for job in schedule.FUNCTIONS}
    for cron in schedule.CRON_JOBS:
        assert (cron.timeout, cron.retries) == listed[cron.function.__name__], cron
        assert cron.unique, cron
    assert {cron.function for cron in schedule.CRON_JOBS} == set(schedule.FUNCTIONS) - {schedule.drain_events}


@pytest.mark.parametrize("job", schedule.FUNCTIONS, ids=lambda job: job.__name__)
async def test_a_job_that_runs_twice_at_once_does_its_work_once(job, pg_dsn, redis_url, monkeypatch):
    """Each has something to do; afterwards all that it leaves is as if it had run once."""
    monkeypatch.setattr(schedule, "TURN_S", 1.0)
    async with housed(pg_dsn, redis_url) as house:
        await work_for_all(house)
        context = {
            "redis": house.redis,
            "postgres": house.postgres,
            "news": house.news,
            "initial": LiveSettings(),
            "ingest": Ingest(house.redis, house.postgres, IngestLimits(block_s=0.1)),
        }
        with structlog.testing.capture_logs() as logs:
            await asyncio.gather(job(context), job(context))
            await job(context)
        assert [line for line in logs if line["log_level"] not in ("info", "debug")] == []
        done = {
            "drain_events": ("SELECT sum(repeat_count) FROM intercept WHERE key_hint = 'abcd…wxyz'", 5),
            "make_partitions": (f"SELECT count(*) FROM pg_class WHERE relname = 'intercept_{NOW:%Y_%m}'", 1),
            "roll_up": ("SELECT sum(requests) FROM hourly_metric", 9),
            "archive_unused": ("SELECT count(*) FROM binding_archive", 40),
            "drop_months": ("SELECT count(*) FROM intercept_default", 0),
            "prune_ledger": ("SELECT count(*) FROM ingest_batch WHERE batch_id = 'old'", 0),
        }[job.__name__]
        assert await house.pg.fetchval(done[0]) == done[1]


async def work_for_all(house) -> None:
    await bind_many(house.pg, 40, last_used_at=NOW - timedelta(days=100))
    await house.redis.hset(keyspace.hour(f"{NOW:%Y-%m-%dT%H}"), mapping={EPOCH: "e", "requests": 9})
    await house.pg.execute("INSERT INTO ingest_batch VALUES ('old', now() - interval '30 days')")
    old = batch(intercept(at=(NOW - timedelta(days=400)).timestamp(), client="10.0.0.1", hint="old"))
    await house.redis.xadd(keyspace.EVENTS_STREAM, entry(old))
    await Ingest(house.redis, house.postgres, IngestLimits(block_s=0.1)).drain(0.3)
    assert await house.pg.fetchval("SELECT count(*) FROM intercept_default") == 1
    await house.pg.execute(f"DROP TABLE intercept_{NOW:%Y_%m}")
    for number in range(5):
        await house.redis.xadd(keyspace.EVENTS_STREAM, entry(batch(intercept(client=f"10.1.0.{number}"))))
