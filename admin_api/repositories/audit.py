"""The audit as its list reads it: newest first. `operations.audit` writes it."""

from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.models.operators import AdminAuditRow
from admin_api.repositories import cursors
from admin_api.schemas.audit import AuditEntry, AuditPage

SORT = "audit"


class AuditFilter(msgspec.Struct, frozen=True):
    """None: any. ``action`` with a colon at its end: every action on that kind of thing."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    subject_kind: str | None = None
    subject_id: str | None = None


async def page(session: AsyncSession, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage:
    """Raises InvalidInput for a cursor of another list."""
    row = AdminAuditRow
    statement = select(row).order_by(row.id.desc()).limit(limit + 1)
    if wanted.since is not None:
        statement = statement.where(row.at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(row.at < wanted.until)
    if wanted.action is not None and wanted.action.endswith(":"):
        statement = statement.where(row.action.startswith(wanted.action, autoescape=True))
    elif wanted.action is not None:
        statement = statement.where(row.action == wanted.action)
    for name in ("actor", "subject_kind", "subject_id"):
        if (value := getattr(wanted, name)) is not None:
            statement = statement.where(getattr(row, name) == value)
    if cursor is not None:
        statement = statement.where(row.id < cursors.decode(cursor, SORT, (int,))[0])
    rows = (await session.execute(statement)).scalars().all()
    items = [_entry(each) for each in rows[:limit]]
    return AuditPage(items, cursors.encode(SORT, items[-1].id) if len(rows) > limit else None)


def _entry(row: AdminAuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        actor_kind=row.actor_kind,
        actor=row.actor,
        address=None if row.address is None else str(row.address).partition("/")[0],
        action=row.action,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        subject_name=row.subject_name,
        reason=row.reason,
        before=row.before,
        after=row.after,
        request_id=row.request_id,
    )
