"""``/alerts/targets``: where alerts go."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from litestar import Controller, delete, get, patch, post

from admin_api.actors import Actor, Scope
from admin_api.alerts import signing
from admin_api.alerts.sending import Target, trial
from admin_api.controllers.bindings import Cursor, IdInPath, Limit
from admin_api.errors import Conflict, NotFound, Stale
from admin_api.guards import requires
from admin_api.models.alerts import AlertTargetRow
from admin_api.openapi import problems
from admin_api.operations import alert_targets as operations
from admin_api.repositories import cursors
from admin_api.repositories.alert_targets import TargetRepository
from admin_api.rooms import AdminRooms
from admin_api.schemas.alerts import (
    Rotate,
    SecretView,
    SendResult,
    TargetEdit,
    TargetKind,
    TargetMade,
    TargetNew,
    Targets,
    TargetView,
    mask_target_url,
)

SORT = "alert targets"
READ: Any = [requires(Scope.ALERTS_READ)]
WRITE: Any = [requires(Scope.ALERT_TARGETS_WRITE)]


class AlertTargetsController(Controller):
    path = "/alerts/targets"
    tags = ("alerts",)

    @get("/", guards=READ, summary="List targets", responses=problems())
    async def list(self, rooms: AdminRooms, limit: Limit = 50, cursor: Cursor = None) -> Targets:
        after_id = 0 if cursor is None else cursors.decode(cursor, SORT, (int,))[0]
        async with rooms.sessions() as session:
            rows = await TargetRepository(session).page(after_id, limit + 1)
        shown = rows[:limit]
        following = cursors.encode(SORT, shown[-1].id) if len(rows) > limit else None
        return Targets([_view(row) for row in shown], following)

    @post("/", guards=WRITE, summary="Make a target", responses=problems())
    async def add(self, rooms: AdminRooms, actor: Actor, data: TargetNew) -> TargetMade:
        """The answer is the only one that shows a webhook's signing secret; nothing is sent yet."""
        await operations.check_url(rooms.sender, data.kind, data.url)
        async with rooms.sessions.begin() as session:
            row, secret = await operations.add(session, actor, data)
        return TargetMade(_view(row), secret)

    @get("/{target_id:int}", guards=READ, summary="One target", responses=problems(NotFound))
    async def one(self, rooms: AdminRooms, target_id: IdInPath) -> TargetView:
        return _view(await _find(rooms, target_id))

    @patch(
        "/{target_id:int}",
        guards=WRITE,
        summary="Change, enable or disable a target",
        responses=problems(NotFound, Stale, Conflict),
    )
    async def edit(self, rooms: AdminRooms, actor: Actor, target_id: IdInPath, data: TargetEdit) -> TargetView:
        """What waits for a target that is disabled is given up, and can be sent anew."""
        if data.url is not msgspec.UNSET:
            kind = TargetKind((await _find(rooms, target_id)).kind)
            await operations.check_url(rooms.sender, kind, data.url)
        async with rooms.sessions.begin() as session:
            return _view(await operations.edit(session, actor, target_id, data))

    @delete(
        "/{target_id:int}",
        status_code=204,
        guards=WRITE,
        summary="Remove a target",
        responses=problems(NotFound, Conflict),
    )
    async def remove(self, rooms: AdminRooms, actor: Actor, target_id: IdInPath) -> None:
        async with rooms.sessions.begin() as session:
            await operations.remove(session, actor, target_id)

    @post(
        "/{target_id:int}/test",
        status_code=200,
        guards=[requires(Scope.ALERTS_WRITE)],
        summary="Send a test",
        responses=problems(NotFound, Conflict),
    )
    async def test(self, rooms: AdminRooms, actor: Actor, target_id: IdInPath) -> SendResult:
        """Once and at once, also to a disabled target; answers with what happened, within a minute."""
        row = await _find(rooms, target_id)
        if not row.url:
            raise Conflict("the live setting alert_webhook_url is empty")
        result = await rooms.sender.send(msgspec.convert(row, Target, from_attributes=True), trial())
        async with rooms.sessions.begin() as session:
            await operations.note_test(session, actor, row, result)
        return result

    @post(
        "/{target_id:int}/rotate",
        status_code=200,
        guards=WRITE,
        summary="Make a new signing secret",
        responses=problems(NotFound, Conflict),
    )
    async def rotate(self, rooms: AdminRooms, actor: Actor, target_id: IdInPath, data: Rotate) -> TargetMade:
        """Messages carry the signatures of both while the present one stays good; the answer shows the new one."""
        async with rooms.sessions.begin() as session:
            row, secret = await operations.rotate(session, actor, target_id, timedelta(hours=data.keep_hours))
        return TargetMade(_view(row), secret)


async def _find(rooms: AdminRooms, target_id: int) -> AlertTargetRow:
    async with rooms.sessions() as session:
        row = await session.get(AlertTargetRow, target_id)
    if row is None:
        raise NotFound("there is no such target (any more)")
    return row


def _view(row: AlertTargetRow) -> TargetView:
    secrets = signing.live(row.secrets, datetime.now(UTC))
    return msgspec.convert(
        {
            "id": row.id,
            "name": row.name,
            "kind": row.kind,
            "url": mask_target_url(TargetKind(row.kind), row.url) if row.url else "",
            "events": list(row.events),
            "language": row.language,
            "enabled": row.enabled,
            "disabled_because": row.disabled_because,
            "from_setting": row.from_setting,
            "secrets": [SecretView(each.created_at, each.expires_at) for each in secrets],
            "created_by": row.created_by,
            "created_at": row.created_at,
            "changed_at": row.changed_at,
            "version": row.version,
        },
        TargetView,
    )
