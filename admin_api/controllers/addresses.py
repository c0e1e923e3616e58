"""``/address``: which address a gateway judges a request by, and whose word it takes for it."""

from litestar import Controller, post

from admin_api.actors import Scope
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.rooms import AdminRooms
from admin_api.schemas.impact import AddressDerived, AddressSeen
from proxy_core.errors import RequestRefused


class AddressesController(Controller):
    path = "/address"
    tags = ("settings",)

    @post(
        guards=[requires(Scope.SETTINGS_READ)],
        status_code=200,
        summary="Whose address a request of this peer and X-Real-IP counts as",
        responses=problems(),
    )
    async def derive(self, rooms: AdminRooms, data: AddressSeen) -> AddressDerived:
        """By this process' own trusted proxies, which are the gateways' if their settings are the same."""
        trusted = rooms.addresses.is_trusted(data.peer)
        proxies = [str(network) for network in rooms.settings.trusted_proxies]
        real_ip = [value.encode("latin-1", "replace") for value in data.real_ip]
        try:
            return AddressDerived(rooms.addresses.read(data.peer, real_ip).text, trusted, proxies)
        except RequestRefused as refused:
            return AddressDerived(None, trusted, proxies, refused.reason.value, refused.detail)
