"""The roster: who is using which key at this moment, so that a change of its owner reaches what is under way.

Where it stands in the walk: `handler` enters a stream, `relay` a WebSocket. `bindings` tells when an owner may have
changed; whoever could not begin any more is then cut. A WebSocket always is, since it would go on for hours; a stream
is when the live setting ``cut_on_revocation`` says so, since it ends by itself and what it costs is spent already.

Rules for whoever edits this file:

- Entering and leaving is paid by every stream: two dictionary operations, no task.
- Nobody is cut while no store can tell: known keys go on during any outage.
- A key that nobody owned from the start (`bind_methods`, failsafe) is not revoked by still having no owner.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from proxy_core.bindings import Bindings
from proxy_core.contracts import Action, Binding, ClientAddress, LiveSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.events import Events
from proxy_core.live_settings import LiveSettingsFeed
from proxy_core.tasks import Tasks
from proxy_core.verdict import judge

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
"""Everybody is looked at so often: for networks and bans that expire, settings that change, messages that were lost."""


KEY_RELEASED = "key_released"
"""Why somebody was cut, beside the reasons of a verdict: the key has no owner any more."""


class Entry:
    """One use of a key. ``owned``: the key had an owner when it was last looked at."""

    __slots__ = ("address", "cut", "fingerprint", "owned", "persistent")

    def __init__(
        self, fingerprint: bytes, address: ClientAddress, cut: Callable[[str], None], *, persistent: bool
    ) -> None:
        self.fingerprint = fingerprint
        self.address = address
        self.cut = cut
        self.persistent = persistent
        self.owned = False


class Roster:
    """One a worker."""

    def __init__(self, bindings: Bindings, live: LiveSettingsFeed, events: Events, tasks: Tasks) -> None:
        self._bindings = bindings
        self._live = live
        self._events = events
        self._tasks = tasks
        self._entries: dict[bytes, set[Entry]] = {}
        self._all_doubtful = asyncio.Event()

    def start(self) -> None:
        self._bindings.tell(self._changed)
        self._tasks.repeat(self._look_when_due, every_s=0, name="roster")

    def enter(
        self, fingerprint: bytes, address: ClientAddress, cut: Callable[[str], None], *, persistent: bool
    ) -> Entry:
        """``cut`` is called with a `Reason` or `KEY_RELEASED`, at most once, and only until `leave`.

        ``persistent``: whatever the live setting says.
        """
        entry = Entry(fingerprint, address, cut, persistent=persistent)
        entries = self._entries.get(fingerprint)
        if entries is None:
            self._entries[fingerprint] = {entry}
        else:
            entries.add(entry)
        entry.owned = self._bindings.peek(fingerprint) is not None
        if not entry.owned and persistent:  # a change may have come between the verdict and now
            self._changed(fingerprint)
        return entry

    def leave(self, entry: Entry) -> None:
        """Any number of times."""
        entries = self._entries.get(entry.fingerprint)
        if entries is not None:
            entries.discard(entry)
            if not entries:
                del self._entries[entry.fingerprint]

    # -- looking

    def _changed(self, fingerprint: bytes | None) -> None:
        if fingerprint is None:
            self._all_doubtful.set()
        elif fingerprint in self._entries:
            self._tasks.start(self.look(fingerprint), name="look at a key in use")

    async def _look_when_due(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._all_doubtful.wait()
        except TimeoutError:
            pass
        self._all_doubtful.clear()
        for fingerprint in tuple(self._entries):
            await self.look(fingerprint)

    async def look(self, fingerprint: bytes) -> None:
        """Judges everybody who is using the key."""
        if not self._concerned(fingerprint):
            return
        try:
            binding = self._bindings.peek(fingerprint) or await self._bindings.find(fingerprint)
        except StoreUnavailable:
            return
        for entry in self._concerned(fingerprint):
            reason = _revoked(entry, binding, self._live.current)
            if reason is not None:
                self.leave(entry)
                self._events.count("cut_on_revocation")
                log.info("cutting what still uses a key whose owner has changed", reason=reason)
                entry.cut(reason)

    def _concerned(self, fingerprint: bytes) -> list[Entry]:
        streams_too = self._live.current.cut_on_revocation
        return [entry for entry in self._entries.get(fingerprint, ()) if entry.persistent or streams_too]


def _revoked(entry: Entry, binding: Binding | None, live: LiveSettings) -> str | None:
    if binding is None:
        return KEY_RELEASED if entry.owned else None
    entry.owned = True
    verdict = judge(binding, entry.address, live, time.time(), may_claim=True)
    return verdict.reason if verdict.action is Action.REFUSE else None
