"""``/dashboard``: how the house stands, in one quick answer that holds what it can when a store is away."""

import asyncio
from datetime import UTC, datetime

from litestar import Controller, get

from admin_api import gateways
from admin_api.actors import Scope
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.problems import POSTGRESQL_FAILURES
from admin_api.repositories import dashboard as repository
from admin_api.rooms import AdminRooms
from admin_api.schemas.dashboard import (
    Dashboard,
    GatewayCount,
    NewBinding,
    StoreStates,
    Today,
    TopIntercepted,
    Totals,
)
from proxy_core.errors import StoreUnavailable

Rows = tuple[Totals, TopIntercepted, list[NewBinding]]


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
