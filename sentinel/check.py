"""`sentinel check`: what is wrong with settings, stores, upstream and trusted proxies. All of it, in one run.

A fault in one setting does not hide the others: each store and the upstream is tried as soon as its own setting is
good. Nothing is changed anywhere. Messages never repeat a URL or DSN, nor an exception's own text where that could
quote one: a password with an unescaped ``/`` ends up in the strangest parts of them.
"""

import ipaddress
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import asyncpg
import redis
from rich.console import Console
from rich.text import Text

from migrations import run
from proxy_core.setting_values import parse_upstream_url
from proxy_core.settings import Settings, SettingsError, load_settings
from sentinel.environment import surroundings

PROBE_WITHIN_S = 10.0
CONNECT_WITHIN_S = 5.0
STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


class Finding(NamedTuple):
    """One line of the report; ``level`` is ok, warning or problem, ``about`` a setting or what was tried."""

    level: str
    about: str
    text: str


class ProbeFailed(Exception):
    """A probe's way to say what is wrong, in words for the operator."""


class Probe(NamedTuple):
    """Something to try; ``look`` returns what to say when it is well, else raises ProbeFailed."""

    about: str
    look: Callable[[], str]


def check() -> int:
    """Prints one line a finding on stderr; 1 if there is a problem, else 0 (warnings are not problems)."""
    settings, findings = _look_at_settings()
    probes = _probes(settings, surroundings(), {finding.about for finding in findings})
    findings += _run(probes)
    if settings is not None:
        findings += [*_look_at_proxies(settings), _look_at_spool(settings.event_spool_dir)]
    _print(findings)
    return int(any(finding.level == "problem" for finding in findings))


def _look_at_settings() -> tuple[Settings | None, list[Finding]]:
    try:
        return load_settings(), [Finding("ok", "settings", "settings: complete and plausible")]
    except SettingsError as error:
        return None, [Finding("problem", fault.split()[0].rstrip(":"), fault) for fault in error.faults]


def _probes(settings: Settings | None, given: dict[str, str], faulty: set[str]) -> list[Probe]:
    ca_file = None if settings is None else settings.upstream_tls_ca_file
    own = None if settings is None else settings.port
    looks = {
        "PG_DSN": Probe("PostgreSQL", lambda: look_at_postgres(given["PG_DSN"])),
        "REDIS_URL": Probe("Redis", lambda: look_at_redis(given["REDIS_URL"])),
        "DOWNSTREAM_URL": Probe("upstream", lambda: look_at_upstream(given["DOWNSTREAM_URL"], ca_file, own)),
    }
    return [probe for variable, probe in looks.items() if variable not in faulty]


def _run(probes: list[Probe]) -> list[Finding]:
    """All at once, none for longer than PROBE_WITHIN_S: a host that swallows packets must not hold up the rest."""
    found: dict[str, Finding] = {}

    def look(probe: Probe) -> None:
        try:
            found[probe.about] = Finding("ok", probe.about, f"{probe.about}: {probe.look()}")
        except ProbeFailed as failure:
            found[probe.about] = Finding("problem", probe.about, f"{probe.about}: {failure}")
        except Exception as error:  # noqa: BLE001 - an unforeseen failure is a finding too; its text may hold a secret
            found[probe.about] = Finding(
                "problem", probe.about, f"{probe.about}: could not be examined ({type(error).__name__})"
            )

    threads = [threading.Thread(target=look, args=(probe,), daemon=True) for probe in probes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PROBE_WITHIN_S)
    late = f"no answer within {PROBE_WITHIN_S:g} s"
    return [found.get(probe.about, Finding("problem", probe.about, f"{probe.about}: {late}")) for probe in probes]


def look_at_postgres(dsn: str) -> str:
    try:
        revision = run.current(dsn)
    except asyncpg.PostgresError as error:  # the server's own words: they name users and databases, never passwords
        raise ProbeFailed(f"PG_DSN: the server refused: {error}") from None
    except (ValueError, asyncpg.InterfaceError):
        raise ProbeFailed("PG_DSN cannot be read; write special characters of the password as %-escapes") from None
    except OSError as error:
        raise ProbeFailed(f"PG_DSN cannot be reached: {_reason(error)}") from None
    newest = run.head()
    if revision is None:
        raise ProbeFailed("reached, but the database is empty; run sentinel migrate")
    if revision != newest:
        raise ProbeFailed(f"reached, but its schema is {revision}, and {newest} is needed; run sentinel migrate")
    return f"reached, and the schema is the newest ({newest})"


