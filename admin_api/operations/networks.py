"""Networks as operators write them, checked and brought into the form that the data plane compares. Pure.

Where it stands in the walk: `operations.bindings` and `operations.imports` call it before they touch anything.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from admin_api.errors import InvalidInput

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

FAULTS_SHOWN = 100
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse(text: str) -> IPNetwork:
    """A network, or an address as a network of one. Raises ValueError, saying what a network with host bits would be.

    IPv4-mapped IPv6 becomes IPv4, as the addresses of clients do.
    """
    address, slash, prefix = text.strip().partition("/")
    if "%" in text or (slash and not (prefix.isascii() and prefix.isdigit())):
        raise ValueError(f"{text!r} is not a network: write an address, a slash and the length of the prefix")
    try:
        network = ipaddress.ip_network(f"{address}/{prefix}" if slash else address, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network: write an address, a slash and the length of the prefix") from None
    if slash and ipaddress.ip_address(address) != network.network_address:
        raise ValueError(f"{text!r} has host bits set: the network would be {network}")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def parse_all(texts: Sequence[str], field: str = "networks") -> list[IPNetwork]:
    """Without duplicates and without what another one contains. Raises InvalidInput naming every fault."""
    networks: list[IPNetwork] = []
    faults: list[dict[str, str]] = []
    for index, text in enumerate(texts):
        try:
            networks.append(parse(text))
        except ValueError as fault:
            faults.append({"field": f"{field}[{index}]", "detail": str(fault)})
    if faults:
        raise InvalidInput(faults[0]["detail"], faults=faults[:FAULTS_SHOWN])
    return normalised(networks)


def normalised(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    """In the order of their addresses. Neighbours stay apart: an operator finds again what was entered."""
    kept: list[IPNetwork] = []
    for network in sorted(networks, key=lambda each: (each.version, int(each.network_address), each.prefixlen)):
        if not kept or not _contains(kept[-1], network):
            kept.append(network)
    return kept


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)
