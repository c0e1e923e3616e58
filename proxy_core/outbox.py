"""The outbox: event batches on their way from this process to PostgreSQL, kept until they are known to be there.

Where it stands in the walk: `events` hands batches in; they go into the Redis stream, or to the `spool` while Redis
cannot take them; `admin_api.jobs.ingest` applies them and leaves a done mark for each, which is read here.

Rules for whoever edits this file:

- A batch is sent again, unchanged and under the same identity, whenever it is not certain that it arrived: after a time
  limit, after a failure, and when it is neither in the stream nor marked done (Redis lost its data). Ingestion applies
  an identity once, so sending twice is always right and forgetting never is.
- One entry of the stream is one batch, not one event: a worker with ten thousand active keys writes a dozen entries
  every few seconds instead of ten thousand, and one identity a batch makes the ledger of applied ones small.
- What is sent and not confirmed is bounded in bytes. Beyond the bound batches wait in the spool, so neither Redis'
  memory nor ours grows while nothing is ingested. Only when the spool is full too is something dropped, loudly.
- All methods but `spill` belong to one task: there is no lock here because there is no second caller.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy_core import keyspace
from proxy_core.spool import Spool, SpoolUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

BATCH_ID_BYTES = 16
FIELD_ID = b"id"
FIELD_BATCH = b"batch"
"""An entry's fields. The identity stands outside the batch so that one that cannot be read can still be marked done."""

_CHUNK_BYTES = 1024 * 1024
_CONFIRM_AT_ONCE = 256
_COMPLAIN_EVERY_S = 10.0


class OutboxLimits(msgspec.Struct, frozen=True):
    """Bounds of one process. ``resend_after_s``: for how long a batch is unconfirmed until it is looked for."""

    send_timeout_s: float = 1.0
    confirm_every_s: float = 1.0
    resend_after_s: float = 5.0
    adopt_every_s: float = 10.0
    backoff_max_s: float = 5.0
    unconfirmed_max_bytes: int = 16 * 1024 * 1024
    spool_max_bytes: int = 64 * 1024 * 1024


class Parcel(NamedTuple):
    """An encoded batch. ``durable`` ones may go to disk; the others (touches) wait in memory, where they are few."""

    batch_id: bytes
    payload: bytes
    durable: bool


class _Sent:
    """A batch that is not confirmed. ``entry_id`` None: it never arrived. ``origin``: the spool that still has it."""

    __slots__ = ("at", "entry_id", "origin", "parcel")

    def __init__(self, parcel: Parcel, entry_id: bytes | None, at: float, origin: Spool | None) -> None:
        self.parcel = parcel
        self.entry_id = entry_id
        self.at = at
        self.origin = origin


