"""An admin server for tests: `sentinel serve --plane admin` as production runs it, and clients signed in to it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx

from admin_api import access_tokens
from admin_api.access_tokens import Claims
from tests.support.gateways import START_LIMIT_S, STOP_LIMIT_S, free_port

HMAC_SECRET = "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70"
JWT_SECRET = "c0ffee12a4b97d3e8f6051c2b3a4958677e8d9fa0b1c2d3e4f5061728394a5b6"
ADMIN_PASSWORD = "correct horse battery staple"
ADDRESS = "198.51.100.10"
"""Where clients come from unless told otherwise: the server believes X-Real-IP, as it does behind nginx."""

NO_PASSWORD = "!"
"""What `as_role`'s operators have for a hash: nobody signs in with it, and no test pays for a slow hash."""

TABLES = (
    "binding, binding_network, intercept, ingest_batch, runtime_setting, binding_archive, "
    "admin_user, admin_session, service_token, admin_audit, hourly_metric, distinct_metric, "
    "alert, alert_target, alert_delivery"
)


def environment(pg_dsn: str, redis_url: str, port: int, **settings: str) -> dict[str, str]:
    ours = ("SENTINEL_", "ADMIN_", "ALERT_", "ARCHIVE_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "DOWNSTREAM_URL": "http://127.0.0.1:9",
        "PG_DSN": pg_dsn,
        "REDIS_URL": redis_url,
        "SENTINEL_HMAC_SECRET": HMAC_SECRET,
        "SENTINEL_TRUSTED_PROXIES": "127.0.0.1/32",
        "SENTINEL_PORT": str(port),
        "SENTINEL_WORKERS": "1",
        "ADMIN_JWT_SECRET": JWT_SECRET,
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        **settings,
    }


class AdminServer:
    """A running server: its URL, and what it logged so far."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def log_text(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended: {self.log_text()}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the server did not become healthy: {self.log_text()}")


@contextlib.contextmanager
def running_admin(pg_dsn: str, redis_url: str, **settings: str) -> Iterator[AdminServer]:
    """Healthy when it comes; at the end it is stopped, and killed if it will not stop."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "sentinel", "serve", "--plane", "admin"],
                env=environment(pg_dsn, redis_url, port, **settings),
                stdout=output,
                stderr=output,
                cwd=folder,
            )
        server = AdminServer(process, port, log)
        try:
            server.wait_until_healthy()
            yield server
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_LIMIT_S)
        finally:
            process.kill()
            process.wait()


def client(url: str, token: str | None = None, *, address: str = ADDRESS) -> httpx.AsyncClient:
    """Paths are relative to ``/admin/api``: ``await client.get("/me")``."""
    headers = {"x-real-ip": address} | ({"authorization": f"Bearer {token}"} if token else {})
    return httpx.AsyncClient(base_url=f"{url}/admin/api", headers=headers, timeout=30.0)


async def token_for(dsn: str, name: str, role: str, *, password_hash: str = NO_PASSWORD) -> str:
    """An operator made straight in the tables, signed in: its access token."""
    connection = await asyncpg.connect(dsn)
    try:
        user_id = await connection.fetchval(
            "INSERT INTO admin_user (name, role, password_hash) VALUES ($1, $2, $3) RETURNING id",
            name, role, password_hash,
        )  # fmt: skip
        session_id = uuid.uuid4()
        await connection.execute(
            "INSERT INTO admin_session (id, user_id, refresh_hash, expires_at) "
            "VALUES ($1, $2, $3, now() + interval '1 day')",
            session_id, user_id, session_id.bytes,
        )  # fmt: skip
    finally:
        await connection.close()
    return access_tokens.issue(JWT_SECRET, Claims(user_id, session_id), now=time.time(), life_s=3600)
