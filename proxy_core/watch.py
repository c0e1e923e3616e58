"""The watch over clients: who has left, and who has stopped sending, told without a task or a timer per request.

Where it stands in the walk: `handler` makes a `Visit` for each request and enters it here. Most requests are over
before a tick looks at them and cost an entry in a set. For the others the tick waits on ``receive`` with a
callback, since Granian tells of a client that left in no other way, and ends the exchange at once when it does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from proxy_core.errors import ClientGone, UploadTimeout
from proxy_core.exchange import Connection

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

TICK_S = 0.05


class Visit:
    """One request as the watch sees it. Filled in by `handler` while the request goes on; not used afterwards."""

    __slots__ = (
        "_news",
        "_receive",
        "_stalled",
        "_stalled_since",
        "_watched",
        "connection",
        "done",
        "gone",
        "timed_out",
        "uploading",
    )

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._news: asyncio.Future[Message] | None = None
        self._watched: asyncio.Future[Message] | None = None
        self._stalled: asyncio.Future[Message] | None = None
        self._stalled_since = 0.0
        self.connection: Connection | None = None
        self.uploading = False
        self.done = False
        self.gone = False
        self.timed_out = False

    async def next_message(self) -> Message:
        """The next part of the request body. Raises ClientGone, or UploadTimeout when the watch ran out of patience."""
        # Granian's awaitable has the interface of a future, which lets the watch cancel it.
        news = self._news = cast("asyncio.Future[Message]", self._receive())
        try:
            message = await news
        except asyncio.CancelledError:
            if self.timed_out:
                raise UploadTimeout("the request body did not arrive in time") from None
            raise
        finally:
            self._news = None
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGone
        return message

    def end(self) -> None:
        """The request is over. Idempotent."""
        self.done = True
        self.connection = None
        if self._watched is not None:
            self._watched.cancel()
            self._watched = None

    # -- what the tick does

    def inspect(self, now: float, patience_s: float) -> bool:
        """True when this visit needs no further ticks."""
        if self.done:
            return True
        news = self._news
        if news is not None:
            if self._stalled is not news:
                self._stalled, self._stalled_since = news, now
            elif patience_s and now - self._stalled_since > patience_s:
                self.timed_out = True
                news.cancel()
            return False
        if self.uploading or self.connection is None:
            return False
        self._await_disconnect()
        return True

    def _await_disconnect(self) -> None:
        self._watched = cast("asyncio.Future[Message]", self._receive())
        self._watched.add_done_callback(self._on_message)

    def _on_message(self, future: "asyncio.Future[Message]") -> None:
        if self.done or future.cancelled() or future.exception() is not None:
            return
        if future.result()["type"] != "http.disconnect":
            self._await_disconnect()
            return
        self.gone = True
        if self.connection is not None:
            self.connection.fail(ClientGone())


class ClientWatch:
    """All visits of one worker. ``patience_s`` is how long a request body may make no progress; 0 means for ever."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._visits: set[Visit] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self.enter = self._visits.add
        self.leave = self._visits.discard

    def start(self) -> None:
        """Begins to tick; needs a running loop."""
        self._tick()

    def hurry(self) -> None:
        """Uploads that are waiting for their client are given up at the next tick."""
        self._patience_s = TICK_S

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()

    def _tick(self) -> None:
        now = time.monotonic()
        patience_s = self._patience_s
        self._visits.difference_update([visit for visit in self._visits if visit.inspect(now, patience_s)])
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)
