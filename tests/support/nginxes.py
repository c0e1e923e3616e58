"""nginx in front of the console, as in production: the path prefix, the WebSocket, and who the visitor is."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.gateways import STOP_LIMIT_S, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{
            proxy_pass {target};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-Proto $http_x_test_scheme;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


@contextlib.contextmanager
def running_nginx(folder: Path, target: str, prefix: str) -> Iterator[str]:
    """Its URL. ``target``: what ``proxy_pass`` names; with a slash at its end nginx cuts the prefix off."""
    assert NGINX is not None, "nginx is not installed"
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, target=target, prefix=prefix))
    process = subprocess.Popen([NGINX, "-c", str(configuration), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(STOP_LIMIT_S)
    finally:
        process.kill()
        process.wait()
