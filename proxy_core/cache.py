"""Redis (or Valkey) for the data plane: binding entries, claims, the settings snapshot, the invalidation channel.

Where it stands in the walk: `bindings`, `claims` and `live_settings` ask it after their own memory and before `store`.

Rules for whoever edits this file:

- A value begins with the 20-digit version of what it holds, so that Lua compares versions as strings.
- A *fill* (what somebody read from PostgreSQL a while ago) never replaces anything: `SET NX`. A *change* (what has just
  been committed) replaces what is older. That is all that keeps a slow reader from undoing an operator's write.
- Nothing here is the truth. Every answer may be lost, and PostgreSQL decides.
- Every call is bounded by one time limit, whatever Redis does: not answering is what it does when it is stopped.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy_core import cache_scripts as scripts
from proxy_core import keyspace
from proxy_core.bulkhead import Bulkhead
from proxy_core.circuit import Circuit, Clock
from proxy_core.contracts import Binding, BindingStatus, BoundNetwork, Mode, Network, StoredSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.time_limit import within

log = structlog.get_logger(__name__)

T = TypeVar("T")
FAILURES = (RedisError, OSError, TimeoutError)
QUESTIONS_AT_ONCE = 24
"""Fewer than the connections: the invalidation channel has one for itself."""

VERSION_DIGITS = 20
UNBOUND = b"\xc0"  # MessagePack's nil


def connect(url: str, *, timeout_s: float, max_connections: int = 32) -> "Redis":
    """Connects when it is first used, so it may be made while Redis is down. Never retries: callers decide.

    ``timeout_s`` for each wait for the server, whatever keeps the loop busy; a `Cache` has a limit of its own.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


class Entry(msgspec.Struct, frozen=True):
    """What Redis knows of a key; ``binding`` None: nobody owns it. ``value`` is the entry as it lies there."""

    binding: Binding | None
    age_s: float
    value: bytes


class Reservation(msgspec.Struct, frozen=True):
    """A key reserved for a network. ``accepted``: the upstream took the key, PostgreSQL could not be told yet.

    ``token`` (16 hexadecimal digits) tells the reservations of two claimers in one network apart.
    """

    network: Network
    token: str
    accepted: bool = False

    def encode(self) -> bytes:
        return f"{'a' if self.accepted else 'c'}{self.token} {self.network.text}".encode()

    @classmethod
    def decode(cls, value: bytes) -> "Reservation":
        """Raises StoreUnavailable for what is none: it runs out, and until then the key cannot be reserved here."""
        try:
            text = value.decode()
            return cls(Network.parse(text[18:]), text[1:17], accepted=text[0] == "a")
        except (ValueError, IndexError):
            raise StoreUnavailable("redis: a reservation cannot be read") from None

    @property
    def ttl_s(self) -> float:
        return keyspace.ACCEPTED_CLAIM_TTL_S if self.accepted else keyspace.CLAIM_TTL_S


class SeatQuestion(msgspec.Struct, frozen=True):
    """``name`` is of `keyspace.open_of_key` or `open_of_address`; a worker holds so many seats, and wants more."""

    name: str
    held: int
    wanted: int
    limit: int


class Listener(Protocol):
    """Who follows the invalidation channel. The methods are called in order and must not wait."""

    def channel_up(self) -> None:
        """Subscribed, maybe again: what changed before was not heard."""

    def channel_down(self) -> None:
        """Nothing will be heard until `channel_up`."""

    def changed(self, message: bytes) -> None: ...


