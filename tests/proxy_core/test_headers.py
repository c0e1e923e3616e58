"""Header lists: what of a client's head reaches the upstream, what is refused, and what of an answer goes back.

`test_framing` has where one request ends and the next begins.
"""

import pytest

from proxy_core import headers
from proxy_core.contracts import Reason, RequestHead, RequestLimits
from proxy_core.errors import RequestRefused
from proxy_core.headers import client_scheme, read_request_head, response_headers
from tests.support import new_api
from tests.support.heads import HOST, forwarded, lines_of, refusal_of, written
from tests.support.walk import ADDRESS

# -- hop-by-hop headers


@pytest.mark.parametrize(
    "name",
    [
        *("connection", "keep-alive", "te", "trailer", "proxy", "proxy-connection", "proxy-authorization"),
        *("proxy-authenticate", "proxy-anything", "upgrade", "http2-settings", "sec-websocket-key", "api-key"),
        *(
            "sec-websocket-version",
            "sec-websocket-extensions",
            "sec-websocket-accept",
            "proxy_authorization",
            "api_key",
        ),
    ],
)
def test_hop_by_hop_headers_stay_here(name) -> None:
    """They speak of this connection, or belong to a handshake that is made anew."""
    assert name.encode() not in forwarded(f"{name}: something")


@pytest.mark.parametrize("listed", ["x-custom", "X-Custom", "close, x-custom", " x-custom ,keep-alive", ",,x-custom,"])
def test_headers_listed_in_connection_stay_here(listed) -> None:
    """``Connection`` names further ones, in any case and among others."""
    assert b"x-custom" not in forwarded("x-custom: 1", f"connection: {listed}", "x-custom: 2")


@pytest.mark.parametrize(
    "name", ["authorization", "x-api-key", "x-goog-api-key", "mj-api-secret", "sec-websocket-protocol"]
)
def test_carriers_listed_in_connection_are_not_read(name) -> None:
    """What another proxy would strip after the check is stripped before it: what is judged is what is sent."""
    head = read_request_head(lines_of(f"{name}: sk-K", f"connection: keep-alive, {name.title()}"))
    carriers = (head.authorization, head.x_api_key, head.x_goog_api_key, head.mj_api_secret, head.websocket_protocols)
    assert not any(carriers)


@pytest.mark.parametrize("name", ["x-real-ip", "x-forwarded-proto", "host", "content-length", "transfer-encoding"])
def test_connection_cannot_name_what_the_proxy_in_front_wrote(name) -> None:
    """Nor what frames the body: listing it changes nothing (Traefik CVE-2024-45410)."""
    value = {"content-length": "5", "transfer-encoding": "chunked"}.get(name, "http")
    plain = [(b"host", b"http")] if name == "host" else lines_of(f"{name}: {value}")
    head = read_request_head([*plain, (b"connection", name.encode())])
    for field in ("real_ip", "forwarded_proto", "host", "content_length", "chunked"):
        assert getattr(head, field) == getattr(read_request_head(plain), field)


def test_headers_noted_and_listed_are_neither_noted_nor_sent() -> None:
    """What is read for ourselves and passed on is gone in both places."""
    head = read_request_head(
        lines_of("user-agent: x", "anthropic-version: 1", "connection: user-agent, anthropic-version")
    )
    assert (head.user_agent, head.anthropic, head.kept) == (b"", False, [])


def test_end_to_end_headers_pass_in_their_order() -> None:
    """Everything else arrives as it was sent, repetitions and bytes above ASCII included."""
    lines = [(b"accept", b"*/*"), (b"cookie", b"a=1"), (b"x-t", b"\xe4\xff\t~"), (b"cookie", b"b=2"), (b"x-empty", b"")]
    head = read_request_head([HOST, *lines])
    assert head.kept == lines
    parsed = new_api.parse(written(head)).headers
    assert (parsed[b"cookie"], parsed[b"x-t"], parsed[b"x-empty"]) == ([b"a=1", b"b=2"], [b"\xe4\xff\t~"], [b""])


# -- client addresses


