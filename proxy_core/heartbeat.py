"""The heartbeat: every gateway worker says of itself what an operator wants to know, and what it counted today.

Where it stands in the walk: beside the requests. `app` tells it how to look at the worker; `admin_api.gateways` reads
what it leaves in Redis, for the console, the dashboard and Prometheus. Nothing here is the truth about bindings, and
nothing waits for it.

Rules for whoever edits this file:

- The request path pays nothing for it: it reads what the nouns count anyway.
- Day counters get what was counted since the last write that is known to have arrived. A write whose fate is unknown
  is repeated unchanged and under its identity until it is confirmed, and Redis adds an identity once: an outage of
  Redis neither loses nor doubles anything. Only a process that ends during one takes its share with it.
"""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy_core import keyspace
from proxy_core.tasks import Tasks

log = structlog.get_logger(__name__)

BEAT_EVERY_S = 2.0
BEAT_TIMEOUT_S = 1.0

BEAT = """
-- KEYS heartbeat, gateways, counted, day
-- ARGV heartbeat, its lifetime in ms, worker, seconds for which it is listed, identity of the increments, its lifetime
--      in s, the day's lifetime in s, and then outcome, increment, outcome, increment …
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.3f', at), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.3f', at - ARGV[4]))
if #ARGV > 7 and redis.call('GET', KEYS[3]) ~= ARGV[5] then
    for number = 8, #ARGV, 2 do
        redis.call('HINCRBY', KEYS[4], ARGV[number], ARGV[number + 1])
    end
    redis.call('EXPIRE', KEYS[4], ARGV[7])
    redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[6])
end
"""


class Vitals(msgspec.Struct, frozen=True):
    """A worker at one moment, as it lies in Redis. ``counts``: outcomes since ``started_at`` (Unix seconds).

    Gateways and control planes of two versions meet during an upgrade: fields are only added, with defaults.
    """

    name: str
    pid: int
    version: str
    started_at: float
    workers: int = 1
    settings_version: int = 0
    draining: bool = False
    open_exchanges: int = 0
    redis_available: bool = True
    postgresql_available: bool = True
    touches_pending: int = 0
    intercepts_pending: int = 0
    batches_unconfirmed: int = 0
    batches_dropped: int = 0
    spooled_bytes: int = 0
    counts: dict[str, int] = {}


class _Increments(msgspec.Struct, frozen=True):
    """What is to be added to a day, once."""

    identity: bytes
    day: str
    by: dict[str, int]


class Heartbeat:
    """One a worker process. ``look`` must not wait; ``clock`` gives Unix seconds."""

    def __init__(
        self, redis: Redis, tasks: Tasks, look: Callable[[], Vitals], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._redis: Any = redis  # its answers are typed as "awaitable or not"
        self._tasks = tasks
        self._look = look
        self._clock = clock
        self._script = redis.register_script(BEAT)
        self._encode = msgspec.msgpack.Encoder().encode
        self._confirmed: dict[str, int] = {}
        self._on_their_way: _Increments | None = None
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    def start(self) -> None:
        self._tasks.repeat(self._beat_on, every_s=BEAT_EVERY_S, name="heartbeat")

    async def beat(self) -> bool:
        """False: Redis did not take it, or not for certain. What was counted stays to be sent."""
        async with self._one_at_a_time:
            return await self._beat()

    async def aclose(self) -> None:
        """Says the last of the counters, then takes the worker off the list. Idempotent; gives up without Redis."""
        if self._closed:
            return
        self._closed = True
        async with self._one_at_a_time:
            uncertain = self._on_their_way is not None
            if not await self._beat() or (uncertain and not await self._beat()):
                return
            vitals = self._look()
            worker = keyspace.gateway_worker(vitals.name, vitals.pid)
            try:
                async with asyncio.timeout(BEAT_TIMEOUT_S):
                    await self._redis.zrem(keyspace.GATEWAYS, worker)
                    await self._redis.delete(keyspace.heartbeat(worker))
            except (RedisError, OSError):  # TimeoutError is one
                return

    async def _beat_on(self) -> None:
        if not self._closed:
            await self.beat()

    async def _beat(self) -> bool:
        vitals = self._look()
        increments = self._on_their_way = self._on_their_way or self._since_confirmed(vitals.counts)
        worker = keyspace.gateway_worker(vitals.name, vitals.pid)
        keys = [
            keyspace.heartbeat(worker),
            keyspace.GATEWAYS,
            keyspace.counted(worker),
            keyspace.day(increments.day),
        ]
        args: list[Any] = [
            self._encode(vitals),
            int(keyspace.HEARTBEAT_TTL_S * 1000),
            worker,
            keyspace.GATEWAY_REMEMBERED_S,
            increments.identity,
            keyspace.COUNTED_TTL_S,
            keyspace.DAY_TTL_S,
        ]
        for outcome, count in increments.by.items():
            args += [outcome, count]
        try:
            async with asyncio.timeout(BEAT_TIMEOUT_S):
                await self._script(keys=keys, args=args)
        except (RedisError, OSError) as fault:  # who needs Redis more says that it is away
            log.debug("no heartbeat", failure=type(fault).__name__)
            return False
        for outcome, count in increments.by.items():
            self._confirmed[outcome] = self._confirmed.get(outcome, 0) + count
        self._on_their_way = None
        return True

    def _since_confirmed(self, counts: dict[str, int]) -> _Increments:
        confirmed = self._confirmed
        by = {
            outcome: count - confirmed.get(outcome, 0)
            for outcome, count in counts.items()
            if count > confirmed.get(outcome, 0)
        }
        day = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%d")
        return _Increments(os.urandom(8).hex().encode(), day, by)
