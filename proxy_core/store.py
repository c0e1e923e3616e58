"""PostgreSQL as the data plane uses it: the authority on who owns a key, and the stored live settings.

Where it stands in the walk: behind `cache`; `bindings`, `claims` and `live_settings` ask it.

Rules for whoever edits this file:

- The statements are text, at the end of this file; `tests/proxy_core/test_store.py` runs each on the migrated schema.
- Whoever changes what a `Binding` shows draws ``version`` from ``binding_version_seq`` in the statement that locks
  the row: of two states of a key the later one then always has the higher version.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import asyncpg
import structlog

from proxy_core.asking import FAILURES, Connection, ask, make_pool
from proxy_core.bulkhead import Bulkhead
from proxy_core.circuit import Circuit, Clock
from proxy_core.contracts import (
    Binding,
    BindingStatus,
    BoundNetwork,
    KeyIdentity,
    Mode,
    Network,
    StoredSettings,
)
from proxy_core.errors import StoreUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
OUR_FAULT = (asyncpg.SyntaxOrAccessError, asyncpg.DataError)
CLAIM_ATTEMPTS = 5


class Store:
    """Raises StoreUnavailable, and nothing else, when PostgreSQL fails, is slow or was so a moment ago.

    ``bound`` counts the bindings that were made here; one whose making was not confirmed in time is missing in it.
    """

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", *, timeout_s: float, clock: Clock = time.monotonic
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._circuit = Circuit("postgresql", clock=clock)
        self._bulkhead = Bulkhead("postgresql", self._circuit, pool.get_max_size())
        self.bound = 0

    @classmethod
    async def connect(
        cls, dsn: str, *, timeout_s: float, max_connections: int = 8, clock: Clock = time.monotonic
    ) -> "Store":
        """Returns at once, also while PostgreSQL is down: connections are made by the calls that need them."""
        return cls(await make_pool(dsn, "sentinel-gateway", max_connections), timeout_s=timeout_s, clock=clock)

    @property
    def available(self) -> bool:
        return self._circuit.available

    @property
    def failure(self) -> str | None:
        return self._circuit.failure

    # --- bindings ----------------------------------------------------------------------------------------------------

    async def find(self, fingerprint: bytes) -> Binding | None:
        """None: nobody owns the key, for certain."""
        row = await self._ask(lambda connection: connection.fetchrow(FIND, fingerprint))
        return None if row is None else _binding(fingerprint, row)

    async def claim(
        self, identity: KeyIdentity, network: Network, at: float, *, source: Literal["first_use"] = "first_use"
    ) -> Binding:
        """Makes ``network`` the owner unless somebody is already; returns what is there, whoever that is.

        Idempotent: it may be repeated after a failure whose outcome is unknown.
        """
        when = datetime.fromtimestamp(at, UTC)

        async def insert(connection: Connection) -> Any:
            for _ in range(CLAIM_ATTEMPTS):
                row = await connection.fetchrow(CLAIM, identity.fingerprint, identity.hint, network.text, source, when)
                if row is not None:
                    self.bound += 1
                    return row
                # Somebody's insert committed, maybe while ours waited for it, after our statement had begun.
                row = await connection.fetchrow(FIND, identity.fingerprint)
                if row is not None:
                    return row
            return None

        row = await self._ask(insert)
        if row is None:
            raise StoreUnavailable("postgresql: the binding is being removed again and again")
        return _binding(identity.fingerprint, row)

    async def learn(self, binding: Binding, network: Network, limit: int, at: float) -> Binding | None:
        """Adds ``network`` while the key has fewer than ``limit``. Returns what is there then, None: nothing.

        A key that was banned, unbound or bound again since ``binding`` was read is left as it is.
        """
        when = datetime.fromtimestamp(at, UTC)

        async def add(connection: Connection) -> Any:
            # Two statements: only a statement that begins after the lock was obtained sees what the other has added.
            async with connection.transaction():
                if await connection.fetchval(LOCK, binding.fingerprint) is not None:
                    await connection.execute(LEARN, binding.id, network.text, limit, when)
                return await connection.fetchrow(FIND, binding.fingerprint)

        row = await self._ask(add)
        return None if row is None else _binding(binding.fingerprint, row)

    # --- live settings -----------------------------------------------------------------------------------------------

    async def load_settings(self) -> StoredSettings | None:
        """None: nothing was stored yet."""
        row = await self._ask(lambda connection: connection.fetchrow(LOAD_SETTINGS))
        return None if row is None else StoredSettings(row["version"], row["values"].encode())

    # --- asking ------------------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """One cheap question, so that `available` is known without a request having to find out."""
        await self._ask(lambda connection: connection.fetchval("SELECT 1"))

    async def _ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._bulkhead.enter():
            try:
                answer = await ask(self._pool, question, self._timeout_s)
            except FAILURES as exc:
                if isinstance(exc, OUR_FAULT) and self._circuit.available:
                    detail = str(exc) if isinstance(exc, asyncpg.SyntaxOrAccessError) else ""  # else it may hold values
                    log.critical("postgresql refuses a statement: is the schema migrated?", detail=detail)
                raise self._circuit.failed(_describe(exc)) from exc
        self._circuit.succeeded()
        return answer

    async def aclose(self) -> None:
        """Does not wait for the server: whoever still asks gets StoreUnavailable."""
        self._pool.terminate()


def _describe(exc: BaseException) -> str:
    """Never the message: asyncpg puts values into it."""
    if isinstance(exc, TimeoutError):
        return "time limit"
    return "connection lost" if isinstance(exc, asyncpg.ConnectionDoesNotExistError) else type(exc).__name__


def _binding(fingerprint: bytes, row: Any) -> Binding:
    mode = row["mode"]
    return Binding(
        id=row["id"],
        fingerprint=fingerprint,
        hint=row["key_hint"],
        status=BindingStatus(row["status"]),
        networks=tuple(
            BoundNetwork(Network.parse(text), expires_at)
            for text, expires_at in zip(row["networks"], row["expiries"], strict=True)
        ),
        version=row["version"],
        mode=None if mode is None else Mode(mode),
        ban_expires_at=row["ban_expires_at"],
    )


# --- the statements --------------------------------------------------------------------------------------------------

FIND = """
SELECT b.id, b.key_hint, b.status, b.version, b.mode,
       extract(epoch FROM b.ban_expires_at)::float8 AS ban_expires_at,
       n.networks, n.expiries
