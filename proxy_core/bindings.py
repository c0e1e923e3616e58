"""Who owns a key: one worker's memory, then Redis, then PostgreSQL. The walk comes here with a fingerprint.

    bindings = Bindings(cache, store, tasks, l1_entries=…, l1_ttl_s=…, l1_ttl_degraded_s=…)
    bindings.start()                                                 # in the lifespan
    await bindings.aclose()                                          # before tasks.aclose() and the stores'

    binding = bindings.peek(identity.fingerprint)                    # hot path: no await, memory only; None: ask `find`
    if binding is None:
        binding = await bindings.find(identity.fingerprint)          # None: nobody owns it. raises StoreUnavailable
    verdict = decide(binding, …)
    # verdict CLAIM
    outcome = await bindings.claim(identity, address, live)          # raises StoreUnavailable (failsafe decides)
    match outcome:
        case Binding(): ...                                          # it is owned by now: decide again on it
        case ClaimedElsewhere(): ...                                 # 403 key_bound_to_other_address, outcome.network
        case Claim():                                                # forward; then, before the response head:
            try:
                binding = await outcome.accept()                     # the binding that is there: judge it again
            finally:
                await outcome.release()                              # drops it unless accepted; any number of times
    # verdict LEARN
    binding = await bindings.learn(binding, address, live)           # raises StoreUnavailable; judge the answer again

A binding with ``id`` 0 is an owner that PostgreSQL does not know yet (`claims`).
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable

from proxy_core import keyspace
from proxy_core.cache import Cache, Entry
from proxy_core.circuit import Clock
from proxy_core.claims import Claim, ClaimedElsewhere, Claims
from proxy_core.contracts import Binding, BindOn, ClientAddress, KeyIdentity, LiveSettings, Network
from proxy_core.errors import StoreUnavailable
from proxy_core.l1 import Memory
from proxy_core.store import Store
from proxy_core.tasks import Tasks

__all__ = ["Bindings", "Claim", "ClaimedElsewhere"]

REFRESH_AFTER_S = 300.0
"""A Redis entry older than this is compared with PostgreSQL when that answers: bounds how long a change that could not
be written to Redis stays unseen. The entry itself lives longer, for when PostgreSQL does not answer."""

TEND_EVERY_S = 1.0

Found = Binding | None | StoreUnavailable


class Bindings:
    """One a worker. Raises StoreUnavailable, and nothing else, when nobody can tell."""

    peek: Callable[[bytes], Binding | None]
    """The binding, if this worker's memory has it and trusts it. Under half a microsecond."""

    def __init__(
        self,
        cache: Cache,
        store: Store,
        tasks: Tasks,
        *,
        l1_entries: int,
        l1_ttl_s: float,
        l1_ttl_degraded_s: float,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._cache = cache
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._wall_clock = wall_clock
        self._memory = Memory(entries=l1_entries, ttl_s=l1_ttl_s, ttl_degraded_s=l1_ttl_degraded_s, clock=clock)
        self._claims = Claims(cache, store, tasks, self._memory, clock=clock, wall_clock=wall_clock)
        self._flights: dict[bytes, asyncio.Task[Found]] = {}
        self._redis_met_at = clock()
        self._on_change: Callable[[bytes | None], None] = lambda _fingerprint: None
        self.peek = self._memory.fresh

    def __repr__(self) -> str:
        return f"Bindings({self._memory!r}, {self._claims!r}, flights={len(self._flights)})"

    def tell(self, on_change: Callable[[bytes | None], None]) -> None:
        """Has ``on_change`` called with each fingerprint whose owner may have changed; None: any key's may have."""
        self._on_change = on_change

    def start(self) -> None:
        self._tasks.start(self._cache.follow(self), name="invalidation channel")
        self._tasks.repeat(self._claims.tend, every_s=TEND_EVERY_S, name="claims")
        self._tasks.repeat(self._store_accepted, every_s=TEND_EVERY_S, name="late first uses")
        self._tasks.repeat(self._probe, every_s=TEND_EVERY_S, name="store probes")

    async def aclose(self) -> None:
        """Gives PostgreSQL a last chance to learn of accepted first uses. What is left stays reserved in Redis."""
        with contextlib.suppress(RuntimeError):  # the tasks are closed: there was a chance already
            await self._claims.store_accepted()

    # --- finding -----------------------------------------------------------------------------------------------------

    async def find(self, fingerprint: bytes) -> Binding | None:
        """None: nobody owns the key. Requests for one key share one search; cancelling one leaves the others'."""
        flight = self._flights.get(fingerprint)
        if flight is None:
            flight = self._tasks.start(self._search(fingerprint), name="find")
            self._flights[fingerprint] = flight
            flight.add_done_callback(functools.partial(self._landed, fingerprint))
        found = await asyncio.shield(flight)
        if isinstance(found, StoreUnavailable):
            raise StoreUnavailable(str(found))
        return found

    def _landed(self, fingerprint: bytes, flight: "asyncio.Task[Found]") -> None:
        if self._flights.get(fingerprint) is flight:
            del self._flights[fingerprint]

    async def _search(self, fingerprint: bytes) -> Found:
        """Returns StoreUnavailable instead of raising: a search may have no one left who waits for it."""
        accepted = self._claims.accepted_here(fingerprint)
        if accepted is not None:
            return accepted
        read_at = self._clock()
        try:
            binding = await self._ask_stores(fingerprint)
        except StoreUnavailable as exc:
            return self._memory.extend(fingerprint) or exc
        if binding is None or binding.id:
            self._memory.put(fingerprint, binding, read_at)
        return binding

    async def _ask_stores(self, fingerprint: bytes) -> Binding | None:
        try:
            entry = await self._cache.get(fingerprint)
        except StoreUnavailable:
            return await self._store.find(fingerprint)
        if entry is not None:
            # What is older than our acquaintance may come from a snapshot that Redis went back to.
            trusted_s = min(REFRESH_AFTER_S, self._clock() - self._redis_met_at)
            if entry.binding is not None and entry.age_s < trusted_s:
                return entry.binding
            if entry.binding is None and self._store.available:
                return None
        try:
            binding = await self._store.find(fingerprint)
        except StoreUnavailable:
            if entry is not None and entry.binding is not None:
                return entry.binding
            accepted = await self._claims.accepted_anywhere(fingerprint)
            if accepted is not None:
                return accepted
            raise
        await self._fill(fingerprint, entry, binding)
        return binding

    async def _fill(self, fingerprint: bytes, entry: Entry | None, binding: Binding | None) -> None:
        with contextlib.suppress(StoreUnavailable):
            if entry is None:
                await self._cache.fill(fingerprint, binding)
            elif entry.binding is not None:
                await self._cache.replace(fingerprint, entry.value, binding)

    # --- claiming and learning ---------------------------------------------------------------------------------------

    async def claim(
        self, identity: KeyIdentity, address: ClientAddress, live: LiveSettings
    ) -> Claim | Binding | ClaimedElsewhere:
        """For a key that `find` called unbound. Raises StoreUnavailable if PostgreSQL is known not to answer."""
        binding = self.peek(identity.fingerprint)
        if binding is not None:
            return binding
        if not self._store.available:
            raise StoreUnavailable(f"postgresql: {self._store.failure}")
        outcome = await self._claims.claim(identity, address, _network(address, live))
        if live.bind_on is BindOn.FIRST_USE and isinstance(outcome, Claim):
            return await outcome.bind_now()
        return outcome

    async def learn(self, binding: Binding, address: ClientAddress, live: LiveSettings) -> Binding:
        """Adds the address's network while there is room. Returns what is there then, with or without it."""
        return await asyncio.shield(self._tasks.start(self._learn(binding, address, live), name="learn"))

    async def _learn(self, binding: Binding, address: ClientAddress, live: LiveSettings) -> Binding:
        read_at = self._clock()
        learned = await self._store.learn(binding, _network(address, live), live.networks_per_key, self._wall_clock())
        if learned is None:
            return binding
        self._memory.put(learned.fingerprint, learned, read_at)
        with contextlib.suppress(StoreUnavailable):
            await self._cache.publish_change(learned.fingerprint, learned.version, learned)
        return learned

    # --- the invalidation channel (`cache.Listener`) -----------------------------------------------------------------

    def changed(self, message: bytes) -> None:
        if message == keyspace.ALL_BINDINGS_CHANGED:
            self._memory.drop_all()
            self._flights.clear()
            self._on_change(None)
        elif (fingerprint := keyspace.changed_binding(message)) is not None:
            self._memory.drop(fingerprint)
            self._claims.overrule(fingerprint)
            self._flights.pop(fingerprint, None)
            self._on_change(fingerprint)

    def channel_up(self) -> None:
        self._redis_met_at = self._clock()
        self._memory.channel_up()
        self._flights.clear()
        self._on_change(None)

    def channel_down(self) -> None:
        self._memory.channel_down()

    async def _store_accepted(self) -> None:
        await self._claims.store_accepted()

    async def _probe(self) -> None:
        """So that a store's absence is known before a request with an unbound key finds out at the upstream's cost."""
        for store in (self._store, self._cache):
            with contextlib.suppress(StoreUnavailable):
                await store.probe()


def _network(address: ClientAddress, live: LiveSettings) -> Network:
    return Network.around(address, ipv4_prefix=live.ipv4_prefix, ipv6_prefix=live.ipv6_prefix)
