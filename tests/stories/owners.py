"""Who owns a key, as PostgreSQL has it."""

from sentinel.services import Stores
from tests.support import databases


def bound_networks(stores: Stores, dsn: str, key: str) -> list[str]:
    hint = f"{key[3:7]}…{key[-4:]}"
    join = "binding JOIN binding_network ON binding_id = binding.id"
    return rows_of(stores, dsn, f"SELECT network FROM {join} WHERE key_hint = '{hint}'")


def rows_of(stores: Stores, dsn: str, statement: str) -> list[str]:
    """The lines that psql prints for a statement on the database of ``dsn``."""
    database = dsn.partition("?")[0].rpartition("/")[2]
    return databases.sql(stores.postgres, statement, database).split()
