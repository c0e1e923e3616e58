"""The roll-up: what gateways counted in Redis by the hour becomes rows that stay.

Where it stands in the walk: gateways' `heartbeat` and `ingest` (`distinct`) write hours to Redis; here they become rows
of `hourly_metric` and `distinct_metric`, once a minute; `repositories.history` reads those.

Rules for whoever edits this file:

- All hours that Redis has are looked at each time, so a minute that is missed, or days of them, is caught up.
- Whoever rolls up holds a lock while he looks at Redis and until he committed: two at once take turns, and the later
  one has the later figures. A figure that is lower than its row all the same was lost by Redis: the row keeps it, and
  the hour is marked in Redis as one that lost something.
- An hour whose counters Redis lost and began anew has another epoch, and thus another row: both count.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from admin_api.jobs.postgres import Connection, Postgres
from proxy_core import keyspace
from proxy_core.contracts import INTERCEPTS, Reason
from proxy_core.heartbeat import EPOCH, LOST, OPEN
from proxy_core.histogram import BUCKETS
from proxy_core.tally import ADDED_TIME, BYTES_IN, BYTES_OUT

log = structlog.get_logger(__name__)

KEEP_DAYS = 400
LIMIT_S = 30.0
HOUR = timedelta(hours=1)

_TURN = 0x524F4C4C
"""The advisory lock's number: "ROLL"."""

_ERRORS = frozenset(reason.value for reason in Reason if reason not in INTERCEPTS) | {"response_broken"}

_BOUNDS_SQL = """
SELECT set_config('lock_timeout', '10s', true),
       set_config('idle_in_transaction_session_timeout', '10s', true),
       set_config('statement_timeout', '15s', true)
"""

_STORED_SQL = "SELECT * FROM hourly_metric WHERE at >= $1"

_PUT_SQL = """
INSERT INTO hourly_metric (at, part, requests, allowed, intercepted, observed, claims, errors, bytes_in, bytes_out,
                           added_time, partial)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (at, part) DO UPDATE SET requests = excluded.requests, allowed = excluded.allowed,
    intercepted = excluded.intercepted, observed = excluded.observed, claims = excluded.claims,
    errors = excluded.errors, bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out,
    added_time = excluded.added_time, partial = excluded.partial
"""

_PUT_DISTINCT_SQL = """
INSERT INTO distinct_metric (step, at, keys, addresses) VALUES ($1, $2, $3, $4)
ON CONFLICT (step, at) DO UPDATE SET keys = greatest(distinct_metric.keys, excluded.keys),
    addresses = greatest(distinct_metric.addresses, excluded.addresses)
WHERE distinct_metric.keys < excluded.keys OR distinct_metric.addresses < excluded.addresses
"""

_PRUNE_SQL = ("DELETE FROM hourly_metric WHERE at < $1", "DELETE FROM distinct_metric WHERE at < $1")


class Figures(msgspec.Struct, frozen=True):
    """One hour since its counters began. ``added_time``: buckets of `proxy_core.histogram`."""

    requests: int
    allowed: int
    intercepted: int
    observed: int
    claims: int
    errors: dict[str, int]
    bytes_in: int
    bytes_out: int
    added_time: list[int]
    partial: bool

    def over(self, stored: "Figures") -> "Figures":
        """The higher of each; ``partial`` as it is known now."""
        old, new = msgspec.structs.asdict(stored), msgspec.structs.asdict(self)
        return Figures(**{name: _higher(new[name], old[name]) for name in new} | {"partial": self.partial})


class Seen(msgspec.Struct, frozen=True):
    """How many different ones an hour or day saw."""

    step: str
    at: datetime
    keys: int
    addresses: int


class Counted(msgspec.Struct, frozen=True):
    """What Redis has. ``hours``: by their beginning and epoch."""

    hours: dict[tuple[datetime, str], Figures]
    seen: list[Seen]


async def roll_up(redis: Redis, postgres: Postgres, now: datetime) -> int:
    """Returns how many hours have new figures. Idempotent. Raises `postgres.FAILURES` and RedisError."""

    client: Any = redis  # its answers are typed as "awaitable or not"

    async def work(connection: Connection) -> int:
        async with connection.transaction():
            await connection.execute(_BOUNDS_SQL)
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)
            counted = await _read(redis, now)
            changed, lowered = _compare(counted.hours, await _stored(connection, now))
            for at in lowered:
                await client.hset(keyspace.hour(_name(at)), LOST, "1")
            await connection.executemany(_PUT_SQL, [_row(*place, hour) for place, hour in changed.items()])
            distinct = [(seen.step, seen.at, seen.keys, seen.addresses) for seen in counted.seen]
            await connection.executemany(_PUT_DISTINCT_SQL, distinct)
            for statement in _PRUNE_SQL:
                await connection.execute(statement, now - timedelta(days=KEEP_DAYS))
            return len(changed)

    return await postgres.run(work, limit_s=LIMIT_S)


