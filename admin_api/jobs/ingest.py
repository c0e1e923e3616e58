"""Draining the event stream: batches become rows, at least once, and exactly once in effect.

Where it stands in the walk: gateways' `outbox` → Redis stream → here → `apply` → rows. The outbox sends a batch again
until it sees its done mark, so nothing here needs to be certain except that a mark is never set before the commit.

An entry's way: read through the consumer group (it is pending now) → opened (`letters`) → applied in one transaction
with the ledger → noticed (`alerts` counts it) → in one MULTI marked done, acknowledged and deleted. Whatever dies
between two of these steps, the entry stays pending, and after ``claim_idle_s`` any worker takes it over; the ledger
makes the second time harmless.
An entry whose content is wrong goes to the dead letters and is marked done too, so that it comes no more.

Rules for whoever edits this file:

- Any number of drains may run at once, in one process or many. There is no leader to lose: what two of them take at
  the same time is applied once, and one waits for the other in `apply`'s lock.
- Nothing in the stream is trusted or quoted in a log line; ids and the kind of fault are enough to find a dead letter.
- While PostgreSQL is away nothing is acknowledged. The batches at hand are kept and tried again, so that no time is
  lost when it is back.
- The group is made when Redis says that there is none: at the first start, and after Redis lost its data.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncpg
import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from admin_api.jobs import apply, distinct
from admin_api.jobs.alerts import Alerts
from admin_api.jobs.letters import IDENTITY_BYTES, DeadLetter, Fields, Letter, opened, shares
from admin_api.jobs.postgres import FAILURES, Connection, Postgres, describe
from proxy_core import keyspace
from proxy_core.circuit import Circuit

log = structlog.get_logger(__name__)

T = TypeVar("T")

DRAINS_MAX = 2
"""One that ends its turn and one that begins. More would only pile up while PostgreSQL hangs."""

LINES = 2
"""Of one drain, side by side: while PostgreSQL applies what one took, the other confirms, reads and decodes. Half of a
line's time is either."""

_GROUP_GONE = ("NOGROUP", "UNBLOCKED")
"""How Redis' errors begin when the group does not exist, or ceased to while we waited for entries."""


class IngestLimits(msgspec.Struct, frozen=True):
    """``read_min`` batches are read at once, up to ``read_max`` while they are small; ``events_max`` events, or one
    batch, go into one transaction. ``claim_idle_s``: how long an entry may be pending until others take it over; a
    worker that is only slow loses nothing by it. ``block_s`` stays below the client's socket timeout.
    """

    read_min: int = 16
    read_max: int = 256
    events_max: int = 8_000
    block_s: float = 1.0
    claim_every_s: float = 1.0
    claim_idle_s: float = 3.0
    apply_s: float = 20.0
    backoff_first_s: float = 0.1
    backoff_max_s: float = 2.0
    redis_pause_s: float = 0.5
    finish_s: float = 5.0


class _Turn:
    """Until when one line goes on (monotonic), cut short when it is cancelled; whether it has batches in its hands."""

    __slots__ = ("ends_at", "settling")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.settling = False

    def goes_on(self, after_s: float = 0.0) -> bool:
        return time.monotonic() + after_s < self.ends_at


