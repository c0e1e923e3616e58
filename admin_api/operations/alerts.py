"""Raising alerts from an operator's transaction, and sending alerts anew.

Where it stands in the walk: other operations call `raise_event`; the controller `alerts` calls `redeliver`. What is
committed here is found by `jobs.deliveries` within seconds; nothing is sent from here.

    async with sessions.begin() as session:
        await raise_event(session, Event(AlertKind.ARCHIVE_RUN, {"archived": 12, "remaining": 0}))
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import Actor
from admin_api.alerts import raising
from admin_api.alerts.raising import Event
from admin_api.operations import audit
from admin_api.schemas.common import Outcome, Result

SUBJECT = "alert"
IN_FLIGHT_S = 60
"""What is due this soon is on its way: sending it anew as well would only double it."""


async def raise_event(session: AsyncSession, event: Event) -> int | None:
    """The alert's id, visible with the caller's commit. None: nobody wants to know (``if_wanted``)."""
    statement = raising.for_session(raising.RAISE_SQL)
    return (await session.execute(statement, raising.named(event.parameters()))).scalar_one_or_none()


async def redeliver(
    session: AsyncSession, actor: Actor, ids: Sequence[int], target_id: int | None, reason: str
) -> list[Result]:
    """To every enabled target that is subscribed, also to one made after the alert; or to the one that is named."""
    values = {"ids": list(ids), "target_id": target_id, "in_flight_s": IN_FLIGHT_S}
    found = {row.id: row for row in await session.execute(_LOCK, values)}
    outcomes = dict.fromkeys(found, Outcome.NO_TARGET)
    outcomes |= {row.alert_id: Outcome.UNCHANGED for row in await session.execute(_WANTED, values)}
    sent = {row.alert_id for row in await session.execute(_SEND_ANEW, values)}
    outcomes |= dict.fromkeys(sent, Outcome.DONE)
    subjects = [
        audit.Subject(str(id_), found[id_].key_hint, None, {"kind": found[id_].kind, "target_id": target_id})
        for id_ in sorted(sent)
    ]
    await audit.record_many(session, actor, "alert:redeliver", SUBJECT, subjects, reason=reason)
    return [Result(id_, outcomes.get(id_, Outcome.NOT_FOUND)) for id_ in dict.fromkeys(ids)]


_LOCK = text("SELECT id, kind, key_hint FROM alert WHERE id = ANY (:ids) ORDER BY id FOR KEY SHARE")

_WANTED_ROWS = """
SELECT a.id AS alert_id, t.id AS target_id, t.name, t.kind
FROM alert a JOIN alert_target t ON t.enabled
    AND CASE WHEN CAST(:target_id AS bigint) IS NULL THEN a.kind = ANY (t.events) ELSE t.id = :target_id END
WHERE a.id = ANY (:ids)
"""

_WANTED = text(f"SELECT DISTINCT alert_id FROM ({_WANTED_ROWS}) w")  # noqa: S608 - closed texts

_SEND_ANEW = text(f"""
INSERT INTO alert_delivery (alert_id, target_id, target_name, target_kind) {_WANTED_ROWS}
ON CONFLICT (alert_id, target_id) DO UPDATE
SET state = 'pending', tries = 0, next_at = now(), target_name = excluded.target_name
WHERE alert_delivery.state <> 'pending' OR alert_delivery.next_at > now() + make_interval(secs => :in_flight_s)
RETURNING alert_id
""")
