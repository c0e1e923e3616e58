"""Operators, for administrators."""

from typing import Annotated, Any, cast

from litestar import Controller, delete, get, patch, post
from litestar.params import Parameter
from msgspec import UNSET

from admin_api.actors import Actor, Role, Scope
from admin_api.errors import Conflict, NotFound, Stale
from admin_api.guards import requires
from admin_api.models.operators import AdminUserRow
from admin_api.openapi import problems
from admin_api.operations import operators as operations
from admin_api.operations.operators import Edit, NewOperator
from admin_api.repositories import cursors
from admin_api.repositories.operators import OperatorRepository
from admin_api.rooms import AdminRooms
from admin_api.schemas.operators import Operator, OperatorEdit, OperatorNew, Operators, PasswordReset, RoleName

SORT = "operators"
READ: Any = [requires(Scope.OPERATORS_READ)]
WRITE: Any = [requires(Scope.OPERATORS_WRITE)]

Id = Annotated[int, Parameter(ge=1, le=2**63 - 1)]
Limit = Annotated[int, Parameter(ge=1, le=200)]
Cursor = Annotated[str | None, Parameter(description="`next` of the page before", max_length=1024)]


class OperatorsController(Controller):
    path = "/operators"
    tags = ("operators",)

    @get(summary="List operators", guards=READ, responses=problems())
    async def list(self, rooms: AdminRooms, limit: Limit = 50, cursor: Cursor = None) -> Operators:
        after_id = 0 if cursor is None else cursors.decode(cursor, SORT, (int,))[0]
        async with rooms.sessions() as session:
            rows = await OperatorRepository(session).page(after_id, limit + 1)
        shown = rows[:limit]
        following = cursors.encode(SORT, shown[-1].id) if len(rows) > limit else None
        return Operators([_view(row) for row in shown], following)

    @post(summary="Add an operator", guards=WRITE, responses=problems(Conflict))
    async def add(self, rooms: AdminRooms, actor: Actor, data: OperatorNew) -> Operator:
        """Names differ by more than upper and lower case. Service tokens cannot do this."""
        password_hash = await rooms.passwords.hash(data.password)
        async with rooms.sessions.begin() as session:
            return _view(await operations.add(session, actor, NewOperator(data.name, Role(data.role), password_hash)))

    @patch(
        "/{operator_id:int}",
        summary="Change role or state",
        guards=WRITE,
        responses=problems(NotFound, Stale, Conflict),
    )
    async def edit(self, rooms: AdminRooms, actor: Actor, operator_id: Id, data: OperatorEdit) -> Operator:
        """Disabling ends every session of the operator. The last active administrator stays one."""
        role = None if data.role is UNSET else Role(data.role)
        disabled = None if data.disabled is UNSET else data.disabled
        async with rooms.sessions.begin() as session:
            return _view(await operations.edit(session, actor, operator_id, Edit(data.version, role, disabled)))

    @post(
        "/{operator_id:int}/password",
        status_code=200,
        summary="Set another password",
        guards=WRITE,
        responses=problems(NotFound),
    )
    async def reset_password(self, rooms: AdminRooms, actor: Actor, operator_id: Id, data: PasswordReset) -> Operator:
        """Ends every session of the operator but the one that asks. Service tokens cannot do this."""
        password_hash = await rooms.passwords.hash(data.password)
        async with rooms.sessions.begin() as session:
            return _view(await operations.reset_password(session, actor, operator_id, password_hash))

    @delete(
        "/{operator_id:int}",
        status_code=204,
        summary="Remove an operator",
        guards=WRITE,
        responses=problems(NotFound, Conflict),
    )
    async def remove(self, rooms: AdminRooms, actor: Actor, operator_id: Id) -> None:
        """With every session; the audit keeps what the operator did. The last active administrator stays."""
        async with rooms.sessions.begin() as session:
            await operations.remove(session, actor, operator_id)


def _view(row: AdminUserRow) -> Operator:
    return Operator(
        row.id,
        row.name,
        cast("RoleName", row.role),
        row.disabled,
        row.created_at,
        row.password_changed_at,
        row.last_login_at,
        row.version,
    )
