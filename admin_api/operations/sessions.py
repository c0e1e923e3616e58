"""Signing in and out: sessions are made, renewed and ended here, each with its row in the audit.

Where it stands in the walk: the controller `auth` calls it; `lockout` is asked before a password is looked at.

Rules for whoever edits this file:

- Nobody learns whether a name exists: an unknown one waits, costs and answers as a known one does.
- A password is compared outside of any transaction: that takes long, and connections are few.
- A refresh token is good once. One that comes a second time was stolen, or its successor was: the session ends.
"""

import uuid
from datetime import timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import access_tokens
from admin_api.access_tokens import Claims
from admin_api.actors import SCOPES, Actor, ActorKind, Role, Scope
from admin_api.authentication import token_hash
from admin_api.errors import NotAllowed, NotAuthenticated, NotFound, WrongCredentials
from admin_api.lockout import Attempt, network_of
from admin_api.models.operators import AdminSessionRow, AdminUserRow
from admin_api.operations import audit
from admin_api.repositories.operators import LoginRecord, OperatorRepository, SessionRepository
from admin_api.rooms import AdminRooms

log = structlog.get_logger(__name__)

FIRST_OPERATOR = "admin"
USER_AGENT_MAX_CHARACTERS = 256


class Visitor(msgspec.Struct, frozen=True):
    """Who is at the door, before it is known who that is. ``now`` is a Unix second."""

    address: str | None
    user_agent: str
    request_id: str
    now: float


class Admission(msgspec.Struct, frozen=True):
    """A session that was made or renewed, with the two tokens that it is used with."""

    operator: AdminUserRow
    session_id: uuid.UUID
    access_token: str
    refresh_token: str
    expires_in_s: int


async def sign_in(rooms: AdminRooms, name: str, password: str, visitor: Visitor) -> Admission:
    """Raises WrongCredentials, TooManyAttempts."""
    record = await _record_of(rooms, name, visitor)
    attempt = await _check_password(rooms, name, password, record, visitor.address)
    if record is None:
        raise WrongCredentials
    renewed = await rooms.passwords.hash(password) if rooms.passwords.is_outdated(record.password_hash) else None
    async with rooms.sessions.begin() as session:
        operator = await OperatorRepository(session).locked(record.id)
        if operator is None or operator.disabled or operator.password_hash != record.password_hash:
            raise WrongCredentials
        operator.last_login_at = func.now()
        operator.password_hash = renewed or operator.password_hash
        admission = await _open(session, rooms, operator, visitor)
        actor = _actor(operator, admission.session_id, visitor)
        await audit.record(session, actor, "session:login", "session", admission.session_id, subject_name=operator.name)
    await rooms.lockout.succeeded(attempt)
    return admission


async def refresh(rooms: AdminRooms, refresh_token: str, visitor: Visitor) -> Admission:
    """Raises NotAuthenticated; if the token was used before, its session has ended then."""
    secret = rooms.settings.admin_jwt_secret.get_secret_value()
    session_id = access_tokens.read_refresh(secret, refresh_token)
    stolen = False
    async with rooms.sessions.begin() as session:
        row = await SessionRepository(session).locked(session_id)
        operator = None if row is None else await session.get(AdminUserRow, row.user_id)
        if row is None or operator is None or operator.disabled or row.revoked_at or await _is_over(session, row):
            raise NotAuthenticated("the session has ended")
        if row.refresh_hash != token_hash(refresh_token):
            stolen = True
            row.revoked_at = func.now()
            actor = _actor(operator, session_id, visitor)
            reason = "a refresh token was used a second time"
            await audit.record(session, actor, "session:revoke", "session", session_id, reason=reason)
        else:
            successor = access_tokens.issue_refresh(secret, session_id)
            row.refresh_hash = token_hash(successor)
            row.used_at = func.now()
            row.expires_at = func.now() + timedelta(days=rooms.settings.session_days)
    if stolen:
        log.warning("a refresh token was used a second time: its session has ended", address=visitor.address)
        raise NotAuthenticated("the refresh token was used before: its session has ended, sign in again")
    return _admission(rooms, operator, session_id, successor, visitor)


async def end(rooms: AdminRooms, actor: Actor, session_id: uuid.UUID) -> None:
    """One's own, or with `operators:write` anybody's; ended ones stay so. Raises NotFound."""
    async with rooms.sessions.begin() as session:
        row = await SessionRepository(session).locked(session_id)
        if row is None or (row.user_id != _user_id(actor) and not actor.may(Scope.OPERATORS_WRITE)):
            raise NotFound("there is no such session")
        if row.revoked_at is None:
            row.revoked_at = func.now()
            action = "session:logout" if str(session_id) == actor.session_id else "session:revoke"
            await audit.record(session, actor, action, "session", session_id)


