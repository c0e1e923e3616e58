"""PostgreSQL as operators' writes and lists use it: SQLAlchemy's sessions over asyncpg.

Where it stands in the walk: `app` and `worker` make one engine a process. Jobs that have to bear a PostgreSQL that
hangs use `jobs.postgres` instead.
"""

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

POOL_SIZE = 8
TIMEOUT_S = 30.0


def make_engine(pg_dsn: str, application_name: str) -> AsyncEngine:
    """Connects when it is first used, so that it may be made while PostgreSQL is down."""
    return create_async_engine(
        "postgresql+asyncpg://",
        # The DSN goes to asyncpg itself: SQLAlchemy's URLs do not know all forms of it.
        async_creator=lambda: asyncpg.connect(
            pg_dsn,
            timeout=TIMEOUT_S,
            command_timeout=TIMEOUT_S,
            server_settings={
                "application_name": application_name,
                "jit": "off",
                # A plan made for any value walks the sort order where this value's own index has ten rows.
                "plan_cache_mode": "force_custom_plan",
            },
        ),
        pool_size=POOL_SIZE,
        pool_pre_ping=True,
    )
