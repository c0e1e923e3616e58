"""Service tokens, for scripts."""

from typing import Annotated, Any

from litestar import Controller, delete, get, post
from litestar.params import Parameter

from admin_api.actors import Actor, Scope
from admin_api.errors import NotFound
from admin_api.guards import requires
from admin_api.models.operators import ServiceTokenRow
from admin_api.openapi import problems
from admin_api.operations import networks
from admin_api.operations import tokens as operations
from admin_api.operations.tokens import NewToken
from admin_api.repositories import cursors
from admin_api.repositories.tokens import TokenRepository
from admin_api.rooms import AdminRooms
from admin_api.schemas.tokens import ServiceToken, ServiceTokenMade, ServiceTokenNew, ServiceTokens

SORT = "tokens:desc"
NEWEST = 2**63 - 1
WRITE: Any = [requires(Scope.TOKENS_WRITE)]

Id = Annotated[int, Parameter(ge=1, le=2**63 - 1)]
Limit = Annotated[int, Parameter(ge=1, le=200)]
Cursor = Annotated[str | None, Parameter(description="`next` of the page before", max_length=1024)]


class TokensController(Controller):
    path = "/tokens"
    tags = ("service tokens",)

    @get(summary="List service tokens, newest first", guards=[requires(Scope.TOKENS_READ)], responses=problems())
    async def list(self, rooms: AdminRooms, limit: Limit = 50, cursor: Cursor = None) -> ServiceTokens:
        """Revoked ones too: they are what audit rows speak of."""
        before_id = NEWEST if cursor is None else cursors.decode(cursor, SORT, (int,))[0]
        async with rooms.sessions() as session:
            rows = await TokenRepository(session).page(before_id, limit + 1)
        shown = rows[:limit]
        following = cursors.encode(SORT, shown[-1].id) if len(rows) > limit else None
        return ServiceTokens([_view(row) for row in shown], following)

    @post(summary="Make a service token", guards=WRITE, responses=problems())
    async def add(self, rooms: AdminRooms, actor: Actor, data: ServiceTokenNew) -> ServiceTokenMade:
        """The answer is the only one that shows it. A token has no scope, network or day more than its maker."""
        new = NewToken(data.name, data.scopes, networks.parse_all(data.networks), data.expires_at)
        async with rooms.sessions.begin() as session:
            token, row = await operations.add(session, actor, new)
        return ServiceTokenMade(token, _view(row))

    @delete(
        "/{token_id:int}", status_code=204, summary="Revoke a service token", guards=WRITE, responses=problems(NotFound)
    )
    async def revoke(self, rooms: AdminRooms, actor: Actor, token_id: Id) -> None:
        """At once. It stays in the list."""
        async with rooms.sessions.begin() as session:
            await operations.revoke(session, actor, token_id)


def _view(row: ServiceTokenRow) -> ServiceToken:
    return ServiceToken(
        row.id,
        row.name,
        row.hint,
        list(row.scopes),
        [str(network) for network in row.networks],
        row.created_by,
        row.created_at,
        row.expires_at,
        row.used_at,
        row.revoked_at,
    )