async def change_password(rooms: AdminRooms, actor: Actor, old_password: str, new_password: str) -> None:
    """One's own; every other session ends. Raises WrongCredentials, TooManyAttempts, InvalidInput."""
    own_id = _user_id(actor)
    if own_id is None:
        raise NotAllowed("a service token has no password")
    async with rooms.sessions.begin() as session:
        record = await OperatorRepository(session).for_login(actor.name, None)
    if record is None or record.id != own_id:
        raise NotAuthenticated("the session has ended")
    # Signed in as they are, they are no strangers, wherever they are.
    record = record._replace(known_there=True)
    attempt = await _check_password(rooms, actor.name, old_password, record, actor.address)
    fresh_hash = await rooms.passwords.hash(new_password)
    async with rooms.sessions.begin() as session:
        operators = OperatorRepository(session)
        operator = await operators.locked(own_id)
        if operator is None or operator.password_hash != record.password_hash:
            raise WrongCredentials
        set_password(operator, fresh_hash)
        await operators.end_sessions(own_id, but=uuid.UUID(actor.session_id))
        await audit.record(session, actor, "operator:password", "operator", own_id, subject_name=actor.name)
    await rooms.lockout.succeeded(attempt)


def set_password(operator: AdminUserRow, password_hash: str) -> None:
    operator.password_hash = password_hash
    operator.password_changed_at = func.now()
    operator.version += 1


async def _record_of(rooms: AdminRooms, name: str, visitor: Visitor) -> LoginRecord | None:
    network = None if visitor.address is None else network_of(visitor.address)
    async with rooms.sessions.begin() as session:
        record = await OperatorRepository(session).for_login(name, network)
        nobody_yet = (
            record is None and (await session.execute(text("SELECT 1 FROM admin_user LIMIT 1"))).first() is None
        )
    if not nobody_yet:
        return record
    await _make_first_operator(rooms)
    async with rooms.sessions.begin() as session:
        return await OperatorRepository(session).for_login(name, network)


async def _make_first_operator(rooms: AdminRooms) -> None:
    """From ADMIN_PASSWORD. Of several gateways that find nobody, one makes it: the name is unique."""
    password = rooms.settings.admin_password
    if password is None:
        log.warning("there is no operator and no ADMIN_PASSWORD: make one with `sentinel user add`")
        return
    values = {"name": FIRST_OPERATOR, "role": Role.ADMIN.value}
    password_hash = await rooms.passwords.hash(password.get_secret_value())
    async with rooms.sessions.begin() as session:
        made = await session.scalar(
            insert(AdminUserRow)
            .values(**values, password_hash=password_hash)
            .on_conflict_do_nothing()
            .returning(AdminUserRow.id)
        )
        if made is not None:
            system = Actor(ActorKind.SYSTEM, "sentinel", frozenset())
            reason = "there was no operator yet: made from ADMIN_PASSWORD"
            await audit.record(
                session,
                system,
                "operator:add",
                "operator",
                made,
                subject_name=FIRST_OPERATOR,
                reason=reason,
                after=values,
            )


async def _check_password(
    rooms: AdminRooms, name: str, password: str, record: LoginRecord | None, address: str | None
) -> Attempt:
    stranger = record is None or not record.known_there
    version = 0 if record is None else record.version
    attempt = Attempt(f"{name.lower()}:{version}", address, stranger)
    await rooms.lockout.admit(attempt)
    password_hash = None if record is None or record.disabled else record.password_hash
    if not await rooms.passwords.matches(password_hash, password, stranger=stranger):
        # The name stays out of the log: people type their password there.
        log.warning("sign-in failed", address=address)
        raise WrongCredentials
    return attempt


async def _open(session: AsyncSession, rooms: AdminRooms, operator: AdminUserRow, visitor: Visitor) -> Admission:
    session_id = uuid.uuid4()
    token = access_tokens.issue_refresh(rooms.settings.admin_jwt_secret.get_secret_value(), session_id)
    sessions = SessionRepository(session)
    row: Any = AdminSessionRow(
        id=session_id,
        user_id=operator.id,
        refresh_hash=token_hash(token),
        expires_at=func.now() + timedelta(days=rooms.settings.session_days),
        address=visitor.address,
        user_agent=visitor.user_agent[:USER_AGENT_MAX_CHARACTERS],
    )
    await sessions.add(row)
    await sessions.end_surplus(operator.id)
    return _admission(rooms, operator, session_id, token, visitor)


def _admission(
    rooms: AdminRooms, operator: AdminUserRow, session_id: uuid.UUID, refresh_token: str, visitor: Visitor
) -> Admission:
    life_s = rooms.settings.access_token_minutes * 60
    secret = rooms.settings.admin_jwt_secret.get_secret_value()
    access = access_tokens.issue(secret, Claims(operator.id, session_id), now=visitor.now, life_s=life_s)
    return Admission(operator, session_id, access, refresh_token, life_s)


async def _is_over(session: AsyncSession, row: AdminSessionRow) -> bool:
    """By PostgreSQL's clock, as everywhere: gateways' clocks differ."""
    now = await session.scalar(text("SELECT now()"))
    return now is None or row.expires_at <= now


def _actor(operator: AdminUserRow, session_id: uuid.UUID, visitor: Visitor) -> Actor:
    scopes = SCOPES[Role(operator.role)]
    return Actor(
        ActorKind.USER, operator.name, scopes, operator.id, str(session_id), visitor.address, visitor.request_id
    )


def _user_id(actor: Actor) -> int | None:
    return actor.id if actor.kind is ActorKind.USER else None
