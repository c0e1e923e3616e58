"""Networks as operators write them, checked and brought into the form that the data plane compares. Pure.

Where it stands in the walk: `operations.bindings` and `operations.imports` call it before they touch anything.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime

from admin_api.errors import InvalidInput
from admin_api.schemas.bindings import TimedNetwork

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
    return normalised(parse_each(texts, field))


def parse_timed(given: Sequence[str | TimedNetwork], now: datetime) -> dict[str, datetime | None]:
    """Each network and its end, None for good; of one that is named twice, the later end. Raises InvalidInput.

    What lies inside a network that stays for good is left out. Those that end are kept apart from each other, since
    a small one may outlast the large one around it.
    """
    timed = [each if isinstance(each, TimedNetwork) else TimedNetwork(each) for each in given]
    over = [index for index, each in enumerate(timed) if each.expires_at is not None and each.expires_at <= now]
    if over:
        detail = "lies in the past; leave the network out"
        faults = [{"field": f"networks[{index}].expires_at", "detail": detail} for index in over[:FAULTS_SHOWN]]
        raise InvalidInput("a network would be over already", faults=faults)
    parsed = parse_each([each.network for each in timed])
    kept = normalised(network for network, each in zip(parsed, timed, strict=True) if each.expires_at is None)
    ends: dict[IPNetwork, datetime] = {}
    for network, each in zip(parsed, timed, strict=True):
        if each.expires_at is not None:
            ends[network] = max(each.expires_at, ends.get(network, each.expires_at))
    for_good = set(kept)
    wanted: dict[str, datetime | None] = {str(network): None for network in kept}
    return wanted | {str(each): end for each, end in ends.items() if not _around(each) & for_good}


def parse_each(texts: Sequence[str], field: str = "networks") -> list[IPNetwork]:
    """As many as were given, in that order. Raises InvalidInput naming every fault."""
    networks: list[IPNetwork] = []
    faults: list[dict[str, str]] = []
    for index, text in enumerate(texts):
        try:
            networks.append(parse(text))
        except ValueError as fault:
            faults.append({"field": f"{field}[{index}]", "detail": str(fault)})
    if faults:
        raise InvalidInput(faults[0]["detail"], faults=faults[:FAULTS_SHOWN])
    return networks


def normalised(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    """In the order of their addresses. Neighbours stay apart: an operator finds again what was entered."""
    kept: list[IPNetwork] = []
    for network in sorted(networks, key=lambda each: (each.version, int(each.network_address), each.prefixlen)):
        if not kept or not _contains(kept[-1], network):
            kept.append(network)
    return kept


def _around(network: IPNetwork) -> set[IPNetwork]:
    """Itself and every network that contains it."""
    return {network.supernet(new_prefix=length) for length in range(network.prefixlen + 1)}


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)
