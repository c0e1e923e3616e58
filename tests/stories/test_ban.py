"""An operator's write reaches every worker of every gateway within a second; nothing stale takes it back."""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from redis.asyncio import Redis

from admin_api import keys
from benchmarks.stub import StubServer
from proxy_core import keyspace
from proxy_core.contracts import UpstreamProfile
from proxy_core.credentials import Credentials
from tests.support.admin import HMAC_SECRET
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

HOME, ELSEWHERE = "203.0.113.7", "198.51.100.9"
CHAT = {"model": "m", "messages": []}
CONNECTIONS_AT_MOST = 64
ROUNDS = 4
ENFORCED_WITHIN_S = 1.0
MORE_ANSWERS = 5
PAUSE_S = 0.005
"""Leaves the machine some time, so that the delays that are told are not those of a queue."""

EVICT_EVERY_S = 0.005
"""Often enough that some worker is always reading, seldom enough that the gateways get to answer."""

DROP_IF_UNCHANGED = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
"""


class Asked(NamedTuple):
    sent_at: float
    answered_at: float
    status: int


@pytest.fixture(scope="module")
def gateways(stores, story_dsn) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    shared = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": free_port(), "workers": 2}
    with running_gateway(**shared, name="north") as north, running_gateway(**shared, name="south") as south:
        yield north, south


@pytest.fixture
async def connections(gateways) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of one connection each, as many as it takes for every worker of both gateways to have one of them."""
    async with contextlib.AsyncExitStack() as stack:
        opened: list[httpx.AsyncClient] = []
        while not all(map(every_worker_is_connected, gateways)):
            assert len(opened) < CONNECTIONS_AT_MOST, "some worker never takes a connection"
            batch = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=gateway.url, timeout=30, limits=httpx.Limits(max_connections=1))
                )
                for gateway in gateways
                for _ in range(3)
            ]
            await asyncio.gather(*(client.get("/health") for client in batch))
            opened += batch
        yield opened


def every_worker_is_connected(gateway: GatewayProcess) -> bool:
    """Whether each child of the server that serves holds an established connection on the gateway's port."""
    local = f":{gateway.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(local) and line[3] == "01"}
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    connected = [pid for pid in children if inodes & open_files(int(pid))]
    return len(connected) == 2


def open_files(pid: int) -> set[str]:
    names = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            names.add(os.readlink(entry))  # noqa: PTH115 - no path, "socket:[…]"
    return names


class Hammer:
    """Each connection asks nearly as fast as it is answered, from one address, until it is stopped."""

    def __init__(self, connections: list[httpx.AsyncClient], key: str, address: str) -> None:
        self._stopping = False
        self._headers = {"authorization": f"Bearer {key}", "x-real-ip": address}
        self.asked: list[list[Asked]] = [[] for _ in connections]
        self._tasks = [
            asyncio.create_task(self._ask(client, asked)) for client, asked in zip(connections, self.asked, strict=True)
        ]

    async def _ask(self, client: httpx.AsyncClient, asked: list[Asked]) -> None:
        while not self._stopping:
            sent_at = time.monotonic()
            answer = await client.post("/v1/chat/completions", json=CHAT, headers=self._headers)
            asked.append(Asked(sent_at, time.monotonic(), answer.status_code))
            await asyncio.sleep(PAUSE_S)

    async def until(self, condition: Callable[[list[Asked]], bool]) -> None:
        """Until it holds for what every connection was answered so far. Raises what ended a connection."""

        def holds() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return all(map(condition, self.asked))

        await eventually(holds)

    async def stop(self) -> None:
        """Not by cancelling: each connection is to be used again, and its client would drop it."""
        self._stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def changes(
    connections: list[httpx.AsyncClient],
    key: str,
    address: str,
    write: Callable[[], Awaitable[httpx.Response]],
    before: int,
    after: int,
) -> list[float]:
    """Writes under fire and returns, by connection, how long after the write was sent the first new answer came.

    Nobody is answered by the old state who asks later than a second after the write's own answer, and no connection
    (hence no worker) falls back to it.
    """
    hammer = Hammer(connections, key, address)
    try:
        await hammer.until(lambda asked: any(each.status == before for each in asked))
        sent_at = time.monotonic()
        answer = await write()
        enforced_at = time.monotonic() + ENFORCED_WITHIN_S
        assert answer.status_code == 200, answer.text
        assert answer.json()["published"] is True
        await hammer.until(lambda asked: sum(each.sent_at > enforced_at for each in asked) >= MORE_ANSWERS)
    finally:
        await hammer.stop()
    delays = []
    for asked in hammer.asked:
        assert {each.status for each in asked if each.sent_at > enforced_at} == {after}
        statuses = [each.status for each in asked]
        turned = statuses.index(after)
        assert statuses == [before] * turned + [after] * (len(statuses) - turned)
        delays.append(asked[turned].answered_at - sent_at)
    return delays