class Ingest:
    """One a process; `drain` may run several times at once."""

    def __init__(
        self,
        redis: Redis,
        postgres: Postgres,
        limits: IngestLimits | None = None,
        *,
        alerts: Alerts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._limits = limits or IngestLimits()
        self._alerts = alerts
        self._clock = clock
        self._redis_state = Circuit("redis (event stream)", clock=time.monotonic)
        self._postgres_state = Circuit("postgresql (ingestion)", clock=time.monotonic)
        self._applying = asyncio.Lock()
        self._held: set[bytes] = set()  # what lines have in their hands is not taken over, however slow PostgreSQL is
        self._read = min(self._limits.read_min, self._limits.read_max)
        self._claim_at = 0.0
        self._drains = 0

    async def drain(self, for_s: float) -> None:
        """Applies what comes for about ``for_s`` seconds. Raises nothing: stores that are away are waited for.

        Cancelled, it finishes the batches at hand, within ``finish_s``; beyond that they are left for redelivery.
        Returns at once when `DRAINS_MAX` others run in this process.
        """
        if self._drains >= DRAINS_MAX:
            return
        self._drains += 1
        turns = [_Turn(time.monotonic() + for_s) for _ in range(LINES)]
        lines = [asyncio.create_task(self._line(turn)) for turn in turns]
        try:
            await asyncio.wait(lines, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await asyncio.gather(*map(self._end, turns, lines))
            self._drains -= 1
        for line in lines:
            if not line.cancelled():
                line.result()

    async def _line(self, turn: "_Turn") -> None:
        while turn.goes_on():
            entries = await self._asking(self._take)
            if entries is None:
                await asyncio.sleep(self._limits.redis_pause_s)
            elif entries:
                turn.settling = True
                held = {entry_id for entry_id, _ in entries}
                self._held |= held
                try:
                    await self._settle(entries, turn)
                finally:
                    self._held -= held
                turn.settling = False

    async def _end(self, turn: "_Turn", work: asyncio.Task[None]) -> None:
        turn.ends_at = 0.0
        if turn.settling:
            await asyncio.wait([work], timeout=self._limits.finish_s)
        # Again and again: before Python 3.12 `asyncio.wait_for`, which redis-py sends its commands with, loses a
        # cancellation that comes just when the sending is done.
        while not work.done():
            work.cancel()
            await asyncio.wait([work], timeout=self._limits.block_s)

    # --- taking ------------------------------------------------------------------------------------------------------

    async def _take(self) -> list[tuple[bytes, Fields]]:
        """First what somebody else took and did not finish, then new ones; waits up to ``block_s`` for one."""
        now = time.monotonic()
        if now >= self._claim_at:
            _, claimed, *_ = await self._redis.xautoclaim(
                keyspace.EVENTS_STREAM,
                keyspace.EVENTS_GROUP,
                keyspace.EVENTS_CONSUMER,
                min_idle_time=int(self._limits.claim_idle_s * 1000),
                count=self._read,
            )
            unfinished = [entry for entry in claimed if entry[0] not in self._held]
            if unfinished:
                # Without PostgreSQL they come round again and again: that is said once, elsewhere.
                (log.info if self._postgres_state.available else log.debug)(
                    "unfinished event batches taken over", batches=len(unfinished)
                )
                return unfinished
            self._claim_at = now + self._limits.claim_every_s
        streams = await self._redis.xreadgroup(
            keyspace.EVENTS_GROUP,
            keyspace.EVENTS_CONSUMER,
            {keyspace.EVENTS_STREAM: ">"},
            count=self._read,
            block=int(self._limits.block_s * 1000),
        )
        return [entry for _, entries in streams for entry in entries]

    async def _make_group(self) -> None:
        """From the beginning of the stream: what was sent before the group was made is to be read as well."""
        try:
            await self._redis.xgroup_create(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP, id="0", mkstream=True)
            log.info("consumer group made", stream=keyspace.EVENTS_STREAM, group=keyspace.EVENTS_GROUP)
        except ResponseError as fault:
            if not str(fault).startswith("BUSYGROUP"):  # another worker was faster
                raise

    # --- settling ----------------------------------------------------------------------------------------------------

    async def _settle(self, entries: Sequence[tuple[bytes, Fields]], turn: "_Turn") -> None:
        letters: list[Letter] = []
        dead: list[DeadLetter] = []
        for entry_id, fields in entries:
            letter = opened(entry_id, fields or {}, self._clock())
            if isinstance(letter, Letter):
                letters.append(letter)
            else:
                dead.append(letter)
        self._read = self._how_many(letters)
        for share in shares(letters, self._limits.events_max):
            dead += await self._settle_share(share, turn)
        if dead:
            await self._asking(partial(self._bury, dead))

    async def _settle_share(self, letters: Sequence[Letter], turn: "_Turn") -> list[DeadLetter]:
        """Returns those that never can be applied."""
        pause_s = self._limits.backoff_first_s
        while True:
            try:
                async with self._applying:  # else two lines would wait in PostgreSQL, against its time limit
                    applied, refused = await self._apply(letters)
                    self._postgres_state.succeeded()
                    noticed = bool(applied) and await self._noticed(applied)
            except FAILURES as fault:
                self._postgres_state.failed(describe(fault))
                if not turn.goes_on(pause_s):
                    return []  # they stay pending and are taken over
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._limits.backoff_max_s)
            else:
                if noticed:
                    await self._asking(partial(self._confirm, applied))
                return refused

    def _how_many(self, letters: Sequence[Letter]) -> int:
        """To read the next time. Of small batches many, since a commit costs the same for one event or thousands."""
        limits = self._limits
        of_one_size = len(letters) * limits.events_max // max(1, sum(letter.events for letter in letters))
        return max(min(limits.read_min, limits.read_max), min(of_one_size, limits.read_max))

    async def _apply(self, letters: Sequence[Letter]) -> tuple[list[Letter], list[DeadLetter]]:
        """All together; one by one if PostgreSQL refuses a value in one of them. Raises `FAILURES` otherwise."""

        async def work(connection: Connection) -> apply.Applied:
            return await apply.apply_batches(connection, [letter.batch for letter in letters])

        try:
            done = await self._postgres.run(work, limit_s=self._limits.apply_s)
        except apply.CONTENT_FAULTS as fault:
            if len(letters) == 1:
                letter = letters[0]
                why = f"postgresql refuses a value ({type(fault).__name__})"
                return [], [DeadLetter(letter.entry_id, letter.fields, letter.batch.batch_id, why)]
        else:
            log.debug("event batches applied", batches=done.batches, intercepts=done.intercepts, touches=done.touches)
            return list(letters), []
        applied: list[Letter] = []
        refused: list[DeadLetter] = []
        for letter in letters:
            good, bad = await self._apply([letter])
            applied += good
            refused += bad
        return applied, refused

    async def _noticed(self, letters: Sequence[Letter]) -> bool:
        """False: they stay pending, are applied again without effect, and noticed then."""
        if self._alerts is None:
            return True
        try:
            return await self._asking(partial(self._alerts.notice, [letter.batch for letter in letters])) is not None
        except (asyncpg.DataError, asyncpg.SyntaxOrAccessError) as fault:
            # A fault of ours, which trying again does not mend, must not hold up the events.
            log.critical("alerts not raised", fault=describe(fault))
            return True
        except FAILURES as fault:
            self._postgres_state.failed(describe(fault))
            return False

    async def _confirm(self, letters: Sequence[Letter]) -> None:
        """In one step, so that a gateway never sees a batch neither in the stream nor marked."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for letter in letters:
                pipe.set(keyspace.event_done(letter.batch.batch_id), b"", ex=keyspace.EVENT_DONE_TTL_S)
            distinct.note(pipe, [letter.batch for letter in letters], self._clock())
            _remove(pipe, [letter.entry_id for letter in letters])
            await pipe.execute()

    async def _bury(self, dead: Sequence[DeadLetter]) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for letter in dead:
                pipe.xadd(
                    keyspace.DEAD_LETTERS_STREAM,
                    {**letter.fields, b"entry": letter.entry_id, b"fault": letter.fault.encode()},
                    maxlen=keyspace.DEAD_LETTERS_MAX_LENGTH,
                    approximate=False,
                )
                if letter.mark is not None and len(letter.mark) == IDENTITY_BYTES:
                    pipe.set(keyspace.event_done(letter.mark), b"", ex=keyspace.EVENT_DONE_TTL_S)
            _remove(pipe, [letter.entry_id for letter in dead])
            await pipe.execute()
        for letter in dead:
            log.error("event batch put to the dead letters", entry=letter.entry_id.decode(), fault=letter.fault)

    async def _asking(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """None: Redis did not answer, or has just been given its group. What was asked is then still to do."""
        try:
            try:
                answer = await question()
            except ResponseError as fault:
                if not str(fault).startswith(_GROUP_GONE):
                    raise
                await self._make_group()
                answer = await question()
        except (RedisError, OSError, TimeoutError) as fault:
            self._redis_state.failed(type(fault).__name__)
            return None
        self._redis_state.succeeded()
        return answer


def _remove(pipe: Any, entry_ids: Sequence[bytes]) -> None:
    pipe.xack(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP, *entry_ids)
    pipe.xdel(keyspace.EVENTS_STREAM, *entry_ids)
