"""Operators and their sessions as they lie in PostgreSQL: what is read, and which rows a change locks.

Where it stands in the walk: `operations.operators`, `operations.sessions` and their controllers ask it, inside their
transaction.
"""

from typing import NamedTuple
from uuid import UUID

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.models.operators import AdminSessionRow, AdminUserRow

SESSIONS_MAX = 100
"""Live sessions of one operator: with one more, the one that was not used for longest ends."""

LOGIN_SQL = text("""
SELECT u.id, u.password_hash, u.disabled, u.version, EXISTS (
    SELECT FROM admin_session s WHERE s.user_id = u.id AND s.address <<= CAST(:network AS inet)
) AS known_there
FROM admin_user u WHERE lower(u.name) = lower(:name)
""")

LIVE_SESSIONS_SQL = text("""
SELECT * FROM admin_session
WHERE user_id = :user_id AND revoked_at IS NULL AND expires_at > now() ORDER BY created_at DESC, id LIMIT 200
""")

END_SURPLUS_SQL = text("""
UPDATE admin_session SET revoked_at = now() WHERE id IN (
    SELECT id FROM admin_session WHERE user_id = :user_id AND revoked_at IS NULL AND expires_at > now()
    ORDER BY used_at DESC, id OFFSET :keep
)
""")

END_SESSIONS_SQL = text("""
UPDATE admin_session SET revoked_at = now()
WHERE user_id = :user_id AND revoked_at IS NULL AND id IS DISTINCT FROM CAST(:but AS uuid)
""")


class LoginRecord(NamedTuple):
    """``known_there``: somebody signed in to it from that network before."""

    id: int
    password_hash: str
    disabled: bool
    version: int
    known_there: bool


class OperatorRepository(SQLAlchemyAsyncRepository[AdminUserRow]):
    """Failures of PostgreSQL come as SQLAlchemy's own: `problems` knows those."""

    model_type = AdminUserRow

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, wrap_exceptions=False)

    async def page(self, after_id: int, limit: int) -> list[AdminUserRow]:
        found = await self.session.scalars(
            select(AdminUserRow).where(AdminUserRow.id > after_id).order_by(AdminUserRow.id).limit(limit)
        )
        return list(found)

    async def locked(self, operator_id: int) -> AdminUserRow | None:
        """Locked until the end of the transaction, as it is now."""
        found: AdminUserRow | None = await self.session.scalar(
            select(AdminUserRow).where(AdminUserRow.id == operator_id).with_for_update()
        )
        return found

    async def lock_active_admins(self) -> set[int]:
        """Their ids. All are locked, in one order: of two who demote each other, the second sees what the first did."""
        found = await self.session.scalars(
            select(AdminUserRow.id)
            .where(AdminUserRow.role == "admin", AdminUserRow.disabled.is_(False))
            .order_by(AdminUserRow.id)
            .with_for_update()
        )
        return set(found)

    async def for_login(self, name: str, network: object) -> LoginRecord | None:
        row = (await self.session.execute(LOGIN_SQL, {"name": name, "network": network})).one_or_none()
        return None if row is None else LoginRecord(*row)

    async def end_sessions(self, operator_id: int, *, but: UUID | None = None) -> None:
        await self.session.execute(END_SESSIONS_SQL, {"user_id": operator_id, "but": but})


class SessionRepository(SQLAlchemyAsyncRepository[AdminSessionRow]):
    model_type = AdminSessionRow

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, wrap_exceptions=False)

    async def live(self, operator_id: int) -> list[AdminSessionRow]:
        """The newest first."""
        found = await self.session.scalars(
            select(AdminSessionRow).from_statement(LIVE_SESSIONS_SQL).params(user_id=operator_id)
        )
        return list(found)

    async def locked(self, session_id: UUID) -> AdminSessionRow | None:
        found: AdminSessionRow | None = await self.session.scalar(
            select(AdminSessionRow).where(AdminSessionRow.id == session_id).with_for_update()
        )
        return found

    async def end_surplus(self, operator_id: int) -> None:
        await self.session.execute(END_SURPLUS_SQL, {"user_id": operator_id, "keep": SESSIONS_MAX})
