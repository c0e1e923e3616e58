"""The address that a request is judged by, and whose word is taken for it.

Where it stands in the walk: `handler` asks before any key is read. If the TCP peer is one of the configured proxies,
the one ``X-Real-IP`` that it wrote is the client; anybody else is the client itself, whatever its headers say.

Rules for whoever edits this file:

- ``X-Forwarded-For`` and its relatives are never read: a client can write them, and proxies append to them.
- A trusted proxy that names no usable address is a fault to refuse loudly. Falling back to the peer would make all its
  clients one client, and the first of them would own everybody's keys.
- One text for one address: IPv4-mapped IPv6 is folded to IPv4, everything else is canonical (RFC 5952).
"""

import ipaddress
from collections.abc import Sequence

from proxy_core.contracts import ClientAddress, IPNetwork, Reason
from proxy_core.errors import RequestRefused

MEMO_ADDRESSES = 8192
ADDRESS_MAX_BYTES = 45  # the longest text form, IPv6 with an IPv4 tail


class ClientAddressReader:
    """Reads addresses for one set of trusted proxies, with a bounded memory of those that it has seen."""

    def __init__(self, trusted: Sequence[IPNetwork]) -> None:
        self._trusted = tuple(trusted)
        self._addresses: dict[bytes, ClientAddress] = {}
        self._peers: dict[str, tuple[bool, ClientAddress | None]] = {}

    def __repr__(self) -> str:
        return f"ClientAddressReader(trusted={[str(network) for network in self._trusted]})"

    def read(self, peer: str, real_ip: Sequence[bytes]) -> ClientAddress:
        """``peer`` is the TCP peer's address, ``real_ip`` the values of all ``X-Real-IP`` lines.

        Raises RequestRefused (400 ``client_address_unknown``).
        """
        known = self._peers.get(peer)
        trusted, address = known if known is not None else self._meet(peer)
        if not trusted:
            if address is None:
                raise _unknown("the connection has no client address")
            return address
        if len(real_ip) != 1:
            raise _unknown("the proxy in front sent no X-Real-IP, or several")
        value = real_ip[0]
        named = self._addresses.get(value)
        return named if named is not None else self._learn(value)

    def is_trusted(self, peer: str) -> bool:
        known = self._peers.get(peer)
        return (known if known is not None else self._meet(peer))[0]

    def _meet(self, peer: str) -> tuple[bool, ClientAddress | None]:
        # A link-local peer comes with its zone, which only this machine understands.
        address = parse_address(peer.partition("%")[0].encode("ascii", "replace"))
        trusted = address is not None and any(
            network.version == address.version and ipaddress.ip_address(address.text) in network
            for network in self._trusted
        )
        if len(self._peers) >= MEMO_ADDRESSES:
            self._peers.clear()
        self._peers[peer] = trusted, address
        return trusted, address

    def _learn(self, value: bytes) -> ClientAddress:
        address = parse_address(value)
        if address is None:
            raise _unknown("the proxy in front sent an X-Real-IP that is no address")
        if len(self._addresses) >= MEMO_ADDRESSES:
            self._addresses.clear()
        self._addresses[value] = address
        return address


def parse_address(value: bytes) -> ClientAddress | None:
    """One bare IPv4 or IPv6 address: no port, brackets, zone or blanks; None for anything else.

    An address that no client can have (``0.0.0.0``, ``::``, multicast, broadcast) counts as garbage.
    """
    if not 2 <= len(value) <= ADDRESS_MAX_BYTES or b"%" in value:
        return None
    try:
        address = ipaddress.ip_address(value.decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        return None
    text = str(address)
    return ClientAddress(text, text.encode(), address.version, int(address))


def _unknown(detail: str) -> RequestRefused:
    return RequestRefused(400, Reason.CLIENT_ADDRESS_UNKNOWN, detail)
