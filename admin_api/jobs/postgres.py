"""PostgreSQL as the jobs use it: a small pool that is filled when needed, and a time limit on every piece of work.

Where it stands in the walk: below the jobs. `proxy_core.store` holds requests to milliseconds and stops asking after a
failure; jobs have seconds, their own back-off, and transactions.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")
Connection = Any  # asyncpg's connection or its pool proxy; the stubs give them unrelated types

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What `Postgres.run` raises for PostgreSQL's part, besides what the work itself raises.

InternalClientError is what asyncpg says of a connection whose server died while it lay in the pool.
"""


class Postgres:
    """One a process. ``aclose`` is idempotent and does not wait for the server."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, dsn: str, *, max_connections: int = 4) -> "Postgres":
        """Returns at once, also while PostgreSQL is down: connections are made by the work that needs them."""
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=max_connections,
            connection_class=_Connection,
            max_inactive_connection_lifetime=300,
            server_settings={"application_name": "sentinel-worker", "jit": "off"},
        )
        return cls(pool)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, limit_s: float) -> T:
        """Raises `FAILURES`. Cut short by the limit or by cancellation, the connection is closed: rolled back.

        Closed and not cancelled, because cancelling asyncpg waits for an answer that a hanging server never gives.
        """
        deadline = asyncio.get_running_loop().time() + limit_s
        async with asyncio.timeout_at(deadline):  # nothing was asked yet: cancelling these two waits for nobody
            connection: Connection = await self._pool.acquire()
        timer = asyncio.get_running_loop().call_at(deadline, connection.terminate)
        try:
            answer = await work(connection)
        except asyncpg.PostgresError:
            await self._pool.release(connection)  # the server answered: the connection is sound
            raise
        except BaseException:
            connection.terminate()
            raise
        finally:
            timer.cancel()
        await self._pool.release(connection)
        return answer

    async def aclose(self) -> None:
        self._pool.terminate()


def describe(fault: BaseException) -> str:
    """For logs. Never the message of a data error: asyncpg puts values into it."""
    if isinstance(fault, asyncpg.SyntaxOrAccessError):
        return f"{type(fault).__name__} ({fault}): is the schema migrated?"
    return "time limit" if isinstance(fault, TimeoutError) else type(fault).__name__


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        """Nothing: no job changes the session beyond its transaction."""
        return ""
