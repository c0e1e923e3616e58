"""Whether a store is worth asking: after a failure, calls fail at once for a moment; they do not each wait in vain.

Where it stands in the walk: on the ground, under `cache` and `store`, which each own one. Nothing here awaits.
"""

from collections.abc import Callable

import structlog

from proxy_core.errors import StoreUnavailable

log = structlog.get_logger(__name__)

Clock = Callable[[], float]


class Circuit:
    """While the store is failing, one call every ``retry_after_s`` is let through to try it; the others are refused."""

    def __init__(self, store: str, *, clock: Clock, retry_after_s: float = 1.0) -> None:
        self._store = store
        self._clock = clock
        self._retry_after_s = retry_after_s
        self._next_try_at = 0.0
        self._failure: str | None = None

    def __repr__(self) -> str:
        return f"Circuit({self._store}, {self._failure or 'available'})"

    @property
    def available(self) -> bool:
        return self._failure is None

    @property
    def failure(self) -> str | None:
        """Why the store counts as unavailable."""
        return self._failure

    def enter(self) -> None:
        """Before each call. Raises StoreUnavailable when the store is not to be asked now."""
        if self._failure is None:
            return
        now = self._clock()
        if now < self._next_try_at:
            raise StoreUnavailable(f"{self._store}: {self._failure}")
        self._next_try_at = now + self._retry_after_s

    def succeeded(self) -> None:
        if self._failure is not None:
            self._failure = None
            log.warning("store available again", store=self._store)

    def failed(self, failure: str) -> StoreUnavailable:
        """Returns the exception to raise. ``failure`` names what happened, never a value."""
        if self._failure is None:
            log.error("store unavailable", store=self._store, failure=failure)
        self._failure = failure
        self._next_try_at = self._clock() + self._retry_after_s
        return StoreUnavailable(f"{self._store}: {failure}")
