"""`sentinel up`: everything on one machine. Owns the order in which things start, and ends them in reverse.

    lock the data directory → PostgreSQL → Valkey → schema → (stub model API) → gateway → background jobs → console

Each runs as a process of its own on a leash. One that ends by itself ends all; so does a signal; and if this process is
killed, the leashes end everything in its place.
"""

import contextlib
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import redis

from admin_api.settings import AdminSettings
from console.settings import ConsoleSettings
from proxy_core import keyspace
from proxy_core.settings import Settings, load
from sentinel.child import Child
from sentinel.demo import base_url, look_at_intercepts, ready_text
from sentinel.environment import surroundings
from sentinel.errors import ProcessFailed
from sentinel.ports import free_port, refuse_busy_port
from sentinel.secrets_file import DEMO_KEY, kept_secrets
from sentinel.services.directory import DataDirectory, default_directory
from sentinel.services.postgres import PostgresStore
from sentinel.services.valkey import ValkeyStore
from sentinel.steps import Steps
from sentinel.supervision import Stop, failure_of, stopping_on_signals, watch

READY_WITHIN_S = 60.0
MIGRATED_WITHIN_S = 300.0
STOP_MARGIN_S = 15.0
REDIS_WITHIN_S = 5.0


class UpOptions(NamedTuple):
    """What the command line said; None leaves it to the environment."""

    data_dir: Path | None = None
    demo: bool = False
    host: str | None = None
    port: int | None = None
    console_port: int | None = None
    workers: int | None = None


def up(options: UpOptions) -> None:
    """Returns after SIGINT or SIGTERM, with everything stopped. Raises SentinelError and SettingsError."""
    with stopping_on_signals() as stop, contextlib.ExitStack() as stack:
        House(options, stop, stack).run()


