"""What the gateways left in Redis: heartbeats, what they counted today, how long the event stream is.

Where it stands in the walk: `proxy_core.heartbeat` writes it; the controllers of gateways, dashboard and metrics read
it here. Raises StoreUnavailable, and nothing else, when Redis does not answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from admin_api.schemas.dashboard import Today
from admin_api.schemas.gateways import Gateways, GatewayView, StreamView, WorkerView
from proxy_core import keyspace
from proxy_core.contracts import Reason
from proxy_core.errors import StoreUnavailable
from proxy_core.heartbeat import BEAT_EVERY_S, Vitals

T = TypeVar("T")

ALIVE_S = 4 * BEAT_EVERY_S
"""Three heartbeats may be late or lost before a worker counts as gone."""

ASK_S = 2.0

_REASONS = frozenset(reason.value for reason in Reason)
_NAMED = ("requests", "allowed", "allowed_unbound", "observed", "bound")
_vitals = msgspec.msgpack.Decoder(Vitals)


class Worker(msgspec.Struct, frozen=True):
    """A worker's entry; ``vitals`` None when its last heartbeat has run out. ``seen_at``: Unix seconds by Redis."""

    name: str
    seen_at: float
    age_s: float
    vitals: Vitals | None

    @property
    def alive(self) -> bool:
        return self.vitals is not None and self.age_s <= ALIVE_S


async def workers(redis: Redis) -> list[Worker]:
    """Every worker that was alive within `keyspace.GATEWAY_REMEMBERED_S`, by gateway and process id."""
    client: Any = redis

    async def read() -> list[Worker]:
        pipe = client.pipeline(transaction=False)
        (seconds, microseconds), listed = await pipe.time().zrange(keyspace.GATEWAYS, 0, -1, withscores=True).execute()
        now = seconds + microseconds / 1_000_000
        recent = [(member, at) for member, at in listed if now - at <= keyspace.GATEWAY_REMEMBERED_S]
        names = [member.decode("utf-8", "replace") for member, _ in recent]
        values = await client.mget([keyspace.heartbeat(name) for name in names]) if names else []
        return [
            Worker(name.rpartition(":")[0], at, max(0.0, now - at), _read(value))
            for name, (_, at), value in zip(names, recent, values, strict=True)
        ]

    found = await _ask(read)
    return sorted(found, key=lambda worker: (worker.name, worker.vitals.pid if worker.vitals else 0))


async def stream(redis: Redis) -> StreamView:
    client: Any = redis

    async def read() -> StreamView:
        pipe = client.pipeline(transaction=False)
        pipe.xlen(keyspace.EVENTS_STREAM).xlen(keyspace.DEAD_LETTERS_STREAM)
        length, dead, oldest, now = await pipe.xrange(keyspace.EVENTS_STREAM, count=1).time().execute()
        try:
            pending = (await client.xpending(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP))["pending"]
        except ResponseError:  # nobody has read from it yet, so there is no group
            pending = 0
        return StreamView(length, pending, dead, _waiting_s(oldest, now))

    return await _ask(read)


async def today(redis: Redis, now: datetime) -> Today:
    """Zeros on a day on which nothing was counted yet."""
    client: Any = redis
    date = now.astimezone(UTC).strftime("%Y-%m-%d")
    stored = await _ask(lambda: client.hgetall(keyspace.day(date)))
    counts = {name.decode("utf-8", "replace"): int(count) for name, count in stored.items()}
    refused = {name: count for name, count in sorted(counts.items()) if name in _REASONS}
    unbound = counts.get("allowed_unbound", 0)
    return Today(
        date=date,
        requests=counts.get("requests", 0),
        allowed=counts.get("allowed", 0) + unbound,
        unbound=unbound,
        observed=counts.get("observed", 0),
        bound=counts.get("bound", 0),
        refused_total=sum(refused.values()),
        refused=refused,
        other={name: count for name, count in sorted(counts.items()) if name not in _NAMED and name not in _REASONS},
    )


def listed(found: list[Worker], events: StreamView) -> Gateways:
    """The workers by gateway."""
    by_name: dict[str, list[Worker]] = {}
    for worker in found:
        by_name.setdefault(worker.name, []).append(worker)
    return Gateways([_gateway(name, its) for name, its in sorted(by_name.items())], events)


def _gateway(name: str, its: list[Worker]) -> GatewayView:
    newest = max(its, key=lambda worker: worker.seen_at)
    alive = [(worker, worker.vitals) for worker in its if worker.alive and worker.vitals is not None]
    vitals = [each for _, each in alive]
    return GatewayView(
        name=name,
        alive=bool(alive),
        last_seen_at=datetime.fromtimestamp(newest.seen_at, UTC),
        age_s=round(newest.age_s, 3),
        versions=sorted({each.version for each in vitals}),
        settings_versions=sorted({each.settings_version for each in vitals}),
        workers_expected=max((each.workers for each in vitals), default=0),
        workers_alive=len(alive),
        open_exchanges=sum(each.open_exchanges for each in vitals),
        lag_events=sum(each.touches_pending + each.intercepts_pending for each in vitals),
        lag_batches=sum(each.batches_unconfirmed for each in vitals),
        spooled_bytes=sum(each.spooled_bytes for each in vitals),
        batches_dropped=sum(each.batches_dropped for each in vitals),
        workers=[_worker(worker, each) for worker, each in alive],
    )


def _worker(worker: Worker, vitals: Vitals) -> WorkerView:
    return WorkerView(
        pid=vitals.pid,
        version=vitals.version,
        started_at=datetime.fromtimestamp(vitals.started_at, UTC),
        age_s=round(worker.age_s, 3),
        draining=vitals.draining,
        settings_version=vitals.settings_version,
        open_exchanges=vitals.open_exchanges,
        redis_available=vitals.redis_available,
        postgresql_available=vitals.postgresql_available,
        touches_pending=vitals.touches_pending,
        intercepts_pending=vitals.intercepts_pending,
        batches_unconfirmed=vitals.batches_unconfirmed,
        batches_dropped=vitals.batches_dropped,
        spooled_bytes=vitals.spooled_bytes,
        counts=dict(sorted(vitals.counts.items())),
    )


def _waiting_s(oldest: list[tuple[bytes, Any]], now: tuple[int, int]) -> float:
    """What was applied is deleted, so the first entry is the oldest that was not; its id begins with the time in ms."""
    if not oldest:
        return 0.0
    since_ms = int(oldest[0][0].partition(b"-")[0])
    return round(max(0.0, now[0] + now[1] / 1_000_000 - since_ms / 1000), 3)


def _read(value: bytes | None) -> Vitals | None:
    try:
        return None if value is None else _vitals.decode(value)
    except msgspec.MsgspecError:  # of a version of Sentinel that says it in another way
        return None


async def _ask(question: Callable[[], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(ASK_S):
            return await question()
    except (RedisError, OSError) as fault:  # TimeoutError is an OSError
        raise StoreUnavailable(f"redis: {type(fault).__name__}") from fault
