"""To which addresses alerts may go: the guard against targets that make the server reach what only it can (SSRF).

Where it stands in the walk: `webhook` resolves a name once, asks here, and connects to what was judged; `apprise_child`
asks at every connection. Pure: no name is resolved here. Stands on the standard library alone, since the child that
runs apprise loads it.

Some addresses are refused whatever the setting says: link-local ones and the clouds' metadata services hand out
credentials, multicast and unspecified ones are nobody's, forms that carry another address inside (NAT64, 6to4, Teredo)
would go around the table. What remains is public, private (RFC 1918, unique local, carrier-grade NAT), or loopback.
"""

import enum
import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class PrivateTargets(enum.StrEnum):
    """``refuse``: public addresses only. ``private``: private networks too. ``all``: this machine as well."""

    REFUSE = "refuse"
    PRIVATE = "private"
    ALL = "all"


class Place(enum.Enum):
    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    FORBIDDEN = "forbidden"


METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "100.100.100.200",  # Alibaba Cloud, inside the carrier-grade NAT range
        "168.63.129.16",  # Azure, a public address
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
        "fd00:c1::a9fe:a9fe",  # Oracle Cloud
        "fd00:42::42",  # Scaleway
    )
)

_PRIVATE: tuple[IPNetwork, ...] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_CARRIES_ANOTHER: tuple[ipaddress.IPv6Network, ...] = tuple(
    ipaddress.IPv6Network(text)
    for text in ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")  # local NAT64, 6to4, Teredo, IPv4-compatible
)


def place_of(address: IPAddress) -> Place:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return place_of(address.ipv4_mapped)
        if address in _NAT64:  # how an IPv6-only network reaches the rest of the world, and nothing nearer
            inner = place_of(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
            return Place.PUBLIC if inner is Place.PUBLIC else Place.FORBIDDEN
        if address.scope_id or address.is_site_local:
            return Place.FORBIDDEN
    if address.is_loopback:
        return Place.LOOPBACK
    if address in METADATA or address.is_multicast or address.is_link_local or address.is_unspecified:
        return Place.FORBIDDEN
    if any(address in network for network in _PRIVATE if network.version == address.version):
        return Place.PRIVATE
    if any(address in network for network in _CARRIES_ANOTHER if address.version == 6):
        return Place.FORBIDDEN
    return Place.PUBLIC if address.is_global and not address.is_reserved else Place.FORBIDDEN


def is_allowed(address: IPAddress, policy: PrivateTargets) -> bool:
    allowed = {
        PrivateTargets.REFUSE: (Place.PUBLIC,),
        PrivateTargets.PRIVATE: (Place.PUBLIC, Place.PRIVATE),
        PrivateTargets.ALL: (Place.PUBLIC, Place.PRIVATE, Place.LOOPBACK),
    }[policy]
    return place_of(address) in allowed


def allows_plain_http(address: IPAddress) -> bool:
    """Not over the internet: URL and message would be everybody's to read and to change."""
    return place_of(address) in (Place.PRIVATE, Place.LOOPBACK)