@contextlib.asynccontextmanager
async def evictions(redis_url: str, key: str) -> AsyncIterator[None]:
    """Makes every worker read the key again and again, from PostgreSQL: fills race with the write all the time.

    Takes away only what it has seen and what belongs to the state before: what a write has put there stays.
    """
    fingerprint = fingerprint_of(key)
    name, message = keyspace.binding(fingerprint), keyspace.binding_changed(fingerprint)
    async with Redis.from_url(redis_url) as redis:
        old = await redis.get(name)
        version = old[:20] if old else b"0" * 20

        async def churn() -> None:
            while True:
                value = await redis.get(name)
                if value is None or value[:20] <= version:
                    await redis.eval(DROP_IF_UNCHANGED, 1, name, value or b"", keyspace.CHANGED_CHANNEL, message)
                await asyncio.sleep(EVICT_EVERY_S)

        task = asyncio.create_task(churn())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def fingerprint_of(key: str) -> bytes:
    return keys.identify(Credentials(HMAC_SECRET.encode(), UpstreamProfile.NEW_API), key).fingerprint


async def owned(connections: list[httpx.AsyncClient], operator: httpx.AsyncClient, key: str) -> int:
    """Binds the key to HOME; the binding's id."""
    headers = {"authorization": f"Bearer {key}", "x-real-ip": HOME}
    answer = await connections[0].post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code == 200, answer.text
    found = await operator.post("/bindings/lookup", json={"key": key})
    return int(found.json()["binding"]["id"])


def tell(what: str, delays: list[float]) -> None:
    ordered = sorted(delay * 1000 for delay in delays)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"\n{what}: median {statistics.median(ordered):.0f} ms, p99 {p99:.0f} ms, {len(ordered)} samples")  # noqa: T201 - the measured delays, for `pytest -s`


async def test_bans_and_unbans_hold_on_every_worker_within_a_second_and_for_good(
    gateways, connections, operator, key, stores
):
    """Under fire on all four workers; half of the rounds while stale fills race with the write."""
    delays: dict[str, list[float]] = {"ban": [], "unban": []}
    async with StubServer([key], port=gateways[0].upstream_port):
        binding_id = await owned(connections, operator, key)
        for number in range(ROUNDS):
            for operation, before, after in (("ban", 200, 403), ("unban", 403, 200)):
                racing = evictions(stores.redis_url, key) if number % 2 else contextlib.nullcontext()

                async def write(operation: str = operation) -> httpx.Response:
                    return await operator.post(f"/bindings/{operation}", json={"ids": [binding_id], "reason": "story"})

                async with racing:
                    delays[operation] += await changes(connections, key, HOME, write, before, after)
    for operation, measured in delays.items():
        tell(operation, measured)


async def test_new_networks_hold_on_every_worker_within_a_second_and_for_good(
    gateways, connections, operator, key, stores
):
    """The address that is taken off the list is refused, and served again when it is back."""
    delays: list[float] = []
    async with StubServer([key], port=gateways[0].upstream_port):
        binding_id = await owned(connections, operator, key)
        for networks, before, after in ((["192.0.2.0/24"], 200, 403), (["203.0.113.0/24"], 403, 200)):

            async def write(networks: Any = networks) -> httpx.Response:
                return await operator.put("/bindings/ip", json={"id": binding_id, "networks": networks})

            async with evictions(stores.redis_url, key):
                delays += await changes(connections, key, HOME, write, before, after)
    tell("networks", delays)


async def test_an_unbound_key_is_free_on_every_worker_within_a_second(gateways, connections, operator, key, stores):
    """Who was refused before owns it from then on, and the owner before is refused everywhere."""
    async with StubServer([key], port=gateways[0].upstream_port):
        binding_id = await owned(connections, operator, key)

        async def write() -> httpx.Response:
            return await operator.post("/bindings/unbind", json={"ids": [binding_id]})

        async with evictions(stores.redis_url, key):
            tell("unbind", await changes(connections, key, ELSEWHERE, write, 403, 200))
        headers = {"authorization": f"Bearer {key}", "x-real-ip": HOME}
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=CHAT, headers=headers) for client in connections)
        )
        assert {answer.status_code for answer in answers} == {403}