class House:
    """One run of `up`."""

    def __init__(self, options: UpOptions, stop: Stop, stack: contextlib.ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._steps = Steps()
        self._children: list[Child] = []
        self._psql: Path | None = None
        stop.hurry = self._hurry
        self._environment = surroundings() | _given(options)
        self._refuse_missing_upstream()
        self._directory = stack.enter_context(
            contextlib.closing(DataDirectory.open(options.data_dir or default_directory()))
        )
        self._secrets = kept_secrets(self._directory.path)

    def run(self) -> None:
        self._start_stores()
        if self._options.demo:
            self._start_stub()
        settings = self._settle()
        refuse_busy_port(settings.host, settings.port)
        console = load(ConsoleSettings)
        refuse_busy_port(console.console_host, console.console_port, "SENTINEL_CONSOLE")
        with self._steps.step("database schema"):
            self._migrate()
        url = base_url(settings.host, settings.port)
        with self._steps.step(f"gateway on {url}"):
            gateway = self._start("gateway", "serve", grace_s=_gateway_grace_s(settings))
            self._wait_until(gateway, lambda: _answers(f"{url}/health"))
        with self._steps.step("background jobs"):
            worker = self._start("worker", "worker")
            began = time.monotonic()
            with redis.Redis.from_url(settings.redis_url, socket_timeout=REDIS_WITHIN_S) as client:
                self._wait_until(worker, lambda: _is_drained(client, began))
        console_url = base_url(console.console_host, console.console_port)
        with self._steps.step(f"console on {console_url}"):
            served = self._start("console", "console")
            self._wait_until(served, lambda: _answers(f"{console_url}{console.console_path}/health"))
        self._announce(settings, url, console_url + console.console_path)
        watch(self._children)

    def _start_stores(self) -> None:
        if "PG_DSN" not in self._environment:
            with self._steps.step("PostgreSQL"):
                postgres = PostgresStore(self._directory)
                self._stack.callback(self._stop, postgres.child)
                postgres.start()
                self._children.append(postgres.child)
            self._environment["PG_DSN"] = postgres.dsn
            self._psql = postgres.psql
        if "REDIS_URL" not in self._environment:
            with self._steps.step("Valkey"):
                valkey = ValkeyStore(self._directory)
                self._stack.callback(self._stop, valkey.child)
                valkey.start()
                self._children.append(valkey.child)
            self._environment["REDIS_URL"] = valkey.url

    def _start_stub(self) -> None:
        port = free_port()
        self._environment["DOWNSTREAM_URL"] = f"http://127.0.0.1:{port}"
        with self._steps.step("stub model API"):
            stub = self._start("stub", "stub", "--port", str(port), extra={"STUB_KEYS": self._secrets[DEMO_KEY]})
            self._wait_until(stub, lambda: _accepts_connections(port))

    def _settle(self) -> Settings:
        """From here on the environment is complete: every child reads the same settings from it."""
        for name in ("SENTINEL_HMAC_SECRET", "ADMIN_JWT_SECRET", "ADMIN_PASSWORD"):
            self._environment.setdefault(name, self._secrets[name])
        self._environment.setdefault("SENTINEL_DRAIN_NOTICE_S", "0")  # there is no other gateway to turn to
        self._environment.setdefault("SENTINEL_EVENT_SPOOL_DIR", str(self._directory.path / "spool"))
        os.environ.update(self._environment)
        settings = load(AdminSettings)
        self._environment.setdefault("SENTINEL_ADMIN_API_URL", base_url(settings.host, settings.port))
        os.environ.update(self._environment)
        return settings

    def _migrate(self) -> None:
        migration = self._child("migrate", "migrate")
        self._stack.callback(migration.stop)
        migration.start()
        if migration.wait(MIGRATED_WITHIN_S) != 0:
            raise failure_of(migration)

    def _start(self, name: str, *command: str, grace_s: float = 10.0, extra: dict[str, str] | None = None) -> Child:
        child = self._child(name, *command, grace_s=grace_s, extra=extra)
        self._stack.callback(self._stop, child)
        child.start()
        self._children.append(child)
        return child

    def _child(self, name: str, *command: str, grace_s: float = 10.0, extra: dict[str, str] | None = None) -> Child:
        return Child(
            name,
            [sys.executable, "-m", "sentinel", *command],
            env=os.environ | self._environment | (extra or {}),
            cwd=Path.cwd(),
            log=self._directory.log(name),
            grace_s=grace_s,
            keep_fds=[self._directory.lock_fd],
        )

    def _wait_until(self, child: Child, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not is_ready():
            if not child.is_running():
                raise failure_of(child)
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{child.name} was not ready within {READY_WITHIN_S:.0f} s; the end of {child.log}:\n"
                    f"{child.last_words()}"
                )
            time.sleep(0.05)

    def _announce(self, settings: Settings, url: str, console_url: str) -> None:
        intercepts = look_at_intercepts(self._psql, settings.pg_dsn) if self._psql else None
        key = self._secrets[DEMO_KEY] if self._options.demo else None
        made = self._secrets["ADMIN_PASSWORD"]
        password = made if self._environment["ADMIN_PASSWORD"] == made else None
        click.echo(
            ready_text(
                *(url, console_url, settings.host, self._directory.path),
                key=key,
                intercepts=intercepts,
                password=password,
            )
        )

    def _stop(self, child: Child) -> None:
        if child.is_running():
            with self._steps.step(f"stopping {child.name}"):
                child.stop()

    def _hurry(self) -> None:
        """A second Ctrl-C: open streams are not waited for any longer. The stores are never killed for impatience."""
        for child in self._children:
            if child.name in ("gateway", "worker", "stub", "console"):
                child.signal(signal.SIGKILL)

    def _refuse_missing_upstream(self) -> None:
        if not self._options.demo and "DOWNSTREAM_URL" not in self._environment:
            raise ProcessFailed(
                "DOWNSTREAM_URL is missing: set it to the LLM gateway to protect, "
                "or try sentinel up --demo, which brings a stub"
            )


def _gateway_grace_s(settings: Settings) -> float:
    return settings.drain_notice_s + settings.drain_timeout_s + STOP_MARGIN_S


def _given(options: UpOptions) -> dict[str, str]:
    given = {
        "SENTINEL_HOST": options.host,
        "SENTINEL_PORT": options.port,
        "SENTINEL_CONSOLE_PORT": options.console_port,
        "SENTINEL_WORKERS": options.workers,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def _answers(url: str) -> bool:
    # Our own loopback: a proxy from the environment must not come between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _is_drained(client: redis.Redis, since: float) -> bool:
    """Whether somebody has begun to read the event stream: from then on records appear without delay."""
    try:
        readers: Any = client.xinfo_consumers(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP)
    except redis.RedisError:  # no stream or no group yet
        return False
    idle_s = min((reader["idle"] / 1000 for reader in readers), default=float("inf"))
    return idle_s < time.monotonic() - since


def _accepts_connections(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False
