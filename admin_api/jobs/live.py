"""The live settings as jobs need them: read when the work begins, on its own connection.

A gateway goes on with the settings that it knows while PostgreSQL is away; a job that removes things must not take the
environment's first values for what an operator has stored since.
"""

from admin_api.jobs.postgres import Connection
from proxy_core.contracts import LiveSettings, StoredSettings
from proxy_core.live_settings import in_force
from proxy_core.store import LOAD_SETTINGS


async def settings(connection: Connection, initial: LiveSettings) -> LiveSettings:
    """Raises MsgspecError for what this version cannot read."""
    row = await connection.fetchrow(LOAD_SETTINGS)
    return in_force(initial, None if row is None else StoredSettings(row["version"], row["values"].encode()))