# --- what Redis has --------------------------------------------------------------------------------------------------


async def _read(redis: Redis, now: datetime) -> Counted:
    current = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [current - back * HOUR for back in range(keyspace.HOUR_TTL_S // 3600)]
    days: dict[datetime, list[str]] = {}
    for at in hours:
        days.setdefault(at.replace(hour=0), []).append(_name(at))
    spans = [("hour", at, [_name(at)]) for at in hours] + [("day", at, names) for at, names in days.items()]
    pipe: Any = redis.pipeline(transaction=False)
    for at in hours:
        pipe.hgetall(keyspace.hour(_name(at)))
    for name_of in (keyspace.keys_seen, keyspace.addresses_seen):
        for _, _, names in spans:
            pipe.pfcount(*map(name_of, names))
    answers = await pipe.execute()
    stored, distinct = answers[: len(hours)], answers[len(hours) :]
    counts = zip(spans, distinct[: len(spans)], distinct[len(spans) :], strict=True)
    return Counted(
        {
            (at, fields[EPOCH.encode()].decode()): figures(fields)
            for at, fields in zip(hours, stored, strict=True)
            if EPOCH.encode() in fields
        },
        [Seen(step, at, keys, addresses) for (step, at, _), keys, addresses in counts if keys or addresses],
    )


def _name(at: datetime) -> str:
    return keyspace.hour_name(at.timestamp())


def figures(fields: Mapping[bytes, bytes]) -> Figures:
    """An hour as gateways left it in Redis; fields of other versions are passed over."""
    marks = [name for name in fields if name.startswith(OPEN.encode()) or name == LOST.encode()]
    counts = {name.decode(): int(value) for name, value in fields.items() if not name.startswith(b"=")}
    return Figures(
        requests=counts.get("requests", 0),
        allowed=counts.get("allowed", 0) + counts.get("allowed_unbound", 0),
        intercepted=sum(counts.get(reason.value, 0) for reason in INTERCEPTS),
        observed=counts.get("observed", 0),
        claims=counts.get("bound", 0),
        errors={name: count for name, count in sorted(counts.items()) if name in _ERRORS},
        bytes_in=counts.get(BYTES_IN, 0),
        bytes_out=counts.get(BYTES_OUT, 0),
        added_time=[counts.get(f"{ADDED_TIME}{bucket}", 0) for bucket in range(BUCKETS)],
        partial=bool(marks),
    )


# --- what PostgreSQL has ---------------------------------------------------------------------------------------------


async def _stored(connection: Connection, now: datetime) -> dict[tuple[datetime, str], Figures]:
    rows = await connection.fetch(_STORED_SQL, now - timedelta(seconds=keyspace.HOUR_TTL_S) - HOUR)
    return {
        (row["at"], row["part"]): Figures(
            **{name: row[name] for name in Figures.__struct_fields__ if name != "errors"},
            errors=msgspec.json.decode(row["errors"]),
        )
        for row in rows
    }


def _compare(
    counted: Mapping[tuple[datetime, str], Figures], stored: Mapping[tuple[datetime, str], Figures]
) -> tuple[dict[tuple[datetime, str], Figures], list[datetime]]:
    """The rows to write, and the hours of which Redis has less than it had."""
    changed: dict[tuple[datetime, str], Figures] = {}
    lowered: list[datetime] = []
    for place, fresh in counted.items():
        known = stored.get(place)
        hour = fresh if known is None else fresh.over(known)
        if hour != fresh:
            lowered.append(place[0])
            hour = msgspec.structs.replace(hour, partial=True)
        if hour != known:
            changed[place] = hour
    return changed, lowered


def _row(at: datetime, part: str, hour: Figures) -> Sequence[object]:
    values = msgspec.structs.asdict(hour) | {"errors": msgspec.json.encode(hour.errors).decode()}
    return at, part, *(values[name] for name in Figures.__struct_fields__)


def _higher(one: Any, other: Any) -> Any:
    """Of numbers the higher one, of lists and dictionaries of them one by one."""
    if isinstance(one, dict):
        return {name: max(one.get(name, 0), other.get(name, 0)) for name in sorted(one | other)}
    return [max(pair) for pair in zip(one, other, strict=True)] if isinstance(one, list) else max(one, other)
