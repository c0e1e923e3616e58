"""Header lists: the client's request head taken apart, the upstream's request head written anew, the answer's cleaned.

Where it stands in the walk: `handler` brings what ASGI gave it here first, and comes back with the verdict in hand to
have the head for the upstream serialised. Nothing of the client's head is copied as a block: every line is either one
of `RequestHead.kept`, unchanged, or made here.

Rules for whoever edits this file:

- It runs for every request. One dictionary look-up per header line decides what becomes of it; no line is decoded.
- Refuse rather than repair: what two parsers could read differently (framing, host, control bytes) is never forwarded.
- A name that a server may fold into one of ours (``x_real_ip``) is dropped like ours (Fabio CVE-2025-48865).
- ``Connection`` is obeyed before credentials are read, so that what was checked is what is sent, and it cannot name
  what the trusted proxy in front wrote (Traefik CVE-2024-45410).
"""

import re
from typing import Final

from proxy_core.contracts import ClientAddress, HeaderList, Reason, RequestHead, RequestLimits
from proxy_core.errors import RequestRefused

KEEP: Final = 0
DROP: Final = 1
TAKE: Final = 2  # read here, made anew for the upstream or left out
NOTE: Final = 3  # read here and forwarded as it came

CARRIERS = (b"authorization", b"x-api-key", b"x-goog-api-key", b"mj-api-secret", b"sec-websocket-protocol")
_FRAMING = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect")
_ADDRESSES = (
    b"forwarded",
    b"x-forwarded",
    b"forwarded-for",
    b"x-original-forwarded-for",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"cf-connecting-ipv6",
    b"fastly-client-ip",
)
_HOP_BY_HOP = (b"keep-alive", b"te", b"trailer", b"proxy", b"http2-settings")
_HANDSHAKE = (b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-accept")
_DROPPED_FAMILIES = (b"proxy-", b"x-forwarded-")

# No version of the upstream reads `api-key` (Azure's carrier), but forks do, and clients put model keys into it.
_SPECIAL: Final[dict[bytes, int]] = {
    **dict.fromkeys((*_ADDRESSES, *_HOP_BY_HOP, *_HANDSHAKE, b"api-key"), DROP),
    **dict.fromkeys((*CARRIERS, *_FRAMING, b"x-real-ip", b"x-forwarded-proto", b"x-request-id"), TAKE),
    **dict.fromkeys((b"user-agent", b"anthropic-version"), NOTE),
}
_MEMO_NAMES = 2048
_MEMO_NAME_BYTES = 64
_actions: Final[dict[bytes, int]] = dict(_SPECIAL)

_PROTECTED = frozenset((b"x-real-ip", b"x-forwarded-proto", b"host", b"content-length", b"transfer-encoding"))
_CONNECTION_OPTIONS: Final[dict[bytes, frozenset[bytes]]] = {
    b"keep-alive": frozenset(),
    b"Keep-Alive": frozenset(),
    b"close": frozenset(),
    b"upgrade": frozenset((b"upgrade",)),
    b"Upgrade": frozenset((b"upgrade",)),
}

_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_BLANKS = b" \t"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_HOST = re.compile(rb"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[0-9A-Za-z._:-]{1,128}")
_MAX_LENGTH_DIGITS = 18
_MAX_NAME_BYTES = 256
_DEFAULT_LIMITS = RequestLimits()


def read_request_head(headers: HeaderList, limits: RequestLimits = _DEFAULT_LIMITS) -> RequestHead:
    """Takes a client's header lines apart.

    Raises RequestRefused (400 ``malformed_request``, or 431 ``headers_too_large`` beyond the limits).
    """
    joined = b"".join([line[1] for line in headers])
    if len(headers) > limits.headers_max_count or len(joined) > limits.headers_max_bytes:
        raise RequestRefused(431, Reason.HEADERS_TOO_LARGE, "")
    # Names are counted only where they could matter: none is longer than `_MAX_NAME_BYTES`.
    if len(joined) + len(headers) * _MAX_NAME_BYTES > limits.headers_max_bytes:
        _count_names(headers, limits.headers_max_bytes - len(joined))
    if len(joined.translate(None, _CONTROLS)) != len(joined):
        raise _malformed("a header value contains a control character")
    kept: list[tuple[bytes, bytes]] = []
    taken: dict[bytes, list[bytes]] = {}
    for line in headers:
        name, value = line
        action = _actions.get(name)
        if action is None:
            action = _action_for(name)
        if action == KEEP:
            kept.append(line)
        elif action != DROP:
            if name in taken:
                taken[name].append(value)
            else:
                taken[name] = [value]
            if action == NOTE:
                kept.append(line)
    options: frozenset[bytes] = frozenset()
    if b"connection" in taken:
        options = _connection_options(taken[b"connection"])
        if options:
            kept = _without_listed(options, kept, taken)
    return _assemble(kept, taken, upgrade_listed=b"upgrade" in options)


def write_request_head(
    method: str,
    target: bytes,
    head: RequestHead,
    *,
    credential: HeaderList,
    address: ClientAddress,
    scheme: bytes,
    request_id: bytes,
    websocket_key: bytes = b"",
    default_host: bytes = b"localhost",
) -> bytes:
    """The HTTP/1.1 request head for the upstream, with exactly one framing.

    ``target`` and ``credential`` come from `Credentials.rewrite`, ``method`` passed `Routes.classify`. A
    ``websocket_key`` makes it an opening handshake. ``default_host`` stands in where the client sent no Host.
    """
    parts = [method.encode(), b" ", target, b" HTTP/1.1\r\nhost: ", head.host or default_host]
    for name, value in head.kept:
        parts += (b"\r\n", name, b": ", value)
    for name, value in credential:
        parts += (b"\r\n", name, b": ", value)
    encoded = address.encoded
    parts += (b"\r\nx-forwarded-for: ", encoded, b"\r\nx-real-ip: ", encoded)
    parts += (b"\r\nx-forwarded-proto: ", scheme, b"\r\nx-request-id: ", request_id)
    if websocket_key:
        parts += (b"\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13",)
        parts += (b"\r\nsec-websocket-key: ", websocket_key)
    elif head.chunked:
        parts.append(b"\r\ntransfer-encoding: chunked")
    elif head.content_length is not None:
        parts.append(b"\r\ncontent-length: %d" % head.content_length)
    if head.expect_continue and not websocket_key:
        parts.append(b"\r\nexpect: 100-continue")
    parts.append(b"\r\n\r\n")
    return b"".join(parts)


_RESPONSE_DROPPED: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authentication-info"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length"),
        b"x-sentinel-request-id",  # ours, also when another Sentinel stands behind this one
    )
)


