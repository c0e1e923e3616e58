"""The heartbeat: every gateway worker says of itself what an operator wants to know, and what it counted today.

Where it stands in the walk: beside the requests. `app` tells it how to look at the worker; `admin_api.gateways` reads
what it leaves in Redis, for the console, the dashboard and Prometheus. Nothing here is the truth about bindings, and
nothing waits for it.

Rules for whoever edits this file:

- The request path pays nothing for it: it reads what the nouns count anyway.
- Hours and days get what was counted since the last write that is known to have arrived. A write whose fate is unknown
  is repeated unchanged and under its identity until it is confirmed, and Redis adds an identity once: an outage of
  Redis neither loses nor doubles anything. Only a process that ends during one takes its share with it.
- An hour tells whether it has everything. A worker leaves its mark in it with the first write, and takes it away when
  it begins with the next hour or ends: a mark that stays is a worker that died or is cut off. An hour has an epoch, and
  a worker that wrote to another one before says that Redis lost it.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy_core import keyspace
from proxy_core.tally import ADDED_TIME, BYTES_IN, BYTES_OUT, HOUR_ONLY, Increments, Tally
from proxy_core.tasks import Tasks

log = structlog.get_logger(__name__)

BEAT_EVERY_S = 2.0
BEAT_TIMEOUT_S = 1.0

EPOCH = "=epoch"
LOST = "=lost"
OPEN = "=open:"
"""Fields of an hour that are no figures: its identity, that Redis lost some of it, and the workers' marks."""

BEAT = f"""
-- KEYS heartbeat, gateways, counted, day, hour, the hour that the worker has done with
-- ARGV 1 heartbeat, 2 its lifetime in ms, 3 worker, 4 seconds for which it is listed, 5 identity of the increments,
--      6 its lifetime in s, 7 the day's in s, 8 the hour's in s, 9 the worker's mark, 10 an epoch if the hour has none,
--      11 the epoch to which the worker wrote before, and then name, increment, name, increment …
-- Returns the hour's epoch
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.3f', at), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.3f', at - ARGV[4]))
redis.call('HSETNX', KEYS[5], '{EPOCH}', ARGV[10])
local epoch = redis.call('HGET', KEYS[5], '{EPOCH}')
redis.call('HSET', KEYS[5], ARGV[9], '1')
if ARGV[11] ~= '' and ARGV[11] ~= epoch then
    redis.call('HSET', KEYS[5], '{LOST}', '1')
end
if #ARGV > 11 and redis.call('GET', KEYS[3]) ~= ARGV[5] then
    for number = 12, #ARGV, 2 do
        redis.call('HINCRBY', KEYS[5], ARGV[number], ARGV[number + 1])
        if string.sub(ARGV[number], 1, 1) ~= '{HOUR_ONLY}' then
            redis.call('HINCRBY', KEYS[4], ARGV[number], ARGV[number + 1])
        end
    end
    redis.call('EXPIRE', KEYS[4], ARGV[7])
    redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[6])
end
redis.call('EXPIRE', KEYS[5], ARGV[8])
if KEYS[6] ~= KEYS[5] then
    redis.call('HDEL', KEYS[6], ARGV[9])
end
return epoch
"""


class Vitals(msgspec.Struct, frozen=True):
    """A worker at one moment, as it lies in Redis. ``counts``: outcomes since ``started_at`` (Unix seconds).

    ``bytes_in`` went to the upstream since then, ``bytes_out`` came from it, heads included. ``added_time``: buckets of
    `histogram`, how long requests that passed were held until it was decided that they may.

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
    bytes_in: int = 0
    bytes_out: int = 0
    added_time: tuple[int, ...] = ()

    def figures(self) -> dict[str, int]:
        """All that was counted, by the names that hours have for it."""
        added = {f"{ADDED_TIME}{bucket}": count for bucket, count in enumerate(self.added_time) if count}
        return {**self.counts, BYTES_IN: self.bytes_in, BYTES_OUT: self.bytes_out, **added}


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
        self._tally = Tally()
        self._mark = f"{OPEN}{os.urandom(6).hex()}"
        self._hour = ""
        self._epoch = b""
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
            if not await self._beat():
                return
            vitals = self._look()
            worker = keyspace.gateway_worker(vitals.name, vitals.pid)
            try:
                async with asyncio.timeout(BEAT_TIMEOUT_S):
                    await self._redis.zrem(keyspace.GATEWAYS, worker)
                    await self._redis.delete(keyspace.heartbeat(worker))
                    await self._redis.hdel(keyspace.hour(self._hour), self._mark)
            except (RedisError, OSError):  # TimeoutError is one
                return

    async def _beat_on(self) -> None:
        if not self._closed:
            await self.beat()

    async def _beat(self) -> bool:
        vitals = self._look()
        self._tally.note(vitals.figures(), self._clock())
        while (increments := self._tally.next()) is not None:
            if not await self._send(vitals, increments):
                return False
            self._tally.confirmed()
        return True

    async def _send(self, vitals: Vitals, increments: Increments) -> bool:
        worker = keyspace.gateway_worker(vitals.name, vitals.pid)
        hour, before = increments.hour, self._hour
        keys = [
            keyspace.heartbeat(worker),
            keyspace.GATEWAYS,
            keyspace.counted(worker),
            keyspace.day(hour.partition("T")[0]),
            keyspace.hour(hour),
            keyspace.hour(before or hour),
        ]
        args: list[Any] = [
            self._encode(vitals),
            int(keyspace.HEARTBEAT_TTL_S * 1000),
            worker,
            keyspace.GATEWAY_REMEMBERED_S,
            increments.identity,
            keyspace.COUNTED_TTL_S,
            keyspace.DAY_TTL_S,
            keyspace.HOUR_TTL_S,
            self._mark,
            os.urandom(6).hex(),
            self._epoch if hour == before else b"",
        ]
        for name, count in increments.by.items():
            args += [name, count]
        try:
            async with asyncio.timeout(BEAT_TIMEOUT_S):
                self._epoch = await self._script(keys=keys, args=args)
        except (RedisError, OSError) as fault:  # who needs Redis more says that it is away
            log.debug("no heartbeat", failure=type(fault).__name__)
            return False
        self._hour = hour
        return True
