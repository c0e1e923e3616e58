"""Alert targets are made, changed, removed here, and their signing secrets rotated.

Where it stands in the walk: the controller `alert_targets` calls it; `jobs.deliveries` disables a target that is gone.

Rules for whoever edits this file:

- The audit gets the masked URL and how many secrets there are, never more. That a URL was changed is told even where
  the masked forms are the same.
- The target of the live setting `alert_webhook_url` follows that setting: its URL is not changed here.
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import Actor
from admin_api.alerts import raising, signing, webhook
from admin_api.alerts.addresses import PrivateTargets, is_allowed
from admin_api.alerts.sending import Sender
from admin_api.errors import Conflict, InvalidInput, NotFound, Stale
from admin_api.models.alerts import AlertTargetRow
from admin_api.operations import audit
from admin_api.repositories.alert_targets import TargetRepository
from admin_api.schemas.alerts import (
    DisabledBecause,
    SendResult,
    TargetEdit,
    TargetKind,
    TargetNew,
    mask_target_url,
)

SUBJECT = "alert_target"


async def add(session: AsyncSession, actor: Actor, wanted: TargetNew) -> tuple[AlertTargetRow, str | None]:
    """The row and its first signing secret, which is not told again. The URL was looked at by `check_url`."""
    now = datetime.now(UTC)
    first = signing.new_secret(now) if wanted.kind is TargetKind.WEBHOOK else None
    row = AlertTargetRow(
        name=wanted.name,
        kind=wanted.kind.value,
        url=wanted.url,
        events=_events(wanted.events),
        language=wanted.language.value,
        enabled=wanted.enabled,
        disabled_because=None if wanted.enabled else DisabledBecause.OPERATOR.value,
        secrets=signing.stored([first] if first else []),
        created_by=actor.name,
    )
    await TargetRepository(session).add(row, auto_refresh=True)
    await audit.record(session, actor, "alert_target:add", SUBJECT, row.id, subject_name=row.name, after=state(row))
    return row, first.secret if first else None


async def edit(session: AsyncSession, actor: Actor, target_id: int, wanted: TargetEdit) -> AlertTargetRow:
    """What is so already is no change, and no fault. Raises NotFound, Stale, Conflict."""
    row = await locked(session, target_id)
    changes = _changes(row, wanted)
    if not changes:
        return row
    if wanted.version != row.version:
        raise Stale("the target was changed since it was read", version=row.version)
    if row.from_setting and "url" in changes:
        raise Conflict("this target's URL is the live setting alert_webhook_url: change it there")
    if changes.get("enabled") and not row.url:
        raise Conflict("the live setting alert_webhook_url is empty: enter a URL there")
    before = state(row)
    if "enabled" in changes:
        changes["disabled_because"] = None if changes["enabled"] else DisabledBecause.OPERATOR.value
    await _change(session, row, changes)
    after = state(row) | ({"url_changed": True} if "url" in changes else {})
    await audit.record(
        session, actor, "alert_target:edit", SUBJECT, row.id, subject_name=row.name, before=before, after=after
    )
    return row


async def remove(session: AsyncSession, actor: Actor, target_id: int) -> None:
    """What was still to be sent to it is not; what was sent stays in the alerts' history. Raises NotFound, Conflict."""
    row = await locked(session, target_id)
    if row.from_setting:
        raise Conflict("this target is the live setting alert_webhook_url: empty it there")
    await TargetRepository(session).end_deliveries(row.id)
    await session.delete(row)
    await audit.record(session, actor, "alert_target:remove", SUBJECT, row.id, subject_name=row.name, before=state(row))


async def rotate(session: AsyncSession, actor: Actor, target_id: int, keep: timedelta) -> tuple[AlertTargetRow, str]:
    """The new secret, told once; the present one stays good for ``keep``. Raises NotFound, Conflict."""
    row = await locked(session, target_id)
    if row.kind != TargetKind.WEBHOOK:
        raise Conflict("only webhooks are signed")
    before, now = state(row), datetime.now(UTC)
    kept = signing.rotated(signing.live(row.secrets, now), now, keep)
    await _change(session, row, {"secrets": signing.stored(kept)})
    await audit.record(
        session, actor, "alert_target:rotate", SUBJECT, row.id,
        subject_name=row.name, before=before, after=state(row),
    )  # fmt: skip
    return row, kept[0].secret


async def note_test(session: AsyncSession, actor: Actor, row: AlertTargetRow, result: SendResult) -> None:
    await audit.record(
        session, actor, "alert_target:test", SUBJECT, row.id,
        subject_name=row.name, after=msgspec.to_builtins(result),
    )  # fmt: skip


async def follow_setting(session: AsyncSession, url: str) -> None:
    """The live setting's webhook becomes, or stays, a target; an empty URL disables it."""
    if url:
        await session.execute(raising.for_session(raising.FOLLOW_SETTING_SQL), raising.named([url]))
    else:
        await session.execute(raising.for_session(raising.UNFOLLOW_SETTING_SQL))


async def check_url(sender: Sender, kind: TargetKind, url: str) -> None:
    """Raises InvalidInput for what can never work. Where a name leads to is looked at with each message."""
    if kind is TargetKind.APPRISE:
        if not await sender.services.knows(url):
            raise _fault("is none that apprise knows, see https://appriseit.com")
        return
    parts = webhook.parsed(url)
    if parts is None:
        raise _fault("must begin with https:// or http:// and name a host that can be connected to")
    if parts.scheme == "http" and sender.policy is PrivateTargets.REFUSE:
        raise _fault("must be https: http is for private addresses, which SENTINEL_ALERT_PRIVATE_TARGETS can allow")
    try:
        literal = ipaddress.ip_address(parts.raw_host.decode())
    except ValueError:
        return
    if not is_allowed(literal, sender.policy):
        raise _fault("leads to an address that SENTINEL_ALERT_PRIVATE_TARGETS does not allow")


def state(row: AlertTargetRow) -> dict[str, object]:
    """What the audit keeps of a target."""
    return {
        "name": row.name,
        "kind": row.kind,
        "url": mask_target_url(TargetKind(row.kind), row.url),
        "events": list(row.events),
        "language": row.language,
        "enabled": row.enabled,
        "disabled_because": row.disabled_because,
        "secrets": len(row.secrets),
        "version": row.version,
    }


async def locked(session: AsyncSession, target_id: int) -> AlertTargetRow:
    row = await TargetRepository(session).locked(target_id)
    if row is None:
        raise NotFound("there is no such target (any more)")
    return row


async def _change(session: AsyncSession, row: AlertTargetRow, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(row, name, value)
    row.version += 1
    row.changed_at = func.now()
    await session.flush()
    await session.refresh(row)


def _changes(row: AlertTargetRow, wanted: TargetEdit) -> dict[str, Any]:
    given = {
        name: value
        for name, value in msgspec.to_builtins(wanted).items()
        if name != "version" and getattr(wanted, name) is not UNSET
    }
    if "events" in given:
        given["events"] = _events(given["events"])
    return {name: value for name, value in given.items() if value != getattr(row, name)}


def _events(given: Any) -> list[str]:
    return sorted({str(event) for event in given})


def _fault(detail: str) -> InvalidInput:
    return InvalidInput(f"the URL {detail}", faults=[{"field": "url", "detail": detail}])
