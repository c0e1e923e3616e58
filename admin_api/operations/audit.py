"""The audit row: who did what to which subject, with the subject before and after.

Where it stands in the walk: each operation writes it in the transaction of the change itself, so that neither is
there without the other. Never put a secret, a key or a password hash into ``before`` or ``after``.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.actors import Actor
from admin_api.models import AdminAuditRow


async def record(
    session: AsyncSession,
    actor: Actor,
    action: str,
    subject_kind: str,
    subject_id: object,
    *,
    subject_name: str = "",
    reason: str = "",
    before: Mapping[str, Any] | msgspec.Struct | None = None,
    after: Mapping[str, Any] | msgspec.Struct | None = None,
) -> None:
    """``action`` is ``binding:ban``, ``settings:change`` …; it becomes visible with the caller's commit."""
    session.add(
        AdminAuditRow(
            actor_kind=actor.kind.value,
            actor=actor.name,
            # asyncpg wants an address, not its text
            address=None if actor.address is None else ipaddress.ip_address(actor.address),
            action=action,
            subject_kind=subject_kind,
            subject_id=str(subject_id),
            subject_name=subject_name,
            reason=reason,
            before=_plain(before),
            after=_plain(after),
            request_id=actor.request_id,
        )
    )


def _plain(state: Mapping[str, Any] | msgspec.Struct | None) -> dict[str, Any] | None:
    """What JSON can hold: times become ISO 8601 text."""
    if state is None:
        return None
    plain: dict[str, Any] = msgspec.to_builtins(state, str_keys=True)
    return plain
