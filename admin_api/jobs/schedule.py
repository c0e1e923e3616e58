"""What runs when: the table of SAQ jobs, each with its time limit, its retries, and what happens when it overlaps.

Where it stands in the walk: `worker` builds SAQ's worker from these; each function below calls one noun.

=============== ======================= ======== ======== =====================================================
job             when                    limit    attempts when it is due again and has not ended
=============== ======================= ======== ======== =====================================================
drain_events    always: a turn of       60 s     1        another turn runs beside it, which is harmless; see
                TURN_S every SLOT_S,                      `ingest`
                in each worker
make_partitions start of a worker,      130 s    3        one in all workers: SAQ keeps its key until it ended
                every hour
prune_ledger    every hour              300 s    1        the same
roll_up         every minute            50 s     1        the same
=============== ======================= ======== ======== =====================================================

Why draining is no cron job. A cron job of SAQ is one key for all workers. When its worker is killed, the key stays
taken until the sweep finds the job past its time limit: the stream would stand still for a minute. (Not unique, SAQ
adds one with every poll of its scheduler.) So every worker keeps a job of its own for every slot of SLOT_S seconds in
the queue, whose key holds the worker and the slot; whoever is free takes it and drains for TURN_S. A killed worker
takes along its own turn and nobody else's, a restarted one has a new name, and what was in its hands is taken over
after `ingest.IngestLimits.claim_idle_s`. Since a turn is longer than a slot, the next one listens before it ends, and
an event never waits for a schedule.
"""

import time
from datetime import UTC, datetime
from typing import Any, TypedDict

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import CronJob
from saq.queue import Queue

from admin_api.jobs import apply, partitions, rollup
from admin_api.jobs.ingest import Ingest
from admin_api.jobs.postgres import FAILURES, Connection, Postgres, describe

log = structlog.get_logger(__name__)

SLOT_S = 5
TURN_S = 6.5
NO_TRACE = -1
"""SAQ's ttl for "delete the job when it ends": nobody asks for the result of these."""

_PRUNE_AT_ONCE = 10_000
_PRUNE_LIMIT_S = 60.0


class Context(TypedDict):
    """What jobs find in SAQ's context, put there at the worker's start."""

    ingest: Ingest
    postgres: Postgres
    redis: Redis


async def drain_events(context: Any) -> None:
    await context["ingest"].drain(TURN_S)


async def make_partitions(context: Any) -> None:
    try:
        await partitions.make_partitions(context["postgres"])
    except FAILURES as fault:
        # Ingestion says that PostgreSQL is away; a traceback for every try would say no more.
        log.warning("partitions not made, trying again later", fault=describe(fault))


async def roll_up(context: Any) -> None:
    try:
        await rollup.roll_up(context["redis"], context["postgres"], datetime.now(UTC))
    except (*FAILURES, RedisError) as fault:
        log.warning("figures not rolled up, trying again in a minute", fault=describe(fault))


async def prune_ledger(context: Any) -> None:
    """In small pieces, so that ingestion never waits long; what is left after a failure is there in an hour."""

    async def work(connection: Connection) -> int:
        return await apply.prune_ledger(connection, _PRUNE_AT_ONCE)

    try:
        while await context["postgres"].run(work, limit_s=_PRUNE_LIMIT_S) == _PRUNE_AT_ONCE:
            pass
    except FAILURES as fault:
        log.warning("ledger of event batches not pruned, trying again later", fault=describe(fault))


FUNCTIONS = [drain_events, make_partitions, prune_ledger, roll_up]

CRON_JOBS: list[CronJob[Any]] = [
    CronJob(make_partitions, cron="7 * * * *", unique=True, timeout=130, retries=3, ttl=NO_TRACE),
    CronJob(roll_up, cron="* * * * *", unique=True, timeout=50, retries=1, ttl=NO_TRACE),
    CronJob(prune_ledger, cron="37 * * * *", unique=True, timeout=300, retries=1, ttl=NO_TRACE),
]


async def ask_for_a_turn(queue: Queue, worker_id: str) -> None:
    """Puts the worker's `drain_events` of this slot into the queue, unless it is there or running."""
    slot = int(time.time()) // SLOT_S
    await queue.enqueue(
        drain_events.__qualname__, key=f"drain_events:{worker_id}:{slot}", timeout=60, retries=1, ttl=NO_TRACE
    )


async def ask_for_what_a_start_needs(queue: Queue) -> None:
    """Once a worker's life; of several workers that start together one does it."""
    await queue.enqueue(make_partitions.__qualname__, key="start:make_partitions", timeout=130, retries=3, ttl=NO_TRACE)
