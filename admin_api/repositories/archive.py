"""The archive as it is listed: removed bindings, latest first.

Where it stands in the walk: the archive controller reads through it; `operations.archive` restores.
"""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.repositories import cursors
from admin_api.repositories.bindings import like_prefix, networks
from admin_api.schemas.bindings import NETWORKS_IN_LISTS, ArchivedBinding, ArchivePage, BindingMode

SORT = "archive"


class ArchiveFilter(msgspec.Struct, frozen=True):
    """None: any. ``hint``: how it begins. ``restored``: whether it was."""

    fingerprint: bytes | None = None
    hint: str | None = None
    restored: bool | None = None


async def page(session: AsyncSession, wanted: ArchiveFilter, limit: int, cursor: str | None) -> ArchivePage:
    """Raises InvalidInput for a cursor of another list."""
    statement, values = page_statement(wanted, limit, cursor)
    rows = (await session.execute(text(statement), values)).all()
    items = [_view(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return ArchivePage(items, None)
    return ArchivePage(items, cursors.encode(SORT, items[-1].archived_at, items[-1].id))


def page_statement(wanted: ArchiveFilter, limit: int, cursor: str | None) -> tuple[str, dict[str, Any]]:
    conditions = ["true"]
    values: dict[str, Any] = {"limit": limit + 1}
    if wanted.fingerprint is not None:
        conditions.append("key_hash = :fingerprint")
        values["fingerprint"] = wanted.fingerprint
    if wanted.hint is not None:
        conditions.append("lower(key_hint) LIKE :hint")
        values["hint"] = like_prefix(wanted.hint.lower())
    if wanted.restored is not None:
        conditions.append(f"restored_at IS {'NOT ' if wanted.restored else ''}NULL")
    if cursor is not None:
        conditions.append("(archived_at, id) < (:at, :last_id)")
        values["at"], values["last_id"] = cursors.decode(cursor, SORT, (datetime, int))
    statement = f"""
SELECT id, binding_id, key_hash, key_hint, mode, note, first_used_at, last_used_at, host(last_ip) AS last_ip,
    request_count, intercept_count, archived_at, archived_by, cause, restored_at,
    jsonb_path_query_array(networks, '$[0 to {NETWORKS_IN_LISTS - 1}]')::text AS networks,
    jsonb_array_length(networks) AS network_count
FROM binding_archive WHERE {" AND ".join(conditions)} ORDER BY archived_at DESC, id DESC LIMIT :limit
"""  # noqa: S608 - closed texts: every value is a parameter
    return statement, values


async def count_of(session: AsyncSession, fingerprint: bytes) -> int:
    count: int = (await session.execute(_COUNT, {"fingerprint": fingerprint})).scalar_one()
    return count


def _view(row: Any) -> ArchivedBinding:
    return ArchivedBinding(
        id=row.id,
        binding_id=row.binding_id,
        fingerprint=row.key_hash.hex(),
        hint=row.key_hint,
        mode=BindingMode(row.mode or "inherit"),
        note=row.note,
        networks=networks(row.networks),
        network_count=row.network_count,
        first_used_at=row.first_used_at,
        last_used_at=row.last_used_at,
        last_ip=row.last_ip,
        request_count=row.request_count,
        intercept_count=row.intercept_count,
        archived_at=row.archived_at,
        archived_by=row.archived_by,
        cause=row.cause,
        restored_at=row.restored_at,
    )


_COUNT = text("SELECT count(*) FROM binding_archive WHERE key_hash = :fingerprint")
