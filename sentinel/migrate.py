"""`sentinel migrate`: the schema of PG_DSN, and whether it is the newest."""

import click

from migrations import run
from proxy_core.settings import SettingsError
from sentinel.environment import surroundings


def migrate() -> None:
    """Needs PG_DSN and nothing else, so that it runs before the rest is configured."""
    dsn = surroundings().get("PG_DSN")
    if not dsn:
        raise SettingsError(["PG_DSN is missing: the database to bring to the newest schema"])
    run.upgrade(dsn)
    click.echo("the database has the newest schema", err=True)
