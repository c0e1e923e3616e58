"""The whole house for browser tests: gateway with admin API, worker, stub model API, and the console, each a process.

with running_house(pg_dsn, redis_url, keys) as house:
    house.use(key, "127.0.0.2")          # a request of a client at that address
    browser.new_page(base_url=house.console.url)
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.support import admin
from tests.support.gateways import START_LIMIT_S, STOP_LIMIT_S, free_port


class Process:
    """One command of ours, what it logs, and the URL that it serves (empty: none)."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    def log_text(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, path: str) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"it ended: {self.log_text()}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url + path).status_code < 500:
                    return
            time.sleep(0.05)
        raise AssertionError(f"it did not become ready: {self.log_text()}")


@contextlib.contextmanager
def running(
    folder: Path, name: str, *command: str, url: str = "", ready: str = "/health", **env: str
) -> Iterator[Process]:
    """Ready when it comes; at the end it is stopped, and killed if it will not stop."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel", *command], env=env, stdout=output, stderr=output, cwd=folder
        )
    started = Process(process, url, log)
    try:
        if url:
            started.wait_until(ready)
        yield started
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_LIMIT_S)
    finally:
        process.kill()
        process.wait()


def console_environment(api_url: str, port: int, **settings: str) -> dict[str, str]:
    """Nothing of the data plane: the console must not need it."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return kept | {"SENTINEL_ADMIN_API_URL": api_url, "SENTINEL_CONSOLE_PORT": str(port)} | settings


@contextlib.contextmanager
def running_console(folder: Path, api_url: str, **settings: str) -> Iterator[Process]:
    port = free_port()
    prefix = settings.get("SENTINEL_CONSOLE_PATH", "")
    env = console_environment(api_url, port, **settings)
    with running(folder, f"console-{port}", "console", url=f"http://127.0.0.1:{port}{prefix}", **env) as console:
        yield console


class House:
    """What runs, and what tests do to it from outside."""

    def __init__(self, folder: Path, gateway: Process, console: Process, keys: list[str]) -> None:
        self.folder = folder
        self.gateway = gateway
        self.console = console
        self._keys = iter(keys)
        self._api: httpx.Client | None = None

    def new_key(self) -> str:
        """A model key that the upstream accepts and nobody has used."""
        return next(self._keys)

    def use(self, key: str, address: str, **headers: str) -> int:
        """The status that a client at ``address`` gets. The gateway's peer is trusted, as nginx is."""
        sent = {"authorization": f"Bearer {key}", "x-real-ip": address, **headers}
        body = {"model": "m", "messages": []}
        return httpx.post(f"{self.gateway.url}/v1/chat/completions", json=body, headers=sent, timeout=30).status_code

    @property
    def api(self) -> httpx.Client:
        """The admin API as the administrator, for what a test prepares and looks up."""
        if self._api is None:
            self._api = httpx.Client(
                base_url=f"{self.gateway.url}/admin/api", headers={"x-real-ip": "198.51.100.250"}, timeout=30
            )
            answer = self._api.post("/login", json={"password": admin.ADMIN_PASSWORD}).json()
            self._api.headers["authorization"] = f"Bearer {answer['access_token']}"
        return self._api

    def binding_of(self, key: str) -> dict:
        found = self.api.post("/bindings/lookup", json={"key": key}).json()["binding"]
        assert found is not None, "the key is not bound"
        return found

    def close(self) -> None:
        if self._api is not None:
            self._api.close()


@contextlib.contextmanager
def running_house(pg_dsn: str, redis_url: str, **console_settings: str) -> Iterator[House]:
    keys = ["sk-" + secrets.token_hex(24) for _ in range(100)]
    gateway_port, stub_port = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stub_url = f"http://127.0.0.1:{stub_port}"
        environment = admin.environment(
            pg_dsn,
            redis_url,
            gateway_port,
            DOWNSTREAM_URL=stub_url,
            SENTINEL_GATEWAY_NAME="north",
            SENTINEL_EVENT_SPOOL_DIR=str(folder / "spool"),
            SENTINEL_ALERT_PRIVATE_TARGETS="all",
        )
        stack.enter_context(
            running(
                *(folder, "stub", "stub", "--port", str(stub_port)),
                url=stub_url,
                ready="/",
                **(environment | {"STUB_KEYS": ",".join(keys)}),
            )
        )
        gateway = stack.enter_context(
            running(folder, "gateway", "serve", url=f"http://127.0.0.1:{gateway_port}", **environment)
        )
        stack.enter_context(running(folder, "worker", "worker", **environment))
        settings = {"SENTINEL_TRUSTED_PROXIES": "127.0.0.1/32"} | console_settings
        console = stack.enter_context(running_console(folder, gateway.url, **settings))
        house = House(folder, gateway, console, keys)
        stack.callback(house.close)
        yield house
