"""Restoring bindings from the archive: they own their keys again, under the ids that they had.

Where it stands in the walk: the archive controller calls it; `operations.bindings` has what all writes share.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import Actor
from admin_api.operations.bindings import Written, commit_and_publish, record
from admin_api.operations.publishing import changed
from admin_api.repositories import bindings as repository
from admin_api.rooms import AdminRooms
from admin_api.schemas.common import Outcome, Result, Results


async def restore(rooms: AdminRooms, actor: Actor, ids: Sequence[int], reason: str) -> Results:
    """``ids`` are the archive's. Whose key has an owner by now is left (``conflict``), whoever that is."""

    async def write(session: AsyncSession) -> Written:
        archived = (await session.execute(_LOCK, {"ids": list(ids)})).all()
        waiting = {row.id: row.binding_id for row in archived if row.restored_at is None}
        outcomes = {row.id: Outcome.UNCHANGED if row.restored_at else Outcome.CONFLICT for row in archived}
        made = set((await session.execute(_RESTORE, {"ids": list(waiting)})).scalars())
        restored = {id_: binding_id for id_, binding_id in waiting.items() if binding_id in made}
        await session.execute(_RESTORE_NETWORKS, {"ids": list(restored)})
        await session.execute(_MARK, {"ids": list(restored)})
        views = await repository.find_many(session, list(restored.values()))
        outcomes |= dict.fromkeys(restored, Outcome.DONE)
        await record(session, actor, "binding:restore", reason, [(None, view) for view in views.values()])
        return Written(outcomes, [changed(view) for view in views.values()])

    written, published = await commit_and_publish(rooms, write)
    results = [Result(id_, written.outcomes.get(id_, Outcome.NOT_FOUND)) for id_ in dict.fromkeys(ids)]
    return Results(results, published)


_LOCK = text("SELECT id, binding_id, restored_at FROM binding_archive WHERE id = ANY (:ids) ORDER BY id FOR UPDATE")

# Of several archived bindings of one key the latest is what "restore" means. One that was archived for want of use
# counts as used now, or it would be archived again the same night.
_RESTORE = text("""
INSERT INTO binding (id, key_hash, key_hint, mode, note, first_used_at, last_used_at, last_ip, request_count,
    intercept_count)
OVERRIDING SYSTEM VALUE
SELECT DISTINCT ON (key_hash) binding_id, key_hash, key_hint, mode, note, first_used_at,
    CASE cause WHEN 'unused' THEN now() ELSE last_used_at END, last_ip, request_count, intercept_count
FROM binding_archive WHERE id = ANY (:ids)
ORDER BY key_hash, id DESC
ON CONFLICT DO NOTHING
RETURNING id
""")

_RESTORE_NETWORKS = text("""
INSERT INTO binding_network (binding_id, network, source, created_at, expires_at)
SELECT a.binding_id, n.network, n.source, n.created_at, n.expires_at
FROM binding_archive a, jsonb_to_recordset(a.networks)
    AS n (network cidr, source text, created_at timestamptz, expires_at timestamptz)
WHERE a.id = ANY (:ids)
""")

_MARK = text("UPDATE binding_archive SET restored_at = now() WHERE id = ANY (:ids)")