@pytest.mark.parametrize(
    "name",
    [
        *("x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto"),
        *("x-forwarded-protocol", "x-forwarded-uri", "x-forwarded-client-cert", "x-client-ip", "true-client-ip"),
        *("cf-connecting-ip", "cf-connecting-ipv6", "x-cluster-client-ip", "fastly-client-ip", "forwarded-for"),
        *(
            "x-original-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_for",
            "x_real_ip",
            "x_real-ip",
            "x_forwarded_host",
        ),
        *("cf_connecting_ip", "true_client-ip", "x_client_ip", "x-forwarded", "x_forwarded_proto"),
    ],
)
def test_client_address_headers_are_replaced(name) -> None:
    """The upstream is told one address, ours, under the names that it reads; other spellings are dropped."""
    parsed = forwarded(f"{name}: 203.0.113.9", f"{name}: 203.0.113.10")
    assert parsed[b"x-forwarded-for"] == parsed[b"x-real-ip"] == [ADDRESS.encoded]
    assert parsed[b"x-forwarded-proto"] == [b"https"]
    assert name in ("x-forwarded-for", "x-real-ip", "x-forwarded-proto") or name.encode() not in parsed


@pytest.mark.parametrize(
    "name",
    [
        *("x_api_key", "x_goog_api_key", "mj_api_secret", "sec_websocket_protocol", "content_length"),
        *("transfer_encoding", "x_request_id", "anthropic_version", "sec-websocket_protocol"),
    ],
)
def test_underscore_twins_of_our_headers_are_dropped(name) -> None:
    """A server behind us that folds ``_`` into ``-`` finds ours alone (Fabio CVE-2025-48865)."""
    assert name.encode() not in forwarded(f"{name}: 1")


def test_other_names_with_underscores_pass() -> None:
    """Only twins of names that mean something here are dropped."""
    assert forwarded("my_header: 1")[b"my_header"] == [b"1"]


def test_scheme_is_the_proxys_word_or_ours() -> None:
    """A trusted proxy that says it once and plainly is believed, nobody else."""
    said = RequestHead([], forwarded_proto=[b"https"])
    assert client_scheme(said, peer_is_trusted=True, own=b"http") == b"https"
    assert client_scheme(said, peer_is_trusted=False, own=b"http") == b"http"
    for values in ([], [b"https", b"https"], [b"https, http"], [b"HTTPS"], [b"https\t"], [b"gopher"]):
        head = RequestHead([], forwarded_proto=values)
        assert client_scheme(head, peer_is_trusted=True, own=b"http") == b"http"


# -- what is refused


@pytest.mark.parametrize(
    "texts",
    [
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 0"),
        ("content-length: 5", "content-length: 5"),
        *(
            (f"content-length: {v}",)
            for v in ("", "+5", "-1", "5,5", "5, 6", "0x5", "5 5", "5\t", "\xb2", "1" * 19, "1e3")
        ),
        *(
            (f"transfer-encoding: {v}",)
            for v in ("", "gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked")
        ),
        *((f"transfer-encoding: {v}",) for v in ("chunked;x=1", "\tchunked", "chunked\t", "'chunked'")),
        ("transfer-encoding: chunked", "transfer-encoding: chunked"),
        *((f"expect: {v}",) for v in ("", "200-ok", "100-continue, x")),
        ("expect: 100-continue", "expect: 100-continue"),
        ("host: again",),
        *(
            (f"x-a: {control}",)
            for control in ("a\0b", "a\rb", "a\nb", "a\r\nx: y", "\x01", "a\x0bb", "a\x0cb", "\x1f", "\x7f")
        ),
        ("authorization: Bearer sk-K\0",),
        ("cookie: a\nauthorization: Bearer sk-V",),
        *(
            (f"{name}: 1",)
            for name in ("x a", "x\ta", "X-Upper", "x\0", "x\r\ny", "\xe4", "", "x(", "x\x7f", "x,y", '"x"')
        ),
        (*("connection: upgrade", "upgrade: websocket"), "content-length: 3"),
        (*("connection: upgrade", "upgrade: websocket"), "transfer-encoding: chunked"),
    ],
    ids=ascii,
)
def test_ambiguous_heads_are_refused(texts) -> None:
    """Framing, host, names and control bytes that two parsers could read differently are answered with 400."""
    refused = refusal_of(lines_of(*texts))
    assert refused is not None
    assert (refused.status, refused.reason) == (400, Reason.MALFORMED_REQUEST)


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "a@b", "a:b", "a:", "a:123456", "[::1", "::1", "a,b", "[x]", "é", "a\t"]
)
def test_strange_hosts_are_refused(host) -> None:
    """A Host that is not one host with at most a port could send the request elsewhere."""
    assert refusal_of([(b"host", host.encode())]) is not None


