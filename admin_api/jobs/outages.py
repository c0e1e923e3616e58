"""Stores that are away for long, noticed by the worker and told: as alerts where they can be stored, at once if not.

Where it stands in the walk: `worker` lets it look every few seconds, beside the jobs, since these stand still without
Redis.

- Redis is away: the alert is stored in PostgreSQL, and delivered from here meanwhile, as everything else that is due.
- PostgreSQL is away: nothing can be stored. The targets that were enabled when it answered last are told once, by one
  worker if Redis can say which; nothing is tried again. Its recovery is an alert like others, with the span, and that
  is delivered for hours. A worker that was started meanwhile knows no targets, and tells the recovery only.

Of several workers that notice the same the first stores it; the others find it there.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from admin_api.alerts.messages import Alert
from admin_api.alerts.raising import DELIVER
from admin_api.alerts.sending import Sender, Target
from admin_api.jobs.deliveries import AT_ONCE, Deliveries
from admin_api.jobs.postgres import FAILURES, Connection, Postgres
from admin_api.schemas.alerts import AlertKind
from proxy_core import keyspace

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
AWAY_S = 30.0
"""A restart of a store is no outage."""

ASK_S = 3.0
REMEMBER_EVERY_S = 30.0
REDIS, POSTGRESQL = "redis", "postgresql"


class _Store:
    """``since``: Unix seconds of the first question without an answer, None while it answers."""

    __slots__ = ("name", "since", "told")

    def __init__(self, name: str) -> None:
        self.name = name
        self.since: float | None = None
        self.told = False

    def seen(self, *, answers: bool, now: float) -> None:
        if not answers and self.since is None:
            self.since = now


class Outages:
    """One a process, with connections of its own: jobs that hold all others are no outage."""

    def __init__(
        self,
        redis: Redis,
        postgres: Postgres,
        deliveries: Deliveries,
        sender: Sender,
        *,
        away_s: float = AWAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._deliveries = deliveries
        self._sender = sender
        self._away_s = away_s
        self._clock = clock
        self._stores = {REDIS: _Store(REDIS), POSTGRESQL: _Store(POSTGRESQL)}
        self._targets: list[Target] = []
        self._remember_at = 0.0

    async def look(self) -> None:
        """Raises nothing for a store that is away, or goes away meanwhile."""
        answers = dict(
            zip((REDIS, POSTGRESQL), await asyncio.gather(self._redis_answers(), self._postgres_answers()), strict=True)
        )
        for store in self._stores.values():
            store.seen(answers=answers[store.name], now=self._clock())
        if answers[POSTGRESQL]:
            try:
                await self._with_postgres(answers)
            except FAILURES:
                log.debug("postgresql went away while stores were looked at")
        else:
            await self._without_postgres()

    async def _with_postgres(self, answers: dict[str, bool]) -> None:
        now = self._clock()
        for store in self._stores.values():
            if store.since is None:
                continue
            long = now - store.since >= self._away_s
            if answers[store.name]:
                if store.told or long:
                    await self._store(AlertKind.STORE_RECOVERED, store, now)
                store.since, store.told = None, False
            elif long and not store.told:
                await self._store(AlertKind.STORE_OUTAGE, store, now)
                store.told = True
        if not answers[REDIS]:  # no jobs run
            due = await self._deliveries.due()
            await asyncio.gather(*(self._deliveries.deliver(each.id) for each in due[:AT_ONCE]))
        if now >= self._remember_at:
            self._targets = await self._postgres.run(_targets, limit_s=ASK_S)
            self._remember_at = now + REMEMBER_EVERY_S

    async def _without_postgres(self) -> None:
        store = self._stores[POSTGRESQL]
        now = self._clock()
        if store.told or store.since is None or now - store.since < self._away_s:
            return
        store.told = True
        if not self._targets or not await self._first(store):
            return
        alert = Alert(uuid.uuid4().hex, AlertKind.STORE_OUTAGE, datetime.fromtimestamp(now, UTC), facts=_facts(store))
        for target in self._targets:
            result = await self._sender.send(target, alert)
            log.warning("outage of postgresql told", target_kind=target.kind.value, outcome=result.outcome.value)

    async def _store(self, kind: AlertKind, store: _Store, now: float) -> None:
        assert store.since is not None  # noqa: S101 - the callers looked
        since, until = datetime.fromtimestamp(store.since, UTC), datetime.fromtimestamp(now, UTC)
        facts = _facts(store, seconds=round(now - store.since) if kind is AlertKind.STORE_RECOVERED else None)

        async def work(connection: Connection) -> int:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sentinel:outages'))")
                raised: int = await connection.fetchval(
                    _RAISE_SQL, kind.value, since, until, msgspec.json.encode(facts).decode(), store.name, self._away_s
                )
                return raised

        if await self._postgres.run(work, limit_s=2 * ASK_S):
            log.warning("alert raised", alert_kind=kind.value, store=store.name)

    async def _first(self, store: _Store) -> bool:
        """Whether no other worker has said that it tells. If nobody can know, it is told twice rather than never."""
        try:
            async with asyncio.timeout(ASK_S):
                return bool(
                    await self._redis.set(keyspace.outage_told(store.name), b"", nx=True, ex=keyspace.OUTAGE_TOLD_TTL_S)
                )
        except (RedisError, OSError):  # TimeoutError is an OSError
            return True

    async def _redis_answers(self) -> bool:
        client: Any = self._redis
        try:
            async with asyncio.timeout(ASK_S):
                await client.ping()
        except (RedisError, OSError):
            return False
        return True

    async def _postgres_answers(self) -> bool:
        try:
            await self._postgres.run(lambda connection: connection.fetchval("SELECT 1"), limit_s=ASK_S)
        except FAILURES:
            return False
        return True


async def _targets(connection: Connection) -> list[Target]:
    return [
        msgspec.convert({**row, "secrets": msgspec.json.decode(row["secrets"])}, Target)
        for row in await connection.fetch(_TARGETS_SQL)
    ]


def _facts(store: _Store, seconds: int | None = None) -> dict[str, Any]:
    assert store.since is not None  # noqa: S101 - it is or was away
    facts = {"store": store.name, "since": datetime.fromtimestamp(store.since, UTC).isoformat()}
    return facts if seconds is None else facts | {"seconds": seconds}


_TARGETS_SQL = """
SELECT kind, url, language, secrets FROM alert_target WHERE enabled AND 'store_outage' = ANY (events) ORDER BY id
"""

# Workers date the same outage a little differently; one that overlaps is the same.
_RAISE_SQL = f"""
WITH raised AS (
    INSERT INTO alert (kind, since, last_at, facts)
    SELECT $1::text, $2::timestamptz, $3::timestamptz, $4::jsonb
    WHERE NOT EXISTS (
        SELECT FROM alert WHERE kind = $1 AND facts ->> 'store' = $5
            AND last_at >= $2::timestamptz AND since <= $3::timestamptz
            AND since > $2::timestamptz - make_interval(secs => $6)
    )
    RETURNING id, kind
), sent AS ({DELIVER})
SELECT count(*) FROM raised
"""  # noqa: S608 - closed texts
