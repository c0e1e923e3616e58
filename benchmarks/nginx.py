"""nginx in its two parts: the upstream that answers at once, and the peer that proxies (the speed of light here)."""

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import Bench, listening, wait_until

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
