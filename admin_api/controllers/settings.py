"""``/settings``: the live settings in force, a change of them, their history."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, get, put
from litestar.params import Parameter

from admin_api.actors import Actor, Scope
from admin_api.errors import Stale
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.operations import settings as operations
from admin_api.repositories import cursors, impact
from admin_api.repositories import settings as repository
from admin_api.rooms import AdminRooms
from admin_api.schemas.impact import Impact
from admin_api.schemas.settings import SettingsHistory, SettingsPut, SettingsState, SettingsVersion, mask_url

HISTORY_SORT = "settings"


class SettingsController(Controller):
    path = "/settings"
    tags = ("settings",)

    @get("/", guards=[requires(Scope.SETTINGS_READ)], summary="The live settings in force", responses=problems())
    async def read(self, rooms: AdminRooms, actor: Actor) -> SettingsState:
        """Who may not change them gets the webhook's URL masked: it can hold a token."""
        async with rooms.sessions.begin() as session:
            state = operations.in_force(rooms, await repository.latest(session))
        if actor.may(Scope.SETTINGS_WRITE):
            return state
        return msgspec.structs.replace(state, values=operations.masked(state.values))

    @put("/", guards=[requires(Scope.SETTINGS_WRITE)], summary="Change live settings", responses=problems(Stale))
    async def change(self, rooms: AdminRooms, actor: Actor, data: SettingsPut) -> SettingsState:
        """In force on every worker of every gateway within a second; requests under way keep what they began with."""
        return await operations.change(rooms, actor, data)

    @get(
        "/impact",
        guards=[requires(Scope.SETTINGS_READ), requires(Scope.LOGS_READ)],
        summary="What enforcement would have refused",
        responses=problems(),
    )
    async def impact(self, rooms: AdminRooms, days: Annotated[int, Parameter(ge=1, le=31)] = 7) -> Impact:
        """Of the requests that observe mode let through: those that would be refused if they came now."""
        async with rooms.sessions.begin() as session:
            return await impact.of_enforcing(session, days)

    @get(
        "/history",
        guards=[requires(Scope.SETTINGS_READ)],
        summary="Every version that was stored, newest first",
        responses=problems(),
    )
    async def history(
        self,
        rooms: AdminRooms,
        limit: Annotated[int, Parameter(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Parameter(max_length=cursors.MAX_CHARACTERS)] = None,
    ) -> SettingsHistory:
        older_than = cursors.decode(cursor, HISTORY_SORT, (int,))[0] if cursor else None
        async with rooms.sessions.begin() as session:
            rows = await repository.before(session, older_than, limit + 1)
        shown = rows[:limit]
        more = cursors.encode(HISTORY_SORT, shown[-1].version) if len(rows) > limit else None
        return SettingsHistory(
            [SettingsVersion(row.version, _masked(row.values), row.changed_by, row.changed_at) for row in shown], more
        )


def _masked(values: dict[str, Any]) -> dict[str, Any]:
    url = values.get("alert_webhook_url")
    return values | {"alert_webhook_url": mask_url(url)} if isinstance(url, str) else values
