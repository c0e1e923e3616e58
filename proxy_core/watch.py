"""The watch over clients: who has left, who has stopped sending and who has stopped reading, told without a task or a
timer per request.

Where it stands in the walk: `handler` makes a `Visit` for each request and enters it here, `relay` an `Outlet` for each
WebSocket. Most requests are over before a tick looks at them and cost an entry in a set. For the others the tick waits
on ``receive`` with a callback, since Granian tells of a client that left in no other way, and ends the exchange at once
when it does. Whoever is left then is looked at now and then, for pieces that the client does not take. Of a client that
leaves during the handshake of a WebSocket Granian tells nothing; it is missed when its connection is.

Of a client that reads too slowly only this much can be seen: Granian's ``send`` is done at once while four pieces or
fewer wait in its queue, behind about `sentinel.serve`'s size of a head in its buffer and whatever the system buffers.

Rules for whoever edits this file:

- Granian's awaitables know the task that waits, for ever, and hide that from the garbage collector. A cancelled task
  knows its frames by its error's traceback. So no awaitable may be a frame's variable, or stay in something that is
  one: all of it would be kept until the process ends, and with it the request, whose unread body holds up the next.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import msgspec

from proxy_core.errors import ClientGone, ClientStalled, ProxyError, UploadTimeout
from proxy_core.exchange import Connection
from proxy_core.own_sockets import Clients, Peer
from proxy_core.tasks import Tasks

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

Client = tuple[str, int | str]
"""As the server names it: address and port."""

TICK_S = 0.05
LOOK_EVERY_S = 1.0
"""Clients that take nothing are looked for so often, or four times within the limit if that is more often."""

SEARCH_PAUSE = 20
"""After a search among the connections, how many times as long as it took there is none."""


class Patience(msgspec.Struct, frozen=True):
    """How long a client may do nothing.

    ``upload_s``: a request body may make no progress for so long, and while it is waited for that long it has to bring
    ``upload_bytes_per_s`` (0: as few as it likes); 0: for ever. ``stall_s``: a piece of an answer may wait for so long
    until it is taken; 0: for ever.
    """

    upload_s: float
    upload_bytes_per_s: float
    stall_s: float


class Outlet:
    """What a client is given. ``sending`` is the server's awaitable of a piece that it has not taken yet."""

    __slots__ = ("_stuck", "_stuck_since", "client", "sending")

    def __init__(self, client: Client | None) -> None:
        self.client = client
        self.sending: Any = None
        self._stuck: Any = None

    def stalls(self, now: float, limit_s: float) -> bool:
        sending = self.sending
        if self._stuck is not sending:
            self._stuck, self._stuck_since = sending, now
        return sending is not None and now - self._stuck_since > limit_s

    def fail(self, error: ProxyError) -> None:
        """Ends what the client is given, wherever it waits. Idempotent."""
        raise NotImplementedError

    def forget(self) -> None:
        """Nothing is given any more."""
        self.sending = self._stuck = None


class Upload:
    """How a request body arrives, seen from tick to tick while the client is waited for."""

    __slots__ = ("_before_bytes", "_news", "_since", "_waited_s")

    def __init__(self, news: object, now: float, arrived_bytes: int) -> None:
        self._news = news
        self._since = now
        self._waited_s = 0.0
        self._before_bytes = arrived_bytes

    def too_slow(self, news: object, now: float, elapsed_s: float, arrived_bytes: int, patience: Patience) -> bool:
        """``elapsed_s`` since the last tick. What the upstream makes the client wait is not held against it."""
        if self._news is not news:
            self._news, self._since = news, now
        elif now - self._since > patience.upload_s:
            return True
        self._waited_s += elapsed_s
        if self._waited_s <= patience.upload_s:
            return False
        arrived = arrived_bytes - self._before_bytes
        enough = arrived >= patience.upload_bytes_per_s * self._waited_s
        self._waited_s, self._before_bytes = 0.0, arrived_bytes
        return not enough


