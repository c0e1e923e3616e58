"""Where alerts may go: the table that targets cannot talk the server out of."""

import ipaddress

import pytest

from admin_api.alerts.addresses import Place, PrivateTargets, allows_plain_http, is_allowed, place_of

PLACES = {
    Place.PUBLIC: ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"],
    Place.PRIVATE: [
        *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "100.127.255.1"),
        *("fc00::1", "fdab::1", "::ffff:10.0.0.1"),
    ],
    Place.LOOPBACK: ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"],
    Place.FORBIDDEN: [
        # metadata, in every form
        *("169.254.169.254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::169.254.169.254"),
        *("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "::ffff:100.100.100.200"),
        # link-local, site-local, unspecified, multicast, broadcast, reserved, documentation
        *("169.254.1.1", "fe80::1", "fe80::1%1", "fec0::1", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1"),
        *("255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "2001:db8::1", "::ffff:0.0.0.0"),
        # another address inside
        *("64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:808:808::1"),
        *("2001:0:7f00:1::1", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8"),
    ],
}
TABLE = [(text, place) for place, texts in PLACES.items() for text in texts]


@pytest.mark.parametrize(("text", "place"), TABLE)
def test_each_address_has_its_place(text: str, place: Place):
    assert place_of(ipaddress.ip_address(text)) is place


@pytest.mark.parametrize(("text", "place"), TABLE)
def test_the_setting_widens_where_alerts_go_and_never_to_forbidden_places(text: str, place: Place):
    address = ipaddress.ip_address(text)
    assert [is_allowed(address, policy) for policy in PrivateTargets] == {
        Place.PUBLIC: [True, True, True],
        Place.PRIVATE: [False, True, True],
        Place.LOOPBACK: [False, False, True],
        Place.FORBIDDEN: [False, False, False],
    }[place]
    assert allows_plain_http(address) is (place in (Place.PRIVATE, Place.LOOPBACK))
