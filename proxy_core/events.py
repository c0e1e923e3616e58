"""What happened, noted on the hot path and carried away in batches: touches of bindings, intercepts, outcomes.

Where it stands in the walk: `handler` calls `touch`, `intercept` and `count`, none of which awaits; one task hands
batches to the `outbox`, which sees to it that they reach PostgreSQL.

Rules for whoever edits this file:

- `touch` is paid by every allowed request. Measure before adding anything to it.
- No event holds a key, a query string, or a header value other than the user agent; `_printable` sees to the free text.
- What is noted is first of all folded: touches one a binding, intercepts one a (key, address, reason). A flood from one
  source costs one entry a batch.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from proxy_core.contracts import ClientAddress, EventBatch, Intercept, KeyIdentity, Reason, Touch
from proxy_core.outbox import BATCH_ID_BYTES, Outbox, OutboxLimits, Parcel
from proxy_core.tasks import Tasks

log = structlog.get_logger(__name__)

USER_AGENT_MAX_BYTES = 256
PATH_MAX_BYTES = 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LIKE_A_KEY = re.compile(r"(?i:sk(?:-|%2d))[0-9A-Za-z_-]{8,}|[0-9A-Za-z]{40,}")
_KEY_MAX_BYTES = 256


class EventLimits(msgspec.Struct, frozen=True):
    """Bounds and periods of one process. ``flush_s`` is what a SIGKILL may lose; ``close_s`` bounds `Events.aclose`."""

    flush_s: float = 0.25
    touch_every_s: float = 5.0
    touches_max: int = 5_000
    intercepts_max: int = 10_000
    batch_max: int = 500
    close_s: float = 3.0
    outbox: OutboxLimits = OutboxLimits()


class EventsState(msgspec.Struct, frozen=True):
    """For readiness and metrics: outcomes counted since the start, and what has not reached PostgreSQL yet.

    ``allowed``: requests with a bound key that passed, observed ones included.
    """

    counts: dict[str, int]
    allowed: int
    redis_reached: bool
    touches_pending: int
    intercepts_pending: int
    batches_unconfirmed: int
    spooled_bytes: int
    batches_dropped: int


class Events:
    """One a process. ``gateway`` names the process in rows and in the spool; ``clock`` gives Unix seconds."""

    def __init__(
        self,
        redis: Redis,
        tasks: Tasks,
        *,
        gateway: str,
        spool_dir: Path,
        limits: EventLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gateway = gateway
        self._tasks = tasks
        self._limits = limits or EventLimits()
        self._clock = clock
        spool_name = f"{re.sub(r'[^0-9A-Za-z.-]', '_', gateway)}-{os.getpid()}-{os.urandom(4).hex()}"
        self._outbox = Outbox(redis, spool_dir, spool_name, self._limits.outbox)
        self._touches: dict[int, list[Any]] = {}
        self._intercepts: dict[tuple[bytes, str, Reason, bool], _Folded] = {}
        self._counts: dict[str, int] = {}
        self._touched = 0
        self._cut: list[Parcel] = []
        self._touches_due_at = 0.0
        self._encode = msgspec.msgpack.Encoder().encode
        self._stopping = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Raises SpoolUnavailable when the spool directory cannot be written."""
        self._outbox.open()
        self._touches_due_at = self._clock() + self._limits.touch_every_s
        self._flusher = self._tasks.start(self._flush_on_and_on(), name="events")

    # --- the hot path ------------------------------------------------------------------------------------------------

    def touch(self, binding_id: int, fingerprint: bytes, address_text: str, now: float) -> None:
        """An allowed request with a bound key."""
        try:  # a subscript is faster than `get`, and almost every touch finds its list
            seen = self._touches[binding_id]
        except KeyError:
            self._touches[binding_id] = [now, address_text, 1, fingerprint]
            return
        seen[0] = now
        seen[1] = address_text
        seen[2] += 1

    def count(self, name: str) -> None:
        """An outcome (a `Reason`, ``failsafe``, …), counted in this process."""
        counts = self._counts
        counts[name] = counts.get(name, 0) + 1

    def intercept(
        self,
        identity: KeyIdentity,
        address: ClientAddress,
        reason: Reason,
        *,
        enforced: bool,
        bound_networks: Sequence[str],
        method: str,
        path: bytes,
        user_agent: bytes,
        now: float,
        peer: str = "",
    ) -> None:
        """A request that was refused, or with ``enforced`` False would have been. ``path``, ``user_agent``: raw."""
        if not enforced:
            self.count("observed")
        fold = (identity.fingerprint, address.text, reason, enforced)
        folded = self._intercepts.get(fold)
        if folded is not None:
            folded.count += 1
            return
        if len(self._intercepts) >= self._limits.intercepts_max:
            # The flusher cannot keep up: to disk right here, which slows the flood down instead of forgetting it.
            self._outbox.spill(self._cut_intercepts())
        self._intercepts[fold] = _Folded(
            Intercept(
                event_id=_event_id(now),
                at=now,
                fingerprint=identity.fingerprint,
                hint=identity.hint,
                client=address.text,
                bound_networks=tuple(bound_networks),
                reason=reason,
                enforced=enforced,
                method=_printable(method.encode("latin-1", "replace"), 32),
                path=_printable(path.partition(b"?")[0], PATH_MAX_BYTES),
                user_agent=_printable(user_agent, USER_AGENT_MAX_BYTES),
                gateway=self._gateway,
                peer=peer,
            )
        )

    def state(self) -> EventsState:
        return EventsState(
            counts=dict(self._counts),
            allowed=self._touched + sum(seen[2] for seen in self._touches.values()),
            redis_reached=self._outbox.redis_reached,
            touches_pending=len(self._touches),
            intercepts_pending=len(self._intercepts),
            batches_unconfirmed=self._outbox.unconfirmed,
            spooled_bytes=self._outbox.spooled_bytes,
            batches_dropped=self._outbox.dropped,
        )

    # --- the flusher -------------------------------------------------------------------------------------------------

    async def _flush_on_and_on(self) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._limits.flush_s):
                    await self._stopping.wait()
            except TimeoutError:
                await self._flush(touches=self._touches_due())

    async def _flush(self, *, touches: bool) -> None:
        """A fault in here must not end the flusher: what was cut is kept and tried again, under the same identities."""
        try:
            self._cut += self._cut_intercepts()
            if touches:
                self._cut += self._cut_touches()
            if self._cut:
                await self._outbox.deliver(self._cut)
                self._cut = []
            await self._outbox.tend()
        except Exception:
            log.exception("events could not be flushed")

    def _touches_due(self) -> bool:
        if not self._touches or self._outbox.touches_on_their_way:
            return False
        return self._clock() >= self._touches_due_at or len(self._touches) >= self._limits.touches_max

    def _cut_intercepts(self) -> list[Parcel]:
        cut, self._intercepts = self._intercepts, {}
        events = [
            folded.first if folded.count == 1 else msgspec.structs.replace(folded.first, repeat_count=folded.count)
            for folded in cut.values()
        ]
        size = self._limits.batch_max
        return [self._parcel(intercepts=tuple(events[start : start + size])) for start in range(0, len(events), size)]

    def _cut_touches(self) -> list[Parcel]:
        cut, self._touches = self._touches, {}
        self._touches_due_at = self._clock() + self._limits.touch_every_s
        self._touched += sum(seen[2] for seen in cut.values())  # here and not in `touch`, which is the hot path
        events = [
            Touch(fingerprint=fingerprint, binding_id=binding_id, last_used_at=at, last_ip=address, requests=requests)
            for binding_id, (at, address, requests, fingerprint) in cut.items()
        ]
        size = self._limits.batch_max
        return [self._parcel(touches=tuple(events[start : start + size])) for start in range(0, len(events), size)]

    def _parcel(self, *, intercepts: tuple[Intercept, ...] = (), touches: tuple[Touch, ...] = ()) -> Parcel:
        batch_id = os.urandom(BATCH_ID_BYTES)
        batch = EventBatch(
            batch_id=batch_id, gateway=self._gateway, at=self._clock(), intercepts=intercepts, touches=touches
        )
        return Parcel(batch_id, self._encode(batch), durable=bool(intercepts))

    # --- the end -----------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Flushes to the stream, else to the spool, within about ``close_s``. Idempotent; goes on when cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._stopping.set()
        if self._flusher is None:
            return
        await asyncio.wait([self._flusher], timeout=self._limits.close_s / 3)
        if not self._flusher.done():
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        await self._flush(touches=True)
        await self._outbox.aclose(self._limits.close_s / 3)


class _Folded:
    """The first of some identical intercepts, and how many they are by now."""

    __slots__ = ("count", "first")

    def __init__(self, first: Intercept) -> None:
        self.first = first
        self.count = 1


def _event_id(now: float) -> bytes:
    """Sixteen bytes that begin with the milliseconds, so that rows of one time lie together in the index."""
    return int(now * 1000).to_bytes(6, "big") + os.urandom(10)


def _printable(raw: bytes, max_bytes: int) -> str:
    """Foreign bytes as text for rows and screens: cut, control characters escaped, what looks like a key left out.

    Clients put keys into paths and user agents by mistake, and an event must not be where a key is found.
    """
    text = raw[: max_bytes + _KEY_MAX_BYTES].decode("latin-1")  # what the cut would shorten still looks like a key
    text = _LIKE_A_KEY.sub("[key]", text)[:max_bytes]
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
