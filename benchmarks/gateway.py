"""Sentinel as a peer: its real commands, one worker, on stores of its own that live on the load generator's core."""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import Bench, BenchError, healthy, wait_until

_READY_S = 90.0


class StoresPeer(NamedTuple):
    """The stores' process tree and their addresses."""

    pid: int
    pg_dsn: str
    redis_url: str


def start_stores(bench: Bench, *, core: int) -> StoresPeer:
    """``sentinel services`` in a folder of this run's, migrated."""
    command = [*sentinel(), "services", "--data-dir", str(bench.folder / "data")]
    process = bench.start("stores", command, core=core)
    found = _read_addresses(process, bench)
    stores = StoresPeer(process.pid, found["PG_DSN"], found["REDIS_URL"])
    migrated = subprocess.run(
        [*sentinel(), "migrate"],
        env={**os.environ, **_environment(stores, upstream_port=1, port=1)},
        capture_output=True,
        text=True,
        timeout=_READY_S,
        check=False,
    )
    if migrated.returncode != 0:
        raise BenchError(f"sentinel migrate failed:\n{migrated.stderr.strip()[-2000:]}")
    return stores


def _read_addresses(process: subprocess.Popen[bytes], bench: Bench) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in process.stdout or ():
        name, equals, value = line.decode().strip().partition("=")
        if equals:
            found[name] = value
        if {"PG_DSN", "REDIS_URL"} <= found.keys():
            return found
    raise BenchError(f"sentinel services ended before it named its addresses:\n{bench.log_of('stores')}")


def start_gateway(
    bench: Bench, stores: StoresPeer, *, upstream_port: int, port: int, core: int, trusted_proxies: str = ""
) -> int:
    """``sentinel serve``, one worker. Returns the pid of its process tree's root."""
    name = f"sentinel-{port}"
    environment = _environment(stores, upstream_port=upstream_port, port=port)
    environment["SENTINEL_TRUSTED_PROXIES"] = trusted_proxies
    process = bench.start(name, [*sentinel(), "serve", "--plane", "proxy"], core=core, environment=environment)
    wait_until(lambda: healthy(port), limit_s=_READY_S, what=name, alive=process, why=lambda: bench.log_of(name))
    return process.pid


def _environment(stores: StoresPeer, *, upstream_port: int, port: int) -> dict[str, str]:
    return {
        "DOWNSTREAM_URL": f"http://127.0.0.1:{upstream_port}",
        "PG_DSN": stores.pg_dsn,
        "REDIS_URL": stores.redis_url,
        "SENTINEL_HMAC_SECRET": secrets.token_hex(32),
        "ADMIN_PASSWORD": secrets.token_urlsafe(24),
        "ADMIN_JWT_SECRET": secrets.token_hex(32),
        "SENTINEL_HOST": "127.0.0.1",
        "SENTINEL_PORT": str(port),
        "SENTINEL_WORKERS": "1",
        "SENTINEL_TRUSTED_PROXIES": "",
    }


def sentinel() -> list[str]:
    """The command of the environment that runs us, installed as a script or not."""
    script = Path(sys.executable).with_name("sentinel")
    return [str(script)] if script.exists() else [sys.executable, "-m", "sentinel"]
