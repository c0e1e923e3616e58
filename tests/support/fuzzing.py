"""Requests that nobody thought of: kept ones, changed at random, against the three parsers and the re-stated upstream.

``python -m tests.support.fuzzing SECONDS`` (``make fuzz``) tries for that long and writes what breaks a promise to
``tests/corpus``, where every test run tries it again. A file is a request head as a client sends it; a line
``:peer: ADDRESS`` names the TCP peer, which otherwise is the trusted proxy.

The promises: the address is the one that somebody trusted vouched for, by the C library's reading of it; what goes
upstream is one request by llhttp, and holds the one key that Sentinel enforced, or none, for every reader of every
version (`tests.support.walk`); whatever else was sent is refused with a status of ours.
"""

import hashlib
import ipaddress
import random
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

import httptools

from proxy_core.client_ip import ClientAddressReader
from proxy_core.contracts import UpstreamProfile
from proxy_core.credentials import Credentials
from proxy_core.errors import RequestRefused
from tests.support.walk import SECRET, Passed, assert_only_this_key, walk

CORPUS = Path(__file__).parents[1] / "corpus"
PROXY = "127.0.0.1"
TRUSTED = ClientAddressReader([ipaddress.ip_network(f"{PROXY}/32"), ipaddress.ip_network("10.0.0.0/8")])
CREDENTIALS = [
    Credentials(SECRET, profile, allow_channel_suffix=pins) for profile in UpstreamProfile for pins in (False, True)
]
OUR_STATUSES = (400, 401, 431)
LONGEST_BYTES = 2000
POOL_MAX = 2000

PARTS = [
    *(b"Authorization: ", b"x-api-key: ", b"X-Goog-Api-Key: ", b"mj-api-secret: ", b"Sec-WebSocket-Protocol: "),
    *(b"Bearer ", b"bearer\t", b"sk-", b"midjourney-proxy", b"openai-insecure-api-key."),
    *(b"realtime, ", b"?key=", b"&key=", b"%6b%65%79=", b"%20", b"+"),
    *(b"%00", b"%2f", b";", b",", b"-12", b"\xc2\xa0", b"\xe3\x80\x80", b"\xe2\x80\x8b"),
    *(b"Connection: ", b"close", b"upgrade", b"Upgrade: websocket", b"Content-Length: ", b"Transfer-Encoding: chunked"),
    *(b"Host: ", b"X-Real-IP: ", b"X-Forwarded-For: ", b"x_real_ip: ", b"::ffff:203.0.113.7", b"203.0.113.7", b"::1"),
    *(b":peer: 198.51.100.1", b":peer: fe80::1%eth0", b"Expect: 100-continue", b"anthropic-version: 1"),
    *(b"\r\n", b"\t", b" ", b"/v1/messages", b"/v1/models", b"/v1beta/models/g:gc", b"/mj/submit/imagine"),
    *(b"/api/log/token", b"/api/user/self"),
    *(b"GET ", b"POST ", b"OPTIONS ", b"\0", b"\x7f", b"\n", b"Vv1Vv1Vv1Vv1", b"eyJh.eyJp.c2ln", b"https", b"*", b"//"),
]  # fmt: skip


class Request(NamedTuple):
    """A head as a server hands it on: names in lower case, blanks around values gone."""

    peer: str
    method: str
    path: bytes
    query: bytes
    lines: list[tuple[bytes, bytes]]


def read(raw: bytes) -> Request | None:
    """None where a server would have had no request to hand on."""
    start, *rest = raw.rstrip(b"\r\n").split(b"\r\n")
    words = start.split(b" ")
    if len(words) < 2 or not words[0].isascii():
        return None
    path, _, query = words[1].partition(b"?")
    peer, lines = PROXY, []
    for line in rest:
        name, colon, value = line.partition(b": " if line.startswith(b":peer") else b":")
        if name == b":peer":
            peer = value.decode("latin-1")
        elif colon:
            lines.append((name.lower(), value.strip(b" \t")))
    return Request(peer, words[0].decode(), path, query, lines)


def check(raw: bytes) -> tuple[object, ...]:
    """What became of it, under each profile. Raises whatever a broken promise raises."""
    request = read(raw)
    if request is None:
        return ()
    return (_check_address(request), *(_check_key(credentials, request) for credentials in CREDENTIALS))


def _check_address(request: Request) -> object:
    said = [value for name, value in request.lines if name == b"x-real-ip"]
    trusted = _by_libc(request.peer.encode()) is not None and TRUSTED.is_trusted(request.peer)
    try:
        address = TRUSTED.read(request.peer, said)
    except RequestRefused as refused:
        return _refusal(refused, right=not trusted or len(said) != 1 or _unusable(said[0]))
    source = said[0] if trusted else request.peer.partition("%")[0].encode()
    assert _by_libc(source) == (address.version, address.value)
    assert _by_libc(address.encoded) == (address.version, address.value)
    return address.version, trusted


