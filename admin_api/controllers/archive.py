"""The archive over HTTP: what was unbound or fell out of use, and restoring it."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.params import Parameter

from admin_api.actors import Actor, Scope
from admin_api.controllers.bindings import Cursor, Limit
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.operations import archive as operations
from admin_api.repositories import archive as repository
from admin_api.repositories.archive import ArchiveFilter
from admin_api.rooms import AdminRooms
from admin_api.schemas.bindings import ArchivePage, Restore
from admin_api.schemas.common import NO_NUL, Results


class ArchiveController(Controller):
    path = "/archive"
    tags = ("archive",)

    @get(summary="List removed bindings, latest first", guards=[requires(Scope.BINDINGS_READ)], responses=problems())
    async def list(
        self,
        rooms: AdminRooms,
        fingerprint: Annotated[str | None, Parameter(description="in hex", pattern="^[0-9a-fA-F]{64}$")] = None,
        hint: Annotated[str | None, Parameter(description="how the hint begins", max_length=16, pattern=NO_NUL)] = None,
        restored: bool | None = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> ArchivePage:
        """To find a key's, post the key to ``bindings/lookup`` and filter by its fingerprint."""
        wanted = ArchiveFilter(None if fingerprint is None else bytes.fromhex(fingerprint), hint or None, restored)
        async with rooms.sessions() as session:
            return await repository.page(session, wanted, limit, cursor)

    @post(
        "/restore",
        summary="Restore removed bindings",
        status_code=200,
        guards=[requires(Scope.BINDINGS_WRITE)],
        responses=problems(),
    )
    async def restore(self, rooms: AdminRooms, actor: Actor, data: Restore) -> Results:
        """A key that somebody owns by now keeps its owner: ``conflict``."""
        return await operations.restore(rooms, actor, data.ids, data.reason)
