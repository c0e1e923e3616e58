"""The live settings as jobs need them: read when the work begins, on its own connection.

A gateway goes on with the settings that it knows while PostgreSQL is away; a job that removes or disables things must
not take the environment's first values for what an operator has stored since. Ingestion, which removes nothing and
would ask with every batch, remembers them for a moment.
"""

import time
from collections.abc import Callable

import msgspec
import structlog

from admin_api.jobs.postgres import FAILURES, Connection, Postgres
from proxy_core.contracts import LiveSettings, StoredSettings
from proxy_core.live_settings import in_force
from proxy_core.store import LOAD_SETTINGS

log = structlog.get_logger(__name__)

REMEMBERED_S = 2.0
LIMIT_S = 5.0


async def settings(connection: Connection, initial: LiveSettings) -> LiveSettings:
    """Raises MsgspecError for what this version cannot read."""
    row = await connection.fetchrow(LOAD_SETTINGS)
    return in_force(initial, None if row is None else StoredSettings(row["version"], row["values"].encode()))


class Remembered:
    """``initial`` is in force until something was stored, and for what was not stored."""

    def __init__(
        self, postgres: Postgres, initial: LiveSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._postgres = postgres
        self._initial = initial
        self._clock = clock
        self._settings = initial
        self._ask_at = 0.0

    async def current(self) -> LiveSettings:
        """Raises nothing: without PostgreSQL it is what was in force last, and at the worker's start ``initial``."""
        if self._clock() >= self._ask_at:
            self._ask_at = self._clock() + REMEMBERED_S
            try:
                self._settings = await self._postgres.run(
                    lambda connection: settings(connection, self._initial), limit_s=LIMIT_S
                )
            except FAILURES:
                log.debug("live settings not read, keeping the last")
            except msgspec.MsgspecError:
                log.critical("stored live settings cannot be read, keeping the last")
        return self._settings
