"""Alerts as lists and their pages read them: newest first, with what became of their deliveries.

Where it stands in the walk: `raising` and `jobs.alerts` wrote the rows; `controllers.alerts` shows them.

Rules for whoever edits this file: every value goes in as a parameter; what is put into the text is closed.
"""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.repositories import cursors
from admin_api.repositories.bindings import like_prefix
from admin_api.schemas.alerts import (
    AddressCount,
    AlertDetail,
    AlertKind,
    AlertPage,
    AlertStatus,
    AlertView,
    AttemptView,
    DeliveryCounts,
    DeliveryView,
)

SORT = "alerts"

OWN_FIELDS = ("addresses", "address_count", "bound_networks", "enforced_count", "observed_count", "since")
"""Of the stored facts, those that an alert shows as fields of its own."""

COUNTS = """
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.state = 'pending') AS pending, count(*) FILTER (WHERE d.state = 'delivered')
        AS delivered, count(*) FILTER (WHERE d.state = 'dead') AS dead
    FROM alert_delivery d WHERE d.alert_id = a.id
) c
"""

_SOME = "EXISTS (SELECT FROM alert_delivery d WHERE d.alert_id = a.id AND d.state = '{}')"
_NONE = "NOT " + _SOME

STATUS = {
    AlertStatus.DEAD: _SOME.format("dead"),
    AlertStatus.PENDING: f"{_SOME.format('pending')} AND {_NONE.format('dead')}",
    AlertStatus.DELIVERED: f"{_SOME.format('delivered')} AND {_NONE.format('dead')} AND {_NONE.format('pending')}",
    AlertStatus.NO_TARGET: "NOT EXISTS (SELECT FROM alert_delivery d WHERE d.alert_id = a.id)",
}


class AlertFilter(msgspec.Struct, frozen=True):
    """None: any. ``since`` inclusive, ``until`` exclusive; ``hint`` begins so."""

    since: datetime | None = None
    until: datetime | None = None
    kind: AlertKind | None = None
    status: AlertStatus | None = None
    fingerprint: bytes | None = None
    binding_id: int | None = None
    hint: str | None = None


async def page(session: AsyncSession, wanted: AlertFilter, limit: int, cursor: str | None) -> AlertPage:
    """Raises InvalidInput for a cursor of another list."""
    conditions, values = _conditions(wanted)
    if cursor is not None:
        at, last_id = cursors.decode(cursor, SORT, (datetime, int))
        conditions.append("(a.raised_at, a.id) < (:last_at, :last_id)")
        values |= {"last_at": at, "last_id": last_id}
    statement = f"""
WITH a AS (
    SELECT * FROM alert a WHERE {" AND ".join(conditions) or "true"} ORDER BY a.raised_at DESC, a.id DESC LIMIT :limit
)
SELECT a.*, c.* FROM a {COUNTS} ORDER BY a.raised_at DESC, a.id DESC
"""  # noqa: S608 - closed texts, see the rules
    rows = (await session.execute(text(statement), values | {"limit": limit + 1})).all()
    items = [view(row) for row in rows[:limit]]
    more = cursors.encode(SORT, items[-1].raised_at, items[-1].id) if len(rows) > limit else None
    return AlertPage(items, more)


async def find(session: AsyncSession, alert_id: int) -> AlertDetail | None:
    row = (await session.execute(_ONE, {"id": alert_id})).one_or_none()
    if row is None:
        return None
    deliveries = await session.execute(_DELIVERIES, {"id": alert_id})
    return AlertDetail(view(row), [_delivery(each) for each in deliveries])


def view(row: Any) -> AlertView:
    counts = DeliveryCounts(row.pending, row.delivered, row.dead)
    return AlertView(
        id=row.id,
        raised_at=row.raised_at,
        kind=AlertKind(row.kind),
        status=_status(counts),
        binding_id=row.binding_id,
        fingerprint=None if row.key_hash is None else bytes(row.key_hash).hex(),
        hint=row.key_hint,
        enforced_count=row.enforced_count,
        observed_count=row.observed_count,
        since=row.since,
        last_at=row.last_at,
        quiet_until=row.quiet_until,
        addresses=[AddressCount(each["address"], each["count"]) for each in row.facts.get("addresses", [])],
        address_count=row.facts.get("address_count", 0),
        bound_networks=row.facts.get("bound_networks", []),
        facts={name: value for name, value in row.facts.items() if name not in OWN_FIELDS},
        deliveries=counts,
    )


def _status(counts: DeliveryCounts) -> AlertStatus:
    if counts.dead:
        return AlertStatus.DEAD
    if counts.pending:
        return AlertStatus.PENDING
    return AlertStatus.DELIVERED if counts.delivered else AlertStatus.NO_TARGET


def _delivery(row: Any) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        target_id=row.target_id,
        target_name=row.target_name,
        target_kind=row.target_kind,
        state=row.state,
        created_at=row.created_at,
        next_at=row.next_at,
        delivered_at=row.delivered_at,
        attempts=msgspec.convert(row.attempts, list[AttemptView]),
    )


def _conditions(wanted: AlertFilter) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for name, condition, value in (
        ("since", "a.raised_at >= :since", wanted.since),
        ("until", "a.raised_at < :until", wanted.until),
        ("kind", "a.kind = :kind", None if wanted.kind is None else wanted.kind.value),
        ("fingerprint", "a.key_hash = :fingerprint", wanted.fingerprint),
        ("binding_id", "a.binding_id = :binding_id", wanted.binding_id),
        ("hint", "lower(a.key_hint) LIKE :hint", None if wanted.hint is None else like_prefix(wanted.hint.lower())),
    ):
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.status is not None:
        conditions.append(STATUS[wanted.status])
    return conditions, values


_ONE = text(f"SELECT a.*, c.* FROM alert a {COUNTS} WHERE a.id = :id")  # noqa: S608 - closed texts
_DELIVERIES = text("SELECT * FROM alert_delivery WHERE alert_id = :id ORDER BY id")
