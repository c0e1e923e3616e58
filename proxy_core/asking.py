"""Asking PostgreSQL within a time limit: the pool that is asked through, and one question to one of its connections.

Where it stands in the walk: below `store`, which holds requests to milliseconds, and below the jobs of the control
plane, which have seconds.

A time limit closes the connection. Cancelling asyncpg waits for the server to answer the cancellation, and a server
that hangs (SIGSTOP, dead network) never does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

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
    pool: "asyncpg.Pool[asyncpg.Record]", question: Callable[[Connection], Awaitable[T]], deadline: float
) -> T:
    """``deadline`` by the loop's clock. Raises `FAILURES`. Cut short by it, or cancelled, it closes the connection:
    what was not committed is rolled back.
    """
    async with asyncio.timeout_at(deadline):  # nothing was asked yet: cancelling these two waits for nobody
        connection: Connection = await pool.acquire()
    timer = asyncio.get_running_loop().call_at(deadline, connection.terminate)
    try:
        answer = await question(connection)
    except asyncpg.PostgresError:
        timer.cancel()  # it must not meet a connection that is somebody else's
        await pool.release(connection)  # the server answered: the connection is sound
        raise
    except BaseException:
        connection.terminate()
        raise
    finally:
        timer.cancel()
    await pool.release(connection)
    return answer


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        """Nothing: no question changes the session beyond its transaction, and each would cost a round trip more."""
        return ""