class Outbox:
    """Used by one task of one process, between `open` and `aclose`. ``clock`` is monotonic."""

    def __init__(
        self,
        redis: Redis,
        directory: Path,
        name: str,
        limits: OutboxLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._directory = directory
        self._name = name
        self._limits = limits
        self._clock = clock
        self._spool: Spool | None = None
        self._adopted: list[Spool] = []
        self._unconfirmed: dict[bytes, _Sent] = {}
        self._unconfirmed_bytes = 0
        self._failures = 0
        self._away_until = 0.0
        self._confirm_at = 0.0
        self._adopt_at = 0.0
        self._complain_at = 0.0
        self.dropped = 0

    @property
    def redis_reached(self) -> bool:
        """Whether the latest contact with Redis succeeded."""
        return self._failures == 0

    @property
    def unconfirmed(self) -> int:
        return len(self._unconfirmed)

    @property
    def spooled_bytes(self) -> int:
        return sum(spool.waiting_bytes for spool in self._spools())

    @property
    def touches_on_their_way(self) -> bool:
        """While it is true, touches had better go on coalescing: that bounds them without dropping any."""
        return any(not sent.parcel.durable for sent in self._unconfirmed.values())

    def open(self) -> None:
        """Raises SpoolUnavailable: better a gateway that does not start than one that loses events in an outage.

        ``spool_max_bytes`` 0 is the operator's wish to have no spool: what Redis does not take is counted and dropped.
        """
        if self._limits.spool_max_bytes:
            self._spool = Spool.create(self._directory, self._name, self._limits.spool_max_bytes)

    async def deliver(self, parcels: Sequence[Parcel]) -> None:
        """Into the stream, behind everything that waits; else durable ones to the spool, the others into memory."""
        unsent: Sequence[Parcel] = parcels
        if self._may_send(parcels):
            unsent = await self._send(parcels)
        durable = [parcel for parcel in unsent if parcel.durable]
        if durable:
            await asyncio.to_thread(self.spill, durable)
        for parcel in unsent:
            if not parcel.durable:
                self._remember(_Sent(parcel, None, self._clock(), None))

    def spill(self, parcels: Sequence[Parcel]) -> None:
        """To the spool at once, blocking; drops what does not fit, counted and loud. Any caller may use it."""
        records = [parcel.batch_id + parcel.payload for parcel in parcels]
        fault = "the spool is full" if self._spool is not None else "there is no spool"
        kept = 0
        if self._spool is not None:
            try:
                kept = self._spool.append(records)
            except SpoolUnavailable as unavailable:
                fault = str(unavailable)
        if kept < len(records):
            self.dropped += len(records) - kept
            self._complain("event batches dropped", fault=fault, dropped_in_all=self.dropped)

    async def tend(self) -> None:
        """What is due: adopt dead processes' spools, replay, learn what was applied, send again what was lost."""
        now = self._clock()
        if now >= self._adopt_at:
            self._adopt_at = now + self._limits.adopt_every_s
            await asyncio.to_thread(self._adopt)
        if now < self._away_until:
            return
        if now >= self._confirm_at and self._unconfirmed:
            self._confirm_at = now + self._limits.confirm_every_s
            await self._confirm(now)
        for spool in self._spools():
            await self._replay(spool)

    async def aclose(self, patience_s: float) -> None:
        """Waits for confirmations as long as allowed, then leaves the unconfirmed in the spool for the next process."""
        give_up_at = self._clock() + patience_s
        while self._unconfirmed and self.redis_reached and self._clock() < give_up_at:
            await self._confirm(self._clock())
            await asyncio.sleep(0.02)
        left = [sent.parcel for sent in self._unconfirmed.values() if sent.origin is None]
        self._unconfirmed.clear()
        if left:
            await asyncio.to_thread(self.spill, left)
        for spool in self._spools():
            await asyncio.to_thread(spool.close)
        self._spool, self._adopted = None, []

    # --- sending -----------------------------------------------------------------------------------------------------

    def _may_send(self, parcels: Sequence[Parcel]) -> bool:
        room = self._limits.unconfirmed_max_bytes - self._unconfirmed_bytes
        in_order = self._spool is None or not self._spool.waiting_bytes
        return in_order and self._clock() >= self._away_until and sum(len(p.payload) for p in parcels) <= room

    async def _send(self, parcels: Sequence[Parcel], origin: Spool | None = None) -> list[Parcel]:
        """Returns those of which it is not known that they arrived."""
        pipe = self._redis.pipeline(transaction=False)
        for parcel in parcels:
            pipe.xadd(keyspace.EVENTS_STREAM, {FIELD_ID: parcel.batch_id, FIELD_BATCH: parcel.payload})
        # A full Redis refuses single commands (OOM): those come back as values, the others as the ids of their entries.
        replies = await self._ask(pipe.execute(raise_on_error=False))
        unsent: list[Parcel] = []
        for parcel, reply in zip(parcels, replies or [None] * len(parcels), strict=True):
            if isinstance(reply, bytes):
                self._remember(_Sent(parcel, reply, self._clock(), origin))
            else:
                unsent.append(parcel)
        if replies and unsent:
            self._failed("redis refuses events")
        return unsent

    async def _replay(self, spool: Spool) -> None:
        """In the order of the file, as far as there is room; the file is emptied when all of it is confirmed."""
        while spool.waiting_bytes and self._unconfirmed_bytes < self._limits.unconfirmed_max_bytes:
            chunk = await asyncio.to_thread(spool.peek, _CHUNK_BYTES)
            parcels = [
                Parcel(record[:BATCH_ID_BYTES], record[BATCH_ID_BYTES:], durable=True) for record in chunk.payloads
            ]
            if parcels and await self._send(parcels, spool):
                return
            spool.advance(chunk)
        if not spool.waiting_bytes and not any(sent.origin is spool for sent in self._unconfirmed.values()):
            await asyncio.to_thread(spool.clear)
            if spool is not self._spool and not spool.waiting_bytes:
                self._adopted.remove(spool)
                await asyncio.to_thread(spool.close)

    # --- confirmation ------------------------------------------------------------------------------------------------

    async def _confirm(self, now: float) -> None:
        asked = list(itertools.islice(self._unconfirmed.values(), _CONFIRM_AT_ONCE))
        marks = await self._ask(self._redis.mget([keyspace.event_done(sent.parcel.batch_id) for sent in asked]))
        if marks is None:
            return
        for sent, mark in zip(asked, marks, strict=True):
            if mark is not None:
                self._forget(sent)
            else:  # to the back of the line, so that the next call asks for others
                self._unconfirmed[sent.parcel.batch_id] = self._unconfirmed.pop(sent.parcel.batch_id)
        late = [
            sent
            for sent, mark in zip(asked, marks, strict=True)
            if mark is None and (sent.entry_id is None or now - sent.at >= self._limits.resend_after_s)
        ]
        lost = await self._not_in_stream(late, now)
        for origin, group in itertools.groupby(lost, key=lambda sent: sent.origin):
            await self._send([sent.parcel for sent in group], origin)

    async def _not_in_stream(self, late: Sequence[_Sent], now: float) -> list[_Sent]:
        arrived = [(sent, sent.entry_id) for sent in late if sent.entry_id is not None]
        lost = [sent for sent in late if sent.entry_id is None]
        if not arrived:
            return lost
        pipe = self._redis.pipeline(transaction=False)
        for _, entry_id in arrived:
            pipe.xrange(keyspace.EVENTS_STREAM, entry_id, entry_id)
        found = await self._ask(pipe.execute())
        if found is None:
            return []
        for (sent, _), entries in zip(arrived, found, strict=True):
            if entries:
                sent.at = now
            else:
                lost.append(sent)
        if any(sent.entry_id is not None for sent in lost):
            log.warning("redis lost event batches, sending them again", batches=len(lost))
        return lost

    def _remember(self, sent: _Sent) -> None:
        before = self._unconfirmed.get(sent.parcel.batch_id)
        if before is None:
            self._unconfirmed_bytes += len(sent.parcel.payload)
        self._unconfirmed[sent.parcel.batch_id] = sent

    def _forget(self, sent: _Sent) -> None:
        del self._unconfirmed[sent.parcel.batch_id]
        self._unconfirmed_bytes -= len(sent.parcel.payload)

    # --- below -------------------------------------------------------------------------------------------------------

    async def _ask(self, call: Awaitable[T]) -> T | None:
        """One exchange with Redis within the time limit; None if it failed: then Redis is left alone for a while."""
        try:
            async with asyncio.timeout(self._limits.send_timeout_s):
                answer = await call
        except (RedisError, OSError, TimeoutError) as fault:
            self._failed(f"redis cannot be reached for events: {type(fault).__name__}")
            return None
        if self._failures:
            log.info("redis takes events again", spooled_bytes=self.spooled_bytes)
        self._failures = 0
        self._away_until = 0.0
        return answer

    def _failed(self, what: str) -> None:
        pause_s = min(0.25 * 2 ** min(self._failures, 10), self._limits.backoff_max_s)
        self._failures += 1
        self._away_until = self._clock() + pause_s
        self._complain(f"{what}; events wait in the spool")

    def _complain(self, what: str, **facts: object) -> None:
        if self._clock() >= self._complain_at:
            self._complain_at = self._clock() + _COMPLAIN_EVERY_S
            log.error(what, **facts)

    def _adopt(self) -> None:
        held = frozenset(spool.path for spool in self._spools())
        for spool in Spool.adopt(self._directory, self._limits.spool_max_bytes, but=held):
            log.info("event spool of a dead process adopted", file=spool.path.name, bytes=spool.waiting_bytes)
            self._adopted.append(spool)

    def _spools(self) -> list[Spool]:
        """Dead processes' first: what they saw is older."""
        return [*self._adopted, *([self._spool] if self._spool is not None else [])]
