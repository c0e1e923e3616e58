"""Authentication: a request's bearer token becomes an `Actor`, or the request ends with 401.

Where it stands in the walk: the first thing that happens to a request of the admin API, except on the few open paths.
A JWT is an operator's, anything that begins with `SERVICE_TOKEN_PREFIX` is a script's.
"""

import hashlib
import ipaddress
from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import access_tokens
from admin_api.actors import SCOPES, Actor, ActorKind, Role, Scope
from admin_api.errors import NotAuthenticated
from admin_api.rooms import AdminRooms
from proxy_core.errors import RequestRefused

SERVICE_TOKEN_PREFIX = "sst_"  # noqa: S105 - what every token begins with
TOKEN_MAX_CHARACTERS = 4096

SESSION_SQL = text("""
SELECT u.id, u.name, u.role FROM admin_session s JOIN admin_user u ON u.id = s.user_id
WHERE s.id = :session_id AND u.id = :user_id AND s.revoked_at IS NULL AND s.expires_at > now() AND NOT u.disabled
""")

# A busy script would otherwise write one row on each request, and wait for itself there.
TOKEN_SQL = text("""
WITH found AS (
    SELECT id, name, scopes, used_at FROM service_token
    WHERE token_hash = :token_hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
      AND (networks = '{}' OR CAST(:address AS inet) <<= ANY (networks))
), touched AS (
    UPDATE service_token t SET used_at = now() FROM found
    WHERE t.id = found.id AND (found.used_at IS NULL OR found.used_at < now() - interval '1 minute')
)
SELECT id, name, scopes FROM found
""")


class Authentication(AbstractAuthenticationMiddleware):
    """Litestar's hook; the work is in the functions below."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_MAX_CHARACTERS:
            raise NotAuthenticated("send the header Authorization: Bearer <token>")
        rooms: AdminRooms = connection.app.state.rooms
        address = client_address(connection, rooms)
        request = request_id(connection)
        async with rooms.sessions.begin() as session:
            if token.startswith(SERVICE_TOKEN_PREFIX):
                actor = await _script(session, token, address, request)
            else:
                actor = await _operator(session, rooms, token, address, request)
        return AuthenticationResult(user=actor, auth=None)


def client_address(connection: ASGIConnection[Any, Any, Any, Any], rooms: AdminRooms) -> str | None:
    """By the data plane's rule; None where it cannot be told, which bound tokens and lockouts treat as a stranger."""
    values = [value for name, value in connection.scope["headers"] if name == b"x-real-ip"]
    client = connection.scope.get("client")
    try:
        return rooms.addresses.read(client[0] if client else "", values).text
    except RequestRefused:
        return None


def request_id(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """What nginx calls the request, for the audit; empty if it calls it nothing."""
    return connection.headers.get("x-request-id", "")[:128]


def token_hash(token: str) -> bytes:
    """Service and refresh tokens have 256 random bits: a plain hash is as good as a slow one."""
    return hashlib.sha256(token.encode()).digest()


async def _operator(
    session: AsyncSession, rooms: AdminRooms, token: str, address: str | None, request_id: str
) -> Actor:
    claims = access_tokens.read(rooms.settings.admin_jwt_secret.get_secret_value(), token)
    found = await session.execute(SESSION_SQL, {"session_id": claims.session_id, "user_id": claims.user_id})
    row = found.one_or_none()
    if row is None:
        raise NotAuthenticated("the session has ended")
    return Actor(ActorKind.USER, row.name, SCOPES[Role(row.role)], row.id, str(claims.session_id), address, request_id)


async def _script(session: AsyncSession, token: str, address: str | None, request_id: str) -> Actor:
    known = {"token_hash": token_hash(token), "address": ipaddress.ip_address(address) if address else None}
    row = (await session.execute(TOKEN_SQL, known)).one_or_none()
    if row is None:
        raise NotAuthenticated("the service token is unknown, expired, revoked, or not for this address")
    scopes = frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope))
    return Actor(ActorKind.TOKEN, row.name, scopes, row.id, "", address, request_id)
