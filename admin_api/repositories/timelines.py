"""A binding's timeline: networks it got, operators' edits, intercepts of its key; one list, latest first.

Where it stands in the walk: the bindings controller reads through it. Each source is read by its own index, one page
from each, and merged here.
"""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.errors import NotFound
from admin_api.repositories import cursors
from admin_api.schemas.bindings import Timeline, TimelineEntry, TimelineKind

SORT = "timeline"
ID_BYTES = 8

Position = tuple[datetime, int, bytes]
"""When, which source (by its place in `SOURCES`), and the row's id there, as bytes that sort as the ids do."""


class Source(msgspec.Struct, frozen=True):
    """Where one kind of entry lies: ``at`` and ``id`` are its columns of those meanings."""

    kind: TimelineKind
    at: str
    id: str
    rows: str

    def statement(self, rank: int, before: Position | None) -> str:
        """At the cursor's own moment its source goes on behind its id, a lower one is due whole, a higher one done."""
        if before is None:
            bound = "true"
        elif rank == before[1]:
            bound = f"({self.at}, {self.id}) < (:at, :last)"
        else:
            bound = f"{self.at} {'<=' if rank < before[1] else '<'} :at"
        return f"{self.rows} AND {bound} ORDER BY {self.at} DESC, {self.id} DESC LIMIT :limit"

    def values(self, rank: int, before: Position | None) -> dict[str, Any]:
        if before is None:
            return {}
        at, last_rank, last = before
        if rank != last_rank:
            return {"at": at}
        number = int.from_bytes(last[:ID_BYTES], "big") & cursors.MAX_INTEGER
        return {"at": at, "last": last if self.kind is TimelineKind.INTERCEPT else number}


async def page(session: AsyncSession, binding_id: int, limit: int, cursor: str | None) -> Timeline:
    """Raises NotFound, and InvalidInput for a cursor of another list."""
    before: Any = None if cursor is None else cursors.decode(cursor, SORT, (datetime, int, bytes))
    key_hash = (await session.execute(_KEY, {"id": binding_id})).scalar_one_or_none()
    if key_hash is None:
        raise NotFound("there is no binding with this id (any more)")
    subject: dict[TimelineKind, dict[str, Any]] = {
        TimelineKind.NETWORK: {"id": binding_id},
        TimelineKind.AUDIT: {"subject": str(binding_id)},
        TimelineKind.INTERCEPT: {"key_hash": key_hash},
    }
    found: list[tuple[Position, TimelineEntry]] = []
    for rank, source in enumerate(SOURCES):
        values = subject[source.kind] | source.values(rank, before) | {"limit": limit + 1}
        found += [_entry(rank, row) for row in await session.execute(text(source.statement(rank, before)), values)]
    found.sort(key=lambda each: each[0], reverse=True)
    items = [entry for _, entry in found[:limit]]
    return Timeline(items, cursors.encode(SORT, *found[limit - 1][0]) if len(found) > limit else None)


def _entry(rank: int, row: Any) -> tuple[Position, TimelineEntry]:
    data = row._asdict()
    at, id_ = data.pop("at_"), data.pop("id_")
    position = (at, rank, id_ if isinstance(id_, bytes) else id_.to_bytes(ID_BYTES, "big"))
    return position, TimelineEntry(at, SOURCES[rank].kind, data)


_KEY = text("SELECT key_hash FROM binding WHERE id = :id")

_NETWORKS = """
SELECT created_at AS at_, id AS id_, network::text AS network, source, expires_at
FROM binding_network WHERE binding_id = :id
"""

_AUDIT = """
SELECT at AS at_, id AS id_, action, actor, actor_kind, reason, before, after
FROM admin_audit WHERE subject_kind = 'binding' AND subject_id = :subject
"""

_INTERCEPTS = """
SELECT at AS at_, event_id AS id_, host(client) AS client, reason, enforced, method, path, user_agent, gateway,
    host(peer) AS peer, repeat_count, bound_networks::text[] AS bound_networks
FROM intercept WHERE key_hash = :key_hash
"""

SOURCES = (
    Source(TimelineKind.NETWORK, "created_at", "id", _NETWORKS),
    Source(TimelineKind.AUDIT, "at", "id", _AUDIT),
    Source(TimelineKind.INTERCEPT, "at", "event_id", _INTERCEPTS),
)
