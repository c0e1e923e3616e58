"""The upstream: the pool that keeps connections for reuse, opens new ones, and enforces their limits.

Where it stands in the walk: `handler` acquires a `Connection` here for one exchange and releases it afterwards.

A request is never sent twice. If a reused connection turns out to be closed before a byte was written, another one is
taken; after that the failure is the client's to see, since the upstream may already have begun to spend its quota.
"""

import asyncio
import collections
import ssl
import time

import msgspec

from proxy_core.errors import UpstreamBusy, UpstreamCut, UpstreamError, UpstreamTimeout
from proxy_core.exchange import Connection, Limits

SWEEP_INTERVAL_S = 0.25


class Origin(msgspec.Struct, frozen=True):
    """Where the upstream listens. ``tls`` None means plain TCP; otherwise certificates are verified for ``host``."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Upstream:
    """The connections to one origin: idle ones are reused last in, first out, so that surplus ones can age away."""

    def __init__(self, origin: Origin, limits: Limits) -> None:
        self._origin = origin
        self._limits = limits
        self._idle: collections.deque[Connection] = collections.deque()
        self._open: set[Connection] = set()
        self._sent_bytes = self._received_bytes = 0
        self._connecting = 0
        self._queue: collections.deque[asyncio.Future[Connection | None]] = collections.deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Upstream {len(self._open)} open, {len(self._idle)} idle, {len(self._queue)} waiting>"

    @property
    def under_way(self) -> int:
        """Exchanges that have a connection at this moment."""
        return len(self._open) - len(self._idle)

    @property
    def sent_bytes(self) -> int:
        """Since the start, with heads and the framing of bodies."""
        return self._sent_bytes + sum(connection.sent_bytes for connection in self._open)

    @property
    def received_bytes(self) -> int:
        return self._received_bytes + sum(connection.received_bytes for connection in self._open)

    def start(self) -> None:
        """Begins to enforce time limits; needs a running loop."""
        self._sweep()

    def take_idle(self) -> Connection | None:
        """A kept connection that is still open, without waiting."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    async def acquire(self) -> Connection:
        """A connection for one exchange, to be given back with `release`. Raises UpstreamError."""
        connection = self.take_idle()
        while connection is None:
            if len(self._open) + self._connecting < self._limits.connections:
                return await self._connect()
            connection = await self._queue_up()
        return connection

    def release(self, connection: Connection) -> None:
        """Takes a connection back; keeps it only if its exchange ended so that the next can begin. Idempotent."""
        if not connection.busy:
            return
        reusable = connection.can_be_reused and self._limits.keepalive_s > 0 and not self._closed
        connection.busy = False
        if not reusable:
            connection.discard()
            return
        self._give(connection)

    async def aclose(self) -> None:
        """Breaks off whatever is under way. Idempotent; an orderly stop drains the handlers first."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for ticket in self._queue:
            ticket.cancel()
        self.cut()
        self._idle.clear()

    def cut(self) -> None:
        """Breaks off every exchange that is under way."""
        for connection in tuple(self._open):
            connection.fail(UpstreamCut("the gateway is stopping"))

    async def _connect(self) -> Connection:
        self._connecting += 1
        limit = self._limits.connect_s
        origin = self._origin
        try:
            async with asyncio.timeout(limit):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._limits, self._forget),
                    origin.host,
                    origin.port,
                    ssl=origin.tls,
                    server_hostname=origin.host if origin.tls is not None else None,
                )
        except TimeoutError as exc:
            raise UpstreamTimeout(f"the upstream did not accept a connection within {limit} s") from exc
        except OSError as exc:
            raise UpstreamError(f"the upstream cannot be reached: {type(exc).__name__}") from exc
        else:
            if connection.is_open:
                self._open.add(connection)
            return connection
        finally:
            self._connecting -= 1
            self._announce_room()

    async def _queue_up(self) -> Connection | None:
        """Waits for a connection given back, or for None: there is room to open one."""
        ticket: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._queue.append(ticket)
        try:
            async with asyncio.timeout(self._limits.pool_wait_s):
                return await ticket
        except BaseException as exc:
            if ticket.done() and not ticket.cancelled():
                self._give(ticket.result())  # it came in the very moment in which we stopped waiting for it
            else:
                self._queue.remove(ticket)
            if isinstance(exc, TimeoutError):
                raise UpstreamBusy("every connection to the upstream is taken") from exc
            raise

    def _give(self, connection: Connection | None) -> None:
        """Hands a connection, or the news that there is room for one (None), to the first who waits, or keeps it."""
        while self._queue:
            ticket = self._queue.popleft()
            if not ticket.done():
                ticket.set_result(connection)
                return
        if connection is not None:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._sent_bytes += connection.sent_bytes
        self._received_bytes += connection.received_bytes
        self._announce_room()

    def _announce_room(self) -> None:
        if self._queue and len(self._open) + self._connecting < self._limits.connections:
            self._give(None)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in tuple(self._open):
            connection.check_deadline(now)
        oldest = now - self._limits.keepalive_s
        while self._idle and (self._idle[0].idle_since < oldest or not self._idle[0].is_open):
            self._idle.popleft().abort()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep)
