"""Owns the pair of embedded stores on one data directory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sentinel.services.directory import DataDirectory
from sentinel.services.postgres import PostgresStore
from sentinel.services.valkey import ValkeyStore


class Stores:
    """PostgreSQL and Valkey; the same data directory gives the same addresses and data every time."""

    def __init__(self, directory: DataDirectory, *, fast: bool = False) -> None:
        self.directory = directory
        self.postgres = PostgresStore(directory, fast=fast)
        self.valkey = ValkeyStore(directory, fast=fast)

    @property
    def pg_dsn(self) -> str:
        return self.postgres.dsn

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    def start(self) -> None:
        self.postgres.start()
        self.valkey.start()

    def stop(self) -> None:
        """Idempotent. Both are asked before either is waited for."""
        self.valkey.child.ask_to_stop()
        self.postgres.child.ask_to_stop()
        self.valkey.stop()
        self.postgres.stop()


@contextlib.contextmanager
def open_stores(path: Path, *, fast: bool = False) -> Iterator[Stores]:
    """Both stores running, and stopped at the end. ``fast`` gives up durability: for tests.

    Raises DirectoryRefused, DirectoryInUse, ProcessFailed.
    """
    directory = DataDirectory.open(path)
    with contextlib.closing(directory):
        stores = Stores(directory, fast=fast)
        try:
            stores.start()
            yield stores
        finally:
            stores.stop()