@pytest.mark.parametrize(
    "host", ["api.example", "a_b:80", "127.0.0.1:7000", "[::1]:65535", "[::ffff:1.2.3.4]", "LOCALHOST"]
)
def test_hosts_pass_unchanged(host) -> None:
    """The upstream's dashboard builds links from it."""
    assert new_api.parse(written(read_request_head([(b"host", host.encode())]))).headers[b"host"] == [host.encode()]


def test_missing_host_is_the_upstreams() -> None:
    """HTTP/1.0 clients may send none; the upstream's server wants one."""
    assert new_api.parse(written(read_request_head([]))).headers[b"host"] == [b"localhost"]


def test_floods_of_names_do_not_grow_the_memory() -> None:
    """Names are remembered up to a bound, long ones never, and what they mean does not change."""
    for number in range(headers._MEMO_NAMES + 100):
        read_request_head([(b"x-%d" % number, b"1"), (b"x_real_ip", b"1"), (b"y" * 65, b"1")])
        assert len(headers._actions) <= headers._MEMO_NAMES
    assert b"y" * 65 not in headers._actions
    assert read_request_head([(b"x_real_ip", b"1"), (b"x-5", b"1"), (b"te", b"x")]).kept == [(b"x-5", b"1")]


@pytest.mark.parametrize(
    ("value", "taken"), [("abc-1.2:3_4", True), ("", False), ("a b", False), ("x" * 129, False), ("é", False)]
)
def test_request_ids_are_taken_if_plain(value, taken) -> None:
    """An id goes into logs and answers, so only a plain one is taken over."""
    head = read_request_head([(b"x-request-id", value.encode())])
    assert head.request_id == (value.encode() if taken else b"")
    assert b"x-request-id" not in dict(head.kept)


# -- how large a head may be

SMALL = RequestLimits(headers_max_bytes=1000, headers_max_count=10)


@pytest.mark.parametrize(
    ("lines", "fits"),
    [
        ([(b"x-a", b"a" * 997)], True),
        ([(b"x-a", b"a" * 998)], False),
        ([(b"x-a", b"a" * 95)] * 10, True),
        ([(b"x-a", b"a" * 97)] * 10, True),
        ([(b"x-a", b"a" * 98)] * 10, False),
        ([(b"x" * 100, b"")] * 9, True),
        ([(b"x" * 120, b"")] * 9, False),
        ([(b"x" * 256, b"")], True),
        ([(b"x" * 257, b"")], False),
        ([(b"x-a", b"")] * 10, True),
        ([(b"x-a", b"")] * 11, False),
        ([(b"te", b"a" * 1100)], False),
    ],
)
def test_a_head_beyond_the_limits_is_refused(lines, fits) -> None:
    """Names and values count, of every header, also of those that are dropped."""
    if fits:
        assert len(read_request_head(lines, SMALL).kept) == len(lines)
        return
    with pytest.raises(RequestRefused) as caught:
        read_request_head(lines, SMALL)
    assert (caught.value.status, caught.value.reason) == (431, Reason.HEADERS_TOO_LARGE)


# -- answers


@pytest.mark.parametrize(
    ("raw", "passed"),
    [
        ([(b"content-type", b"a/b"), (b"x-y", b"1")], [(b"content-type", b"a/b"), (b"x-y", b"1")]),
        ([(b"connection", b"close"), (b"keep-alive", b"5"), (b"trailer", b"x"), (b"upgrade", b"h2c")], []),
        ([(b"connection", b"X-Hop, close"), (b"x-hop", b"1"), (b"x-kept", b"2")], [(b"x-kept", b"2")]),
        ([(b"content-length", b"5")], [(b"content-length", b"5")]),
        ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], []),
        ([(b"content-length", b"5"), (b"content-length", b"5")], []),
        ([(b"content-length", b"5, 5")], []),
        ([(b"content-length", b"-5")], []),
        (
            [(b"transfer-encoding", b"chunked"), (b"set-cookie", b"a"), (b"set-cookie", b"b")],
            [(b"set-cookie", b"a"), (b"set-cookie", b"b")],
        ),
        ([(b"proxy-authenticate", b"Basic"), (b"proxy-connection", b"x"), (b"te", b"x")], []),
        ([(b"connection", b"content-length"), (b"content-length", b"5")], [(b"content-length", b"5")]),
    ],
)
def test_answers_lose_what_belongs_to_the_upstreams_connection(raw, passed) -> None:
    """End-to-end headers go back in order; a length only if it alone frames the body."""
    assert response_headers(raw) == passed
