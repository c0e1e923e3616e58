"""What runs when: the table of SAQ jobs, each with its time limit, its retries, and what happens when it overlaps.

Where it stands in the walk: `worker` builds SAQ's worker from these; each function below calls one noun.

=============== ======================= ======== ======== =====================================================
job             when                    limit    attempts when it is due again and has not ended
=============== ======================= ======== ======== =====================================================
drain_events    always: a turn of       60 s     1        another turn runs beside it, which is harmless; see
                TURN_S every SLOT_S,                      `ingest`
                in each worker
send_due        every DUE_SLOT_S,       30 s     1        one in all workers for each slot; several at once ask
                by one of the workers                     for the same jobs
deliver_alert   every delivery, when    60 s     1        PostgreSQL gives a delivery to one; see `deliveries`,
                it is due                                 which has the attempts too
make_partitions start of a worker,      130 s    3        one in all workers: SAQ keeps its key until it ended
                every hour
roll_up         start of a worker,      50 s     1        the same
                every minute
archive_unused  every hour              300 s    1        the same
drop_months     every hour              300 s    1        the same
prune_ledger    every hour              300 s    1        the same
prune_alerts    every hour              300 s    1        the same
=============== ======================= ======== ======== =====================================================

That SAQ lets one run in all workers saves work; nothing depends on it. A job whose worker was killed, or that the time
limit ended while PostgreSQL still had its statement, meets the next one: each of them may run twice at once.
None is repeated after a failure but at its next time, `make_partitions` excepted: its next time is the latest.

Why draining is no cron job. A cron job of SAQ is one key for all workers. When its worker is killed, the key stays
taken until the sweep finds the job past its time limit: the stream would stand still for a minute. (Not unique, SAQ
adds one with every poll of its scheduler.) So every worker keeps a job of its own for every slot of SLOT_S seconds in
the queue, whose key holds the worker and the slot; whoever is free takes it and drains for TURN_S. A killed worker
takes along its own turn and nobody else's, a restarted one has a new name, and what was in its hands is taken over
after `ingest.IngestLimits.claim_idle_s`. Since a turn is longer than a slot, the next one listens before it ends, and
an event never waits for a schedule.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import CronJob
from saq.queue import Queue

from admin_api.jobs import alerts, apply, partitions, rollup
from admin_api.jobs.archive import Archive
from admin_api.jobs.deliveries import Deliveries
from admin_api.jobs.ingest import Ingest
from admin_api.jobs.postgres import FAILURES, Connection, Postgres, describe
from admin_api.jobs.retention import Retention
from admin_api.rooms import Newsroom
from proxy_core.contracts import LiveSettings
from proxy_core.errors import StoreUnavailable

log = structlog.get_logger(__name__)

SLOT_S = 5
TURN_S = 6.5
DUE_SLOT_S = 2
NO_TRACE = -1
"""SAQ's ttl for "delete the job when it ends": nobody asks for the result of these."""

_PRUNE_AT_ONCE = 10_000
_PRUNE_LIMIT_S = 60.0


class Context(TypedDict):
    """What jobs find in SAQ's context, put there at the worker's start."""

    ingest: Ingest
    postgres: Postgres
    redis: Redis
    news: Newsroom
    initial: LiveSettings
    deliveries: Deliveries


async def drain_events(context: Any) -> None:
    await context["ingest"].drain(TURN_S)


async def send_due(context: Any) -> None:
    """An alert waits for this no longer than a slot."""
    queue: Queue = context["worker"].queue
    try:
        for due in await context["deliveries"].due(context["initial"]):
            # With the number of the attempt: one that died with its worker does not keep the next from running.
            await queue.enqueue(
                deliver_alert.__qualname__,
                key=f"deliver_alert:{due.id}:{due.tries}",
                delivery_id=due.id,
                timeout=60,
                retries=1,
                ttl=NO_TRACE,
            )
    except FAILURES as fault:
        log.debug("alerts that are due not looked for, trying again", fault=describe(fault))


