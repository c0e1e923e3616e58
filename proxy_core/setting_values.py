"""Owns how the harder settings are read: networks, the upstream's URL, secrets. Pure; `settings` calls it.

Every function raises ValueError with a message that follows the variable's name in a line for the operator.
"""

import ipaddress
import itertools
import re
from urllib.parse import urlsplit

import msgspec

from proxy_core.contracts import IPNetwork

SECRET_MIN_BYTES = 32
SECRET_MIN_DISTINCT = 8
SECRET_EXAMPLES = ("change", "example", "placeholder", "replace", "secret", "password", "insecure", "default")


class UpstreamUrl(msgspec.Struct, frozen=True):
    """``DOWNSTREAM_URL``, taken apart. ``host`` has no brackets; ``base_path`` is empty or begins with a slash."""

    tls: bool
    host: str
    port: int
    base_path: str

    @property
    def authority(self) -> str:
        """For the Host header: the port is named only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_upstream_url(text: str) -> UpstreamUrl:
    """Raises ValueError with a message for the operator."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("contains characters that do not belong in a URL")
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL; expected http(s)://host[:port][/base/path]") from None
    if url.scheme not in ("http", "https") or not host:
        raise ValueError("must begin with http:// or https:// and name a host")
    if "@" in url.netloc:
        raise ValueError("must not contain a user name or password")
    if "?" in text or "#" in text:
        raise ValueError("must not contain a query or a fragment")
    if "%" in host or port == 0:
        raise ValueError("names a host or port that cannot be connected to")
    base_path = url.path.rstrip("/")
    if any(part in ("", ".", "..") for part in base_path.split("/")[1:]):
        raise ValueError("has a base path with empty, . or .. segments")
    tls = url.scheme == "https"
    return UpstreamUrl(tls, host, port or (443 if tls else 80), base_path)


def refuse_weak_secret(secret: str) -> None:
    """Raises ValueError for a secret that is short, an example, or plainly not random."""
    advice = "make one with: openssl rand -hex 32"
    if len(secret.encode()) < SECRET_MIN_BYTES:
        raise ValueError(f"is shorter than {SECRET_MIN_BYTES} bytes; {advice}")
    if any(word in secret.lower() for word in SECRET_EXAMPLES):
        raise ValueError(f"is an example value; {advice}")
    repeats = (secret + secret).find(secret, 1) < len(secret)
    steps = [abs(ord(after) - ord(before)) for before, after in itertools.pairwise(secret)]
    if repeats or len(set(secret)) < SECRET_MIN_DISTINCT or sum(step <= 1 for step in steps) > len(steps) / 2:
        raise ValueError(f"is not random; {advice}")


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Networks separated by commas or white space; every bad one is named."""
    networks, faults = [], []
    for part in re.split(r"[\s,]+", text):
        if part:
            try:
                networks.append(_network(part))
            except ValueError as error:
                faults.append(str(error))
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(networks)


def _network(text: str) -> IPNetwork:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"has {text!r}, which is not an address or a network without host bits, such as 10.0.0.0/8"
        ) from None
    if network.prefixlen == 0:
        raise ValueError(
            f"has {text}, which would let every client on earth name its own address; list only your proxies"
        )
    return network


def shown(value: object) -> str:
    """A default as documentation shows it."""
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
