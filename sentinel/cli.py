"""The command `sentinel`: one thin function a subcommand. Data goes to stdout, everything else to stderr.

Imports stand inside the functions: a subcommand loads only what it needs, and `services` works without the planes.
"""

import functools
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sentinel.errors import SentinelError

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="where data, sockets and logs live [default: .sentinel; for root /var/lib/sentinel]",
)


def main() -> None:
    """The console script."""
    group(prog_name="sentinel")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="key-ip-sentinel", prog_name="sentinel")
def group() -> None:
    """Bind each model API key to the first address that uses it."""


def plainly(command: Callable[..., None]) -> Callable[..., None]:
    """Faults that a person can act on end the command with their message and status 1, without a traceback."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        from proxy_core.settings import SettingsError

        try:
            command(**options)
        except SettingsError as error:
            for fault in error.faults:
                click.echo(f"error: {fault}", err=True)
            sys.exit(1)
        except SentinelError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)

    return wrapped


@group.command()
@DATA_DIR
@click.option("--demo", is_flag=True, help="put a stub model API behind it, with a key to try")
@click.option("--host", help="address to listen on [default: SENTINEL_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65_535), help="port to listen on [default: SENTINEL_PORT, else 7000]")
@click.option(
    "--console-port",
    type=click.IntRange(1, 65_535),
    help="port of the console [default: SENTINEL_CONSOLE_PORT, else 7080]",
)
@click.option(
    "--workers", type=click.IntRange(0, 64), help="gateway processes [default: SENTINEL_WORKERS, else 0: auto]"
)
@plainly
def up(
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    console_port: int | None,
    workers: int | None,
    *,
    demo: bool,
) -> None:
    """Run everything on this machine with nothing installed, until Ctrl-C."""
    from sentinel.up import UpOptions, up

    up(UpOptions(data_dir=data_dir, demo=demo, host=host, port=port, console_port=console_port, workers=workers))


@group.command()
@DATA_DIR
@plainly
def services(data_dir: Path | None) -> None:
    """Run only the embedded stores and print PG_DSN=… and REDIS_URL=…; the same directory gives the same again."""
    from sentinel.services.command import run_services

    run_services(data_dir)


@group.command()
@click.option(
    "--plane",
    type=click.Choice(["all", "proxy", "admin"]),
    default="all",
    show_default=True,
    help="proxy: the gateway alone; admin: only the admin API; all: both on one port",
)
@plainly
def serve(plane: str) -> None:
    """Run the gateway."""
    from sentinel.composition import Plane, settings_of
    from sentinel.serve import serve

    chosen = Plane(plane)
    sys.exit(serve(settings_of(chosen), chosen))


@group.command()
@plainly
def worker() -> None:
    """Run the background jobs: stored events, alerts, archive."""
    from admin_api.settings import WorkerSettings
    from admin_api.worker import main as run_worker
    from proxy_core.logging_setup import setup_logging
    from proxy_core.settings import load

    settings = load(WorkerSettings)
    setup_logging(settings.log_level)
    run_worker(settings)


@group.command()
@plainly
def console() -> None:
    """Serve the web console; it speaks to the admin API alone."""
    from console.app import serve as serve_console
    from console.settings import ConsoleSettings
    from proxy_core.logging_setup import setup_logging
    from proxy_core.settings import load
    from sentinel.ports import refuse_busy_port

    settings = load(ConsoleSettings)
    setup_logging(settings.log_level)
    refuse_busy_port(settings.console_host, settings.console_port, "SENTINEL_CONSOLE")
    sys.exit(serve_console(settings))


@group.command()
@plainly
def migrate() -> None:
    """Bring the database of PG_DSN to the newest schema."""
    from sentinel.migrate import migrate

    migrate()


@group.command()
@plainly
def check() -> None:
    """Tell what is wrong with settings, stores, upstream and trusted proxies: all of it. Status 1 if anything is."""
    from sentinel.check import check

    sys.exit(check())


@group.command()
@DATA_DIR
@plainly
def fingerprint(data_dir: Path | None) -> None:
    """Read a key from stdin and print what the records know it by: the fingerprint and the hint."""
    from sentinel.fingerprint import fingerprint

    typed = sys.stdin.isatty()
    line = getpass.getpass("key: ").encode() if typed else sys.stdin.buffer.readline()
    fingerprint(line, data_dir)


@group.group()
def user() -> None:
    """Operators, on the machine itself: needs PG_DSN or the data directory of `up`, no sign-in, and is never locked."""


GENERATE = click.option("--generate", is_flag=True, help="make a password up and print it")


@user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "operator", "viewer"]), default="viewer", show_default=True)
@GENERATE
@DATA_DIR
@plainly
def user_add(name: str, role: str, data_dir: Path | None, *, generate: bool) -> None:
    """Add an operator; the password is asked for, or read from stdin."""
    from sentinel import user

    password = _password(generate=generate)
    user.add(name, role, password, data_dir)
    if generate:
        click.echo(password)


@user.command("reset-password")
@click.argument("name")
@GENERATE
@DATA_DIR
@plainly
def user_reset_password(name: str, data_dir: Path | None, *, generate: bool) -> None:
    """Set another password and sign the operator out everywhere; it is asked for, or read from stdin."""
    from sentinel import user

    password = _password(generate=generate)
    user.reset_password(name, password, data_dir)
    if generate:
        click.echo(password)


@user.command("list")
@DATA_DIR
@plainly
def user_list(data_dir: Path | None) -> None:
    """Print every operator: name, role, state, last sign-in, separated by tabs."""
    from sentinel import user

    for line in user.lines(data_dir):
        click.echo(line)


def _password(*, generate: bool) -> str:
    if generate:
        from admin_api.passwords import generate as made_up

        return made_up()
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("once more: ") != password:
        raise click.ClickException("the two differ")
    return password


@group.command(hidden=True)
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=9100)
def stub(host: str, port: int) -> None:
    """Serve the stub model API of the demo; it accepts the keys in STUB_KEYS."""
    import os

    from benchmarks.stub import main as serve_stub

    serve_stub(host, port, [key for key in os.environ.get("STUB_KEYS", "").split(",") if key])
