"""Keys that are intercepted often enough to tell somebody: counted in Redis, decided in PostgreSQL.

Where it stands in the walk: `ingest` calls `notice` with batches whose rows are committed, before it confirms them.
Whatever dies in between, the batches come again, `apply` passes over them, and they are noticed again: so no alert is
lost between a commit and its count, and each part here bears being repeated.

How a key comes to its alert:

- Redis counts, in a window that slides with the time of the events themselves (a replayed spool is judged as if it had
  come in time). A batch is counted once: the mark of its identity lies in the same Redis, and is lost with the count.
  Refused and observed requests count alike; a banned key's do not, since that it is used is no news.
- From the threshold on PostgreSQL is asked: is there no alert of the key whose cool-down still runs, and are there as
  many intercepts in the log? Then there is a new one, with what the log says, and a delivery for each target. This is
  serial with `apply`, which lets the counts of an alert grow in its own transaction, so each intercept counts once.

Losing Redis forgets how far keys had come to the threshold, and nothing else: what is told and what has to be quiet
lies in PostgreSQL.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from admin_api.alerts.raising import DELIVER
from admin_api.jobs import apply
from admin_api.jobs import live as live_settings
from admin_api.jobs.live import Remembered
from admin_api.jobs.postgres import Connection, Postgres
from admin_api.schemas.alerts import ADDRESSES_SHOWN
from proxy_core import keyspace
from proxy_core.contracts import EventBatch, LiveSettings, Reason

log = structlog.get_logger(__name__)

BUCKETS = 60
"""Pieces of a window: it is longer than the setting says by one of these at most."""

LIMIT_S = 20.0
PRUNE_AT_ONCE = 1_000
PRUNE_LIMIT_S = 60.0

COUNT = """
-- KEYS mark of the batch, window of each key
-- ARGV lifetime of the mark in s, of a window in s, buckets in a window, then for each window how many buckets follow,
--      and for each of those its number and how many intercepts
-- Returns of each key how many there were within a window that ends with its last bucket.
local new = redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[1])
local size = tonumber(ARGV[3])
local place = 4
local totals = {}
for number = 2, #KEYS do
    local last = 0
    local buckets = tonumber(ARGV[place])
    for _ = 1, buckets do
        local bucket = tonumber(ARGV[place + 1])
        if new then redis.call('HINCRBY', KEYS[number], bucket, ARGV[place + 2]) end
        last = math.max(last, bucket)
        place = place + 2
    end
    place = place + 1
    if new then redis.call('EXPIRE', KEYS[number], ARGV[2]) end
    local total = 0
    local held = redis.call('HGETALL', KEYS[number])
    for at = 1, #held, 2 do
        local bucket = tonumber(held[at])
        if bucket > last - size then
            total = total + tonumber(held[at + 1])
        elseif bucket <= last - 2 * size then
            redis.call('HDEL', KEYS[number], held[at])
        end
    end
    totals[number - 1] = total
end
return totals
"""


class Key(msgspec.Struct, frozen=True):
    """A key whose window is full; ``until``: Unix seconds of its last intercept."""

    fingerprint: bytes
    until: float


class Count(msgspec.Struct, frozen=True):
    """What `COUNT` is asked of one batch; ``until`` is that of each key, in the order of the windows."""

    names: list[str]
    arguments: list[int]
    until: dict[bytes, float]


class Alerts:
    """One a process."""

    def __init__(self, redis: Redis, postgres: Postgres, live: Remembered) -> None:
        self._redis = redis
        self._count = redis.register_script(COUNT)
        self._postgres = postgres
        self._live = live

    async def notice(self, batches: Iterable[EventBatch]) -> int:
        """How many alerts were raised. Raises Redis' errors and `postgres.FAILURES`: then it is to be repeated."""
        live = await self._live.current()
        if not live.alert_threshold_count:
            return 0
        full: dict[bytes, float] = {}
        for key in await self._full(batches, live):
            full[key.fingerprint] = max(key.until, full.get(key.fingerprint, 0.0))
        if not full:
            return 0
        raised = await raise_intercepted(self._postgres, [Key(*item) for item in full.items()], live)
        if raised:
            log.warning("alerts raised", alerts=raised)
        return raised

    async def _full(self, batches: Iterable[EventBatch], live: LiveSettings) -> list[Key]:
        """One turn around to Redis for all of them: small batches are many."""
        counts = [count for batch in batches if (count := _count_of(batch, live)).until]
        if not counts:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for count in counts:
                await self._count(count.names, count.arguments, client=pipe)
            answers = await pipe.execute()
        return [
            Key(fingerprint, until)
            for count, totals in zip(counts, answers, strict=True)
            for (fingerprint, until), total in zip(count.until.items(), totals, strict=True)
            if total >= live.alert_threshold_count
        ]


