"""``/alerts``: what was raised, how its delivery went, and sending it anew."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import Parameter, SkipValidation

from admin_api.actors import Actor, Scope
from admin_api.controllers.bindings import Cursor, IdInPath, Limit
from admin_api.controllers.logs import From, To, moment
from admin_api.errors import NotFound
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.operations import alerts as operations
from admin_api.repositories import alerts as repository
from admin_api.repositories.alerts import AlertFilter
from admin_api.rooms import AdminRooms
from admin_api.schemas.alerts import AlertDetail, AlertKind, AlertPage, AlertStatus, Redeliver
from admin_api.schemas.common import NO_NUL, Results

Wanted = NamedDependency[SkipValidation[AlertFilter]]


def alert_filter(
    since: From = None,
    until: To = None,
    kind: AlertKind | None = None,
    status: AlertStatus | None = None,
    fingerprint: Annotated[str | None, Parameter(pattern="^[0-9a-fA-F]{64}$", description="of the key, in hex")] = None,
    binding_id: Annotated[int | None, Parameter(ge=1, le=2**63 - 1)] = None,
    hint: Annotated[
        str | None, Parameter(min_length=1, max_length=64, pattern=NO_NUL, description="how it begins")
    ] = None,
) -> AlertFilter:
    """What a query says of the alerts wanted. Raises InvalidInput."""
    return AlertFilter(
        since=moment(since, "from"),
        until=moment(until, "to"),
        kind=kind,
        status=status,
        fingerprint=None if fingerprint is None else bytes.fromhex(fingerprint),
        binding_id=binding_id,
        hint=hint,
    )


class AlertsController(Controller):
    path = "/alerts"
    tags = ("alerts",)
    dependencies = {"wanted": Provide(alert_filter, sync_to_thread=False)}  # noqa: RUF012 - Litestar's declaration

    @get("/", guards=[requires(Scope.ALERTS_READ)], summary="Alerts, newest first", responses=problems())
    async def list(self, rooms: AdminRooms, wanted: Wanted, limit: Limit = 50, cursor: Cursor = None) -> AlertPage:
        async with rooms.sessions() as session:
            return await repository.page(session, wanted, limit, cursor)

    @get(
        "/{alert_id:int}",
        guards=[requires(Scope.ALERTS_READ)],
        summary="One alert with its deliveries and their attempts",
        responses=problems(NotFound),
    )
    async def one(self, rooms: AdminRooms, alert_id: IdInPath) -> AlertDetail:
        async with rooms.sessions() as session:
            found = await repository.find(session, alert_id)
        if found is None:
            raise NotFound("there is no alert with this id (any more)")
        return found

    @post(
        "/redeliver",
        status_code=200,
        guards=[requires(Scope.ALERTS_WRITE)],
        summary="Send alerts anew",
        responses=problems(),
    )
    async def redeliver(self, rooms: AdminRooms, actor: Actor, data: Redeliver) -> Results:
        """Within seconds, under the same webhook id as before: a receiver that has it may pass over it."""
        async with rooms.sessions.begin() as session:
            results = await operations.redeliver(session, actor, data.ids, data.target_id, data.reason)
        return Results(results, published=True)
