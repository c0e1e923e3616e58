"""Asking PostgreSQL within a time limit: the pool that is asked through, and one question to one of its connections.

Where it stands in the walk: below `store`, which holds requests to milliseconds, and below the jobs of the control
plane, which have seconds.

A time limit closes the connection. Cancelling asyncpg waits for the server to answer the cancellation, and a server
that hangs (SIGSTOP, dead network) never does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import asyncpg

from proxy_core.time_limit import TimeLimit

T = TypeVar("T")
Connection = Any  # asyncpg's connection or its pool proxy; the stubs give them unrelated types

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What `ask` raises for PostgreSQL's part, besides what the question itself raises.

InternalClientError is what asyncpg says of a connection whose server died while it lay in the pool.
"""


async def make_pool(dsn: str, application_name: str, max_connections: int) -> "asyncpg.Pool[asyncpg.Record]":
    """Returns at once, also while PostgreSQL is down: connections are made by the questions that need them."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=max_connections,
        connection_class=_Connection,
        max_inactive_connection_lifetime=300,
        server_settings={"application_name": application_name, "jit": "off"},
    )


async def ask(
    pool: "asyncpg.Pool[asyncpg.Record]", question: Callable[[Connection], Awaitable[T]], limit_s: float
) -> T:
    """Raises `FAILURES`, TimeoutError when ``limit_s`` are over. Cut short by that, or cancelled, it closes the
    connection: what was not committed is rolled back.
    """
    acquiring = asyncio.timeout(None)
    limit = TimeLimit(limit_s, partial(acquiring.reschedule, 0))
    try:
        async with acquiring:  # nothing was asked yet: cancelling waits for nobody
            connection: Connection = await pool.acquire()
        limit.expired = connection.terminate
        try:
            answer = await question(connection)
        except asyncpg.PostgresError:
            limit.cancel()  # it must not meet a connection that is somebody else's
            await pool.release(connection)  # the server answered: the connection is sound
            raise
        except BaseException as exc:
            connection.terminate()
            if limit.is_over and isinstance(exc, FAILURES):
                raise TimeoutError from exc
            raise
    finally:
        limit.cancel()
    await pool.release(connection)
    return answer


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        """Nothing: no question changes the session beyond its transaction, and each would cost a round trip more."""
        return ""
