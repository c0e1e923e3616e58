"""Networks as operators type them, read as the admin API does, so that a fault shows while one types. Pure.

Where it stands in the walk: the search box and the editor of a binding's networks; the admin API checks again.
"""

import ipaddress
from collections.abc import Sequence
from datetime import datetime

import msgspec

from admin_api.schemas.bindings import BoundNetwork, TimedNetwork

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

BROAD_IPV4 = 16
BROAD_IPV6 = 48


class Fault(msgspec.Struct, frozen=True):
    """``kind``: unreadable, or host_bits with the network that was probably meant. ``line`` counts from 1."""

    line: int
    text: str
    kind: str
    meant: str = ""


class Entered(msgspec.Struct, frozen=True):
    """What some lines say. ``broad``: networks so large that they bind next to nothing."""

    networks: list[str]
    faults: list[Fault]
    broad: list[str]


def short(network: str) -> str:
    """One address' network as the address."""
    return network.removesuffix("/32").removesuffix("/128")


def standing(bound: Sequence[BoundNetwork], now: datetime) -> list[str | TimedNetwork]:
    """What a binding has now, in the form in which it is put back."""
    return [
        each.network if each.expires_at is None else TimedNetwork(each.network, each.expires_at)
        for each in bound
        if each.expires_at is None or each.expires_at > now
    ]


def is_network(text: str) -> bool:
    """Whether it can be looked for; host bits do no harm there."""
    return _network(text) is not None


def entered(text: str) -> Entered:
    """One network a line, or separated by commas or blanks."""
    networks: list[str] = []
    faults: list[Fault] = []
    broad: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        for each in line.replace(",", " ").split():
            network = _network(each)
            if network is None:
                faults.append(Fault(number, each, "unreadable"))
            elif "/" in each and ipaddress.ip_address(each.partition("/")[0]) != network.network_address:
                faults.append(Fault(number, each, "host_bits", str(network)))
            else:
                networks.append(str(network))
                if network.prefixlen < (BROAD_IPV4 if network.version == 4 else BROAD_IPV6):
                    broad.append(str(network))
    return Entered(list(dict.fromkeys(networks)), faults, broad)


def covers(networks: Sequence[str], address: str) -> bool:
    """Whether one of them contains the address; what cannot be read contains nothing."""
    found = _network(address)
    return found is not None and any(
        found.version == network.version and found.subnet_of(network)  # type: ignore[arg-type] # versions are the same
        for network in map(_network, networks)
        if network is not None
    )


def _network(text: str) -> IPNetwork | None:
    _, slash, prefix = text.partition("/")
    if "%" in text or (slash and not (prefix.isascii() and prefix.isdigit())):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
