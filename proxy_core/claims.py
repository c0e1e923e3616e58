"""Claims: the right to be a key's first user, while a request that may become its owner is with the upstream.

Where it stands in the walk: `bindings` comes here for a key that nobody owns. A claim ends in `Claim.accept` (the
upstream took the key: PostgreSQL is told) or `Claim.release`.

Why a key never gets two owners, whatever fails:

- PostgreSQL has one row for a key, and the first insert makes it. Everything else here only keeps a second address from
  using the key while that insert is on its way; the answer to `accept` is what lies there, and is judged again.
- Across gateways the reservation in Redis does that: one atomic step looks for a binding, then for a reservation, then
  reserves. If Redis is away, PostgreSQL alone decides, after the upstream has been asked.
- If PostgreSQL fails in `accept`, the client still gets the answer it paid for: the reservation stays, marked accepted,
  every gateway takes its network for the owner, and the insert is tried again until PostgreSQL has an answer. Of two
  acceptances that neither store heard of in time, the first that Redis hears of stands, and the other gives way.

Rules for whoever edits this file:

- There is one `_Held` a key, in `_table`, for as long as anybody may be using the key unbound through this worker.
- No await between reading the table and writing it. What waits does so in a task of its own, shielded from the client.
"""

import asyncio
import contextlib
import os

import msgspec
import structlog

from proxy_core import keyspace
from proxy_core.cache import Cache, Reservation
from proxy_core.circuit import Clock
from proxy_core.contracts import Binding, BindingStatus, BoundNetwork, ClientAddress, KeyIdentity, Network
from proxy_core.errors import StoreUnavailable
from proxy_core.l1 import Memory
from proxy_core.store import Store
from proxy_core.tasks import Tasks

log = structlog.get_logger(__name__)

RENEW_EVERY_S = keyspace.CLAIM_TTL_S / 3
KEEP_AT_ONCE = 500
"""Reservations renewed in one question: thousands of them would keep loop and Redis busy beyond the time limit."""


class ClaimedElsewhere(msgspec.Struct, frozen=True):
    """Another network's first request with this key is in flight; a value, because it makes an ordinary refusal."""

    network: Network


class Claim:
    """One request's part in a claim. ``joined``: the key was reserved for this network already."""

    def __init__(self, claims: "Claims", held: "_Held", *, joined: bool) -> None:
        self._claims = claims
        self._held = held
        self._open = True
        self.network = held.reservation.network
        self.joined = joined

    def __repr__(self) -> str:
        return f"Claim({self.network.text}, {'open' if self._open else 'ended'}{', joined' if self.joined else ''})"

    async def accept(self) -> Binding:
        """The upstream took the key: returns the binding that is there now, to be judged again.

        Raises nothing of the stores. Where PostgreSQL cannot be told, the binding has ``id`` and ``version`` 0.
        What was begun goes on when the caller is cancelled.
        """
        self._open = False
        return await self._claims.accept(self._held)

    async def bind_now(self) -> Binding:
        """The same before the upstream was asked. Raises StoreUnavailable, and then holds nothing any more."""
        binding = await self._claims.insert(self._held)
        if isinstance(binding, StoreUnavailable):
            await self.release()
            raise StoreUnavailable(str(binding))
        self._open = False
        return binding

    async def release(self) -> None:
        """The upstream refused the key, or was never asked. Any number of times; nothing at all after `accept`."""
        if self._open:
            self._open = False
            await self._claims.leave(self._held)


class _Held:
    """One key's reservation in this worker and the requests that live on it."""

    __slots__ = (
        "accepted",
        "binding",
        "dropping",
        "elsewhere",
        "granted",
        "holders",
        "identity",
        "ready",
        "reservation",
        "settling",
    )

    def __init__(self, identity: KeyIdentity, reservation: Reservation) -> None:
        self.identity = identity
        self.reservation = reservation
        self.binding: Binding | None = None
        self.holders = 0
        self.granted = False
        self.elsewhere = False
        self.accepted = False
        self.ready: asyncio.Task[None]
        self.settling: asyncio.Task[Binding] | None = None
        self.dropping: asyncio.Task[None] | None = None

    def provisional(self) -> Binding:
        return provisional(self.identity.fingerprint, self.identity.hint, self.reservation.network)


