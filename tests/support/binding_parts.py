"""The parts of a gateway that know owners, put together as its lifespan does, over real stores.

One `Parts` stands for one gateway process: its own Redis connections, its own pool, its own memory.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec

from proxy_core.bindings import Bindings, Claim, ClaimedElsewhere
from proxy_core.cache import Cache, connect
from proxy_core.contracts import Binding, BindOn, ClientAddress, KeyIdentity, LiveSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.store import Store
from proxy_core.tasks import Tasks

LIVE = LiveSettings()
FIRST_USE = LiveSettings(bind_on=BindOn.FIRST_USE)
TIMEOUT_S = 5.0
SHORT_TIMEOUT_S = 1.0
"""For stores that a test has paused: the wait for nothing."""


def identity(name: object) -> KeyIdentity:
    return KeyIdentity(hashlib.sha256(str(name).encode()).digest(), "abcd…wxyz")


def address(text: str) -> ClientAddress:
    parsed = ipaddress.ip_address(text)
    return ClientAddress(text, text.encode(), parsed.version, int(parsed))


def networks_of(binding: Binding | None) -> list[str]:
    assert binding is not None
    return [bound.network.text for bound in binding.networks]


class Faults:
    """What goes wrong between a gateway and one store: pauses, refusals, lost answers, by a seeded die."""

    def __init__(self, seed: object = 0, *, refuse: float = 0.0, lose: float = 0.0, pauses: int = 0) -> None:
        self._die = random.Random(str(seed))
        self.refuse, self.lose, self.pauses = refuse, lose, pauses

    def heal(self) -> None:
        self.refuse = self.lose = 0.0

    async def around(self, question: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(self._die.randint(0, self.pauses)):
            await asyncio.sleep(0)
        if self._die.random() < self.refuse:
            raise StoreUnavailable("refused by the test")
        answer = await question()
        if self._die.random() < self.lose:
            raise StoreUnavailable("answer lost by the test")
        return answer


class WatchedStore(Store):
    """Counts its statements, and holds answers back until the test lets them through."""

    faults = Faults()

    def watch(self, faults: Faults) -> None:
        self.faults = faults
        self.asked: Counter[str] = Counter()
        self.answers = asyncio.Event()
        self.answers.set()
        self.held = 0

    @contextlib.contextmanager
    def holding_answers(self) -> Iterator[None]:
        """What was read has been read, but the reader learns of it only after the block."""
        self.answers.clear()
        yield
        self.answers.set()

    async def find(self, fingerprint: bytes) -> Binding | None:
        self.asked["find"] += 1
        return await super().find(fingerprint)

    async def claim(self, *args: Any, **kwargs: Any) -> Binding:
        self.asked["claim"] += 1
        return await super().claim(*args, **kwargs)

    async def _ask(self, question: Any) -> Any:
        answer = await self.faults.around(lambda: super(WatchedStore, self)._ask(question))
        if not self.answers.is_set():
            self.held += 1
            await self.answers.wait()
        return answer


class WatchedCache(Cache):
    faults = Faults()
    asked = 0

    def watch(self, faults: Faults) -> None:
        self.faults = faults
        self.asked = 0

    async def _ask(self, question: Any) -> Any:
        self.asked += 1
        return await self.faults.around(lambda: super(WatchedCache, self)._ask(question))


class Parts(msgspec.Struct):
    cache: WatchedCache
    store: WatchedStore
    tasks: Tasks
    bindings: Bindings

    async def find(self, key: KeyIdentity) -> Binding | None:
        return await self.bindings.find(key.fingerprint)

    def peek(self, key: KeyIdentity) -> Binding | None:
        return self.bindings.peek(key.fingerprint)

    async def claim(
        self, key: KeyIdentity, client: str, live: LiveSettings = LIVE
    ) -> Claim | Binding | ClaimedElsewhere:
        return await self.bindings.claim(key, address(client), live)

    async def claimed(self, key: KeyIdentity, client: str) -> Claim:
        outcome = await self.claim(key, client)
        assert isinstance(outcome, Claim), outcome
        return outcome

    async def bind(self, key: KeyIdentity, client: str) -> Binding:
        return await (await self.claimed(key, client)).accept()

    async def tend(self) -> None:
        """What the background does once a second."""
        await self.bindings._claims.tend()
        await self.bindings._claims.store_accepted()

    async def learn_that_stores_are_back(self) -> None:
        """What the probes do once a second."""
        for store in (self.store, self.cache):
            while not store.available:
                with contextlib.suppress(StoreUnavailable):
                    await store.probe()
                await asyncio.sleep(0.01)

    async def crash(self) -> None:
        """Ends everything that this process does, releasing nothing."""
        await self.tasks.aclose()


@contextlib.asynccontextmanager
async def opened(
    pg_dsn: str,
    redis_url: str,
    *,
    started: bool = False,
    timeout_s: float = TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    store_faults: Faults | None = None,
    cache_faults: Faults | None = None,
    **memory: Any,
) -> AsyncIterator[Parts]:
    """``started`` False: nothing runs in the background, the test does it by `Parts.tend` and the listener's methods.

    ``clock`` is the bindings' only; the circuits of the stores use the real one.
    """
    client = connect(redis_url, timeout_s=timeout_s)
    cache = WatchedCache(client, timeout_s=timeout_s)
    cache.watch(cache_faults or Faults())
    store = await WatchedStore.connect(pg_dsn, timeout_s=timeout_s)
    assert isinstance(store, WatchedStore)
    store.watch(store_faults or Faults())
    tasks = Tasks()
    limits: dict[str, Any] = {"l1_entries": 1000, "l1_ttl_s": 30.0, "l1_ttl_degraded_s": 2.0} | memory
    bindings = Bindings(cache, store, tasks, clock=clock, **limits)
    if started:
        bindings.start()
    try:
        yield Parts(cache, store, tasks, bindings)
    finally:
        await tasks.aclose()
        await store.aclose()
        await client.aclose()


async def operator_bans(pg: Any, parts: Parts, key: KeyIdentity) -> Any:
    """The operator's write as the control plane does it: commit, Redis entry, message."""
    version = await pg.fetchval(
        "UPDATE binding SET status = 'banned', version = nextval('binding_version_seq') WHERE key_hash = $1"
        " RETURNING version",
        key.fingerprint,
    )
    await parts.cache.publish_change(key.fingerprint, version, await parts.store.find(key.fingerprint))
    return version


async def operator_unbinds(pg: Any, parts: Parts, key: KeyIdentity) -> None:
    version = await pg.fetchval(
        "DELETE FROM binding WHERE key_hash = $1 RETURNING nextval('binding_version_seq')", key.fingerprint
    )
    await parts.cache.publish_change(key.fingerprint, version, None)
