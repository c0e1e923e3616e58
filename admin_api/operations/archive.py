"""Restoring bindings from the archive: they own their keys again, under the ids that they had.

Where it stands in the walk: the archive controller calls it; `operations.bindings` has what all writes share.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import archiving
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

_RESTORE = archiving.for_session(archiving.RESTORE, "ids")
_RESTORE_NETWORKS = archiving.for_session(archiving.RESTORE_NETWORKS, "ids")
_MARK = archiving.for_session(archiving.MARK_RESTORED, "ids")