class Claims:
    def __init__(
        self, cache: Cache, store: Store, tasks: Tasks, memory: Memory, *, clock: Clock, wall_clock: Clock
    ) -> None:
        self._cache = cache
        self._store = store
        self._tasks = tasks
        self._memory = memory
        self._clock = clock
        self._wall_clock = wall_clock
        self._table: dict[bytes, _Held] = {}
        self._leftovers: dict[bytes, Reservation] = {}
        self._unpublished: dict[bytes, None] = {}
        self._renewed_at = clock()

    def __repr__(self) -> str:
        accepted = sum(held.accepted for held in self._table.values())
        return f"Claims(in flight={len(self._table) - accepted}, accepted={accepted})"

    # --- the beginning of a claim ------------------------------------------------------------------------------------

    async def claim(
        self, identity: KeyIdentity, address: ClientAddress, network: Network
    ) -> Claim | Binding | ClaimedElsewhere:
        while True:
            held = self._table.get(identity.fingerprint)
            if held is not None and held.dropping is not None:
                await asyncio.shield(held.dropping)
                continue
            if held is None:
                held = _Held(identity, Reservation(network, os.urandom(8).hex()))
                held.ready = self._tasks.start(self._reserve(held), name="reserve")
                self._table[identity.fingerprint] = held
            held.holders += 1
            try:
                await asyncio.shield(held.ready)
            except BaseException:
                self._let_go(held)
                raise
            return self._share(held, address)

    async def _reserve(self, held: _Held) -> None:
        """Finds out in Redis whose the key is; without Redis it is this worker's, until PostgreSQL decides."""
        try:
            found = await self._cache.reserve(held.identity.fingerprint, held.reservation)
        except StoreUnavailable:
            return
        if isinstance(found, Binding):
            held.binding = found
        else:
            held.elsewhere = found.token != held.reservation.token
            held.reservation = msgspec.structs.replace(held.reservation, network=found.network)

    def _share(self, held: _Held, address: ClientAddress) -> Claim | Binding | ClaimedElsewhere:
        network = held.reservation.network
        if held.binding is None and not held.accepted and network.contains(address):
            joined = held.granted or held.elsewhere
            held.granted = True
            return Claim(self, held, joined=joined)
        self._let_go(held)
        if held.binding is not None:
            return held.binding
        return held.provisional() if held.accepted else ClaimedElsewhere(network)

    # --- its end: the upstream took the key --------------------------------------------------------------------------

    async def accept(self, held: _Held) -> Binding:
        if held.settling is None:
            held.settling = self._tasks.start(self._settle(held), name="settle")
        settled = await asyncio.shield(held.settling)
        return held.binding or settled  # what could not be stored then may be stored by now, maybe as another's

    async def _settle(self, held: _Held) -> Binding:
        binding = await self.insert(held)
        if isinstance(binding, Binding):
            return binding
        log.warning("first use accepted, but not stored yet", network=held.reservation.network.text)
        held.accepted = True
        held.reservation = msgspec.structs.replace(held.reservation, accepted=True)
        self._table.setdefault(held.identity.fingerprint, held)  # it may have been overruled before
        await self._keep([held])
        return held.provisional()

    async def insert(self, held: _Held) -> Binding | StoreUnavailable:
        """Shielded; idempotent, so that an insert of unknown outcome is simply repeated."""
        return await asyncio.shield(self._tasks.start(self._insert(held), name="insert"))

    async def _insert(self, held: _Held) -> Binding | StoreUnavailable:
        if held.binding is not None:
            return held.binding
        fingerprint = held.identity.fingerprint
        read_at = self._clock()
        try:
            binding = await self._store.claim(held.identity, held.reservation.network, self._wall_clock())
        except StoreUnavailable as exc:
            return exc
        held.binding = binding
        self._memory.put(fingerprint, binding, read_at)
        try:
            # Redis learns of the binding and forgets the reservation in one step, so that nobody finds neither.
            await self._cache.publish_change(fingerprint, binding.version, binding)
        except StoreUnavailable:
            self._unpublished[fingerprint] = None
        if self._table.get(fingerprint) is held:
            del self._table[fingerprint]
        return binding

    # --- its end: the upstream refused the key -----------------------------------------------------------------------

    async def leave(self, held: _Held) -> None:
        self._let_go(held)
        if held.dropping is not None:
            await asyncio.shield(held.dropping)

    def _let_go(self, held: _Held) -> None:
        """The last one to go takes the reservation along, unless somebody is accepting it."""
        held.holders -= 1
        if held.holders or held.settling is not None or self._table.get(held.identity.fingerprint) is not held:
            return
        if held.ready.done() and not held.granted:
            del self._table[held.identity.fingerprint]
        else:
            with contextlib.suppress(RuntimeError):  # the tasks are closed: it runs out by itself
                held.dropping = self._tasks.start(self._drop(held), name="drop claim")

    async def _drop(self, held: _Held) -> None:
        fingerprint = held.identity.fingerprint
        try:
            await asyncio.shield(held.ready)
            with contextlib.suppress(StoreUnavailable):  # it runs out by itself
                await self._cache.drop(fingerprint, held.reservation)
        finally:
            if self._table.get(fingerprint) is held:
                del self._table[fingerprint]

    # --- while it lives ----------------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Once a second: renews all reservations when it is time, and tells Redis what it could not be told before.

        Nothing here waits for PostgreSQL while reservations run out: `store_accepted` is a task of its own.
        """
        if self._clock() - self._renewed_at >= RENEW_EVERY_S:
            self._renewed_at = self._clock()
            await self._renew()
        await self._clear_leftovers()

    async def store_accepted(self) -> int:
        """Once a second, and at the end: tries again what PostgreSQL did not take. Returns how many it still lacks."""
        accepted = [held for held in self._table.values() if held.accepted]
        for stored, held in enumerate(accepted):
            if isinstance(await self.insert(held), StoreUnavailable):
                return len(accepted) - stored
        await self._publish_late()
        return 0

    async def _publish_late(self) -> None:
        """Redis was away when these were inserted. What lies in PostgreSQL now is told, not what was inserted then."""
        with contextlib.suppress(StoreUnavailable):
            for fingerprint in list(self._unpublished):
                binding = await self._store.find(fingerprint)
                if binding is not None:  # else whoever deleted it has published that
                    await self._cache.publish_change(fingerprint, binding.version, binding)
                self._unpublished.pop(fingerprint, None)

    async def _renew(self) -> None:
        await self._keep([held for held in self._table.values() if self._is_living(held)])

    async def _keep(self, living: list[_Held]) -> None:
        for first in range(0, len(living), KEEP_AT_ONCE):
            await self._keep_some(living[first : first + KEEP_AT_ONCE])

    async def _keep_some(self, living: list[_Held]) -> None:
        kept = [(held.identity.fingerprint, held.reservation) for held in living]
        there: list[Reservation] = []
        with contextlib.suppress(StoreUnavailable):
            there = await self._cache.keep(kept)
        for held, (fingerprint, reservation) in zip(living, kept, strict=True):
            if not self._is_living(held):  # it ended meanwhile, and the renewal may have put it back
                self._leftovers[fingerprint] = reservation
        for held, found in zip(living, there, strict=False):
            if held.accepted and found.accepted and found.network != held.reservation.network:
                log.warning("another first use was accepted before", network=found.network.text)
                held.reservation = msgspec.structs.replace(held.reservation, network=found.network)

    async def _clear_leftovers(self) -> None:
        """An accepted reservation lives for a day: left behind, it would name an owner long after there was another."""
        with contextlib.suppress(StoreUnavailable):
            for fingerprint, reservation in list(self._leftovers.items()):
                await self._cache.drop(fingerprint, reservation)
                self._leftovers.pop(fingerprint, None)

    def _is_living(self, held: _Held) -> bool:
        return held.granted and held.dropping is None and self._table.get(held.identity.fingerprint) is held

    # --- owners that PostgreSQL does not know yet --------------------------------------------------------------------

    def accepted_here(self, fingerprint: bytes) -> Binding | None:
        held = self._table.get(fingerprint)
        return held.provisional() if held is not None and held.accepted else None

    def overrule(self, fingerprint: bytes) -> None:
        """The key's state was changed: what could not be stored before has no meaning any more.

        A request that still lives on it asks PostgreSQL again.
        """
        held = self._table.get(fingerprint)
        if held is not None and held.accepted:
            del self._table[fingerprint]
            held.settling = None

    async def accepted_anywhere(self, fingerprint: bytes) -> Binding | None:
        """By any gateway, as far as Redis knows. Raises StoreUnavailable."""
        reservation = await self._cache.reservation(fingerprint)
        if reservation is None or not reservation.accepted:
            return None
        return provisional(fingerprint, "", reservation.network)


def provisional(fingerprint: bytes, hint: str, network: Network) -> Binding:
    """What everybody acts on until PostgreSQL has a row: any row has a higher version."""
    return Binding(0, fingerprint, hint, BindingStatus.ACTIVE, (BoundNetwork(network),), 0)
