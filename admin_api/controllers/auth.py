"""Signing in and out, oneself, and sessions."""

import time
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, post, put
from litestar.params import Parameter

from admin_api.actors import SCOPES, Actor, ActorKind, Role, Scope
from admin_api.authentication import client_address, request_id
from admin_api.errors import (
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    TooManyAttempts,
    Unavailable,
    WrongCredentials,
)
from admin_api.models.operators import AdminUserRow
from admin_api.openapi import problems
from admin_api.operations import sessions as operations
from admin_api.operations.sessions import Admission, Visitor
from admin_api.repositories.operators import SessionRepository
from admin_api.rooms import AdminRooms
from admin_api.schemas.auth import Login, Me, PasswordChange, Refresh, Session, Sessions, SignedIn

OPEN: Any = (InvalidInput, Unavailable)
SIGN_IN_MAX_BYTES = 64 * 1024
"""What a stranger may send, who has no token yet."""

NO_SECURITY: list[dict[str, list[str]]] = [{}]
Id = Annotated[int, Parameter(ge=1, le=2**63 - 1)]


class SignInController(Controller):
    """The two paths that need no token."""

    tags = ("signing in",)
    request_max_body_size = SIGN_IN_MAX_BYTES

    @post(
        "/login",
        status_code=200,
        summary="Sign in",
        security=NO_SECURITY,
        responses=problems(WrongCredentials, TooManyAttempts, usual=OPEN),
    )
    async def login(self, request: Request[Any, Any, Any], rooms: AdminRooms, data: Login) -> SignedIn:
        admission = await operations.sign_in(rooms, data.name, data.password, _visitor(request, rooms))
        return _signed_in(admission)

    @post(
        "/refresh",
        status_code=200,
        summary="Renew the access token",
        security=NO_SECURITY,
        responses=problems(NotAuthenticated, usual=OPEN),
    )
    async def refresh(self, request: Request[Any, Any, Any], rooms: AdminRooms, data: Refresh) -> SignedIn:
        """The old refresh token is used up; sending one twice ends the session, since one of the two was stolen."""
        return _signed_in(await operations.refresh(rooms, data.refresh_token, _visitor(request, rooms)))


class MeController(Controller):
    """Whoever is signed in, whatever their scopes."""

    tags = ("signing in",)

    @post("/logout", status_code=204, summary="End this session", responses=problems())
    async def logout(self, rooms: AdminRooms, actor: Actor) -> None:
        await operations.end(rooms, actor, _session_of(actor))

    @get("/me", summary="Who is signed in", responses=problems())
    async def me(self, rooms: AdminRooms, actor: Actor) -> Me:
        if actor.kind is not ActorKind.USER:
            return Me(actor.kind.value, actor.id, actor.name, None, sorted(actor.scopes))
        async with rooms.sessions() as session:
            operator = await session.get(AdminUserRow, actor.id)
        if operator is None:
            raise NotAuthenticated("the operator is gone")
        return _me(operator, _session_of(actor))

    @put(
        "/me/password",
        status_code=204,
        summary="Change one's own password",
        responses=problems(WrongCredentials, TooManyAttempts),
    )
    async def change_password(self, rooms: AdminRooms, actor: Actor, data: PasswordChange) -> None:
        """Every other session ends."""
        await operations.change_password(rooms, actor, data.old_password, data.new_password)

    @get("/sessions", summary="List the sessions of an operator", responses=problems())
    async def sessions(self, rooms: AdminRooms, actor: Actor, operator_id: Id | None = None) -> Sessions:
        """One's own; those of another operator need `operators:read`."""
        wanted = operator_id if operator_id is not None else actor.id
        is_own = actor.kind is ActorKind.USER and wanted == actor.id
        if not is_own and (operator_id is None or not actor.may(Scope.OPERATORS_READ)):
            raise NotAllowed("this needs the scope operators:read", scope=Scope.OPERATORS_READ.value)
        async with rooms.sessions() as session:
            rows = await SessionRepository(session).live(wanted)
        return Sessions(
            [
                Session(
                    row.id,
                    row.user_id,
                    row.created_at,
                    row.used_at,
                    row.expires_at,
                    None if row.address is None else str(row.address),
                    row.user_agent,
                    str(row.id) == actor.session_id,
                )
                for row in rows
            ]
        )

    @delete("/sessions/{session_id:uuid}", status_code=204, summary="End a session", responses=problems(NotFound))
    async def end_session(self, rooms: AdminRooms, actor: Actor, session_id: UUID) -> None:
        """One's own; those of another operator need `operators:write`."""
        await operations.end(rooms, actor, session_id)


def _visitor(request: Request[Any, Any, Any], rooms: AdminRooms) -> Visitor:
    return Visitor(
        client_address(request, rooms), request.headers.get("user-agent", ""), request_id(request), time.time()
    )


def _session_of(actor: Actor) -> UUID:
    if not actor.session_id:
        raise NotAllowed("a service token has no session")
    return UUID(actor.session_id)


def _signed_in(admission: Admission) -> SignedIn:
    return SignedIn(
        admission.access_token,
        admission.expires_in_s,
        admission.refresh_token,
        admission.session_id,
        _me(admission.operator, admission.session_id),
    )


def _me(operator: AdminUserRow, session_id: UUID) -> Me:
    scopes = sorted(SCOPES[Role(operator.role)])
    return Me(ActorKind.USER.value, operator.id, operator.name, operator.role, list(scopes), session_id)
