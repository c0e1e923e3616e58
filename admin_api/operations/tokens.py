"""Service tokens are made and revoked here. A token never reaches further than whoever made it.

Where it stands in the walk: the controller `tokens` calls it; `authentication` looks tokens up on each request.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import Actor, ActorKind, Scope
from admin_api.authentication import SERVICE_TOKEN_PREFIX, token_hash
from admin_api.errors import InvalidInput, NotAllowed, NotAuthenticated, NotFound
from admin_api.models.operators import ServiceTokenRow
from admin_api.operations import audit
from admin_api.operations.networks import IPNetwork
from admin_api.repositories.tokens import TokenRepository

LONGEST_LIFE = timedelta(days=3650)
HINT_CHARACTERS = len(SERVICE_TOKEN_PREFIX) + 4


class NewToken(msgspec.Struct, frozen=True):
    """``scopes`` as they were sent; ``expires_at`` None: until it is revoked."""

    name: str
    scopes: Sequence[str]
    networks: Sequence[IPNetwork]
    expires_at: datetime | None


async def add(session: AsyncSession, actor: Actor, new: NewToken) -> tuple[str, ServiceTokenRow]:
    """The token itself, which is not kept, and its row. Raises InvalidInput, NotAllowed."""
    scopes = _scopes(actor, new.scopes)
    await _refuse_bad_end(session, new.expires_at)
    if actor.kind is ActorKind.TOKEN:
        await _refuse_beyond_parent(session, actor, new)
    token = SERVICE_TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = ServiceTokenRow(
        name=new.name,
        token_hash=token_hash(token),
        hint=token[:HINT_CHARACTERS],
        scopes=sorted(scopes),
        networks=list(new.networks),
        created_by=actor.name,
        expires_at=new.expires_at,
    )
    await TokenRepository(session).add(row, auto_refresh=True)
    await audit.record(session, actor, "token:add", "token", row.id, subject_name=row.name, after=state(row))
    return token, row


async def revoke(session: AsyncSession, actor: Actor, token_id: int) -> None:
    """From now on it is worth nothing; once more changes nothing. Raises NotFound."""
    row = await TokenRepository(session).locked(token_id)
    if row is None:
        raise NotFound("there is no such token")
    if row.revoked_at is None:
        row.revoked_at = func.now()
        await audit.record(session, actor, "token:revoke", "token", row.id, subject_name=row.name, before=state(row))


def state(row: ServiceTokenRow) -> dict[str, object]:
    """What the audit keeps of a token."""
    return {
        "name": row.name,
        "hint": row.hint,
        "scopes": list(row.scopes),
        "networks": [str(network) for network in row.networks],
        "expires_at": row.expires_at,
    }


def _scopes(actor: Actor, wanted: Sequence[str]) -> set[str]:
    known = {scope.value for scope in Scope}
    for index, scope in enumerate(wanted):
        if scope not in known:
            raise _fault(f"scopes[{index}]", f"is none of {', '.join(sorted(known))}")
        if not actor.may(Scope(scope)):
            raise NotAllowed(f"a token cannot have {scope}, which you do not have", scope=scope)
    return set(wanted)


async def _refuse_bad_end(session: AsyncSession, expires_at: datetime | None) -> None:
    now: datetime = (await session.execute(text("SELECT now()"))).scalar_one()
    if expires_at is not None and expires_at <= now:
        raise _fault("expires_at", "is over already")
    if expires_at is not None and expires_at > now + LONGEST_LIFE:
        raise _fault("expires_at", f"is more than {LONGEST_LIFE.days} days ahead: leave it out for a token without end")


async def _refuse_beyond_parent(session: AsyncSession, actor: Actor, new: NewToken) -> None:
    """A token that is made with a token lives no longer, and is good from nowhere else."""
    parent = await TokenRepository(session).locked(actor.id)
    if parent is None:
        raise NotAuthenticated("the service token is gone")
    if parent.expires_at is not None and (new.expires_at is None or new.expires_at > parent.expires_at):
        raise NotAllowed("a token cannot live longer than the one that makes it")
    limits = [ipaddress.ip_network(str(network)) for network in parent.networks]
    inside = all(any(_contains(limit, network) for limit in limits) for network in new.networks)
    if limits and not (new.networks and inside):
        raise NotAllowed("a token cannot be good from more networks than the one that makes it")


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    return (
        outer.version == inner.version
        and int(outer.network_address) <= int(inner.network_address)
        and int(inner.broadcast_address) <= int(outer.broadcast_address)
    )


def _fault(field: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{field} {detail}", faults=[{"field": field, "detail": detail}])
