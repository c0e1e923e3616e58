"""Event batches become rows: the one place that writes `intercept` rows and the counters of `binding` from events.

Where it stands in the walk: `ingest` reads batches from the stream and calls `apply_batches`.

Rules for whoever edits this file:

- Everything happens in one transaction with the batch's line in the ledger `ingest_batch`, so a batch is applied
  entirely or not at all, and never twice, however often it is delivered. What is not covered by that transaction (a
  counter in Redis, sending an alert) does not belong here.
- One advisory lock makes appliers take turns. Folding then sees every earlier row, and two appliers cannot lock
  bindings crosswise. The lock's holder is bounded by the server: a frozen worker loses its transaction, not our time.
- The statements take arrays: their number does not depend on the number of events.
"""

import socket
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from admin_api.alerts.raising import KEYS_SHOWN, Event, raise_on
from admin_api.jobs import reprieve
from admin_api.schemas.alerts import AlertKind
from proxy_core.contracts import EventBatch, Intercept, Reason, Touch

FOLD_WINDOW_S = 60.0
"""No two rows of identical intercepts (key, address, reason, enforced) are closer than this, in whatever order they
arrive: the later to arrive raises the other's repeat count. So a flood makes one row a minute, also when several
gateways' batches cross or a spool is replayed."""

LEDGER_KEEP_DAYS = 14
"""How long a batch's identity is remembered. `letters.check` refuses an older one: it cannot be told from a repeat."""

_TURN = 0x53454E54
"""The advisory lock's number: "SENT"."""

# A month's partition is young and without statistics when its first rows come in. Taken for empty, it would be read
# from end to end for every event, in a plan that is kept: ingestion would stand still under the first flood. The same
# would do an index that has all of a minute side by side, so `_INTERCEPTS_SQL` compares reasons in words that no index
# knows.
_BOUNDS_SQL = """
SELECT set_config('enable_seqscan', 'off', true),
       set_config('lock_timeout', '5s', true),
       set_config('idle_in_transaction_session_timeout', '5s', true),
       set_config('statement_timeout', '15s', true)
"""

_LEDGER_SQL = """
INSERT INTO ingest_batch (batch_id, applied_at)
SELECT DISTINCT batch_id, now() FROM unnest($1::bytea[]) AS given (batch_id)
ON CONFLICT (batch_id) DO NOTHING
RETURNING batch_id
"""

_INTERCEPTS_SQL = """
WITH incoming AS MATERIALIZED (
    SELECT event_id, at, key_hash, key_hint, client::inet, bound_networks, reason,
           enforced, method, path, user_agent, gateway, repeat_count, peer::inet
    FROM unnest($1::bytea[], $2::timestamptz[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::boolean[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[])
        AS given (event_id, at, key_hash, key_hint, client, bound_networks, reason,
                  enforced, method, path, user_agent, gateway, repeat_count, peer)
), earlier AS MATERIALIZED (
    SELECT i.event_id, i.repeat_count, e.event_id AS into_id, e.at AS into_at
    FROM incoming i
    CROSS JOIN LATERAL (
        SELECT r.event_id, r.at FROM intercept r
        WHERE r.key_hash = i.key_hash AND r.client = i.client
          AND r.reason IS NOT DISTINCT FROM i.reason AND r.enforced = i.enforced
          AND r.at > i.at - $15::interval AND r.at < i.at + $15::interval
        ORDER BY r.at LIMIT 1
    ) e
), folded AS (
    UPDATE intercept r SET repeat_count = r.repeat_count + f.repeats
    FROM (SELECT into_id, into_at, sum(repeat_count)::bigint AS repeats FROM earlier GROUP BY 1, 2) f
    WHERE r.event_id = f.into_id AND r.at = f.into_at
)
INSERT INTO intercept (event_id, at, key_hash, key_hint, client, bound_networks, reason,
                       enforced, method, path, user_agent, gateway, repeat_count, peer)
SELECT event_id, at, key_hash, key_hint, client, string_to_array(bound_networks, ' ')::cidr[], reason,
       enforced, method, path, user_agent, gateway, repeat_count, peer
FROM incoming WHERE event_id NOT IN (SELECT event_id FROM earlier)
ON CONFLICT DO NOTHING
"""

_INTERCEPT_COUNTS_SQL = """
WITH given AS (
    SELECT * FROM unnest($1::bytea[], $2::bigint[]) AS given (key_hash, intercepts)
), locked AS MATERIALIZED (
    SELECT b.id, g.intercepts FROM binding b JOIN given g USING (key_hash) ORDER BY b.id FOR NO KEY UPDATE OF b
)
UPDATE binding b SET intercept_count = b.intercept_count + l.intercepts FROM locked l WHERE b.id = l.id
"""

