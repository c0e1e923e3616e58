"""nginx in its two parts: the upstream that answers at once, and the peer that proxies (the speed of light here)."""

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import Bench, BenchError, listening, wait_until

FORWARD_AUTH = Path(__file__).parents[1] / "nginx" / "forward-auth.conf"

_COMMON = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
error_log stderr warn;
pid {folder}/{name}.pid;
events {{ worker_connections 16384; multi_accept on; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
{rest}
}}
"""

_UPSTREAM = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{answer}'; }}
  }}
"""

_PROXY = """
  upstream model {{
    server 127.0.0.1:{upstream_port};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Real-IP $remote_addr;
      proxy_buffering {buffering};
      proxy_request_buffering {buffering};
      proxy_read_timeout 300s;
    }}
  }}
"""

ANSWER = (
    '{"id":"chatcmpl-bench-0001","object":"chat.completion","created":1760000000,"model":"stub-model","choices":'
    '[{"index":0,"message":{"role":"assistant","content":"A hello to everyone who is listening."},'
    '"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":8,"total_tokens":27},'
    '"system_fingerprint":"fp_bench_0"}'
)


def start_upstream(bench: Bench, *, port: int, core: int) -> int:
    """The zero-delay model API: one constant answer of 328 bytes. Returns its pid."""
    rest = _UPSTREAM.format(port=port, answer=ANSWER)
    return _start(bench, "nginx-upstream", rest, port=port, core=core)


def start_proxy(bench: Bench, *, port: int, upstream_port: int, core: int, buffering: bool) -> int:
    """The peer. ``buffering`` as nginx ships it for whole answers, off for streams. Returns its pid."""
    rest = _PROXY.format(port=port, upstream_port=upstream_port, buffering="on" if buffering else "off")
    return _start(bench, f"nginx-proxy-{port}", rest, port=port, core=core)


def start_verdict(bench: Bench, *, port: int, upstream_port: int, gateway_port: int, core: int) -> int:
    """nginx with the configuration that forwards by itself and asks a gateway for verdicts. Returns its pid."""
    rest = forward_auth(port=port, upstream_port=upstream_port, gateway_port=gateway_port, logs=bench.folder)
    rest = re.sub(r"access_log .*;", "access_log off;", rest)  # as the others
    return _start(bench, f"nginx-verdict-{port}", rest, port=port, core=core)


def forward_auth(*, port: int, upstream_port: int, gateway_port: int, logs: Path) -> str:
    """The shipped configuration with nothing but its addresses changed. Raises BenchError if they are not there."""
    text = FORWARD_AUTH.read_text(encoding="utf-8")
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{port} backlog=4096;"),
        ("server 127.0.0.1:7000;", f"server 127.0.0.1:{gateway_port};"),
        ("server 127.0.0.1:3000;", f"server 127.0.0.1:{upstream_port};"),
        ("access_log /var/log/nginx/", f"access_log {logs}/"),
        ("error_log /var/log/nginx/", f"error_log {logs}/"),
    ):
        if text.count(old) != 1:
            raise BenchError(f"{FORWARD_AUTH} has no line with {old}")
        text = text.replace(old, new)
    return text


def _start(bench: Bench, name: str, rest: str, *, port: int, core: int) -> int:
    config = bench.folder / f"{name}.conf"
    config.write_text(_COMMON.format(folder=bench.folder, name=name, rest=rest))
    process = bench.start(name, [program() or "nginx", "-c", str(config), "-e", "stderr"], core=core)
    wait_until(lambda: listening(port), limit_s=10, what=name, alive=process, why=lambda: bench.log_of(name))
    return process.pid


def program() -> str | None:
    """nginx lives in sbin, which is not on everyone's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin")


def version() -> str | None:
    path = program()
    if path is None:
        return None
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"nginx/(\S+)", said)
    return found.group(1) if found else Path(path).name
