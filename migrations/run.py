"""Applies the migrations: what `sentinel migrate` and `sentinel up` do before anything else touches PostgreSQL."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

T = TypeVar("T")

ADVISORY_LOCK = 0x5E47_1E1D
"""Any number, always the same: of two processes that migrate at once, one waits and then finds nothing to do."""


def upgrade(pg_dsn: str) -> None:
    """Brings the schema to `head`, all of it in one transaction or nothing.

    Takes any DSN that asyncpg takes, also ``postgresql://user@/database?host=/socket/folder``. Not to be called while
    an event loop runs in this thread. Raises asyncpg's and SQLAlchemy's errors as they are: an operator reads them.
    """

    def migrate(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    _with_connection(pg_dsn, migrate)


def current(pg_dsn: str) -> str | None:
    """The database's revision; None: nothing was applied yet."""
    return _with_connection(pg_dsn, lambda connection: MigrationContext.configure(connection).get_current_revision())


def head() -> str:
    """The revision that this code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the installed package has lost its migrations")
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _with_connection(pg_dsn: str, work: Callable[[Connection], T]) -> T:
    async def run() -> T:
        # The DSN goes to asyncpg itself: SQLAlchemy's URLs do not know all forms of it.
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(pg_dsn), poolclass=NullPool
        )
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(run())
