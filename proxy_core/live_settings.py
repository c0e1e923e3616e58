"""The live settings in force: one snapshot, replaced as a whole, that a request reads once and keeps.

Where it stands in the walk: `handler` takes `LiveSettingsFeed.current` when a request begins. The snapshot comes from
PostgreSQL, or from Redis' copy of it; messages of the invalidation channel make a change arrive at once, and a look
every few seconds makes it arrive all the same without Redis.
"""

import asyncio
from typing import Any

import msgspec
import structlog

from proxy_core import keyspace
from proxy_core.cache import Cache
from proxy_core.contracts import LiveSettings, StoredSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.store import Store
from proxy_core.tasks import Tasks

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0


class LiveSettingsFeed:
    """``initial`` (from the environment) is in force until something was stored, and for what was not stored."""

    current: LiveSettings

    def __init__(self, cache: Cache, store: Store, tasks: Tasks, initial: LiveSettings) -> None:
        self._cache = cache
        self._store = store
        self._tasks = tasks
        self._initial = initial
        self._woken = asyncio.Event()
        self._refused = 0
        self.current = initial

    def __repr__(self) -> str:
        return f"LiveSettingsFeed(version={self.current.version})"

    async def start(self) -> None:
        """Returns after the first look, so that no request is judged by first values that an operator has replaced."""
        await self.look()
        self._tasks.start(self._cache.follow(self), name="settings channel")
        self._tasks.repeat(self._look_when_woken, every_s=0, name="live settings")

    async def look(self) -> None:
        """Asks PostgreSQL, or else Redis. Keeps what is there if neither answers."""
        try:
            stored = await self._store.load_settings()
        except StoreUnavailable:
            try:
                stored = await self._cache.get_settings()
            except StoreUnavailable:
                return
        if stored is not None:
            self._apply(stored)

    def _apply(self, stored: StoredSettings) -> None:
        if stored.version <= max(self.current.version, self._refused):
            return
        try:
            settings = in_force(self._initial, stored)
        except msgspec.MsgspecError as exc:
            self._refused = stored.version
            log.critical(
                "stored live settings cannot be read, keeping the last", version=stored.version, detail=str(exc)
            )
            return
        self.current = settings
        log.info("live settings in force", version=settings.version)

    async def _look_when_woken(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()
        await self.look()

    # --- the invalidation channel (`cache.Listener`) -----------------------------------------------------------------

    def changed(self, message: bytes) -> None:
        if message == keyspace.SETTINGS_CHANGED:
            self._woken.set()

    def channel_up(self) -> None:
        self._woken.set()

    def channel_down(self) -> None:
        """Nothing to do: a look is never further away than `LOOK_EVERY_S`."""


def in_force(initial: LiveSettings, stored: StoredSettings | None) -> LiveSettings:
    """What was stored, and ``initial`` for the rest. Raises MsgspecError for what this version cannot read."""
    if stored is None:
        return initial
    values = msgspec.json.decode(stored.values, type=dict[str, Any])
    return msgspec.convert(msgspec.to_builtins(initial) | values | {"version": stored.version}, LiveSettings)
