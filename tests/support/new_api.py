"""The upstream's side, re-stated for tests: raw bytes of a request in, the model key that the upstream would use out.

Written from ``new-api-auth`` alone (section numbers below are that document's) and sharing nothing with `proxy_core`,
so that one misunderstanding cannot be on both sides. What it does not know for certain it decides against Sentinel:
every route that is not certainly a dashboard's takes model keys, in every way that any version has.
"""

import enum
import re
from typing import NamedTuple

_SPACE_POINTS = (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F)
SPACES = tuple(chr(point).encode() for point in (*_SPACE_POINTS, 0x3000))
"""What Go's ``unicode.IsSpace`` takes for white space, in UTF-8 (section 3.3)."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_PLACEHOLDER = b"midjourney-proxy"
_ITEM = b"openai-insecure-api-key"

_MIDJOURNEY = re.compile(rb"/(?:[^/]*/)?mj/(?:submit|task|insight-face|notify)(?:/.*)?", re.DOTALL)  # section 4.2
_IMAGE = re.compile(rb"/(?:[^/]*/)?mj/image/[^/]+")
_VIDEO_CONTENT = re.compile(rb"/v1/videos/[^/]+/content")


class Version(enum.Enum):
    """The states of the sources that section 0 cites, then the two simpler profiles."""

    OLD = "[C]"
    MAIN = "[H]"
    NEW = "[N]"
    ONE_API = "[1]"
    OPENAI = "openai"


NEW_API_VERSIONS = (Version.OLD, Version.MAIN, Version.NEW)


class BadRequest(Exception):
    """Go's server answers 400 before any handler runs (section 3.1 step 0)."""


class Request(NamedTuple):
    """A request as Go's handlers see it: the path decoded once, header names in lower case, all lines of each."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, list[bytes]]

    def first(self, name: bytes) -> bytes:
        """Go's ``Header.Get``: the first line, also when it is empty."""
        return self.headers.get(name, [b""])[0]


# -- Go's server (section 3.1 step 0, appendix A)


def parse(raw: bytes) -> Request:
    """Reads a request head as ``net/http`` does. Raises BadRequest."""
    head, end, _ = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    if not end:
        raise BadRequest("no end of the head")
    start, *lines = head.split(b"\n")
    words = start.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or _TOKEN.fullmatch(words[0]) is None:
        raise BadRequest("request line")
    path, query = _split_target(words[1])
    headers: dict[bytes, list[bytes]] = {}
    for name, value in _unfolded(lines):
        headers.setdefault(name.lower(), []).append(value)
    if len(headers.get(b"host", ())) != 1 and words[2] == b"HTTP/1.1":
        raise BadRequest("host")
    return Request(words[0], path, query, headers)


def _split_target(target: bytes) -> tuple[bytes, bytes]:
    if re.search(rb"[\x00-\x20\x7f]", target):
        raise BadRequest("control byte in the target")
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :] or b"/"
    elif not target.startswith(b"/") and target != b"*":
        raise BadRequest("target")
    path, _, query = target.partition(b"?")  # a raw # is part of either (section 3.5)
    if _BAD_ESCAPE.search(path):
        raise BadRequest("escape in the path")
    return _unescape(path), query


