"""Owns what `up` prints when it is ready: addresses, and commands that work as they stand."""

import ipaddress
import json
import shlex
import sys
from pathlib import Path

JSON_BODY = "Content-Type: application/json"
BODY = '{"model":"demo","messages":[{"role":"user","content":"hello"}]}'
STREAM_BODY = '{"model":"demo","stream":true,"messages":[{"role":"user","content":"hello"}]}'
SHORT_STREAM = "x-stub-frames: 3"
INTERCEPTS = "SELECT at, client, bound_networks, reason, key_hint, path FROM intercept ORDER BY at DESC LIMIT 5"


def base_url(host: str, port: int) -> str:
    """An address that a client on this machine can use."""
    if host in ("0.0.0.0", ""):
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def other_loopback(host: str) -> str | None:
    """A second address of this machine that can reach ``host``. Linux answers on all of 127.0.0.0/8."""
    if sys.platform != "linux":
        return None
    if host in ("0.0.0.0", "localhost"):
        return "127.0.0.2"
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return None
    return str(address + 1) if address.is_loopback else None


def curl(url: str, key: str, *options: str, body: str = BODY) -> str:
    command = ["curl", "-sS", "-w", "\\n", *options, f"{url}/v1/chat/completions", "-H", f"Authorization: Bearer {key}"]
    return shlex.join([*command, "-H", JSON_BODY, "-d", body])


def sign_in(url: str, password: str) -> str:
    body = json.dumps({"name": "admin", "password": password})
    return shlex.join(["curl", "-sS", "-w", "\\n", f"{url}/admin/api/login", "-H", JSON_BODY, "-d", body])


def look_at_intercepts(psql: Path, dsn: str) -> str:
    return shlex.join([str(psql), dsn, "-X", "-x", "-P", "pager=off", "-c", INTERCEPTS])


def ready_text(
    url: str,
    console_url: str,
    host: str,
    directory: Path,
    *,
    key: str | None,
    intercepts: str | None,
    password: str | None,
) -> str:
    """``key`` is the demo's, None without one; ``intercepts`` the command that shows the rows, where we have one.

    ``password`` is the first operator's if we made it up: None where the operator has chosen it.
    """
    lines = [f"Sentinel is ready at {url}  (data and logs in {directory}; Ctrl-C stops everything)", ""]
    lines += [f"the console: {console_url}"]
    lines += [] if password is None else [f"sign in as admin with the password {password}"]
    lines += [""]
    if key is None:
        lines += ["point your clients, or your reverse proxy, at it instead of the gateway behind it", ""]
    else:
        lines += _things_to_try(url, host, key)
    lines += ["is it healthy?", f"  curl -sS -w '\\n' {url}/health", ""]
    if password is not None:
        lines += ["the same for scripts, the admin API:", f"  {sign_in(url, password)}", ""]
    if intercepts is not None:
        lines += ["the refusals, as recorded:", f"  {intercepts}", ""]
    return "\n".join(lines)


def _things_to_try(url: str, host: str, key: str) -> list[str]:
    other = other_loopback(host)
    lines = ["the first use binds the key to this address:", f"  {curl(url, key)}", ""]
    lines += ["again from the same address: it passes, here as a stream:"]
    lines += [f"  {curl(url, key, '-N', '-H', SHORT_STREAM, body=STREAM_BODY)}", ""]
    if other is not None:
        lines += ["from another address: refused with 403:", f"  {curl(url, key, '-i', '--interface', other)}", ""]
    return lines
