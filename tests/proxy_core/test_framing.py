"""Whatever a client sends, the head that is written is read by llhttp as exactly one request with one framing."""

import httptools
import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from proxy_core.contracts import RequestHead
from proxy_core.headers import read_request_head
from tests.support import new_api
from tests.support.heads import Lines, forwarded, lines_of, refusal_of, written
from tests.support.properties import BOUNDED
from tests.support.walk import UPGRADE


@pytest.mark.parametrize(
    ("texts", "sent"),
    [
        ((), {}),
        (("content-length: 0",), {b"content-length": [b"0"]}),
        (("content-length: 0005",), {b"content-length": [b"5"]}),
        (("content-length: 999999999999999999",), {b"content-length": [b"999999999999999999"]}),
        (("transfer-encoding: Chunked",), {b"transfer-encoding": [b"chunked"]}),
        (("content-length: 5", "expect: 100-Continue"), {b"content-length": [b"5"], b"expect": [b"100-continue"]}),
    ],
)
def test_framing_is_written_anew(texts, sent) -> None:
    """One canonical framing header, whatever the spelling was."""
    parsed = forwarded(*texts)
    assert {
        name: parsed[name] for name in (b"content-length", b"transfer-encoding", b"expect") if name in parsed
    } == sent


@pytest.mark.parametrize(
    ("texts", "upgrade"),
    [
        (("connection: Upgrade", "upgrade: websocket"), b"websocket"),
        (("connection: keep-alive, upgrade", "upgrade: WebSocket"), b"websocket"),
        (("connection: upgrade", "upgrade: h2c"), b""),
        (("connection: upgrade", "upgrade: websocket, h2c"), b""),
        (("connection: upgrade", "upgrade: websocket", "upgrade: websocket"), b""),
        (("upgrade: websocket",), b""),
        (("connection: upgrade",), b""),
        (("connection: upgrade", "upgrade: websocket", "content-length: 0"), b"websocket"),
    ],
)
def test_only_websocket_is_upgraded_to(texts, upgrade) -> None:
    """Every other offer is ignored: h2c would make a tunnel past the binding."""
    head = read_request_head(lines_of(*texts))
    assert head.upgrade == upgrade
    parsed = new_api.parse(written(head, "GET")).headers
    assert parsed.get(b"upgrade") == ([b"websocket"] if upgrade else None)
    assert parsed.get(b"connection") == ([b"Upgrade"] if upgrade else None)


class Reading:
    """What llhttp makes of a byte stream."""

    def __init__(self) -> None:
        self.urls: list[bytes] = []
        self.headers: list[Lines] = []
        self.body = b""
        self.complete = 0

    def on_message_begin(self) -> None:
        self.headers.append([])

    def on_url(self, url: bytes) -> None:
        self.urls.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[-1].append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"


def read_back(raw: bytes, head: RequestHead) -> Reading:
    """Feeds the head, a body as its framing wants it, and a second request to llhttp."""
    body = b""
    if head.chunked:
        body = b"3\r\nabc\r\n0\r\n\r\n"
    elif head.content_length:
        assume(head.content_length < 1000)
        body = b"z" * head.content_length
    reading = Reading()
    parser = httptools.HttpRequestParser(reading)
    if head.upgrade:
        with pytest.raises(httptools.HttpParserUpgrade):
            parser.feed_data(raw)
    else:
        parser.feed_data(raw + body + NEXT)
    return reading


names = st.one_of(
    st.sampled_from(
        [b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade", b"expect", b"trailer"]
    ),
    st.sampled_from(
        [b"authorization", b"x-real-ip", b"x-forwarded-for", b"x_real_ip", b"content_length", b"te", b"x-a"]
    ),
    st.text("abcxyz-_.~!0", min_size=1, max_size=8).map(str.encode),
    st.text("abcxyz-_.~!0 (\x7f", max_size=8).map(str.encode),
)
values = st.one_of(
    st.sampled_from([b"5", b"0", b"chunked", b"close", b"upgrade", b"websocket", b"100-continue", b"api.example", b""]),
    st.sampled_from(
        [b"host", b"content-length, transfer-encoding", b"x\r\ny: z", b"5\r\n\r\nGET / HTTP/1.1", b"identity"]
    ),
    st.sampled_from([b"\tx", b"x ", b"x\n", b" chunked", b"x-a, x-real-ip", b"203.0.113.9"]),
    st.text("abc,; \xe4\u3000", max_size=8).map(str.encode),
    st.binary(max_size=3),
)


@BOUNDED
@given(
    lines=st.lists(st.tuples(names, values), max_size=6), upgrade=st.booleans(), method=st.sampled_from(["GET", "POST"])
)
@example(lines=[(b"content-length", b"5")], upgrade=True, method="POST")
@example(lines=[(b"transfer-encoding", b"chunked")], upgrade=True, method="GET")
def test_any_head_is_refused_or_becomes_one_request(lines: Lines, upgrade: bool, method: str) -> None:
    """Two parsers agree on where it ends, and find one Host, one framing and one client address in it."""
    everything = [*lines, *(UPGRADE if upgrade else ())]
    if refusal_of(everything) is not None:
        event("refused")
        return
    event("passed")
    head = read_request_head(everything)
    raw = written(head, method, credential=[(b"authorization", b"Bearer sk-K")])
    reading = read_back(raw, head)
    assert reading.urls == ([b"/v1/x?a=1"] if head.upgrade else [b"/v1/x?a=1", b"/next"])
    assert reading.body == (b"abc" if head.chunked else b"z" * (head.content_length or 0))
    found = new_api.parse(raw).headers
    for name in (b"host", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-proto", b"x-request-id", b"authorization"):
        assert len(found[name]) == 1
    assert len(found.get(b"content-length", []) + found.get(b"transfer-encoding", [])) <= 1
    assert (b"connection" in found) == bool(head.upgrade)
    assert [(name.lower(), value.strip(b" \t")) for name, value in reading.headers[0]] == [
        (name, value.strip(b" \t")) for name, value in _lines(raw)
    ]


def _lines(raw: bytes) -> Lines:
    pairs = (line.partition(b":") for line in raw.split(b"\r\n")[1:] if line)
    return [(name, value) for name, _, value in pairs]
