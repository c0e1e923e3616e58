"""One worker's memory of bindings (L1): where nearly every request ends its search for an owner.

Where it stands in the walk: `bindings` looks here first and fills it; messages of the invalidation channel empty it.

Rules for whoever edits this file:

- An entry is as old as the *beginning* of the read that brought it: what changed during the read was not seen by it.
- What arrives after a message about its key, from a read that began before, is thrown away: a stale fill must not win.
- Stale is not dropped: a stale entry is still enforced while no store can be asked. A dropped one is known to be wrong.
- "Unbound" is never remembered: a first use elsewhere would have to reach every worker before its second request.
"""

from collections import OrderedDict

from proxy_core.circuit import Clock
from proxy_core.contracts import Binding

MESSAGES_KEPT = 10_000
"""How many messages are kept to judge fills by; of older ones only the time of the last is, which is stricter."""


class Remembered:
    __slots__ = ("binding", "extended_at", "read_at")

    def __init__(self, binding: Binding, read_at: float) -> None:
        self.binding = binding
        self.read_at = read_at
        self.extended_at = float("-inf")


class Memory:
    """At most ``entries`` bindings, trusted for ``ttl_s`` after they were read, ``ttl_degraded_s`` without messages."""

    def __init__(self, *, entries: int, ttl_s: float, ttl_degraded_s: float, clock: Clock) -> None:
        self._entries: OrderedDict[bytes, Remembered] = OrderedDict()
        self._limit = entries
        self._ttl_s = ttl_s
        self._ttl_degraded_s = min(ttl_degraded_s, ttl_s)
        self._clock = clock
        self._trusted_s = self._ttl_degraded_s
        self._stale_at = float("-inf")
        self._dropped: OrderedDict[bytes, float] = OrderedDict()
        self._all_dropped_at = float("-inf")

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        state = "degraded" if self._trusted_s == self._ttl_degraded_s else "up"
        return f"Memory({len(self._entries)} of {self._limit}, {state})"

    # --- reading -----------------------------------------------------------------------------------------------------

    def fresh(self, fingerprint: bytes) -> Binding | None:
        """Every request passes here: two look-ups and a clock."""
        entry = self._entries.get(fingerprint)
        if entry is None:
            return None
        now = self._clock()
        if now - entry.read_at < self._trusted_s and entry.read_at > self._stale_at:
            return entry.binding
        if now - entry.extended_at < self._ttl_degraded_s and entry.extended_at > self._stale_at:
            return entry.binding
        return None

    def extend(self, fingerprint: bytes) -> Binding | None:
        """No store can be asked: the entry, however stale, which is now trusted for another ``ttl_degraded_s``."""
        entry = self._entries.get(fingerprint)
        if entry is None:
            return None
        entry.extended_at = self._clock()
        return entry.binding

    # --- filling -----------------------------------------------------------------------------------------------------

    def put(self, fingerprint: bytes, binding: Binding | None, read_at: float) -> None:
        """What a read that began at ``read_at`` found; None: nobody owns the key."""
        if read_at <= self._all_dropped_at or read_at <= self._dropped.get(fingerprint, self._all_dropped_at):
            return
        present = self._entries.get(fingerprint)
        if binding is None:
            if present is not None and present.read_at <= read_at:
                del self._entries[fingerprint]
            return
        if present is not None and present.binding.version > binding.version:
            return
        self._entries[fingerprint] = Remembered(binding, read_at)
        self._entries.move_to_end(fingerprint)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    # --- the invalidation channel ------------------------------------------------------------------------------------

    def drop(self, fingerprint: bytes) -> None:
        self._entries.pop(fingerprint, None)
        self._dropped[fingerprint] = self._clock()
        self._dropped.move_to_end(fingerprint)
        if len(self._dropped) > MESSAGES_KEPT:
            _, self._all_dropped_at = self._dropped.popitem(last=False)

    def drop_all(self) -> None:
        self._entries.clear()
        self._dropped.clear()
        self._all_dropped_at = self._clock()

    def channel_up(self) -> None:
        """Messages may have been lost until now: nothing that was read before is trusted any more."""
        self._stale_at = self._clock()
        self._trusted_s = self._ttl_s

    def channel_down(self) -> None:
        self._trusted_s = self._ttl_degraded_s
