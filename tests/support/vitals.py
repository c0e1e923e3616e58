"""Heartbeats as gateway workers leave them in Redis, for tests that need no gateway."""

import time
from collections import Counter

import msgspec
from redis.asyncio import Redis

from proxy_core import keyspace
from proxy_core.heartbeat import Heartbeat, Vitals
from proxy_core.tasks import Tasks


async def beat(redis_url: str, name: str = "east", pid: int = 7, **said) -> None:
    """One heartbeat of a worker that started a minute ago."""
    vitals = Vitals(name, pid, **({"version": "1.2.3", "started_at": time.time() - 60} | said))
    async with Redis.from_url(redis_url) as redis:
        assert await Heartbeat(redis, Tasks(), lambda: vitals).beat()


async def silent(redis_url: str, worker: str, seconds: float) -> None:
    """Makes the worker's last heartbeat as old as that."""
    async with Redis.from_url(redis_url) as redis:
        now, _ = await redis.time()
        await redis.zadd(keyspace.GATEWAYS, {worker: now - seconds})
        if seconds > keyspace.HEARTBEAT_TTL_S:
            await redis.delete(keyspace.heartbeat(worker))


async def counts_of(redis_url: str, name: str) -> dict[str, int]:
    """What the living workers of the gateway ``name`` have counted since they started, by their last heartbeats."""
    total: Counter[str] = Counter()
    async with Redis.from_url(redis_url) as redis:
        for worker in await redis.zrange(keyspace.GATEWAYS, 0, -1):
            said = await redis.get(keyspace.heartbeat(worker.decode()))
            vitals = msgspec.msgpack.decode(said, type=Vitals) if said else None
            if vitals is not None and vitals.name == name:
                total.update(vitals.counts)
    return dict(total)