FROM binding b
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(network::text ORDER BY id), '{}') AS networks,
           coalesce(array_agg(extract(epoch FROM expires_at)::float8 ORDER BY id), '{}') AS expiries
    FROM binding_network WHERE binding_id = b.id
) n
WHERE b.key_hash = $1
"""

CLAIM = """
WITH fresh AS (
    INSERT INTO binding (key_hash, key_hint, status, first_used_at, last_used_at)
    VALUES ($1, $2, 'active', $5, $5)
    ON CONFLICT (key_hash) DO NOTHING
    RETURNING id, key_hint, status, version, mode
), network AS (
    INSERT INTO binding_network (binding_id, network, source, created_at)
    SELECT id, $3::text::cidr, $4, $5 FROM fresh
    RETURNING network
)
SELECT fresh.*, NULL::float8 AS ban_expires_at,
       ARRAY[network.network::text] AS networks, ARRAY[NULL::float8] AS expiries
FROM fresh, network
"""

LOCK = "SELECT id FROM binding WHERE key_hash = $1 FOR UPDATE"

LEARN = """
WITH added AS (
    INSERT INTO binding_network (binding_id, network, source, created_at)
    SELECT b.id, $2::text::cidr, 'learned', $4
    FROM binding b
    WHERE b.id = $1 AND (b.status = 'active' OR b.ban_expires_at <= $4)
      AND (SELECT count(*) FROM binding_network
           WHERE binding_id = b.id AND (expires_at IS NULL OR expires_at > $4)) < $3
    ON CONFLICT (binding_id, network) DO UPDATE SET expires_at = NULL
        WHERE binding_network.expires_at <= $4
    RETURNING binding_id
)
UPDATE binding SET version = nextval('binding_version_seq') FROM added WHERE binding.id = added.binding_id
"""

LOAD_SETTINGS = 'SELECT version, "values"::text AS "values" FROM runtime_setting ORDER BY version DESC LIMIT 1'
