"""``/gateways``: who serves requests, and whether what they record arrives."""

from litestar import Controller, get

from admin_api import gateways
from admin_api.actors import Scope
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.rooms import AdminRooms
from admin_api.schemas.gateways import Gateways


class GatewaysController(Controller):
    path = "/gateways"
    tags = ("gateways",)

    @get(
        "/",
        guards=[requires(Scope.METRICS_READ)],
        summary="Gateways with their workers, and the event stream",
        responses=problems(),
    )
    async def read(self, rooms: AdminRooms) -> Gateways:
        return gateways.listed(await gateways.workers(rooms.redis), await gateways.stream(rooms.redis))