def response_headers(raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The upstream's header lines, whose names are in lower case, as the client may have them: end-to-end ones.

    ``Content-Length`` stays only if it is the one thing that frames the body; otherwise the server chunks.
    """
    passed: list[tuple[bytes, bytes]] = []
    framing: list[bytes] = []
    listed: list[bytes] = []
    chunked = False
    for line in raw:
        name = line[0]
        if name not in _RESPONSE_DROPPED:
            passed.append(line)
        elif name == b"content-length":
            framing.append(line[1])
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"connection":
            listed.append(line[1])
    if listed and (options := _connection_options(listed)):
        passed = [line for line in passed if line[0] not in options]
    if len(framing) == 1 and not chunked and framing[0].isdigit():
        passed.append((b"content-length", framing[0]))
    return passed


def client_scheme(head: RequestHead, *, peer_is_trusted: bool, own: bytes) -> bytes:
    """The scheme that the client used: what a trusted proxy says, if it says it once and plainly, else ``own``."""
    said = head.forwarded_proto
    if peer_is_trusted and len(said) == 1 and said[0] in (b"http", b"https"):
        return said[0]
    return own


# -- the parts of reading


def _count_names(headers: HeaderList, left_bytes: int) -> None:
    if sum(len(name) for name, _ in headers) > left_bytes:
        raise RequestRefused(431, Reason.HEADERS_TOO_LARGE, "")


def _assemble(kept: list[tuple[bytes, bytes]], taken: dict[bytes, list[bytes]], *, upgrade_listed: bool) -> RequestHead:
    get = taken.get
    length, chunked = _framing(get(b"content-length"), get(b"transfer-encoding"))
    hosts = get(b"host")
    if hosts is not None and (len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None):
        raise _malformed("the Host header is repeated or no host")
    agents = get(b"user-agent")
    request_ids = get(b"x-request-id")
    upgrade = _upgrade(get(b"upgrade", ())) if upgrade_listed else b""
    if upgrade and (length or chunked):
        # The handshake is written without framing: a body after it would be read as the next request.
        raise _malformed("a WebSocket handshake has a body")
    return RequestHead(
        kept,
        hosts[0] if hosts is not None else b"",
        get(b"authorization", ()),
        get(b"x-api-key", ()),
        get(b"x-goog-api-key", ()),
        get(b"mj-api-secret", ()),
        get(b"sec-websocket-protocol", ()),
        get(b"x-real-ip", ()),
        get(b"x-forwarded-proto", ()),
        length,
        chunked,
        b"expect" in taken and _expects_continue(taken[b"expect"]),
        upgrade,
        agents[0] if agents is not None else b"",
        b"anthropic-version" in taken,
        request_ids[0] if request_ids is not None and _REQUEST_ID.fullmatch(request_ids[0]) is not None else b"",
    )


def _framing(lengths: list[bytes] | None, encodings: list[bytes] | None) -> tuple[int | None, bool]:
    """How the request body is delimited. Anything that a second parser could read otherwise is refused."""
    if encodings is not None:
        if lengths is not None:
            raise _malformed("Content-Length and Transfer-Encoding contradict each other")
        if len(encodings) != 1 or encodings[0].lower() != b"chunked":
            raise _malformed("Transfer-Encoding is not exactly chunked")
        return None, True
    if lengths is None:
        return None, False
    length = lengths[0]
    if len(lengths) != 1 or not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
        raise _malformed("Content-Length is not one plain number")
    return int(length), False


def _expects_continue(expectations: list[bytes]) -> bool:
    if len(expectations) != 1 or expectations[0].lower() != b"100-continue":
        raise _malformed("Expect is not 100-continue")
    return True


def _upgrade(protocols: list[bytes] | tuple[()]) -> bytes:
    """Only WebSocket is upgraded to; any other offer may be ignored (RFC 9110 7.8), and h2c would tunnel past us."""
    return b"websocket" if len(protocols) == 1 and protocols[0].lower() == b"websocket" else b""


def _connection_options(lines: list[bytes]) -> frozenset[bytes]:
    if len(lines) == 1:
        common = _CONNECTION_OPTIONS.get(lines[0])
        if common is not None:
            return common
    return frozenset(option.strip(_BLANKS).lower() for line in lines for option in line.split(b","))


def _without_listed(
    options: frozenset[bytes], kept: list[tuple[bytes, bytes]], taken: dict[bytes, list[bytes]]
) -> list[tuple[bytes, bytes]]:
    """Removes from ``taken`` what ``Connection`` lists and gives what is left of ``kept``."""
    for option in options & taken.keys():
        if option not in _PROTECTED and option != b"upgrade":
            del taken[option]
    return [line for line in kept if line[0] not in options]


def _action_for(name: bytes) -> int:
    """What becomes of a header whose name was not seen before; remembered, since names are few."""
    if len(name) > _MAX_NAME_BYTES:
        raise RequestRefused(431, Reason.HEADERS_TOO_LARGE, "")
    if _TOKEN.fullmatch(name) is None:
        raise _malformed("a header name is not a token in lower case")
    folded = name.replace(b"_", b"-")
    action = DROP if folded.startswith(_DROPPED_FAMILIES) or (folded != name and folded in _SPECIAL) else KEEP
    if len(name) <= _MEMO_NAME_BYTES:
        if len(_actions) >= _MEMO_NAMES:
            _actions.clear()
            _actions.update(_SPECIAL)
        _actions[name] = action
    return action


def _malformed(detail: str) -> RequestRefused:
    return RequestRefused(400, Reason.MALFORMED_REQUEST, detail)
