"""``/dashboard``: how the house stands, in one quick answer that holds what it can when a store is away."""

import asyncio
from datetime import UTC, datetime, timedelta

from litestar import Controller, get

from admin_api import gateways
from admin_api.actors import Scope
from admin_api.controllers.logs import From, To, moment
from admin_api.errors import InvalidInput
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.problems import POSTGRESQL_FAILURES
from admin_api.repositories import dashboard as repository
from admin_api.repositories import history
from admin_api.repositories.history import LENGTHS, Span
from admin_api.rooms import AdminRooms
from admin_api.schemas.dashboard import (
    Dashboard,
    GatewayCount,
    History,
    HistoryStep,
    NewBinding,
    StoreStates,
    Today,
    TopIntercepted,
    Totals,
)
from proxy_core.errors import StoreUnavailable

Rows = tuple[Totals, TopIntercepted, list[NewBinding]]

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
POINTS_MAX = {HistoryStep.HOUR: 31 * 24, HistoryStep.DAY: 400}
SHOWN = {HistoryStep.HOUR: timedelta(days=1), HistoryStep.DAY: timedelta(days=30)}
"""Back from the end, when no beginning is asked for."""


class DashboardController(Controller):
    path = "/dashboard"
    tags = ("dashboard",)

    @get(
        "/",
        guards=[requires(Scope.BINDINGS_READ), requires(Scope.LOGS_READ)],
        summary="Today's figures, totals, and who is there",
        responses=problems(),
    )
    async def read(self, rooms: AdminRooms) -> Dashboard:
        now = datetime.now(UTC)
        counted, rows = await asyncio.gather(_of_redis(rooms, now), _of_postgresql(rooms))
        return Dashboard(
            at=now,
            stores=StoreStates(_state(counted), _state(rows)),
            today=counted[0] if counted else None,
            gateways=counted[1] if counted else None,
            totals=rows[0] if rows else None,
            most_intercepted=rows[1] if rows else None,
            newest_bindings=rows[2] if rows else None,
        )

    @get(
        "/history",
        guards=[requires(Scope.METRICS_READ)],
        summary="The same figures over time, by the hour or the day",
        responses=problems(),
    )
    async def history(
        self, rooms: AdminRooms, since: From = None, until: To = None, step: HistoryStep = HistoryStep.HOUR
    ) -> History:
        """Without ``to`` until now, without ``from`` a day of hours or thirty days. 744 hours or 400 days at most."""
        now = datetime.now(UTC)
        span = _span(moment(since, "from"), moment(until, "to"), step, now)
        async with rooms.sessions() as session:
            return await history.read(session, span, now)


def _span(since: datetime | None, until: datetime | None, step: HistoryStep, now: datetime) -> Span:
    """Raises InvalidInput for a beginning that lies in the future or behind the end, and for too many points."""
    until = now if until is None else min(until, now)
    if until < EARLIEST:
        raise _unusable("to", f"lies before {EARLIEST:%Y}")
    first = history.beginning(until - SHOWN[step] if since is None else since, step)
    if first >= until:
        raise _unusable("from", "must lie in the past, and before to")
    if until - first > POINTS_MAX[step] * LENGTHS[step]:
        raise _unusable("from", f"lies more than {POINTS_MAX[step]} {step.value}s before to")
    return Span(step, first, until)


def _unusable(field: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{field} {detail}", faults=[{"field": field, "detail": detail}])


async def _of_redis(rooms: AdminRooms, now: datetime) -> tuple[Today, GatewayCount] | None:
    try:
        today = await gateways.today(rooms.redis, now)
        found = await gateways.workers(rooms.redis)
    except StoreUnavailable:
        return None
    alive = [worker for worker in found if worker.alive]
    return today, GatewayCount(
        alive=len({worker.name for worker in alive}), known=len({worker.name for worker in found}), workers=len(alive)
    )


async def _of_postgresql(rooms: AdminRooms) -> Rows | None:
    try:
        async with rooms.sessions.begin() as session:
            return (
                await repository.totals(session),
                await repository.most_intercepted(session),
                await repository.newest_bindings(session),
            )
    except POSTGRESQL_FAILURES:
        return None


def _state(answer: object) -> str:
    return "unavailable" if answer is None else "available"
