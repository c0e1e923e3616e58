"""Concurrency: how many requests of one key, and from one address, are open at once, over all workers and gateways.

Where it stands in the walk: `handler` takes seats here after the verdict, where a live setting limits them, and gives
them back at the request's end, whatever end that is. Redis holds for each key and address how many seats each worker
has taken; it alone grants, so that a limit of N means N, however many workers there are.

Rules for whoever edits this file:

- With the limits off, nothing here is called. With them on, a request waits for one round trip to Redis, which all
  requests of a moment share.
- What is told to Redis is never "one more" or "one less" but how many this worker has. A message that is lost, late or
  sent twice leaves nothing wrong: the next one says it again.
- One message at a time, so that an older number cannot overtake a newer one.
- A worker that dies has its seats freed when `keyspace.OPEN_TTL_S` is over: it renews them while it lives.
- Without Redis each worker counts alone: a limit is then N for each worker. Refusing everybody would be an outage.
"""

import asyncio
import collections
import secrets
import time
from collections.abc import Sequence

import structlog

from proxy_core import keyspace
from proxy_core.cache import Cache, SeatQuestion
from proxy_core.contracts import ClientAddress, LiveSettings, Reason
from proxy_core.errors import RequestRefused, StoreUnavailable
from proxy_core.tasks import Tasks

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
RENEW_EVERY_S = keyspace.OPEN_TTL_S / 3


class Subject:
    """A key or an address with open requests. ``held``: seats of this worker's; ``waiting``: requests for more."""

    __slots__ = ("held", "limit", "name", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.held = 0
        self.limit = 0
        self.waiting: collections.deque[asyncio.Future[bool]] = collections.deque()


Seats = Sequence[Subject]


class Concurrency:
    """One a worker process."""

    def __init__(self, cache: Cache, tasks: Tasks) -> None:
        self._cache = cache
        self._tasks = tasks
        self._worker = secrets.token_hex(8)
        self._subjects: dict[str, Subject] = {}
        self._untold: set[Subject] = set()
        self._woken = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._renewed_at = time.monotonic()
        self._alone = False

    def __repr__(self) -> str:
        return f"<Concurrency {sum(subject.held for subject in self._subjects.values())} seats taken>"

    def start(self) -> None:
        self._tasks.repeat(self._tell_when_woken, every_s=0, name="concurrency")

    async def enter(self, live: LiveSettings, fingerprint: bytes | None, address: ClientAddress) -> Seats:
        """The seats that a request takes until `leave`. Raises RequestRefused (429) when there is none left."""
        taken: list[Subject] = []
        try:
            if live.max_concurrent_per_key and fingerprint is not None:
                name = keyspace.open_of_key(fingerprint)
                taken.append(await self._take(name, live.max_concurrent_per_key, Reason.KEY_CONCURRENCY_EXCEEDED))
            if live.max_concurrent_per_address:
                name = keyspace.open_of_address(_countable(address))
                limit = live.max_concurrent_per_address
                taken.append(await self._take(name, limit, Reason.ADDRESS_CONCURRENCY_EXCEEDED))
        except BaseException:
            self.leave(taken)
            raise
        return taken

    def leave(self, seats: Seats) -> None:
        """Once for each `enter`. Never waits."""
        for subject in seats:
            subject.held -= 1
            self._tell(subject)

    async def _take(self, name: str, limit: int, refusal: Reason) -> Subject:
        subject = self._subjects.get(name)
        if subject is None:
            subject = self._subjects[name] = Subject(name)
        subject.limit = limit
        if subject.held >= limit:  # no need to ask what the others have
            raise RequestRefused(429, refusal, "")
        seat: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        subject.waiting.append(seat)
        self._tell(subject)
        try:
            granted = await seat
        except asyncio.CancelledError:
            if seat.done() and not seat.cancelled() and seat.result():
                self.leave((subject,))
            raise
        if not granted:
            raise RequestRefused(429, refusal, "")
        return subject

    # -- telling Redis

    def _tell(self, subject: Subject) -> None:
        self._untold.add(subject)
        self._woken.set()

    async def _tell_when_woken(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._woken.wait()
        except TimeoutError:
            pass
        now = time.monotonic()
        if now - self._renewed_at >= RENEW_EVERY_S:
            self._renewed_at = now
            self._untold.update(self._subjects.values())
        await self._tell_all()

    async def _tell_all(self) -> None:
        """One message about all that changed, and its answer to all who wait. Redis away: each as if alone."""
        async with self._one_at_a_time:
            self._woken.clear()
            told, self._untold = list(self._untold), set()
            if not told:
                return
            waiting = [list(subject.waiting) for subject in told]
            for subject in told:
                subject.waiting.clear()
            questions = [
                SeatQuestion(subject.name, subject.held, len(seats), subject.limit)
                for subject, seats in zip(told, waiting, strict=True)
            ]
            try:
                granted = await self._cache.take_seats(self._worker, questions)
                self._alone = False
            except StoreUnavailable as exc:
                granted = [max(0, min(question.wanted, question.limit - question.held)) for question in questions]
                self._untold.update(told)  # said again at the next look
                if not self._alone:
                    self._alone = True
                    log.warning("open requests are counted by each worker alone", detail=str(exc))
            for subject, seats, number in zip(told, waiting, granted, strict=True):
                self._hand_out(subject, seats, number)

    def _hand_out(self, subject: Subject, seats: list[asyncio.Future[bool]], granted: int) -> None:
        left = granted
        for seat in seats:
            if seat.done():  # whoever asked is gone
                continue
            seat.set_result(left > 0)
            if left > 0:
                left -= 1
                subject.held += 1
        if left:
            self._tell(subject)
        if not (subject.held or subject.waiting or subject in self._untold):
            self._subjects.pop(subject.name, None)

    async def aclose(self) -> None:
        """Tells Redis of the seats that were given back last. Idempotent."""
        await self._tell_all()


def _countable(address: ClientAddress) -> str:
    """An IPv4 address, or the /64 around an IPv6 one: who has one address of that has all."""
    return address.text if address.version == 4 else f"{address.value >> 64:x}"
