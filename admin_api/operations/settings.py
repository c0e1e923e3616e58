"""Changing the live settings: validated as a whole, stored as the next version, audited, then told to every gateway.

Where it stands in the walk: `controllers.settings` calls it; `proxy_core.live_settings` obeys within a second, or
within a few when Redis is away. PostgreSQL has every version, so nothing is lost with Redis.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import UNSET
from sqlalchemy.exc import IntegrityError

from admin_api.actors import Actor
from admin_api.errors import InvalidInput, Stale
from admin_api.models.operators import RuntimeSettingRow
from admin_api.operations import alert_targets, audit
from admin_api.repositories import settings as repository
from admin_api.rooms import AdminRooms
from admin_api.schemas.settings import SettingChanges, SettingsPut, SettingsState, SettingValues, mask_url
from proxy_core.contracts import StoredSettings
from proxy_core.errors import StoreUnavailable

log = structlog.get_logger(__name__)


async def change(rooms: AdminRooms, actor: Actor, wanted: SettingsPut) -> SettingsState:
    """Raises Stale when ``wanted.version`` is not in force any more, InvalidInput for an unusable webhook URL.

    A change that changes nothing makes no version.
    """
    _check_webhook(wanted.values)
    async with rooms.sessions.begin() as session:
        row = await repository.latest(session)
        version = row.version if row else 0
        if version != wanted.version:
            raise Stale(f"version {version} is in force, not {wanted.version}: read again", version=version)
        before = in_force(rooms, row)
        changes = {name: value for name, value in msgspec.structs.asdict(wanted.values).items() if value is not UNSET}
        values = msgspec.structs.replace(before.values, **changes)
        if values == before.values:
            return before
        # What a newer Sentinel stored and this one does not know stays in place.
        whole = (row.values if row else {}) | msgspec.to_builtins(values)
        added = RuntimeSettingRow(version=version + 1, values=whole, changed_by=actor.name)
        session.add(added)
        try:
            await session.flush()
        except IntegrityError:
            raise Stale("somebody else saved at the same moment: read again", version=version + 1) from None
        await session.refresh(added, ["changed_at"])
        await alert_targets.follow_setting(session, values.alert_webhook_url)
        old, new = _difference(before.values, values)
        await audit.record(
            session,
            actor,
            "settings:change",
            "settings",
            "live",
            before=old | {"version": version},
            after=new | {"version": version + 1},
        )
    stored = StoredSettings(added.version, msgspec.json.encode(whole))
    # A request that is cut short here has changed the settings all the same: the gateways are told.
    published = await asyncio.shield(rooms.tasks.start(_publish(rooms, stored), name="publish settings"))
    return SettingsState(added.version, values, added.changed_by, added.changed_at, published)


def in_force(rooms: AdminRooms, row: RuntimeSettingRow | None) -> SettingsState:
    """What gateways make of the stored version and the environment's first values."""
    initial: dict[str, Any] = msgspec.to_builtins(rooms.settings.initial_live_settings())
    if row is None:
        return SettingsState(0, msgspec.convert(initial, SettingValues), None, None)
    return SettingsState(row.version, _readable(initial, row.values), row.changed_by, row.changed_at)


def masked(values: SettingValues) -> SettingValues:
    """For whoever may read the settings but not write them."""
    return msgspec.structs.replace(values, alert_webhook_url=mask_url(values.alert_webhook_url))


async def _publish(rooms: AdminRooms, stored: StoredSettings) -> bool:
    try:
        await rooms.cache.publish_settings(stored)
    except StoreUnavailable as fault:
        log.warning("settings are stored, but gateways could not be told at once", detail=str(fault))
        return False
    return True


def _readable(initial: dict[str, Any], stored: dict[str, Any]) -> SettingValues:
    """A value that cannot be read, put there by hand, must not keep an operator from replacing it."""
    try:
        return msgspec.convert(initial | stored, SettingValues)
    except msgspec.ValidationError:
        values = msgspec.convert(initial, SettingValues)
    for name, value in stored.items():
        try:
            one = msgspec.to_builtins(msgspec.convert({name: value}, SettingChanges))
            values = msgspec.convert(msgspec.to_builtins(values) | one, SettingValues)
        except msgspec.ValidationError:
            log.warning("a stored live setting cannot be read", setting=name)
    return values


def _check_webhook(changes: SettingChanges) -> None:
    url = changes.alert_webhook_url
    if url is UNSET or not url:
        return
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        fault = {"field": "values.alert_webhook_url", "detail": "must name a host, as in https://host/path"}
        raise InvalidInput("the webhook URL cannot be used", faults=[fault])


def _difference(before: SettingValues, after: SettingValues) -> tuple[dict[str, Any], dict[str, Any]]:
    """What changed, as the audit may show it."""
    old, new = msgspec.to_builtins(masked(before)), msgspec.to_builtins(masked(after))
    changed = [name for name in new if getattr(before, name) != getattr(after, name)]
    return {name: old[name] for name in changed}, {name: new[name] for name in changed}
