"""`sentinel services`: the embedded stores in the foreground."""

import contextlib
import sys
from pathlib import Path

import click

from sentinel.services.directory import DataDirectory, default_directory
from sentinel.services.stores import Stores
from sentinel.supervision import stopping_on_signals, watch


def run_services(path: Path | None) -> None:
    """Prints the two addresses once both answer; returns after SIGINT or SIGTERM. Raises ProcessFailed if one ends."""
    with stopping_on_signals(), contextlib.ExitStack() as stack:
        directory = stack.enter_context(contextlib.closing(DataDirectory.open(path or default_directory())))
        stores = Stores(directory)
        stack.callback(stores.stop)
        stores.start()
        click.echo(f"PG_DSN={stores.pg_dsn}\nREDIS_URL={stores.redis_url}")
        sys.stdout.flush()
        watch([stores.postgres.child, stores.valkey.child])
