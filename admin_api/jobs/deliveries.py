"""Delivering alerts: what is due is taken, sent, and what happened is written down, until it arrived or is given up.

Where it stands in the walk: `schedule` asks for what is due every few seconds and makes a job of each delivery; the
job calls `deliver`. Everything that matters lies in `alert_delivery`, so that a lost Redis loses nothing.

A delivery's way: taken by moving its time ahead by ``lease_s`` and noting an attempt as interrupted → sent → the note
replaced by what happened. A worker that dies with it leaves the note, and when the lease is over it is due again: the
message may then arrive twice, under the same webhook id. Nobody who lost a lease writes (``tries`` tells).
"""

import contextlib
import random
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from admin_api.alerts.messages import Alert
from admin_api.alerts.raising import FOLLOW_SETTING_SQL, UNFOLLOW_SETTING_SQL
from admin_api.alerts.sending import Sender, Target
from admin_api.jobs import live
from admin_api.jobs.postgres import Connection, Postgres
from admin_api.schemas.alerts import DeliveryState, SendOutcome, SendResult, TargetKind, mask_target_url
from proxy_core.contracts import LiveSettings

log = structlog.get_logger(__name__)

PAUSES_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 14_400, 14_400)
"""Between the attempts; with the last one, after about sixteen hours, a delivery is given up."""

JITTER = 0.2
"""Pauses differ by up to this part, so that a receiver that comes back is not met by all of them at once."""

ATTEMPTS_KEPT = 50
AT_ONCE = 3
"""Deliveries that one worker sends at the same time: receivers that hang must leave it hands for everything else."""

LEASE_S = 50.0
"""Above the time that sending can take (`webhook.LIMIT_S`, `services.LIMIT_S` and the wait for a place there)."""

DUE_AT_ONCE = 50
LIMIT_S = 10.0


class Due(msgspec.Struct, frozen=True):
    id: int
    tries: int


class Taken(msgspec.Struct, frozen=True):
    """A delivery in our hands. ``earlier`` are its attempts without the present one."""

    id: int
    tries: int
    began_at: str
    earlier: list[dict[str, Any]]
    alert: Alert
    target: Target
    target_id: int
    target_name: str
    enabled: bool


class Deliveries:
    """One a process; `deliver` may run several times at once."""

    def __init__(
        self, postgres: Postgres, sender: Sender, *, lease_s: float = LEASE_S, roll: Callable[[], float] = random.random
    ) -> None:
        self._postgres = postgres
        self._sender = sender
        self._lease_s = lease_s
        self._roll = roll
        self._running = 0
        self._looking = False

    async def due(self, initial: LiveSettings | None = None) -> list[Due]:
        """Those that wait longest first; none while somebody else asks. Raises `postgres.FAILURES`.

        ``initial``: the live settings' webhook is made a target if it is none, also where only these have it.
        """

        async def work(connection: Connection) -> list[Due]:
            if initial is not None:
                with contextlib.suppress(msgspec.MsgspecError):  # then the target stays as it is
                    await _follow(connection, (await live.settings(connection, initial)).alert_webhook_url)
            return [Due(row["id"], row["tries"]) for row in await connection.fetch(_DUE_SQL, DUE_AT_ONCE)]

        if self._looking:  # while PostgreSQL hangs, those who wait for it would take every hand of the worker
            return []
        self._looking = True
        try:
            return await self._postgres.run(work, limit_s=LIMIT_S)
        finally:
            self._looking = False

    async def deliver(self, delivery_id: int) -> None:
        """One attempt, unless it is not due, or others are sending enough. Raises `postgres.FAILURES`."""
        if self._running >= AT_ONCE:
            return
        self._running += 1
        try:
            taken = await self._postgres.run(lambda connection: self._take(connection, delivery_id), limit_s=LIMIT_S)
            if taken is None:
                return
            if taken.enabled:
                result = await self._sender.send(taken.target, taken.alert)
            else:
                result = SendResult(SendOutcome.TARGET_DISABLED, 0)
            await self._postgres.run(lambda connection: self._settle(connection, taken, result), limit_s=LIMIT_S)
        finally:
            self._running -= 1

    async def _take(self, connection: Connection, delivery_id: int) -> Taken | None:
        row = await connection.fetchrow(_TAKE_SQL, delivery_id, self._lease_s, SendOutcome.INTERRUPTED.value)
        if row is None:
            return None
        attempts: list[dict[str, Any]] = msgspec.json.decode(row["attempts"])
        return Taken(
            id=delivery_id,
            tries=row["tries"],
            began_at=attempts[-1]["at"],
            earlier=attempts[:-1],
            alert=Alert(
                row["message_id"].hex,
                row["alert_kind"],
                row["raised_at"],
                row["key_hint"],
                row["binding_id"],
                msgspec.json.decode(row["facts"]),
            ),
            target=msgspec.convert(
                {
                    "kind": row["kind"],
                    "url": row["url"],
                    "language": row["language"],
                    "secrets": msgspec.json.decode(row["secrets"]),
                },
                Target,
            ),
            target_id=row["target_id"],
            target_name=row["name"],
            enabled=row["enabled"],
        )

    async def _settle(self, connection: Connection, taken: Taken, result: SendResult) -> None:
        state, pause_s = self._next(taken.tries, result.outcome)
        attempt = {"at": taken.began_at, **msgspec.to_builtins(result)}
        attempts = [*taken.earlier, attempt][-ATTEMPTS_KEPT:]
        async with connection.transaction():
            settled = await connection.fetchval(
                _SETTLE_SQL, taken.id, taken.tries, state.value, pause_s, msgspec.json.encode(attempts).decode()
            )
            if settled is not None and result.outcome is SendOutcome.GONE:
                await _disable(connection, taken)
        told = {"alert_kind": taken.alert.kind, "target": taken.target_id, "outcome": result.outcome.value}
        if state is DeliveryState.DELIVERED:
            log.info("alert delivered", **told)
        elif state is DeliveryState.DEAD:
            log.error("alert given up", tries=taken.tries, status=result.status, **told)
        else:
            log.warning("alert not delivered, trying again", pause_s=pause_s, status=result.status, **told)

    def _next(self, tries: int, outcome: SendOutcome) -> tuple[DeliveryState, float | None]:
        """``tries``: with this one."""
        if outcome is SendOutcome.DELIVERED:
            return DeliveryState.DELIVERED, None
        final = (SendOutcome.GONE, SendOutcome.TARGET_DISABLED, SendOutcome.BAD_URL)
        if outcome in final or tries > len(PAUSES_S):
            return DeliveryState.DEAD, None
        return DeliveryState.PENDING, round(PAUSES_S[tries - 1] * (1 + JITTER * (2 * self._roll() - 1)), 1)


