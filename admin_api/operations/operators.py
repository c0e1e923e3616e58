"""Operators are made, changed and removed here. At least one active administrator always remains.

Where it stands in the walk: the controller `operators` and the local command `sentinel user` call it.

Rules for whoever edits this file:

- The active administrators are locked before the operator, always in this order: two who demote each other wait for one
  another, and the second is refused.
- Nobody makes, changes or removes an operator who may do more than they themselves.
- Service tokens set no password: whoever holds one that expires, or is good from one network, could make a way around.
"""

import uuid

import msgspec
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import SCOPES, Actor, ActorKind, Role
from admin_api.errors import Conflict, NotAllowed, NotFound, Stale
from admin_api.models.operators import AdminUserRow
from admin_api.operations import audit
from admin_api.operations.sessions import set_password
from admin_api.repositories.operators import OperatorRepository


class NewOperator(msgspec.Struct, frozen=True):
    name: str
    role: Role
    password_hash: str


class Edit(msgspec.Struct, frozen=True):
    """None leaves it as it is; ``version``: as it was when it was read."""

    version: int
    role: Role | None = None
    disabled: bool | None = None


async def add(session: AsyncSession, actor: Actor, new: NewOperator) -> AdminUserRow:
    """Raises Conflict if there is one of that name, however it is written; NotAllowed."""
    _refuse_token(actor)
    _refuse_beyond(actor, new.role)
    made: AdminUserRow | None = await session.scalar(
        insert(AdminUserRow)
        .values(name=new.name, role=new.role.value, password_hash=new.password_hash)
        .on_conflict_do_nothing()
        .returning(AdminUserRow)
    )
    if made is None:
        raise Conflict(f"there is an operator {new.name} already")
    await audit.record(session, actor, "operator:add", "operator", made.id, subject_name=made.name, after=state(made))
    return made


async def edit(session: AsyncSession, actor: Actor, operator_id: int, wanted: Edit) -> AdminUserRow:
    """What is so already is no change, and no fault. Raises NotFound, NotAllowed, Stale, Conflict."""
    admins, operator = await _locked(session, actor, operator_id)
    before = state(operator)
    role = operator.role if wanted.role is None else wanted.role.value
    disabled = operator.disabled if wanted.disabled is None else wanted.disabled
    if (role, disabled) == (operator.role, operator.disabled):
        return operator
    if wanted.version != operator.version:
        raise Stale("the operator was changed meanwhile", version=operator.version)
    _refuse_beyond(actor, Role(role))
    if role != Role.ADMIN or disabled:
        _refuse_last(admins, operator)
    operator.role, operator.disabled = role, disabled
    operator.version += 1
    if disabled:
        await OperatorRepository(session).end_sessions(operator_id)
    await audit.record(
        session, actor, "operator:edit", "operator", operator_id,
        subject_name=operator.name, before=before, after=state(operator),
    )  # fmt: skip
    return operator


async def reset_password(session: AsyncSession, actor: Actor, operator_id: int, password_hash: str) -> AdminUserRow:
    """Every session of the operator ends, but for the one that asks. Raises NotFound, NotAllowed."""
    _refuse_token(actor)
    _, operator = await _locked(session, actor, operator_id)
    before = state(operator)
    set_password(operator, password_hash)
    await session.flush()
    await session.refresh(operator)
    but = uuid.UUID(actor.session_id) if actor.session_id else None
    await OperatorRepository(session).end_sessions(operator_id, but=but)
    await audit.record(
        session, actor, "operator:reset_password", "operator", operator_id,
        subject_name=operator.name, before=before, after=state(operator),
    )  # fmt: skip
    return operator


async def remove(session: AsyncSession, actor: Actor, operator_id: int) -> None:
    """With all sessions; what they did stays in the audit. Raises NotFound, NotAllowed, Conflict."""
    admins, operator = await _locked(session, actor, operator_id)
    _refuse_last(admins, operator)
    await session.delete(operator)
    await audit.record(
        session, actor, "operator:remove", "operator", operator_id,
        subject_name=operator.name, before=state(operator),
    )  # fmt: skip


def state(operator: AdminUserRow) -> dict[str, object]:
    """What the audit keeps of an operator."""
    return {
        "name": operator.name,
        "role": operator.role,
        "disabled": operator.disabled,
        "version": operator.version,
    }


async def _locked(session: AsyncSession, actor: Actor, operator_id: int) -> tuple[set[int], AdminUserRow]:
    operators = OperatorRepository(session)
    admins = await operators.lock_active_admins()
    operator = await operators.locked(operator_id)
    if operator is None:
        raise NotFound("there is no such operator")
    _refuse_beyond(actor, Role(operator.role))
    return admins, operator


def _refuse_last(admins: set[int], operator: AdminUserRow) -> None:
    if admins == {operator.id}:
        raise Conflict(f"{operator.name} is the last active administrator")


def _refuse_beyond(actor: Actor, role: Role) -> None:
    if not SCOPES[role] <= actor.scopes:
        raise NotAllowed(f"the role {role.value} may do more than you")


def _refuse_token(actor: Actor) -> None:
    if actor.kind is ActorKind.TOKEN:
        raise NotAllowed("only an operator sets passwords")
