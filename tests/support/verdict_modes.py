"""The two ways to have a request judged, as raw bytes: proxied by the gateway, or asked about by a proxy of one's own.

`nginx_modes` puts a real nginx in front for each: one that proxies to the gateway, and one that runs
``nginx/forward-auth.conf``.
"""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks import nginx
from benchmarks.processes import listening
from tests.support.gateways import free_port

CARRIERS = ("authorization", "x-api-key", "x-goog-api-key", "sec-websocket-protocol", "mj-api-secret", "api-key")
START_LIMIT_S = 20.0
READ_LIMIT_S = 60.0

Line = tuple[bytes, bytes]


class Case(NamedTuple):
    """A client's request; ``lines`` without Host."""

    method: str
    target: bytes
    lines: tuple[Line, ...] = ()

    @property
    def id(self) -> str:
        return ascii((self.method, self.target, *self.lines))[:150]


class Answered(NamedTuple):
    """Header names in lower case; several lines of one name are kept."""

    status: int
    lines: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name]

    def only(self, name: str) -> str:
        (value,) = self.values(name)
        return value


async def send(port: int, case: Case, *, local: str | None = None) -> Answered:
    """One request on a connection of its own, from the address ``local``; the body is read as far as it is framed."""
    lines = [(b"host", b"api.example"), *case.lines]
    head = b"%b %b HTTP/1.1\r\n" % (case.method.encode(), case.target)
    head += b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"
    async with asyncio.timeout(READ_LIMIT_S):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(local, 0) if local is not None else None
        )
        try:
            writer.write(head)
            return await _read(reader, bodiless=case.method == "HEAD")
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, *, bodiless: bool) -> Answered:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *rest = head.split("\r\n")[:-2]
    pairs = (line.partition(":") for line in rest)
    answered = Answered(int(start.split(" ")[1]), [(name.lower(), value.strip()) for name, _, value in pairs], b"")
    lengths = answered.values("content-length")
    if lengths and not bodiless:
        return answered._replace(body=await reader.readexactly(int(lengths[0])))
    return answered


def asked(case: Case, way: str) -> Case:
    """The question that a proxy asks about ``case``: as nginx, Traefik and Caddy ("forwarded"), or Envoy do."""
    if way == "envoy":
        return case._replace(target=b"/sentinel/verdict" + case.target)
    method, uri = {
        "nginx": (b"x-original-method", b"x-original-uri"),
        "forwarded": (b"x-forwarded-method", b"x-forwarded-uri"),
    }[way]
    hop = (b"connection", b"upgrade")
    passed = tuple(line for line in case.lines if line[0] != b"upgrade" and line != hop)
    return Case("GET", b"/sentinel/verdict", (*passed, (method, case.method.encode()), (uri, case.target)))


class NginxModes(NamedTuple):
    """The ports of one nginx: in front of the gateway, and with the verdict service."""

    inline: int
    verdict: int
    log: Path


_WRAPPER = """
{user}
daemon off;
worker_processes 1;
error_log {folder}/error.log info;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  include {folder}/forward-auth.conf;
  server {{
    listen 127.0.0.1:{inline};
    server_tokens off;
    client_max_body_size 0;
    location / {{
      proxy_pass http://sentinel_verdict;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Request-ID $request_id;
      proxy_set_header Upgrade $sentinel_upgrade;
      proxy_set_header Connection $sentinel_connection;
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""


def require_nginx() -> str:
    """Its path. Skips the test where there is none, but not in continuous integration."""
    program = nginx.program()
    if program is None:
        assert not os.environ.get("CI"), "continuous integration tests with a real nginx: install it"
        pytest.skip("needs nginx: apt-get install nginx")
    return program


@contextlib.contextmanager
def nginx_modes(folder: Path, *, gateway_port: int, upstream_port: int) -> Iterator[NginxModes]:
    """Both modes in front of one gateway and one upstream, until the block ends."""
    modes = NginxModes(free_port(), free_port(), folder / "error.log")
    text = nginx.forward_auth(port=modes.verdict, upstream_port=upstream_port, gateway_port=gateway_port, logs=folder)
    (folder / "forward-auth.conf").write_text(text, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_WRAPPER.format(folder=folder, inline=modes.inline, user=user))
    process = subprocess.Popen(
        [require_nginx(), "-c", str(folder / "nginx.conf"), "-e", str(modes.log)], stderr=subprocess.PIPE
    )
    try:
        _wait_until_listening(process, (modes.inline, modes.verdict))
        yield modes
    finally:
        process.terminate()
        process.communicate(timeout=START_LIMIT_S)


def _wait_until_listening(process: "subprocess.Popen[bytes]", ports: Sequence[int]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not all(map(listening, ports)):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "nginx does not listen"
        time.sleep(0.02)