# `jobs.alerts` raises the alert; until its cool-down is over it counts what comes.
_ALERT_COUNTS_SQL = """
UPDATE alert a SET enforced_count = a.enforced_count + g.enforced, observed_count = a.observed_count + g.observed,
    last_at = greatest(a.last_at, g.last_at)
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS g (key_hash, enforced, observed, last_at)
WHERE a.key_hash = g.key_hash AND a.kind = 'key_intercepted' AND a.quiet_until > now()
"""

_TOUCHES_SQL = """
WITH given AS (
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::bigint[])
        AS given (id, last_used_at, last_ip, requests)
), locked AS MATERIALIZED (
    SELECT b.id, g.last_used_at, g.last_ip::inet, g.requests FROM binding b JOIN given g USING (id)
    ORDER BY b.id FOR NO KEY UPDATE OF b
)
UPDATE binding b SET
    request_count = b.request_count + l.requests,
    last_ip = CASE WHEN b.last_ip IS NULL OR l.last_used_at >= b.last_used_at THEN l.last_ip ELSE b.last_ip END,
    last_used_at = greatest(b.last_used_at, l.last_used_at)
FROM locked l WHERE b.id = l.id
"""

# Nothing was counted of them yet; only the turn's holder counts.
_NEW_SQL = """
SELECT b.id, b.key_hash, b.key_hint FROM binding b
WHERE b.id = ANY ($1::bigint[]) AND b.request_count = 0
    AND EXISTS (SELECT FROM binding_network n WHERE n.binding_id = b.id AND n.source = 'first_use')
ORDER BY b.id
"""


_PRUNE_SQL = """
DELETE FROM ingest_batch WHERE batch_id IN (
    SELECT batch_id FROM ingest_batch WHERE applied_at < now() - $1::interval ORDER BY applied_at LIMIT $2
)
"""

CONTENT_FAULTS = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""What asyncpg or PostgreSQL raise when they understand a statement but not a value in it."""


class Applied(msgspec.Struct, frozen=True):
    """What one call changed; repeats of batches that were applied before change nothing and are not counted."""

    batches: int
    intercepts: int
    touches: int


async def apply_batches(connection: "asyncpg.Connection[asyncpg.Record]", batches: Sequence[EventBatch]) -> Applied:
    """One transaction. Raises asyncpg's errors, and then nothing was applied."""
    async with connection.transaction():
        await take_turn(connection)
        new = await connection.fetch(_LEDGER_SQL, [batch.batch_id for batch in batches])
        waiting = {record["batch_id"] for record in new}
        fresh: list[EventBatch] = []
        for batch in batches:  # the same batch may be among them twice
            if batch.batch_id in waiting:
                waiting.remove(batch.batch_id)
                fresh.append(batch)
        intercepts = [intercept for batch in fresh for intercept in batch.intercepts]
        touches = [touch for batch in fresh for touch in batch.touches]
        if intercepts:
            await _insert(connection, fold(intercepts))
            await _count(connection, intercepts)
        if touches:
            await _tell_new(connection, touches)
            await _touch_or_give_back(connection, coalesce(touches))
    return Applied(len(fresh), sum(event.repeat_count for event in intercepts), len(touches))


