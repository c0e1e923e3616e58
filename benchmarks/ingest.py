"""``python -m benchmarks.ingest``: how fast a worker catches up after PostgreSQL was away.

On stores of its own, with the durability of production (fsync on): a backlog as gateways leave it in the event stream,
drained by the worker's own `Ingest`. Three kinds of it: touches of many bindings, intercepts that are rows of their
own, and a flood of the same intercepts, which folds. An event is a touch or an intercept of a batch, so one touch may
stand for hundreds of requests. Fails (status 1) when a backlog is not applied entirely.
"""

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import click
import msgspec
import structlog
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from admin_api.jobs.alerts import Alerts
from admin_api.jobs.ingest import Ingest
from admin_api.jobs.live import Remembered
from admin_api.jobs.postgres import Postgres
from benchmarks import machine
from benchmarks.processes import cpu_s
from migrations.run import upgrade
from proxy_core import keyspace
from proxy_core.cache import connect
from proxy_core.contracts import EventBatch, Intercept, LiveSettings, Reason, Touch
from proxy_core.outbox import FIELD_BATCH, FIELD_ID
from sentinel.services import open_stores

GOAL_PER_S = 20_000
BINDINGS = 50_000
BACKLOG_S = 3600
LIMIT_S = 50.0

_BINDINGS_SQL = """
INSERT INTO binding (key_hash, key_hint, first_used_at, last_used_at)
SELECT sha256(n::text::bytea), 'abcd…wxyz', now(), now() FROM generate_series(1, $1::integer) n
"""


class Kind(msgspec.Struct, frozen=True):
    name: str
    make: Callable[[int, float], Touch | Intercept]
    batch: int


class Rate(msgspec.Struct, frozen=True):
    """``cpu_us``: of worker and PostgreSQL together, by event; on a machine that others use it tells more."""

    per_s: float
    cpu_us: float


def _touch(number: int, at: float) -> Touch:
    return Touch(number.to_bytes(32), 1 + number * 7919 % BINDINGS, at, _address(number), 3)


def _intercept(number: int, at: float) -> Intercept:
    """Of another key and address each time."""
    return Intercept(
        os.urandom(16), at, (1 + number * 7919 % BINDINGS).to_bytes(32), "abcd…wxyz", _address(number),
        ("203.0.113.7/32",), Reason.KEY_BOUND_TO_OTHER_ADDRESS, True, "POST", "/v1/chat/completions",  # noqa: FBT003
        "OpenAI/Python 2.1", "gateway-1", 1, "127.0.0.1",
    )  # fmt: skip


def _flood(number: int, at: float) -> Intercept:
    """The same hundred keys and addresses again and again."""
    return msgspec.structs.replace(_intercept(number % 100, at), event_id=os.urandom(16))


def _address(number: int) -> str:
    return f"10.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


KINDS = (
    Kind("touches, full batches", _touch, 500),
    Kind("intercepts, full batches", _intercept, 500),
    Kind("intercepts, a flood", _flood, 100),
    Kind("intercepts, small batches", _intercept, 10),
)


@click.command()
@click.option("--events", default=100_000, show_default=True, help="in the backlog of each kind")
def command(events: int) -> None:
    """Measure how many events a second one worker ingests from a backlog."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
        Path(folder).chmod(0o755)  # the stores run as somebody else when root starts them
        with open_stores(Path(folder), fast=False) as stores:
            upgrade(stores.pg_dsn)
            rates = asyncio.run(_measure(stores.pg_dsn, stores.redis_url, events))
    table = Table("backlog", "events", "a batch", "events/s", "CPU µs/event", title="a backlog, drained by one worker")
    for kind, rate in rates:
        table.add_row(kind.name, f"{events:,}", str(kind.batch), f"{rate.per_s:,.0f}", f"{rate.cpu_us:.1f}")
    console = Console()
    console.print(table)
    met = "met" if min(rate.per_s for _, rate in rates) >= GOAL_PER_S else "NOT met"
    console.print(f"goal: {GOAL_PER_S:,} events/s of each kind: {met}", highlight=False)
    about = machine.describe()
    console.print(f"{about.at} · {about.cpu} · {about.cores} cores · load {os.getloadavg()[0]:.1f}", highlight=False)
    console.print(f"commit {about.commit} · Python {about.python}", highlight=False)


async def _measure(pg_dsn: str, redis_url: str, events: int) -> list[tuple[Kind, Rate]]:
    postgres = await Postgres.connect(pg_dsn)
    pg = await asyncpg.connect(pg_dsn)
    redis = connect(redis_url, timeout_s=6.0)
    try:
        await pg.execute(_BINDINGS_SQL, BINDINGS)
        rates = []
        for kind in KINDS:
            rates.append((kind, await _drained(kind, events, redis, postgres, pg)))
            print(f"{kind.name}: {rates[-1][1].per_s:,.0f} events/s", file=sys.stderr, flush=True)
        return rates
    finally:
        await redis.aclose()
        await pg.close()
        await postgres.aclose()


async def _drained(kind: Kind, events: int, redis: Redis, postgres: Postgres, pg: Any) -> Rate:
    await pg.execute("TRUNCATE intercept, ingest_batch")
    await pg.execute("UPDATE binding SET request_count = 0")
    await pg.execute("VACUUM ANALYZE")
    pipe: Any = redis.pipeline(transaction=False)
    for batch in _batches(kind, events):
        fields = {FIELD_ID: batch.batch_id, FIELD_BATCH: msgspec.msgpack.encode(batch)}
        pipe.xadd(keyspace.EVENTS_STREAM, fields)
    await pipe.execute()
    client: Any = redis
    ingest = Ingest(redis, postgres, alerts=Alerts(redis, postgres, Remembered(postgres, LiveSettings())))
    began = time.monotonic()
    used_s = await _cpu_s(pg)
    drain = asyncio.create_task(ingest.drain(LIMIT_S))
    while await client.xlen(keyspace.EVENTS_STREAM) and not drain.done():  # noqa: ASYNC110 - Redis tells nobody
        await asyncio.sleep(0.02)
    taken_s = time.monotonic() - began
    used_s = await _cpu_s(pg) - used_s
    drain.cancel()
    await asyncio.wait([drain])
    applied = await pg.fetchval(
        "SELECT (SELECT coalesce(sum(repeat_count), 0) FROM intercept)"
        " + (SELECT coalesce(sum(request_count), 0) / 3 FROM binding)"
    )
    if applied != events:
        sys.exit(f"ingest: {kind.name}: {applied} of {events} events were applied")
    return Rate(events / taken_s, used_s / events * 1_000_000)


async def _cpu_s(pg: Any) -> float:
    """Of this process, which is the worker here, and of its connections' processes at PostgreSQL."""
    pids = await pg.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'sentinel-worker'")
    return time.process_time() + sum(cpu_s(row["pid"]) or 0.0 for row in pids)


def _batches(kind: Kind, events: int) -> Iterator[EventBatch]:
    """What an hour left behind, the oldest first."""
    now = time.time()
    for start in range(0, events, kind.batch):
        at = now - BACKLOG_S * (1 - start / events)
        made = [kind.make(number, at) for number in range(start, min(start + kind.batch, events))]
        yield EventBatch(
            os.urandom(16),
            "gateway-1",
            at,
            tuple(event for event in made if isinstance(event, Intercept)),
            tuple(event for event in made if isinstance(event, Touch)),
        )


if __name__ == "__main__":
    command()
