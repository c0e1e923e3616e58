"""PostgreSQL as the jobs use it: a small pool that is filled when needed, and a time limit on every piece of work.

Where it stands in the walk: below the jobs. `proxy_core.store` holds requests to milliseconds and stops asking after a
failure; jobs have seconds, their own back-off, and transactions.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from proxy_core.asking import FAILURES, Connection, ask, make_pool

__all__ = ["FAILURES", "Connection", "Postgres", "describe"]

T = TypeVar("T")


class Postgres:
    """One a process. ``aclose`` is idempotent and does not wait for the server."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, dsn: str, *, max_connections: int = 4) -> "Postgres":
        """Returns at once, also while PostgreSQL is down: connections are made by the work that needs them."""
        return cls(await make_pool(dsn, "sentinel-worker", max_connections))

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, limit_s: float) -> T:
        """Raises `FAILURES`. Cut short by the limit or by cancellation, the connection is closed: rolled back."""
        return await ask(self._pool, work, limit_s)

    async def aclose(self) -> None:
        self._pool.terminate()


def describe(fault: BaseException) -> str:
    """For logs. Never the message of a data error: asyncpg puts values into it."""
    if isinstance(fault, asyncpg.SyntaxOrAccessError):
        return f"{type(fault).__name__} ({fault}): is the schema migrated?"
    return "time limit" if isinstance(fault, TimeoutError) else type(fault).__name__
