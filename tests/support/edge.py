"""The shipped nginx configuration, running: real nginx on free ports, with nothing changed but addresses and paths."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from benchmarks.nginx import program
from tests.support.databases import open_folder
from tests.support.gateways import free_port

SHIPPED = Path(__file__).parents[2] / "nginx"
DESCRIPTORS = 131_072  # nginx.conf
START_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0
CLIENT = "127.0.0.9"
"""A client's address: nginx sees it as the TCP peer. Linux answers on all of 127.0.0.0/8."""


class Edge:
    """A running nginx. ``port`` speaks TLS, ``plain_port`` does not."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int, plain_port: int) -> None:
        self.process = process
        self.folder = folder
        self.port = port
        self.plain_port = plain_port

    def tls(self) -> ssl.SSLContext:
        """One for each client: HTTP/2 is agreed on by means of it."""
        return ssl.create_default_context(cafile=str(self.folder / "certificate.pem"))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self, key: str = "", *, address: str = CLIENT, http2: bool = True) -> httpx.AsyncClient:
        """A client that has ``address`` and speaks HTTP/2, or HTTP/1.1."""
        transport = httpx.AsyncHTTPTransport(
            verify=self.tls(), http1=not http2, http2=http2, local_address=address, limits=httpx.Limits()
        )
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, transport=transport, headers=headers, timeout=60)

    @contextlib.asynccontextmanager
    async def connection(
        self, address: str = CLIENT
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """TLS and nothing else, for what no HTTP client would send; closed without a goodbye."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls(), local_addr=(address, 0))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def reload(self) -> None:
        """`nginx -s reload`: returns when the new workers have been asked for, as that does."""
        self.process.send_signal(signal.SIGHUP)

    def workers(self) -> set[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return {int(number) for number in children.split()}

    def access_log(self) -> str:
        return (self.folder / "access.log").read_text(encoding="utf-8")

    def error_log(self) -> str:
        return (self.folder / "error.log").read_text(encoding="utf-8")


def nginx_program() -> str:
    """Skips the test where nginx is not installed; in continuous integration that is a failure."""
    found = program()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    return found


@contextlib.contextmanager
def running_edge(
    gateways: Sequence[int],
    *,
    admin: int | None = None,
    console: int | None = None,
    changes: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Edge]:
    """In front of gateways (two) on these ports. ``changes``: in which file what becomes what, for what is off by
    default; every text has to be there exactly once."""
    nginx = nginx_program()
    with open_folder() as folder:
        port, plain_port = free_port(), free_port()
        _install(folder, gateways, admin or free_port(), console or free_port(), port, plain_port)
        for name, replaced in (changes or {}).items():
            _edit(folder / name, replaced)
        command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-g", "daemon off;"]
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
        edge = Edge(process, folder, port, plain_port)
        try:
            _wait_until_listening(edge)
            yield edge
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _install(folder: Path, gateways: Sequence[int], admin: int, console: int, port: int, plain_port: int) -> None:
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
    _make_certificate(folder)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _edit(
        folder / "nginx.conf",
        {
            # Where nginx may not have as many, it would have as few as whoever started it.
            f"worker_rlimit_nofile {DESCRIPTORS};": f"worker_rlimit_nofile {min(DESCRIPTORS, hard)};",
            "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;",
            "error_log /var/log/nginx/error.log": f"error_log {folder}/error.log",
            "access_log /var/log/nginx/access.log": f"access_log {folder}/access.log",
        },
    )
    here = {
        "listen 80 default_server;": f"listen 127.0.0.1:{plain_port} default_server;",
        "listen [::]:80 default_server;": f"listen [::1]:{plain_port} default_server;",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen [::]:443 ssl": f"listen [::1]:{port} ssl",
    }
    if not socket.has_dualstack_ipv6():
        here = {old: f"#{new}" if "::1" in new else new for old, new in here.items()}
    _edit(folder / "sentinel/http.conf", here)
    first, second = gateways
    _edit(
        folder / "sentinel/gateways.conf",
        {
            "server 127.0.0.1:7000 ": f"server 127.0.0.1:{first} ",
            "server 127.0.0.1:7001 ": f"server 127.0.0.1:{second} ",
            "server 127.0.0.1:7070;": f"server 127.0.0.1:{admin};",
            "server 127.0.0.1:7080;": f"server 127.0.0.1:{console};",
        },
    )
    _edit(
        folder / "sentinel/tls.conf",
        {f"/etc/nginx/certificates/{name}": f"{folder}/{name}" for name in ("certificate.pem", "key.pem")},
    )


def _edit(path: Path, replaced: Mapping[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert text.count(old) == 1, f"{path.name} has {text.count(old)} times {old!r}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )


def _wait_until_listening(edge: Edge) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert edge.process.poll() is None, f"nginx ended: {(edge.folder / 'said').read_text()} {edge.error_log()}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", edge.port), timeout=1.0):
            return
        time.sleep(0.02)
    raise AssertionError(f"nginx does not listen: {edge.error_log()}")
