"""The table of jobs: complete, explicit, and every job in it may run twice at once."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import structlog

from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.sending import Sender
from admin_api.jobs import schedule
from admin_api.jobs.deliveries import Deliveries
from admin_api.jobs.ingest import Ingest, IngestLimits
from admin_api.worker import JobQueue
from proxy_core import keyspace
from proxy_core.contracts import LiveSettings
from proxy_core.heartbeat import EPOCH
from tests.admin_api.batches import batch, entry, intercept
from tests.admin_api.binding_rows import bind_many
from tests.admin_api.test_archive_job import housed
from tests.support.alert_parts import new_alert, new_target
from tests.support.receivers import Receiver

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
LISTED = re.compile(r"^(\w+) +(?:always|start|every).*?(\d+) s +(\d)", re.MULTILINE)

SENDING = (schedule.send_due, schedule.deliver_alert)
ASKED_FOR = {schedule.drain_events, *SENDING}
"""Those that are no cron jobs."""


def test_every_job_stands_in_the_table_with_its_limit_and_attempts():
    listed = {name: (int(limit), int(attempts)) for name, limit, attempts in LISTED.findall(schedule.__doc__ or "")}
    assert listed.keys() == {job.__name__ for job in schedule.FUNCTIONS}
    for cron in schedule.CRON_JOBS:
        assert (cron.timeout, cron.retries) == listed[cron.function.__name__], cron
        assert cron.unique, cron
    assert {cron.function for cron in schedule.CRON_JOBS} == set(schedule.FUNCTIONS) - ASKED_FOR


@pytest.mark.parametrize("job", [job for job in schedule.FUNCTIONS if job not in SENDING], ids=lambda job: job.__name__)
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
            "prune_alerts": ("SELECT count(*) FROM alert WHERE key_hint = 'old'", 0),
        }[job.__name__]
        assert await house.pg.fetchval(done[0]) == done[1]


async def test_an_alert_that_is_due_is_asked_for_once_and_sent_once(pg_dsn, redis_url, there: Receiver):
    async with housed(pg_dsn, redis_url) as house:
        await new_target(house.pg, there.url)
        await new_alert(house.pg)
        queue = JobQueue(house.redis, keyspace.QUEUE_NAME)
        context = {
            "worker": SimpleNamespace(queue=queue),
            "initial": LiveSettings(),
            "deliveries": Deliveries(house.postgres, Sender(PrivateTargets.ALL, "")),
        }
        await asyncio.gather(*(schedule.send_due(context) for _ in range(3)))
        await schedule.send_due(context)
        assert await queue.count("queued") == 1
        [delivery_id] = (await house.pg.fetchrow("SELECT id FROM alert_delivery")).values()
        await asyncio.gather(*(schedule.deliver_alert(context, delivery_id=delivery_id) for _ in range(3)))
        assert len(there.received) == 1
        await schedule.send_due(context)
        assert await queue.count("queued") == 1


async def work_for_all(house) -> None:
    await bind_many(house.pg, 40, last_used_at=NOW - timedelta(days=100))
    await house.redis.hset(keyspace.hour(f"{NOW:%Y-%m-%dT%H}"), mapping={EPOCH: "e", "requests": 9})
    await house.pg.execute("INSERT INTO ingest_batch VALUES ('old', now() - interval '30 days')")
    await house.pg.execute(
        "INSERT INTO alert (kind, key_hint, raised_at) VALUES ('key_intercepted', 'old', now() - interval '300 days')"
    )
    old = batch(intercept(at=(NOW - timedelta(days=400)).timestamp(), client="10.0.0.1", hint="old"))
    await house.redis.xadd(keyspace.EVENTS_STREAM, entry(old))
    await Ingest(house.redis, house.postgres, IngestLimits(block_s=0.1)).drain(0.3)
    assert await house.pg.fetchval("SELECT count(*) FROM intercept_default") == 1
    await house.pg.execute(f"DROP TABLE intercept_{NOW:%Y_%m}")
    for number in range(5):
        await house.redis.xadd(keyspace.EVENTS_STREAM, entry(batch(intercept(client=f"10.1.0.{number}"))))