def look_at_redis(url: str) -> str:
    try:
        client = redis.Redis.from_url(url, socket_timeout=CONNECT_WITHIN_S, socket_connect_timeout=CONNECT_WITHIN_S)
        with client:
            client.ping()
    except redis.AuthenticationError:
        raise ProbeFailed("REDIS_URL: the server refused the user or password") from None
    except redis.ResponseError as error:  # the server's own words
        raise ProbeFailed(f"REDIS_URL: the server refused: {error}") from None
    except redis.RedisError as error:
        cause = error.__cause__ or error.__context__
        reason = _reason(cause) if isinstance(cause, OSError) else "no usable answer"
        raise ProbeFailed(f"REDIS_URL cannot be reached: {reason}") from None
    except ValueError:
        raise ProbeFailed("REDIS_URL cannot be read; write special characters of the password as %-escapes") from None
    return "reached"


def look_at_upstream(url: str, ca_file: Path | None, own_port: int | None) -> str:
    """Connects, with TLS where the URL says so; asks nothing of it."""
    upstream = parse_upstream_url(url)
    try:
        with socket.create_connection((upstream.host, upstream.port), timeout=CONNECT_WITHIN_S) as connection:
            peer = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
            if peer.is_loopback and upstream.port == own_port:
                raise ProbeFailed("DOWNSTREAM_URL leads to Sentinel's own port; name the LLM gateway behind it")
            if upstream.tls:
                context = ssl.create_default_context(cafile=ca_file)
                context.wrap_socket(connection, server_hostname=upstream.host).close()
    except ssl.SSLCertVerificationError as error:
        raise ProbeFailed(f"DOWNSTREAM_URL: its certificate is not accepted: {error.verify_message}") from None
    except ssl.SSLError:
        raise ProbeFailed("DOWNSTREAM_URL: no TLS there; is it http:// instead of https://?") from None
    except OSError as error:
        raise ProbeFailed(f"DOWNSTREAM_URL cannot be reached: {_reason(error)}") from None
    return "accepts connections" + (", with a valid certificate" if upstream.tls else "")


def _look_at_proxies(settings: Settings) -> list[Finding]:
    about = "SENTINEL_TRUSTED_PROXIES"
    if settings.trusted_proxies:
        return [Finding("ok", about, f"{about}: {', '.join(map(str, settings.trusted_proxies))}")]
    if _is_loopback(settings.host):
        text = (
            f"{about} is empty, and SENTINEL_HOST is this machine's alone: behind a reverse proxy here all clients "
            "would count as one, and no key would be bound to anything; list the proxy, for example 127.0.0.1"
        )
    else:
        text = f"{about} is empty: clients count by their TCP address; if they come through a reverse proxy, list it"
    return [Finding("warning", about, text)]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _look_at_spool(folder: Path) -> Finding:
    about = "SENTINEL_EVENT_SPOOL_DIR"
    folder = folder.absolute()
    try:
        if folder.exists():
            with tempfile.TemporaryFile(dir=folder):
                return Finding("ok", about, f"{about}: {folder} can be written to")
        parent = next(parent for parent in folder.parents if parent.exists())
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Finding("ok", about, f"{about}: {folder} will be made")
        return Finding("problem", about, f"{about}: {folder} cannot be made: no right to write to {parent}")
    except OSError as error:
        return Finding("problem", about, f"{about}: {folder} cannot be used: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Why a connection failed, without the address that the library tried (see the top of this file)."""
    if isinstance(error, socket.gaierror):
        return "its host name is not known"
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_WITHIN_S:.0f} s"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else "nothing accepts connections there"


def _print(findings: list[Finding]) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for level, _, text in findings:
        console.print(Text.assemble((f"{level:<8}", STYLES[level]), f" {text}"))
