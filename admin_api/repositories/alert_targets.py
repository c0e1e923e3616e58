"""Alert targets as they lie in PostgreSQL. Where it stands in the walk: `operations.alert_targets` and its controller
ask."""

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.models.alerts import AlertTargetRow


class TargetRepository(SQLAlchemyAsyncRepository[AlertTargetRow]):
    """Failures of PostgreSQL come as SQLAlchemy's own: `problems` knows those."""

    model_type = AlertTargetRow

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, wrap_exceptions=False)

    async def page(self, after_id: int, limit: int) -> list[AlertTargetRow]:
        found = await self.session.scalars(
            select(AlertTargetRow).where(AlertTargetRow.id > after_id).order_by(AlertTargetRow.id).limit(limit)
        )
        return list(found)

    async def locked(self, target_id: int) -> AlertTargetRow | None:
        found: AlertTargetRow | None = await self.session.scalar(
            select(AlertTargetRow).where(AlertTargetRow.id == target_id).with_for_update()
        )
        return found

    async def end_deliveries(self, target_id: int) -> None:
        """What is still to be sent to it is given up."""
        await self.session.execute(_END, {"id": target_id})


_END = text("""
UPDATE alert_delivery SET state = 'dead', next_at = NULL WHERE target_id = :id AND state = 'pending'
""")
