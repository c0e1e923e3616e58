"""Stores for tests: started with durability off, in a folder under /tmp that the stores' account may enter."""

import contextlib
import importlib
import importlib.util
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis

from sentinel.services import Stores, open_stores
from sentinel.services.postgres import PostgresStore

TEMPLATE = "migrated"
_numbers = itertools.count(1)


@contextlib.contextmanager
def open_folder(*, outside_tmp: bool = False) -> Iterator[Path]:
    """A temporary folder that others may enter (tmp_path is 0700; as root, the stores run as another user)."""
    below = "/var/tmp" if outside_tmp else "/tmp"  # noqa: S108 - mkdtemp makes what nobody else has
    folder = Path(tempfile.mkdtemp(prefix="sentinel-test-", dir=below))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def private_stores(cluster: Path | None = None) -> Iterator[Stores]:
    """With a copy of `migrated_cluster`, or an empty PostgreSQL."""
    with open_folder() as folder:
        if cluster is not None:
            subprocess.run(["cp", "--archive", cluster, folder / "postgres"], check=True)
        with open_stores(folder, fast=True) as running:
            yield running


@contextlib.contextmanager
def migrated_cluster() -> Iterator[Path]:
    """The data of a PostgreSQL that does not run: to copy it takes a fraction of the time that making it takes."""
    with open_folder() as folder:
        with open_stores(folder, fast=True) as running:
            migrate(running.pg_dsn)
        yield folder / "postgres"


def migrate(dsn: str) -> None:
    """What `sentinel migrate` does."""
    if importlib.util.find_spec("migrations.run") is None:  # until the first migration exists
        return
    importlib.import_module("migrations.run").upgrade(dsn)


def make_template(postgres: PostgresStore) -> str:
    sql(postgres, f"CREATE DATABASE {TEMPLATE}")
    migrate(postgres.dsn_of(TEMPLATE))
    return TEMPLATE


@contextlib.contextmanager
def fresh_database(postgres: PostgresStore, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    sql(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield postgres.dsn_of(name)
    finally:
        sql(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


def sql(postgres: PostgresStore, statement: str, database: str = "postgres") -> str:
    """Runs one statement through the wheel's psql: no event loop is needed, none is in the way."""
    done = subprocess.run(
        [postgres.psql, postgres.dsn_of(database), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
