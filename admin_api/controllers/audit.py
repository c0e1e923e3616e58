"""``/audit``: who changed what, with the subject before and after."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import Parameter, QueryParameter

from admin_api.actors import Scope
from admin_api.controllers.logs import From, To, moment
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.repositories import audit as repository
from admin_api.repositories import cursors
from admin_api.repositories.audit import AuditFilter
from admin_api.rooms import AdminRooms
from admin_api.schemas.audit import AuditPage
from admin_api.schemas.common import NO_NUL


class AuditController(Controller):
    path = "/audit"
    tags = ("audit",)

    @get("/", guards=[requires(Scope.AUDIT_READ)], summary="Every change, newest first", responses=problems())
    async def page(
        self,
        rooms: AdminRooms,
        since: From = None,
        until: To = None,
        actor_name: Annotated[
            str | None, QueryParameter(name="actor", max_length=128, pattern=NO_NUL, description="a name")
        ] = None,
        action: Annotated[
            str | None,
            Parameter(max_length=128, pattern=NO_NUL, description="`binding:ban`, or `binding:` for all of a kind"),
        ] = None,
        subject_kind: Annotated[str | None, Parameter(max_length=128, pattern=NO_NUL)] = None,
        subject_id: Annotated[str | None, Parameter(max_length=128, pattern=NO_NUL)] = None,
        limit: Annotated[int, Parameter(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Parameter(max_length=cursors.MAX_CHARACTERS)] = None,
    ) -> AuditPage:
        wanted = AuditFilter(moment(since, "from"), moment(until, "to"), actor_name, action, subject_kind, subject_id)
        async with rooms.sessions.begin() as session:
            return await repository.page(session, wanted, limit, cursor)