def _refusal(refused: RequestRefused, *, right: bool = True) -> str:
    assert refused.status in OUR_STATUSES
    assert right
    return refused.detail


def _by_libc(text: bytes) -> tuple[int, int] | None:
    if b"\0" in text or not text.isascii():
        return None
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        try:
            packed = socket.inet_pton(family, text.decode())
        except OSError:
            continue
        mapped = version == 6 and packed.startswith(b"\0" * 10 + b"\xff\xff")
        return (4, int.from_bytes(packed[12:])) if mapped else (version, int.from_bytes(packed))
    return None


def _unusable(text: bytes) -> bool:
    found = _by_libc(text)
    if found is None:
        return True
    version, value = found
    multicast = value >> 28 == 0xE if version == 4 else value >> 120 == 0xFF
    return value == 0 or multicast or (version == 4 and value == 0xFFFFFFFF)


def _check_key(credentials: Credentials, request: Request) -> object:
    try:
        passed = walk(credentials, request.method, request.path, request.query, request.lines)
    except RequestRefused as refused:
        return _refusal(refused)
    assert_only_this_key(passed, credentials.profile)
    _assert_one_request(passed)
    return passed.route, passed.key is not None, passed.head.upgrade, passed.head.chunked


class _Heads:
    def __init__(self) -> None:
        self.begun = self.complete = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_headers_complete(self) -> None:
        self.complete += 1


def _assert_one_request(passed: Passed) -> None:
    if not passed.raw.split(b" ", 1)[0].isupper():
        return  # llhttp knows methods by name, in capitals
    heads = _Heads()
    try:
        httptools.HttpRequestParser(heads).feed_data(passed.raw)
    except httptools.HttpParserUpgrade:
        assert passed.head.upgrade
    except httptools.HttpParserInvalidMethodError:
        return
    except httptools.HttpParserInvalidURLError:
        assert not passed.raw.split(b" ", 2)[1].isascii()  # which Go reads, and llhttp does not
        return
    assert (heads.begun, heads.complete) == (1, 1)


# -- changing what is known


def kept() -> dict[str, bytes]:
    """The corpus by file name."""
    return {path.name: path.read_bytes() for path in sorted(CORPUS.glob("*.http"))}


def changed(die: random.Random, pool: list[bytes]) -> bytes:
    """A neighbour of one of the pool: a few changes of bytes, known parts or lines."""
    data = bytearray(die.choice(pool))
    for _ in range(die.choice((1, 1, 2, 3, 5))):
        place = die.randint(0, len(data))
        match die.randrange(6):
            case 0:
                data[place : place + 1] = bytes((die.randrange(256),))
            case 1:
                del data[place : place + die.choice((1, 1, 2, 8, 40))]
            case 2 | 3:
                data[place:place] = die.choice(PARTS)
            case 4:
                lines = data.split(b"\r\n")
                lines.insert(die.randint(1, len(lines)), die.choice(die.choice(pool).split(b"\r\n")))
                data = bytearray(b"\r\n".join(lines))
            case _:
                data[place : place + 9] = data[place : place + 9].swapcase()
    return bytes(data[:LONGEST_BYTES])


class Found(NamedTuple):
    """A request that broke a promise, and how."""

    raw: bytes
    fault: Exception


def search(die: random.Random, *, tries: int | None = None, until: float = 0.0) -> tuple[int, Found | None]:
    """So many tries, or until then (`time.monotonic`), or until something breaks. New outcomes are built on."""
    pool = list(kept().values())
    outcomes = {check(raw) for raw in pool}
    done = 0
    while done < tries if tries is not None else time.monotonic() < until:
        raw = changed(die, pool)
        done += 1
        try:
            outcome = check(raw)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is what is searched for
            return done, Found(raw, fault)
        if outcome not in outcomes and len(pool) < POOL_MAX:
            outcomes.add(outcome)
            pool.append(raw)
    return done, None


def main(seconds: float) -> int:
    seed = random.SystemRandom().randrange(2**32)
    done, found = search(random.Random(seed), until=time.monotonic() + seconds)
    sys.stderr.write(f"{done} requests tried (seed {seed})\n")
    if found is None:
        return 0
    path = CORPUS / f"found-{hashlib.sha256(found.raw).hexdigest()[:12]}.http"
    path.write_bytes(found.raw)
    sys.stderr.write(f"{path}: {type(found.fault).__name__}: {found.fault}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