class Visit(Outlet):
    """One request as the watch sees it. Filled in by `handler` while the request goes on; not used afterwards."""

    __slots__ = (
        "_news",
        "_receive",
        "_upload",
        "_watched",
        "arrived_bytes",
        "connection",
        "done",
        "failure",
        "uploading",
    )

    def __init__(self, receive: Receive, client: Client | None) -> None:
        self.client = client
        self.sending = self._stuck = None  # not by `super`: one call less a request
        self._receive = receive
        self._news: asyncio.Future[Message] | None = None
        self._watched: asyncio.Future[Message] | None = None
        self._upload: Upload | None = None
        self.connection: Connection | None = None
        self.failure: ProxyError | None = None
        self.arrived_bytes = 0
        self.uploading = False
        self.done = False

    async def next_message(self) -> Message:
        """The next part of the request body. Raises ClientGone, or UploadTimeout when the watch ran out of patience."""
        # Granian's awaitable has the interface of a future, which lets the watch cancel it. It is no frame's variable.
        self._news = cast("asyncio.Future[Message]", self._receive())
        try:
            message = await self._news
        except asyncio.CancelledError:
            if self.failure is None:
                raise
            raise self.failure from None
        finally:
            self._news = None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.arrived_bytes += len(message["body"])
        return message

    def fail(self, error: ProxyError) -> None:
        """Whoever waits for the upstream gets the error from it; whoever waits for the client, from `failure`."""
        self.failure = self.failure or error
        if self.connection is not None:
            self.connection.fail(error)
        if self.sending is not None:
            self.sending.cancel()

    def end(self) -> None:
        """The request is over. Idempotent."""
        self.done = True
        self.connection = self.failure = self._upload = None
        self.forget()
        if self._watched is not None:
            self._watched.cancel()
            self._watched = None

    # -- what the tick does

    def inspect(self, now: float, elapsed_s: float, patience: Patience) -> bool:
        """True when this visit needs no further ticks."""
        if self.done:
            return True
        news = self._news
        if news is not None:
            if patience.upload_s and self._is_too_slow(news, now, elapsed_s, patience):
                self.failure = UploadTimeout("the request body did not arrive in time")
                news.cancel()
            return False
        if self.uploading or self.connection is None:
            return False
        self._await_disconnect()
        return True

    def _is_too_slow(self, news: object, now: float, elapsed_s: float, patience: Patience) -> bool:
        if self._upload is None:
            self._upload = Upload(news, now, self.arrived_bytes)
            return False
        return self._upload.too_slow(news, now, elapsed_s, self.arrived_bytes, patience)

    def _await_disconnect(self) -> None:
        self._watched = cast("asyncio.Future[Message]", self._receive())
        self._watched.add_done_callback(self._on_message)

    def _on_message(self, future: "asyncio.Future[Message]") -> None:
        if self.done or future.cancelled() or future.exception() is not None:
            return
        if future.result()["type"] != "http.disconnect":
            self._await_disconnect()
            return
        self.fail(ClientGone())


class ClientWatch:
    """All visits and sockets of one worker, and handshakes, whose clients the server does not tell of at all.

    ``clients`` are their connections, as the system sees them.
    """

    def __init__(
        self, patience: Patience, clients: Clients, tasks: Tasks, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience
        self._clients = clients
        self._tasks = tasks
        self._clock = clock
        self._visits: set[Visit] = set()
        self._outlets: set[Outlet] = set()
        self._callers: set[Outlet] = set()
        self._look_every_s = min(LOOK_EVERY_S, patience.stall_s / 4) if patience.stall_s else LOOK_EVERY_S
        self._looked_at = self._ticked_at = clock()
        self._ticker: asyncio.TimerHandle | None = None
        self._cut: set[Peer] = set()
        self._searching = False
        self._search_again_at = 0.0
        self.enter = self._visits.add
        self.leave = self._visits.discard
        self.enter_socket = self._outlets.add
        self.leave_socket = self._outlets.discard
        self.enter_caller = self._callers.add
        self.leave_caller = self._callers.discard

    def holds(self, outlet: Outlet) -> bool:
        return outlet in self._visits or outlet in self._outlets

    def start(self) -> None:
        """Begins to tick; needs a running loop."""
        self.tick()
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self.start)

    def cut(self) -> None:
        """The server is about to stop: whatever waits for its client is given up."""
        self._patience = Patience(TICK_S, 0, TICK_S)
        self._look_every_s = TICK_S

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()

    def tick(self) -> None:
        now = self._clock()
        elapsed_s, self._ticked_at = now - self._ticked_at, now
        patience = self._patience
        settled = [visit for visit in self._visits if visit.inspect(now, elapsed_s, patience)]
        self._visits.difference_update(settled)
        if patience.stall_s:
            self._outlets.update(visit for visit in settled if not visit.done)
        if now - self._looked_at >= self._look_every_s:
            self._looked_at = now
            self._look(now)

    def _look(self, now: float) -> None:
        """A visit that is over leaves here: to take it out at once would be paid by each request."""
        self._outlets.difference_update([each for each in self._outlets if isinstance(each, Visit) and each.done])
        limit_s = self._patience.stall_s
        stalled = [
            each for each in itertools.chain(self._visits, self._outlets) if limit_s and each.stalls(now, limit_s)
        ]
        for each in stalled:
            each.fail(ClientStalled("the client did not take its answer in time"))
        self._cut.update(_peers(stalled))
        if (self._cut or self._callers) and not self._searching and now >= self._search_again_at:
            self._searching = True
            self._tasks.start(self._search(), name="search for clients")

    async def _search(self) -> None:
        """In a thread, and with pauses, since it takes long where there are many connections."""
        began_at = self._clock()
        cut, self._cut = self._cut, set()
        callers = _peers(self._callers)
        try:
            if cut:
                await asyncio.to_thread(self._clients.hang_up, cut)
            if callers:
                for peer in await asyncio.to_thread(self._clients.missing, set(callers)):
                    if callers[peer] in self._callers:
                        callers[peer].fail(ClientGone())
        finally:
            self._searching = False
            ended_at = self._clock()
            self._search_again_at = ended_at + SEARCH_PAUSE * (ended_at - began_at)


def _peers(outlets: Iterable[Outlet]) -> dict[Peer, Outlet]:
    return {(each.client[0], int(each.client[1])): each for each in outlets if each.client is not None}
