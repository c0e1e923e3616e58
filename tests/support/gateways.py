"""A gateway process for tests: `sentinel serve` as production runs it."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0


class GatewayProcess:
    """A running `sentinel serve`, its address, and the port on which it expects its upstream."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, upstream_port: int, log: Path, environment: dict[str, str]
    ) -> None:
        self.process = process
        self.environment = environment
        self.port = port
        self.upstream_port = upstream_port
        self.log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The one that was started, and its workers."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def connections(self) -> list[int]:
        """Those of its clients that are open: the other end's ports."""
        return [
            each.raddr.port
            for process in self.processes()
            for each in process.net_connections("tcp")
            if each.status == psutil.CONN_ESTABLISHED and each.laddr.port == self.port
        ]

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the gateway ended: {self.log_text()}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the gateway did not become healthy: {self.log_text()}")

    def start_again(self) -> None:
        """After a stop: the same gateway on the same port, healthy."""
        assert self.process.poll() is not None, "it still runs"
        self.process = _start(self.environment, self.log)
        self.wait_until_healthy()

    def stop(self) -> int:
        """SIGTERM, bounded; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_port_everywhere() -> int:
    """For who listens on all addresses: no client's socket may have it either, so not one that the system gives out."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
            return port


@contextlib.contextmanager
def running_gateway(
    *, pg_dsn: str, redis_url: str, upstream_port: int, workers: int = 1, name: str = "story", **settings: str
) -> Iterator[GatewayProcess]:
    """Starts a gateway and waits until it can judge; on leaving it is stopped, and killed if it will not stop."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
            "DOWNSTREAM_URL": f"http://127.0.0.1:{upstream_port}",
            "PG_DSN": pg_dsn,
            "REDIS_URL": redis_url,
            "SENTINEL_HMAC_SECRET": "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70",
            "SENTINEL_TRUSTED_PROXIES": "127.0.0.1/32",
            "SENTINEL_PORT": str(port),
            "SENTINEL_WORKERS": str(workers),
            "SENTINEL_GATEWAY_NAME": name,
            "SENTINEL_EVENT_SPOOL_DIR": str(Path(folder, "spool")),
            "SENTINEL_DRAIN_NOTICE_S": "0",
            **settings,
        }
        log = Path(folder, "log")
        gateway = GatewayProcess(_start(environment, log), port, upstream_port, log, environment)
        try:
            gateway.wait_until_healthy()
            yield gateway
            gateway.stop()
        finally:
            gateway.process.kill()
            gateway.process.wait()


def _start(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sentinel", "serve", "--plane", "proxy"],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )


@contextlib.contextmanager
def running_worker(gateway: GatewayProcess) -> Iterator[subprocess.Popen[bytes]]:
    """`sentinel worker` with the gateway's settings; logs into the gateway's folder."""
    with gateway.log.with_name("worker.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel", "worker"],
            env=gateway.environment,
            stdout=output,
            stderr=output,
            cwd=gateway.log.parent,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