async def take_turn(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Until the transaction ends nobody else applies; what the tables say of intercepts stands still."""
    await connection.execute(_BOUNDS_SQL)
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)


def fold(intercepts: Iterable[Intercept]) -> list[Intercept]:
    """Identical ones within the window become the earliest of them with the sum of their repeat counts."""
    first: dict[tuple[bytes, str, str, bool], Intercept] = {}
    rows: dict[bytes, Intercept] = {}
    for event in sorted(intercepts, key=lambda event: event.at):
        alike = (event.fingerprint, event.client, event.reason, event.enforced)
        into = first.get(alike)
        if into is None or event.at - into.at >= FOLD_WINDOW_S:
            first[alike] = into = event
        else:
            into = msgspec.structs.replace(into, repeat_count=into.repeat_count + event.repeat_count)
            first[alike] = into
        rows[into.event_id] = into
    return list(rows.values())


def coalesce(touches: Iterable[Touch]) -> list[Touch]:
    """One touch a binding: the latest use, the sum of the requests."""
    latest: dict[int, Touch] = {}
    for touch in touches:
        known = latest.get(touch.binding_id)
        if known is not None:
            later = touch if touch.last_used_at >= known.last_used_at else known
            touch = msgspec.structs.replace(later, requests=known.requests + touch.requests)  # noqa: PLW2901 - the fold
        latest[touch.binding_id] = touch
    return list(latest.values())


async def prune_ledger(connection: "asyncpg.Connection[asyncpg.Record]", at_most: int) -> int:
    """Forgets up to ``at_most`` batches applied longer ago than `LEDGER_KEEP_DAYS`; returns how many."""
    status: str = await connection.execute(_PRUNE_SQL, timedelta(days=LEDGER_KEEP_DAYS), at_most)
    return int(status.rpartition(" ")[2])


async def _insert(connection: "asyncpg.Connection[asyncpg.Record]", rows: Sequence[Intercept]) -> None:
    await connection.execute(
        _INTERCEPTS_SQL,
        [row.event_id for row in rows],
        [moment(row.at) for row in rows],
        [row.fingerprint for row in rows],
        [row.hint for row in rows],
        [row.client for row in rows],
        [" ".join(row.bound_networks) for row in rows],
        [row.reason.value for row in rows],
        [row.enforced for row in rows],
        [row.method for row in rows],
        [row.path for row in rows],
        [row.user_agent for row in rows],
        [row.gateway for row in rows],
        [row.repeat_count for row in rows],
        [_address(row.peer) for row in rows],
        timedelta(seconds=FOLD_WINDOW_S),
    )


async def _count(connection: "asyncpg.Connection[asyncpg.Record]", events: Sequence[Intercept]) -> None:
    counts: dict[bytes, int] = {}
    for event in events:
        counts[event.fingerprint] = counts.get(event.fingerprint, 0) + event.repeat_count
    await connection.execute(_INTERCEPT_COUNTS_SQL, list(counts), list(counts.values()))
    await _count_for_alerts(connection, [each for each in events if each.reason is Reason.KEY_BOUND_TO_OTHER_ADDRESS])


async def _count_for_alerts(connection: "asyncpg.Connection[asyncpg.Record]", events: Sequence[Intercept]) -> None:
    enforced: dict[bytes, int] = {}
    observed: dict[bytes, int] = {}
    last_at: dict[bytes, float] = {}
    for event in events:
        counts = enforced if event.enforced else observed
        counts[event.fingerprint] = counts.get(event.fingerprint, 0) + event.repeat_count
        last_at[event.fingerprint] = max(event.at, last_at.get(event.fingerprint, 0.0))
    if last_at:
        await connection.execute(
            _ALERT_COUNTS_SQL,
            list(last_at),
            [enforced.get(key, 0) for key in last_at],
            [observed.get(key, 0) for key in last_at],
            [moment(at) for at in last_at.values()],
        )


async def _tell_new(connection: "asyncpg.Connection[asyncpg.Record]", touches: Sequence[Touch]) -> None:
    """One alert for all keys that got their owner by a first use, where somebody wants to know.

    That a binding is new is seen by its first counted requests: gateways send no event for it, and they always send
    that it was used.
    """
    bound = await connection.fetch(_NEW_SQL, list({touch.binding_id for touch in touches}))
    if not bound:
        return
    one = bound[0] if len(bound) == 1 else None
    keys = [{"binding_id": row["id"], "hint": row["key_hint"]} for row in bound[:KEYS_SHOWN]]
    event = Event(
        AlertKind.BINDING_CREATED,
        {"count": len(bound), "keys": keys},
        hint=one["key_hint"] if one else "",
        binding_id=one["id"] if one else None,
        fingerprint=one["key_hash"] if one else None,
        if_wanted=True,
    )
    await raise_on(connection, event)


async def _touch_or_give_back(connection: "asyncpg.Connection[asyncpg.Record]", touches: Sequence[Touch]) -> None:
    """A binding that is not there may have been archived while this use of it was on its way."""
    if await _touch(connection, touches) < len(touches):
        back = await reprieve.give_back(connection, touches)
        await _touch(connection, [touch for touch in touches if touch.binding_id in back])


async def _touch(connection: "asyncpg.Connection[asyncpg.Record]", touches: Sequence[Touch]) -> int:
    """How many of the bindings are there."""
    status: str = await connection.execute(
        _TOUCHES_SQL,
        [touch.binding_id for touch in touches],
        [moment(touch.last_used_at) for touch in touches],
        [touch.last_ip for touch in touches],
        [touch.requests for touch in touches],
    )
    return int(status.rpartition(" ")[2])


def addressed(text: str) -> None:
    """Raises ValueError or OSError for what is none. A fifth of what `ipaddress` takes, which every event would pay."""
    socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _address(text: str) -> str | None:
    """None for what is none: no intercept is lost for want of its peer. Of a link-local one the zone stays away."""
    try:
        address = text.partition("%")[0]
        addressed(address)
    except (ValueError, OSError):
        return None
    return address


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
