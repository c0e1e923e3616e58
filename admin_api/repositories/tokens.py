"""Service tokens as they lie in PostgreSQL. Where it stands in the walk: `operations.tokens` and its controller ask."""

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.models.operators import ServiceTokenRow


class TokenRepository(SQLAlchemyAsyncRepository[ServiceTokenRow]):
    """Failures of PostgreSQL come as SQLAlchemy's own: `problems` knows those."""

    model_type = ServiceTokenRow

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, wrap_exceptions=False)

    async def page(self, before_id: int, limit: int) -> list[ServiceTokenRow]:
        """The newest first."""
        found = await self.session.scalars(
            select(ServiceTokenRow)
            .where(ServiceTokenRow.id < before_id)
            .order_by(ServiceTokenRow.id.desc())
            .limit(limit)
        )
        return list(found)

    async def locked(self, token_id: int) -> ServiceTokenRow | None:
        found: ServiceTokenRow | None = await self.session.scalar(
            select(ServiceTokenRow).where(ServiceTokenRow.id == token_id).with_for_update()
        )
        return found