def _count_of(batch: EventBatch, live: LiveSettings) -> Count:
    width_s = max(1, -(-live.alert_threshold_s // BUCKETS))
    counted: dict[bytes, dict[int, int]] = {}
    until: dict[bytes, float] = {}
    for event in batch.intercepts:
        if event.reason is Reason.KEY_BOUND_TO_OTHER_ADDRESS:
            buckets = counted.setdefault(event.fingerprint, {})
            bucket = int(event.at) // width_s
            buckets[bucket] = buckets.get(bucket, 0) + event.repeat_count
            until[event.fingerprint] = max(event.at, until.get(event.fingerprint, 0.0))
    arguments = [keyspace.ALERT_COUNTED_TTL_S, 2 * width_s * BUCKETS, -(-live.alert_threshold_s // width_s)]
    for buckets in counted.values():
        arguments += [len(buckets), *(number for item in buckets.items() for number in item)]
    windows = [keyspace.alert_window(width_s, each) for each in counted]
    return Count([keyspace.alert_counted(batch.batch_id), *windows], arguments, until)


async def raise_intercepted(postgres: Postgres, keys: Sequence[Key], live: LiveSettings) -> int:
    """Alerts of those keys that are not in their cool-down. Raises `postgres.FAILURES`."""
    fingerprints = [key.fingerprint for key in keys]

    async def work(connection: Connection) -> int:
        # In a flood nearly every batch comes here, and nearly always its keys have their alert.
        if not await connection.fetchval(_ANY_NOT_QUIET_SQL, fingerprints):
            return 0
        async with connection.transaction():
            await apply.take_turn(connection)
            raised: int = await connection.fetchval(_RAISE_SQL, *_parameters(keys, live))
            return raised

    return await postgres.run(work, limit_s=LIMIT_S)


async def prune(postgres: Postgres, initial: LiveSettings) -> None:
    """Alerts are kept as long as the intercepts that they tell of; what is still to be delivered stays.

    Raises `postgres.FAILURES`, and MsgspecError for settings that cannot be read.
    """

    async def work(connection: Connection) -> int:
        days = (await live_settings.settings(connection, initial)).log_retention_days
        if not days:
            return 0
        pruned: int = await connection.fetchval(_PRUNE_SQL, timedelta(days=days), PRUNE_AT_ONCE)
        return pruned

    while await postgres.run(work, limit_s=PRUNE_LIMIT_S) == PRUNE_AT_ONCE:
        pass


def _parameters(keys: Sequence[Key], live: LiveSettings) -> list[Any]:
    # A row stands for a minute's intercepts and bears the time of the first.
    reach = timedelta(seconds=live.alert_threshold_s + apply.FOLD_WINDOW_S)
    return [
        [key.fingerprint for key in keys],
        [datetime.fromtimestamp(key.until, UTC) for key in keys],
        reach,
        Reason.KEY_BOUND_TO_OTHER_ADDRESS.value,
        live.alert_threshold_count,
        timedelta(seconds=live.alert_cooldown_s),
        ADDRESSES_SHOWN,
    ]


_QUIET = "a.kind = 'key_intercepted' AND a.quiet_until > now()"

_ANY_NOT_QUIET_SQL = f"""
SELECT EXISTS (
    SELECT FROM unnest($1::bytea[]) AS given (key_hash)
    WHERE NOT EXISTS (SELECT FROM alert a WHERE a.key_hash = given.key_hash AND {_QUIET})
)
"""  # noqa: S608 - closed texts

# What an earlier alert has told is not told again; so without a cool-down an alert needs new rows.
_RAISE_SQL = f"""
WITH open AS MATERIALIZED (
    SELECT key_hash, greatest(until - $3::interval, (
        SELECT max(a.last_at) FROM alert a WHERE a.key_hash = given.key_hash AND a.kind = 'key_intercepted'
    )) AS beyond
    FROM unnest($1::bytea[], $2::timestamptz[]) AS given (key_hash, until)
    WHERE NOT EXISTS (SELECT FROM alert a WHERE a.key_hash = given.key_hash AND {_QUIET})
), by_address AS (
    SELECT i.key_hash, i.client, sum(i.repeat_count) AS count, min(i.at) AS since, max(i.at) AS last_at,
        coalesce(sum(i.repeat_count) FILTER (WHERE i.enforced), 0) AS enforced,
        row_number() OVER (PARTITION BY i.key_hash ORDER BY sum(i.repeat_count) DESC, i.client) AS place
    FROM open o JOIN intercept i ON i.key_hash = o.key_hash AND i.at > o.beyond
    WHERE i.reason = $4
    GROUP BY i.key_hash, i.client
), told AS (
    SELECT key_hash, min(since) AS since, max(last_at) AS last_at, sum(enforced)::bigint AS enforced,
        sum(count - enforced)::bigint AS observed, count(*) AS address_count,
        jsonb_agg(jsonb_build_object('address', host(client), 'count', count) ORDER BY place)
            FILTER (WHERE place <= $7::bigint) AS addresses
    FROM by_address GROUP BY key_hash HAVING sum(count) >= $5::bigint
), raised AS (
    INSERT INTO alert (kind, key_hash, key_hint, binding_id, enforced_count, observed_count, since, last_at,
        quiet_until, facts)
    SELECT 'key_intercepted', t.key_hash, newest.key_hint, b.id, t.enforced, t.observed, t.since, t.last_at,
        now() + $6::interval, jsonb_build_object(
            'addresses', t.addresses, 'address_count', t.address_count, 'bound_networks', newest.networks,
            'enforced_count', t.enforced, 'observed_count', t.observed, 'since', t.since)
    FROM told t
    CROSS JOIN LATERAL (
        SELECT i.key_hint, to_jsonb(i.bound_networks::text[]) AS networks
        FROM intercept i WHERE i.key_hash = t.key_hash AND i.reason = $4 ORDER BY i.at DESC LIMIT 1
    ) newest
    LEFT JOIN binding b ON b.key_hash = t.key_hash
    RETURNING id, kind
), sent AS ({DELIVER})
SELECT count(*) FROM raised
"""  # noqa: S608 - closed texts

_PRUNE_SQL = """
WITH old AS (
    DELETE FROM alert WHERE id IN (
        SELECT a.id FROM alert a WHERE a.raised_at < now() - $1::interval
            AND NOT EXISTS (SELECT FROM alert_delivery d WHERE d.alert_id = a.id AND d.state = 'pending')
        ORDER BY a.raised_at LIMIT $2
    ) RETURNING id
)
SELECT count(*) FROM old
"""
