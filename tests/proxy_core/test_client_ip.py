"""The address that a request is judged by: a trusted proxy's one word, or the TCP peer, never anything else."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.client_ip import MEMO_ADDRESSES, ClientAddressReader, parse_address
from proxy_core.contracts import ClientAddress, Reason
from proxy_core.errors import RequestRefused
from tests.support.properties import BOUNDED

TRUSTED = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8", "fe80::/10")]


def reader() -> ClientAddressReader:
    return ClientAddressReader(TRUSTED)


def read_or_refuse(peer: str, *real_ip: bytes) -> ClientAddress | RequestRefused:
    try:
        return reader().read(peer, real_ip)
    except RequestRefused as refused:
        return refused


def value_by_libc(text: bytes) -> tuple[int, int] | None:
    """Version and value by the C library's strict parser, IPv4-mapped addresses folded."""
    if b"\0" in text or b"%" in text:
        return None
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        try:
            packed = socket.inet_pton(family, text.decode("ascii"))
        except (OSError, ValueError):
            continue
        if version == 6 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
            return 4, int.from_bytes(packed[12:])
        return version, int.from_bytes(packed)
    return None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("0:0:0:0:0:ffff:203.0.113.9", "203.0.113.9"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("::1", "::1"),
        ("10.1.2.3", "10.1.2.3"),
        ("64:ff9b::203.0.113.9", "64:ff9b::cb00:7109"),
    ],
)
def test_one_text_for_one_address(value, text) -> None:
    """Spellings of an address become its canonical text, IPv4-mapped ones IPv4."""
    address = reader().read("10.0.0.1", [value.encode()])
    assert (address.text, address.encoded) == (text, text.encode())
    assert ClientAddressReader([]).read(value, []) == address


@pytest.mark.parametrize(
    "value",
    [
        *("", "unknown", "_hidden", "203.0.113.9:4711", "[2001:db8::1]", "[2001:db8::1]:443", "fe80::1%eth0", "1.2.3"),
        *("203.0.113.9, 198.51.100.1", "203.0.113.009", "0xcb.0.113.9", "3405803785", "203.0.113.9/32", "203.0.113.9 "),
        *(" 203.0.113.9", "203.0.113.9\t", "203.0.113.9\0", "203.0.113", "203.0.113.256", "-1.2.3.4", "1.2.3.4.5"),
        *("2001:db8:::1", "2001:db8::1::", "12345::", "::ffff:1.2.3.400", "localhost", "\u0663.1.1.1", "\uff11.2.3.4"),
        *("0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:255.255.255.255"),
        *("x" * 46, "1" * 10_000, "2001:db8::1%", "for=203.0.113.9", '"203.0.113.9"'),
    ],
)
def test_a_trusted_proxys_nonsense_is_refused(value) -> None:
    """No repair and no falling back on the proxy's own address, which all its clients would share."""
    refused = read_or_refuse("10.0.0.1", value.encode())
    assert isinstance(refused, RequestRefused)
    assert (refused.status, refused.reason) == (400, Reason.CLIENT_ADDRESS_UNKNOWN)


@pytest.mark.parametrize("values", [(), (b"203.0.113.9", b"203.0.113.9"), (b"", b"203.0.113.9"), (b"1.1.1.1",) * 9999])
def test_a_trusted_proxy_says_it_exactly_once(values) -> None:
    """None or several is no word at all: one of several could be the client's own."""
    assert isinstance(read_or_refuse("127.0.0.1", *values), RequestRefused)


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8::9", "::ffff:203.0.113.9", "11.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize("values", [(), (b"198.51.100.1",), (b"junk",), (b"10.0.0.1", b"127.0.0.1")])
def test_anybody_else_is_the_client(peer, values) -> None:
    """What a peer that is not trusted says of addresses is not looked at."""
    address = read_or_refuse(peer, *values)
    assert isinstance(address, ClientAddress)
    assert (address.version, address.value) == value_by_libc(peer.encode())


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "fe80::1%eth0", "127.0.0.1"])
def test_trust_knows_the_peer_in_every_spelling(peer) -> None:
    """A dual-stack listener shows an IPv4 proxy as IPv4-mapped, and link-local ones with a zone."""
    assert reader().is_trusted(peer)
    address = read_or_refuse(peer, b"203.0.113.9")
    assert isinstance(address, ClientAddress)
    assert address.text == "203.0.113.9"