async def deliver_alert(context: Any, *, delivery_id: int) -> None:
    try:
        await context["deliveries"].deliver(delivery_id)
    except FAILURES as fault:
        log.warning("delivery of an alert not noted, it is tried again", delivery=delivery_id, fault=describe(fault))


async def make_partitions(context: Any) -> None:
    with _another_time("make_partitions"):
        await partitions.make_partitions(context["postgres"])


async def roll_up(context: Any) -> None:
    with _another_time("roll_up"):
        await rollup.roll_up(context["redis"], context["postgres"], datetime.now(UTC))


async def archive_unused(context: Any) -> None:
    with _another_time("archive_unused"):
        job = Archive(context["redis"], context["postgres"], context["news"], context["initial"])
        await job.run(datetime.now(UTC))


async def drop_months(context: Any) -> None:
    with _another_time("drop_months"):
        await Retention(context["postgres"], context["initial"]).run(datetime.now(UTC))


async def prune_ledger(context: Any) -> None:
    """In small pieces, so that ingestion never waits long; what is left after a failure is there in an hour."""

    async def work(connection: Connection) -> int:
        return await apply.prune_ledger(connection, _PRUNE_AT_ONCE)

    with _another_time("prune_ledger"):
        while await context["postgres"].run(work, limit_s=_PRUNE_LIMIT_S) == _PRUNE_AT_ONCE:
            pass


async def prune_alerts(context: Any) -> None:
    with _another_time("prune_alerts"):
        await alerts.prune(context["postgres"], context["initial"])


@contextlib.contextmanager
def _another_time(job: str) -> Iterator[None]:
    """Stores that are away are no fault of a job: ingestion says that they are, a traceback each time says no more."""
    try:
        yield
    except (*FAILURES, RedisError, StoreUnavailable) as fault:
        log.warning("job not done, trying again later", job=job, fault=describe(fault))
    except msgspec.MsgspecError as fault:
        log.warning("job not done: the stored live settings cannot be read", job=job, fault=str(fault))


FUNCTIONS: list[Callable[..., Any]] = [
    drain_events,
    send_due,
    deliver_alert,
    make_partitions,
    roll_up,
    archive_unused,
    drop_months,
    prune_ledger,
    prune_alerts,
]

CRON_JOBS: list[CronJob[Any]] = [
    CronJob(make_partitions, cron="7 * * * *", unique=True, timeout=130, retries=3, ttl=NO_TRACE),
    CronJob(roll_up, cron="* * * * *", unique=True, timeout=50, retries=1, ttl=NO_TRACE),
    CronJob(archive_unused, cron="17 * * * *", unique=True, timeout=300, retries=1, ttl=NO_TRACE),
    CronJob(drop_months, cron="27 * * * *", unique=True, timeout=300, retries=1, ttl=NO_TRACE),
    CronJob(prune_ledger, cron="37 * * * *", unique=True, timeout=300, retries=1, ttl=NO_TRACE),
    CronJob(prune_alerts, cron="47 * * * *", unique=True, timeout=300, retries=1, ttl=NO_TRACE),
]


async def ask_for_a_turn(queue: Queue, worker_id: str) -> None:
    """Puts the worker's `drain_events` of this slot into the queue, unless it is there or running."""
    slot = int(time.time()) // SLOT_S
    await queue.enqueue(
        drain_events.__qualname__, key=f"drain_events:{worker_id}:{slot}", timeout=60, retries=1, ttl=NO_TRACE
    )


async def ask_for_what_is_due(queue: Queue) -> None:
    """Puts `send_due` of this slot into the queue: once, however many workers ask."""
    slot = int(time.time()) // DUE_SLOT_S
    await queue.enqueue(send_due.__qualname__, key=f"send_due:{slot}", timeout=30, retries=1, ttl=NO_TRACE)


async def ask_for_what_a_start_needs(queue: Queue) -> None:
    """Once a worker's life; of several workers that start together one does it."""
    await queue.enqueue(make_partitions.__qualname__, key="start:make_partitions", timeout=130, retries=3, ttl=NO_TRACE)
    await queue.enqueue(roll_up.__qualname__, key="start:roll_up", timeout=50, retries=1, ttl=NO_TRACE)