def _unfolded(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not pairs:
                raise BadRequest("folded first line")
            name, value = pairs.pop()
            pairs.append((name, (value + b" " + line.strip(b" \t")).strip(b" \t")))
            continue
        name, colon, value = line.partition(b":")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise BadRequest("header name")
        pairs.append((name, value.strip(b" \t")))
    if any(_CONTROL.search(value) for _, value in pairs):
        raise BadRequest("control byte in a header value")
    return pairs


def _unescape(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text)


def query_values(query: bytes, name: bytes) -> list[bytes]:
    """Go's ``url.ParseQuery``: pairs with ``;`` or a malformed escape are dropped, blank values kept (section 2.3)."""
    values = []
    for pair in query.split(b"&"):
        if b";" in pair or _BAD_ESCAPE.search(pair):
            continue
        key, _, value = pair.replace(b"+", b" ").partition(b"=")
        if _unescape(key) == name:
            values.append(_unescape(value))
    return values


def first_query_value(query: bytes, name: bytes) -> bytes:
    return next(iter(query_values(query, name)), b"")


def trim_space(text: bytes) -> bytes:
    """Go's ``strings.TrimSpace``: Unicode white space at both ends; bytes that are no UTF-8 end it."""
    while found := next((space for space in SPACES if text.startswith(space)), None):
        text = text[len(found) :]
    while found := next((space for space in SPACES if text.endswith(space)), None):
        text = text[: -len(found)]
    return text


# -- TokenAuth (sections 2.1, 2.2, 3.1)


def token_auth(request: Request, version: Version, path: bytes | None = None) -> bytes:
    """The text that ``TokenAuth`` looks up as a key; ``b""`` is "not provided". Not every text is anybody's key."""
    if version is Version.OPENAI:
        scheme, _, token = request.first(b"authorization").partition(b" ")
        return token.strip(b" ") if scheme.lower() == b"bearer" else b""
    if version is Version.ONE_API:
        return _piece(request.first(b"authorization").removeprefix(b"Bearer "))
    value = _after_scheme(_last_carrier(request, version, request.path if path is None else path), version)
    if value in (b"", _PLACEHOLDER):
        value = _after_scheme(request.first(b"mj-api-secret"), version)
    return _piece(value)


def _last_carrier(request: Request, version: Version, path: bytes) -> bytes:
    value = request.first(b"authorization")
    protocol_key = _protocol_key(request, version)
    if protocol_key is not None:
        value = b"Bearer " + protocol_key
    contains = [b"/v1/messages"] if version is Version.OLD else [b"/v1/messages", b"/v1/models"]
    if any(part in path for part in contains) and (key := request.first(b"x-api-key")):
        value = b"Bearer " + key
    if version is not Version.OLD and (
        path.startswith((b"/v1beta/models", b"/v1beta/openai/models", b"/v1/models/"))
        or (version is Version.NEW and path == b"/v1/models")
    ):
        if key := first_query_value(request.query, b"key"):
            value = b"Bearer " + key
        if key := request.first(b"x-goog-api-key"):
            value = b"Bearer " + key
    return value


def _protocol_key(request: Request, version: Version) -> bytes | None:
    """What ``Sec-WebSocket-Protocol`` overwrites ``Authorization`` with; None if it does not (section 2.1 row 2)."""
    if version is Version.NEW:
        items = [trim_space(item) for item in b",".join(request.headers.get(b"sec-websocket-protocol", ())).split(b",")]
        keys = (item.removeprefix(_ITEM + b".") for item in items if item.startswith(_ITEM + b"."))
        return next((key for key in keys if key), None)
    whole = request.first(b"sec-websocket-protocol")
    if not whole:
        return None
    items = [trim_space(item) for item in whole.split(b",")]
    return next((item.removeprefix(_ITEM + b".") for item in items if item.startswith(_ITEM)), whole)


def _after_scheme(value: bytes, version: Version) -> bytes:
    """Section 3.1 step 2; before 2025-12-24 only the exact scheme, and no trimming."""
    if version is Version.OLD:
        return value.removeprefix(b"Bearer ")
    return trim_space(value[7:]) if value.startswith((b"Bearer ", b"bearer ")) else value


def _piece(value: bytes) -> bytes:
    return value.removeprefix(b"sk-").partition(b"-")[0]


# -- which reader a path reaches (sections 2.1, 4.2, 6.1)


def takes_model_keys(method: bytes, path: bytes, version: Version) -> bool:
    """Whether a route may charge a model key; every path does that is not certainly a dashboard's or public."""
    if version is Version.OPENAI:
        return True
    if version is Version.ONE_API:
        return not path.startswith(b"/api/")
    if path.rstrip(b"/") in (b"/api/usage/token", b"/api/log/token") or _MIDJOURNEY.fullmatch(path):
        return True
    if path.startswith(b"/api/") or path in (b"/api", b"/pg/chat/completions"):
        return False
    return not (method == b"GET" and _IMAGE.fullmatch(path))


def keys(request: Request, version: Version) -> dict[str, bytes]:
    """Every reader of a model key that the request reaches in this version, with the text that it would look up.

    Readers that find nothing are left out. The second parses of section 2.1 are readers of their own.
    """
    path = request.path
    if not takes_model_keys(request.method, path, version):
        return {}
    found: dict[str, bytes] = {}
    if version not in NEW_API_VERSIONS:
        found["TokenAuth"] = token_auth(request, version)
    elif path.rstrip(b"/") in (b"/api/usage/token", b"/api/log/token"):
        authorization = request.first(b"authorization")
        found["TokenAuthReadOnly"] = _piece(_after_scheme(authorization, version))
        parts = authorization.split(b" ")
        if path.startswith(b"/api/usage") and len(parts) == 2 and parts[0].lower() == b"bearer":
            found["GetTokenUsage"] = parts[1].removeprefix(b"sk-")
        if path.startswith(b"/api/log") and version is not Version.NEW:
            found["GetLogByKey"] = first_query_value(request.query, b"key").removeprefix(b"sk-")
    else:
        found["TokenAuth"] = token_auth(request, version)
        if _VIDEO_CONTENT.fullmatch(path) and b"." in found["TokenAuth"]:
            del found["TokenAuth"]  # a dashboard's JWT (section 6.3: a real one has a dot before its first hyphen)
        if path.startswith(b"/jimeng"):  # the body chooses the path that TokenAuth sees
            chosen = b"/v1/video/generations/x/v1/messages/v1/models"
            found["TokenAuth after Jimeng"] = token_auth(request, version, chosen)
    return {reader: key for reader, key in found.items() if key}


def is_midjourney_call(path: bytes) -> bool:
    """Section 4.2: any first segment, also an empty one, leads to Midjourney's billable routes."""
    return _MIDJOURNEY.fullmatch(path) is not None