async def _follow(connection: Connection, url: str) -> None:
    if url:
        await connection.execute(FOLLOW_SETTING_SQL, url)
    else:
        await connection.execute(UNFOLLOW_SETTING_SQL)


async def _disable(connection: Connection, taken: Taken) -> None:
    """The receiver said 410. Not if its URL was changed meanwhile."""
    version = await connection.fetchval(_DISABLE_SQL, taken.target_id, taken.target.url)
    if version is None:
        return
    masked = {"url": mask_target_url(TargetKind(taken.target.kind), taken.target.url)}
    before, after = {"enabled": True}, {"enabled": False, "disabled_because": "gone", "version": version}
    await connection.execute(
        _AUDIT_SQL,
        str(taken.target_id),
        taken.target_name,
        msgspec.json.encode(masked | before).decode(),
        msgspec.json.encode(masked | after).decode(),
    )
    log.warning("alert target disabled: its receiver answered 410", target=taken.target_id)


_DUE_SQL = "SELECT id, tries FROM alert_delivery WHERE state = 'pending' AND next_at <= now() ORDER BY next_at LIMIT $1"

_TAKE_SQL = """
UPDATE alert_delivery d SET next_at = now() + make_interval(secs => $2), tries = d.tries + 1,
    attempts = d.attempts || jsonb_build_object('at', now(), 'took_ms', 0, 'outcome', $3::text, 'status', NULL)
FROM alert a, alert_target t
WHERE d.id = $1 AND d.state = 'pending' AND d.next_at <= now() AND a.id = d.alert_id AND t.id = d.target_id
RETURNING d.tries, d.attempts, a.message_id, a.kind AS alert_kind, a.raised_at, a.key_hint, a.binding_id, a.facts,
    t.id AS target_id, t.name, t.kind, t.url, t.language, t.secrets, t.enabled
"""

_SETTLE_SQL = """
UPDATE alert_delivery SET state = $3, next_at = now() + make_interval(secs => $4), attempts = $5::jsonb,
    delivered_at = CASE WHEN $3 = 'delivered' THEN now() ELSE delivered_at END
WHERE id = $1 AND tries = $2 AND state = 'pending'
RETURNING id
"""

_DISABLE_SQL = """
UPDATE alert_target SET enabled = false, disabled_because = 'gone', changed_at = now(), version = version + 1
WHERE id = $1 AND url = $2 AND enabled
RETURNING version
"""

_AUDIT_SQL = """
INSERT INTO admin_audit (actor_kind, actor, action, subject_kind, subject_id, subject_name, before, after)
VALUES ('system', 'alerts', 'alert_target:disable', 'alert_target', $1, $2, $3::jsonb, $4::jsonb)
"""
