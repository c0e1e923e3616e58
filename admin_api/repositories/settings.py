"""The versions of the live settings, as PostgreSQL has them.

Where they stand in the walk: `controllers.settings` shows them, `operations.settings` adds one.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.models.operators import RuntimeSettingRow


async def latest(session: AsyncSession) -> RuntimeSettingRow | None:
    """The version in force; None: nothing was stored yet."""
    newest_first = select(RuntimeSettingRow).order_by(RuntimeSettingRow.version.desc()).limit(1)
    return (await session.execute(newest_first)).scalar_one_or_none()


async def before(session: AsyncSession, version: int | None, limit: int) -> Sequence[RuntimeSettingRow]:
    """Up to ``limit`` versions older than ``version`` (None: the newest), newest first."""
    older = select(RuntimeSettingRow).order_by(RuntimeSettingRow.version.desc()).limit(limit)
    if version is not None:
        older = older.where(RuntimeSettingRow.version < version)
    return (await session.execute(older)).scalars().all()
