"""The audit row: who did what to which subject, with the subject before and after.

Where it stands in the walk: each operation writes it in the transaction of the change itself, so that neither is
there without the other. Never put a secret, a key or a password hash into ``before`` or ``after``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import Actor

State = Mapping[str, Any] | msgspec.Struct | None


class Subject(msgspec.Struct, frozen=True):
    """One thing that an operation changed; ``before`` None: made, ``after`` None: removed, both: not told."""

    id: str
    name: str = ""
    before: State = None
    after: State = None


async def record(
    session: AsyncSession,
    actor: Actor,
    action: str,
    subject_kind: str,
    subject_id: object,
    *,
    subject_name: str = "",
    reason: str = "",
    before: State = None,
    after: State = None,
) -> None:
    """``action`` is ``binding:ban``, ``settings:change`` …; it becomes visible with the caller's commit."""
    subject = Subject(str(subject_id), subject_name, before, after)
    await record_many(session, actor, action, subject_kind, [subject], reason=reason)


async def record_many(
    session: AsyncSession,
    actor: Actor,
    action: str,
    subject_kind: str,
    subjects: Sequence[Subject],
    *,
    reason: str = "",
) -> None:
    """One row each, in one statement: a bulk operation holds its locks meanwhile."""
    if not subjects:
        return
    values = {
        "actor_kind": actor.kind.value,
        "actor": actor.name,
        "address": actor.address,
        "action": action,
        "subject_kind": subject_kind,
        "reason": reason,
        "request_id": actor.request_id,
        # Times become ISO 8601 text.
        "subjects": msgspec.json.encode(subjects).decode(),
    }
    await session.execute(_INSERT, values)


# A JSON null is read as an SQL NULL by jsonb_to_recordset only for columns of other types than jsonb.
_INSERT = text("""
INSERT INTO admin_audit (actor_kind, actor, address, action, subject_kind, subject_id, subject_name, reason, before,
    after, request_id)
SELECT :actor_kind, :actor, CAST(CAST(:address AS text) AS inet), :action, :subject_kind, s.id, s.name, :reason,
    nullif(s.before, 'null'), nullif(s.after, 'null'), :request_id
FROM ROWS FROM (jsonb_to_recordset(CAST(:subjects AS jsonb)) AS (id text, name text, before jsonb, after jsonb))
    WITH ORDINALITY AS s (id, name, before, after, place)
ORDER BY place
""")