class Cache:
    """Raises StoreUnavailable, and nothing else, when Redis fails, is slow or was so a moment ago."""

    def __init__(self, client: "Redis", *, timeout_s: float, clock: Clock = time.monotonic) -> None:
        self._client: Any = client  # its answers are typed as "awaitable or not"
        self._timeout_s = timeout_s
        self._circuit = Circuit("redis", clock=clock)
        self._bulkhead = Bulkhead("redis", self._circuit, QUESTIONS_AT_ONCE)
        self._change = client.register_script(scripts.CHANGE)
        self._replace = client.register_script(scripts.REPLACE)
        self._reserve = client.register_script(scripts.RESERVE)
        self._keep = client.register_script(scripts.KEEP)
        self._drop = client.register_script(scripts.DROP)
        self._take_seats = client.register_script(scripts.TAKE_SEATS)
        self._change_settings = client.register_script(scripts.CHANGE_SETTINGS)

    @property
    def available(self) -> bool:
        return self._circuit.available

    @property
    def failure(self) -> str | None:
        return self._circuit.failure

    # --- binding entries ---------------------------------------------------------------------------------------------

    async def get(self, fingerprint: bytes) -> Entry | None:
        """None: Redis does not know the key."""
        name = keyspace.binding(fingerprint)

        async def read() -> Any:
            pipe = self._client.pipeline(transaction=False)
            return await pipe.get(name).pttl(name).execute()

        value, left_ms = await self._ask(read)
        if value is None:
            return None
        try:
            binding = decode_entry(value, fingerprint)
        except msgspec.DecodeError:
            log.warning("binding entry cannot be read, dropping it", entry=name)
            await self._ask(lambda: self._drop(keys=[name], args=[value]))
            return None
        ttl_s = keyspace.BINDING_TTL_S if binding is not None else keyspace.UNBOUND_TTL_S
        return Entry(binding, max(0.0, ttl_s - max(left_ms, 0) / 1000), value)

    async def fill(self, fingerprint: bytes, binding: Binding | None) -> None:
        """Puts what was read from PostgreSQL, unless something is there by now."""
        await self._ask(
            lambda: self._client.set(keyspace.binding(fingerprint), encode_entry(binding), px=_ttl_ms(binding), nx=True)
        )

    async def replace(self, fingerprint: bytes, expected: bytes, binding: Binding | None) -> None:
        """Puts what was read from PostgreSQL in place of an old entry, if that is still the entry ``expected``."""
        value = encode_entry(binding)
        name = keyspace.binding(fingerprint)
        await self._ask(lambda: self._replace(keys=[name], args=[expected, value, _ttl_ms(binding)]))

    async def publish_change(self, fingerprint: bytes, version: int, binding: Binding | None) -> None:
        """Tells Redis and every gateway worker what was just committed; the key's reservation has no meaning any more.

        ``binding`` None: unbound, where ``version`` was drawn from ``binding_version_seq`` by the deleting statement.
        An entry with a higher version stays; the message is sent all the same.
        """
        ttl_ms = _ttl_ms(binding) if binding is not None else int(keyspace.TOMBSTONE_TTL_S * 1000)
        keys = [keyspace.binding(fingerprint), keyspace.claim(fingerprint)]
        args: list[Any] = [
            encode_entry(binding, version),
            ttl_ms,
            keyspace.CHANGED_CHANNEL,
            keyspace.binding_changed(fingerprint),
        ]
        await self._ask(lambda: self._change(keys=keys, args=args))

    # --- claims ------------------------------------------------------------------------------------------------------

    async def reservation(self, fingerprint: bytes) -> Reservation | None:
        value = await self._ask(lambda: self._client.get(keyspace.claim(fingerprint)))
        return None if value is None else Reservation.decode(value)

    async def reserve(self, fingerprint: bytes, mine: Reservation) -> Reservation | Binding:
        """Atomic: the binding if there is one, else the reservation that is there, else ``mine``, put there."""
        keys = [keyspace.binding(fingerprint), keyspace.claim(fingerprint)]
        args: list[Any] = [mine.encode(), int(mine.ttl_s * 1000)]
        entry, held = await self._ask(lambda: self._reserve(keys=keys, args=args))
        if not entry:
            return Reservation.decode(held)
        try:
            return cast("Binding", decode_entry(entry, fingerprint))
        except msgspec.DecodeError as exc:  # `get` drops it before long
            raise StoreUnavailable("redis: binding entry cannot be read") from exc

    async def keep(self, reservations: list[tuple[bytes, Reservation]]) -> list[Reservation]:
        """Renews each or puts back what was lost, and returns what is there then. One round trip.

        What another network holds by now stays, except that an acceptance outranks a claim in flight.
        """

        async def renew() -> list[bytes]:
            pipe = self._client.pipeline(transaction=False)
            for fingerprint, mine in reservations:
                await self._keep(
                    keys=[keyspace.claim(fingerprint)], args=[mine.encode(), int(mine.ttl_s * 1000)], client=pipe
                )
            return cast("list[bytes]", await pipe.execute())

        return [Reservation.decode(value) for value in await self._ask(renew)]

    async def drop(self, fingerprint: bytes, mine: Reservation) -> None:
        """Compare and delete: another claimer's reservation stays."""
        await self._ask(lambda: self._drop(keys=[keyspace.claim(fingerprint)], args=[mine.encode()]))

    # --- open requests -----------------------------------------------------------------------------------------------

    async def take_seats(self, worker: str, questions: list[SeatQuestion]) -> list[int]:
        """How many of the wanted seats each gets, so that all workers together hold no more than its limit.

        What a worker held of it before is replaced by what it says. One round trip.
        """
        args: list[Any] = [worker, int(keyspace.OPEN_TTL_S * 1000)]
        for question in questions:
            args += (question.held, question.wanted, question.limit)
        names = [question.name for question in questions]
        return cast("list[int]", await self._ask(lambda: self._take_seats(keys=names, args=args)))

    # --- live settings -----------------------------------------------------------------------------------------------

    async def get_settings(self) -> StoredSettings | None:
        value = await self._ask(lambda: self._client.get(keyspace.SETTINGS))
        if value is None:
            return None
        if not value[:VERSION_DIGITS].isdigit():
            raise StoreUnavailable("redis: the settings snapshot cannot be read")
        return StoredSettings(int(value[:VERSION_DIGITS]), value[VERSION_DIGITS:])

    async def publish_settings(self, stored: StoredSettings) -> None:
        """Replaces an older snapshot and tells every gateway worker."""
        value = _version(stored.version) + stored.values
        args: list[Any] = [value, keyspace.CHANGED_CHANNEL, keyspace.SETTINGS_CHANGED]
        await self._ask(lambda: self._change_settings(keys=[keyspace.SETTINGS], args=args))

    # --- the invalidation channel ------------------------------------------------------------------------------------

    async def follow(self, listener: Listener, *, probe_s: float = 1.0, pause_s: float = 0.5) -> None:
        """Listens on a connection of its own until cancelled, and comes back after every loss of it.

        A silent connection is probed every ``probe_s``; one that does not answer within another is given up.
        """
        task = asyncio.current_task()
        while task is not None and not task.cancelling():
            try:
                await self._follow(listener, probe_s)
            except FAILURES as exc:
                log.info("invalidation channel is down", failure=type(exc).__name__)
            finally:
                listener.channel_down()
            await asyncio.sleep(pause_s)
        raise asyncio.CancelledError

    async def _follow(self, listener: Listener, probe_s: float) -> None:
        channel = self._client.pubsub()
        try:
            async with asyncio.timeout(self._timeout_s):
                await channel.subscribe(keyspace.CHANGED_CHANNEL)
            probed = False
            task = asyncio.current_task()
            # Asked for since redis-py, which uses Python 3.11's `wait_for`, now and then swallows a cancellation.
            while task is not None and not task.cancelling():
                message = await channel.get_message(timeout=probe_s)
                if message is not None:
                    probed = False
                    if message["type"] == "message":
                        listener.changed(message["data"])
                    elif message["type"] == "subscribe":
                        listener.channel_up()
                elif probed:
                    raise TimeoutError("no answer to a probe")
                else:
                    await channel.ping()
                    probed = True
        finally:
            await channel.aclose()

    # --- asking ------------------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """One cheap question, so that `available` is known without a request having to find out."""
        await self._ask(self._client.ping)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        async with self._bulkhead.enter():
            try:
                async with within(self._timeout_s):
                    answer = await question()
            except FAILURES as exc:
                raise self._circuit.failed(type(exc).__name__) from exc
        self._circuit.succeeded()
        return answer

    async def aclose(self) -> None:
        await self._client.aclose()


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A binding as an entry holds it: networks as text, since MessagePack's integers end at 64 bits, IPv6's at 128.

    Gateways of two versions share Redis during an upgrade: fields are only ever added, at the end, with defaults.
    """

    id: int
    fingerprint: bytes
    hint: str
    status: BindingStatus
    networks: tuple[tuple[str, float | None], ...]
    version: int
    mode: Mode | None = None
    ban_expires_at: float | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Stored | None] = msgspec.msgpack.Decoder(_Stored | None)


def encode_entry(binding: Binding | None, version: int | None = None) -> bytes:
    if binding is None:
        return _version(version or 0) + UNBOUND
    networks = tuple((bound.network.text, bound.expires_at) for bound in binding.networks)
    stored = _Stored(
        binding.id,
        binding.fingerprint,
        binding.hint,
        binding.status,
        networks,
        binding.version,
        binding.mode,
        binding.ban_expires_at,
    )
    return _version(binding.version) + _encoder.encode(stored)


def decode_entry(value: bytes, fingerprint: bytes) -> Binding | None:
    """Raises msgspec.DecodeError for what is not an entry of this key."""
    stored = _decoder.decode(value[VERSION_DIGITS:])
    if stored is None:
        return None
    if stored.fingerprint != fingerprint:
        raise msgspec.DecodeError("an entry of another key")
    try:
        networks = tuple(BoundNetwork(Network.parse(text), expires_at) for text, expires_at in stored.networks)
    except ValueError:
        raise msgspec.DecodeError("an entry with a network that is none") from None
    return Binding(
        stored.id,
        fingerprint,
        stored.hint,
        stored.status,
        networks,
        stored.version,
        stored.mode,
        stored.ban_expires_at,
    )


def _version(version: int) -> bytes:
    return b"%020d" % version


def _ttl_ms(binding: Binding | None) -> int:
    return int((keyspace.UNBOUND_TTL_S if binding is None else keyspace.BINDING_TTL_S) * 1000)