@pytest.mark.parametrize("peer", ["", "unix:", "/run/x.sock", "proxy", "10.0.0.1:80", "\udcff", "10.0.0.1\0", "::"])
def test_a_peer_without_an_address_is_refused(peer) -> None:
    """A connection that comes from nowhere is nobody's, and nobody's word is taken."""
    assert not reader().is_trusted(peer)
    assert isinstance(read_or_refuse(peer, b"203.0.113.9"), RequestRefused)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    """The empty setting trusts nobody, not everybody."""
    assert ClientAddressReader([]).read("127.0.0.1", [b"203.0.113.9"]).text == "127.0.0.1"


octets = st.integers(0, 299).map(str)
groups = st.one_of(st.just(""), st.integers(0, 0x1FFFF).map("{:x}".format), st.integers(0, 0xFFFF).map("{:04X}".format))
quads = st.lists(octets, min_size=3, max_size=5).map(".".join)
texts = st.one_of(
    quads,
    st.lists(st.one_of(groups, groups, quads), min_size=2, max_size=9).map(":".join),
    quads.map("::ffff:{}".format),
    st.ip_addresses().map(str),
    st.tuples(st.ip_addresses().map(str), st.sampled_from(["%eth0", ":80", "/32", ",", " ", "\0"])).map("".join),
    st.text(max_size=12),
)
values = st.one_of(texts.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=50))


@BOUNDED
@given(value=values)
def test_addresses_are_those_of_the_c_library(value: bytes) -> None:
    """Two strict parsers agree on what is an address and which; the text is canonical and reads back as itself."""
    address = parse_address(value)
    expected = value_by_libc(value)
    if address is None:
        assert expected is None or not is_possible_client(*expected)
        return
    assert (address.version, address.value) == expected
    assert address.encoded == address.text.encode()
    assert str(ipaddress.ip_address(address.text)) == address.text
    assert parse_address(address.encoded) == address


def is_possible_client(version: int, value: int) -> bool:
    if version == 4:
        return 0 < value < 0xFFFFFFFF and not 0xE0000000 <= value < 0xF0000000
    return value != 0 and value >> 120 != 0xFF


@BOUNDED
@given(
    peer=st.one_of(texts, st.sampled_from(["10.0.0.1", "127.0.0.1", "fd00::1"])), real_ip=st.lists(values, max_size=3)
)
def test_any_input_gives_a_vouched_address_or_a_refusal(peer: str, real_ip: list[bytes]) -> None:
    """The peer's own address or the one value of a trusted peer, and no error but the refusal; twice the same."""
    addresses = reader()
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(addresses.read(peer, real_ip).text)
        except RequestRefused as refused:
            outcomes.append(refused.reason)
    assert outcomes[0] == outcomes[1]
    if outcomes[0] is Reason.CLIENT_ADDRESS_UNKNOWN:
        return
    word = real_ip[0] if addresses.is_trusted(peer) else peer.partition("%")[0].encode()
    assert len(real_ip) == 1 or not addresses.is_trusted(peer)
    assert value_by_libc(word) == value_by_libc(outcomes[0].encode())


def test_memory_is_bounded() -> None:
    """Floods of peers and of addresses grow nothing beyond the bound, and change no answer."""
    addresses = reader()
    for number in range(MEMO_ADDRESSES + 50):
        text = str(ipaddress.IPv4Address(0x01000000 + number))
        assert addresses.read(text, []).text == text
        assert addresses.read("10.0.0.1", [text.encode()]).text == text
    assert len(addresses._peers) <= MEMO_ADDRESSES
    assert len(addresses._addresses) <= MEMO_ADDRESSES
    assert addresses.is_trusted("10.0.0.1")
