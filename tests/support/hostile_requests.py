"""Raw requests of the kinds that proxies fell over: what a client sends, and what may come of it.

The kinds are those of HTTP desync advisories and of other servers' test folders; each is a row of one table below.
``$KEY`` stands for a model key of the case's own. Whatever must never be taken for a request is `SMUGGLED`.
"""

from typing import NamedTuple

KEPT = b"Authorization: Bearer $KEY\r\nX-Real-IP: 203.0.113.7\r\n"
COMMON = b"Host: x\r\n" + KEPT
POST = b"POST /v1/x HTTP/1.1\r\n" + COMMON
GET = b"GET /v1/x HTTP/1.1\r\n" + COMMON
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Real-IP: 203.0.113.7\r\n\r\n"

HELLO = (b"POST", b"/v1/x", b"hello")
EMPTY = (b"POST", b"/v1/x", b"")
ASKED = (b"GET", b"/v1/x", b"")


class Refused(NamedTuple):
    """Every answer is 4xx, or there is none; the connection is closed; nothing whole reaches the upstream."""

    name: str
    raw: bytes


class Passed(NamedTuple):
    """Each of ``up`` (method, target, body) reaches the upstream once, and nothing else. ``why`` it is harmless."""

    name: str
    raw: bytes
    up: tuple[tuple[bytes, bytes, bytes], ...]
    why: str


def _framed(value: bytes) -> bytes:
    return POST + b"Content-Length: " + value + b"\r\n\r\nhello"


def _encoded(line: bytes) -> bytes:
    return POST + line + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def _requested(line: bytes) -> bytes:
    return line + b"\r\n" + COMMON + b"\r\n"


def _hosted(lines: bytes) -> bytes:
    return b"GET /v1/x HTTP/1.1\r\n" + lines + KEPT + b"\r\n"


REFUSED = [
    # framing
    Refused("Content-Length as a list", _framed(b"5, 5")),
    Refused("two lengths", _framed(b"5\r\nContent-Length: 6")),
    Refused("length with a sign", _framed(b"+5")),
    Refused("negative length", _framed(b"-5")),
    Refused("hexadecimal length", _framed(b"0x5")),
    Refused("empty length", _framed(b"")),
    Refused("length with a vertical tab", _framed(b"\x0b5")),
    Refused("length beyond 64 bits", _framed(b"99999999999999999999999")),
    Refused("blank before the colon of a length", POST + b"Content-Length : 5\r\n\r\nhello"),
    Refused("body shorter than its length", POST + b"Content-Length: 50\r\n\r\nhello"),
    Refused("coding before chunked", _encoded(b"Transfer-Encoding: gzip, chunked")),
    Refused("chunked before another coding", _encoded(b"Transfer-Encoding: chunked, identity")),
    Refused("identity", _encoded(b"Transfer-Encoding: identity")),
    Refused("nearly chunked", _encoded(b"Transfer-Encoding: xchunked")),
    Refused("chunked twice", _encoded(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    Refused("chunked in a list with itself", _encoded(b"Transfer-Encoding: chunked, chunked")),
    Refused("chunked after a vertical tab", _encoded(b"Transfer-Encoding:\x0bchunked")),
    Refused("chunked in quotes", _encoded(b'Transfer-Encoding: "chunked"')),
    Refused("chunked with a parameter", _encoded(b"Transfer-Encoding: chunked;a=b")),
    Refused("chunked on a folded line", _encoded(b"Transfer-Encoding:\r\n chunked")),
    Refused("empty coding", _encoded(b"Transfer-Encoding: ")),
    Refused("blank before the colon of a coding", _encoded(b"Transfer-Encoding : chunked")),
    Refused("chunked in HTTP/1.0", _encoded(b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0")),
    Refused("expectation that nobody knows", POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello"),
    Refused(
        "handshake with a request in its body",
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    ),
    # chunks
    Refused("chunk size that is no number", CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n"),
    Refused("negative chunk size", CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk size with a sign", CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk size with a prefix", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    Refused("empty chunk size", CHUNKED + b"\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk size beyond 64 bits", CHUNKED + b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n"),
    Refused("blank before a chunk size", CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk longer than its size", CHUNKED + b"3\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
    Refused("chunk shorter than its size", CHUNKED + b"7\r\nhello\r\n0\r\n\r\n"),
    Refused("chunks with bare LF", CHUNKED + b"5\nhello\n0\n\n"),
    Refused("bare LF after a chunk size", CHUNKED + b"5\nhello\r\n0\r\n\r\n"),
    Refused("bare LF after a chunk", CHUNKED + b"5\r\nhello\n0\r\n\r\n" + SMUGGLED),
    Refused("bare LF in a chunk extension", CHUNKED + b"5;a\nxx\r\nhello\r\n0\r\n\r\n"),
    Refused("bare CR in a chunk extension", CHUNKED + b"5;a\rxx\r\nhello\r\n0\r\n\r\n"),
    Refused("line end in a quoted extension", CHUNKED + b'5;a="\r\n0"\r\nhello\r\n0\r\n\r\n' + SMUGGLED),
    Refused("endless chunk extension", CHUNKED + b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
    Refused("trailer that is a request", CHUNKED + b"5\r\nhello\r\n0\r\n" + SMUGGLED),
    Refused("endless trailers", CHUNKED + b"5\r\nhello\r\n0\r\n" + b"X-T: a\r\n" * 50_000 + b"\r\n"),
    # header lines
    Refused("folded line", GET + b"X-A: a\r\n b\r\n\r\n"),
    Refused("folded first line", b"GET /v1/x HTTP/1.1\r\n X: a\r\n" + COMMON + b"\r\n"),
    Refused("folded credential", _hosted(b"Host: x\r\n").replace(b"Bearer $KEY", b"Bearer\r\n $KEY")),
    Refused("bare CR in a value", GET + b"X-A: a\rX-B: b\r\n\r\n"),
    Refused("bare CR before the line end", GET + b"X-A: a\r\r\n\r\n"),
    Refused("NUL in a value", GET + b"X-A: a\0b\r\n\r\n"),
    Refused("NUL in a name", GET + b"X\0A: b\r\n\r\n"),
    Refused("NUL in the credential", GET.replace(b"$KEY", b"$KEY\0")),
    Refused("control byte in a value", GET + b"X-A: a\x01b\r\n\r\n"),
    Refused("DEL in a value", GET + b"X-A: a\x7fb\r\n\r\n"),
    Refused("line without a colon", GET + b"X-A\r\n\r\n"),
    Refused("line without a name", GET + b": x\r\n\r\n"),
    Refused("blank in a name", GET + b"X A: x\r\n\r\n"),
    Refused("name outside ASCII", GET + b"X-\xc3\xa4: x\r\n\r\n"),
    Refused("two hosts", _hosted(b"Host: x\r\nHost: y\r\n")),
    Refused("the same host twice", _hosted(b"Host: x\r\nHost: x\r\n")),
    Refused("hosts in a list", _hosted(b"Host: x, y\r\n")),
    Refused("empty host", _hosted(b"Host: \r\n")),
    Refused("host with a path", _hosted(b"Host: x/y\r\n")),
    Refused("host with a user", _hosted(b"Host: x@y\r\n")),
    Refused("no host", _hosted(b"")),
    Refused("no host in HTTP/1.0", _hosted(b"").replace(b"HTTP/1.1", b"HTTP/1.0")),
    # request lines
    Refused("control byte in the target", _requested(b"GET /v1/\0x HTTP/1.1")),
    Refused("tab in the target", _requested(b"GET /v1/\tx HTTP/1.1")),
    Refused("byte outside ASCII in the target", _requested(b"GET /v1/\xff HTTP/1.1")),
    Refused("blank in the target", _requested(b"GET /v1/x y HTTP/1.1")),
    Refused("two blanks", _requested(b"GET  /v1/x HTTP/1.1")),
    Refused("blank at the end", _requested(b"GET /v1/x HTTP/1.1 ")),
    Refused("asterisk with GET", _requested(b"GET * HTTP/1.1")),
    Refused("CONNECT", _requested(b"CONNECT evil.example:443 HTTP/1.1")),
    Refused("CONNECT to a path", _requested(b"CONNECT /v1/x HTTP/1.1")),
    Refused("authority form", _requested(b"GET evil.example:443 HTTP/1.1")),
    Refused("relative target", _requested(b"GET v1/x HTTP/1.1")),
    Refused("method that is no token", _requested(b"G(T /v1/x HTTP/1.1")),
    Refused("HTTP/0.9", b"GET /v1/x\r\n\r\n"),
    Refused("HTTP/1.2", _requested(b"GET /v1/x HTTP/1.2")),
    Refused("HTTP/1.10", _requested(b"GET /v1/x HTTP/1.10")),
    Refused("HTTP/2.0 as text", _requested(b"GET /v1/x HTTP/2.0")),
    Refused("http/1.1", _requested(b"GET /v1/x http/1.1")),
    Refused("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    Refused("TLS", bytes.fromhex("16030100a5010000a10303") + bytes(160)),
    Refused("PROXY protocol", b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n" + GET + b"\r\n"),
    Refused("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + GET + b"\r\n"),
    Refused("no HTTP at all", b"\xff\xfe\x00" * 50),
    Refused("line ends without end", b"\r\n" * 300_000),
    # sizes: of the target and the head, by the settings' defaults and far beyond
    Refused("long target", _requested(b"GET /v1/x?" + b"a" * 20_000 + b" HTTP/1.1")),
    Refused("endless target", _requested(b"GET /v1/x?" + b"a" * 1_000_000 + b" HTTP/1.1")),
    Refused("long header", GET + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n"),
    Refused("endless header", GET + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    Refused("long headers", GET + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 2000) for n in range(60)) + b"\r\n"),
    Refused("too many headers", GET + b"X-A: a\r\n" * 101 + b"\r\n"),
    Refused("headers without end", GET + b"X-A: a\r\n" * 50_000 + b"\r\n"),
]

PASSED = [
    Passed(
        "length beside chunked",
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"0\r\n\r\n" + SMUGGLED,
        (EMPTY,),
        "the server reads it as chunked, drops the length, and closes the connection behind it",
    ),
    Passed("the same length twice", _framed(b"5\r\nContent-Length: 5"), (HELLO,), "the server made one of it"),
    Passed(
        "chunked in capitals between blanks", _encoded(b"Transfer-Encoding: \tChunked\t "), (HELLO,), "it is chunked"
    ),
    Passed("chunked body without a byte", CHUNKED + b"0\r\n\r\n", (EMPTY,), "it is a body"),
    Passed(
        "chunked listed in Connection",
        _encoded(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
        (HELLO,),
        "framing cannot be named there",
    ),
    Passed("chunk extension", CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n", (HELLO,), "not passed on"),
    Passed("blank after a chunk size", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", (HELLO,), "not passed on"),
    Passed(
        "trailers",
        CHUNKED + b"5\r\nhello\r\n0\r\nX-T: a\r\nAuthorization: Bearer sk-OTHER\r\n\r\n",
        (HELLO,),
        "not passed on",
    ),
    Passed("length under another name", POST + b"Content_Length: 50\r\n\r\n", (EMPTY,), "not passed on"),
    Passed("GET with a body", GET + b"Content-Length: 5\r\n\r\nhello", ((b"GET", b"/v1/x", b"hello"),), "framed anew"),
    Passed(
        "request in a body",
        POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        ((b"POST", b"/v1/x", SMUGGLED),),
        "it is a body, as long as it says",
    ),
    Passed(
        "request after an empty body",
        POST + b"Content-Length: 0\r\n\r\n" + SMUGGLED,
        (EMPTY, (b"GET", b"/smuggled", b"")),
        "the client's own second request, judged by itself",
    ),
    Passed("bare LF", (GET + b"\r\n").replace(b"\r\n", b"\n"), (ASKED,), "written anew with CR LF"),
    Passed("bare LF between headers", GET + b"X-A: a\nX-B: b\r\n\r\n", (ASKED,), "two headers here and behind"),
    Passed("line ends before the request", b"\r\n\r\n" + GET + b"\r\n", (ASKED,), "as RFC 9112 wants it"),
    Passed("absolute form", _requested(b"GET http://evil.example/v1/x HTTP/1.1"), (ASKED,), "Host alone counts"),
    Passed(
        "absolute form with another scheme",
        _requested(b"GET https://evil.example/v1/x HTTP/1.1"),
        (ASKED,),
        "the scheme is the connection's",
    ),
    Passed("asterisk with OPTIONS", _requested(b"OPTIONS * HTTP/1.1"), ((b"OPTIONS", b"*", b""),), "no credential"),
    Passed("fragment in the target", _requested(b"GET /v1/x#y HTTP/1.1"), (ASKED,), "not passed on"),
    Passed(
        "offer of h2c",
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
        (ASKED,),
        "ignored, the offer is not passed on",
    ),
    Passed("HTTP/1.0", _requested(b"GET /v1/x HTTP/1.0"), (ASKED,), "HTTP/1.1 behind"),
    Passed(
        "two requests at once",
        GET + b"\r\n" + (GET + b"\r\n").replace(b"/v1/x", b"/v1/y"),
        (ASKED, (b"GET", b"/v1/y", b"")),
        "judged one by one",
    ),
]
