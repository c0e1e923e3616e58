"""How New API reads the key of a request: every carrier, its precedence and its clean-up.

A reading of New API's ``TokenAuth``; the last non-empty carrier wins:
mj-api-secret (fallback) < Authorization < Sec-WebSocket-Protocol < x-api-key < query ``key`` < x-goog-api-key.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from benchmarks.stub.requests import RecordedRequest

_PROTOCOL_ITEM = b"openai-insecure-api-key"
_PLACEHOLDER = b"midjourney-proxy"
# What Go's unicode.IsSpace knows; str.strip() without it would also take U+001C to U+001F.
_GO_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class PresentedKey(NamedTuple):
    """``text`` without scheme and ``sk-``; ``suffix``: it came as ``KEY-<channel>``, which is for administrators."""

    text: bytes
    suffix: bool


def presented_key(request: RecordedRequest) -> PresentedKey:
    value = _last_carrier(request)
    text = _after_scheme(value)
    if text in (b"", _PLACEHOLDER):
        text = _after_scheme(request.first.get(b"mj-api-secret", b""))
    text, dash, _ = text.removeprefix(b"sk-").partition(b"-")
    return PresentedKey(text, suffix=bool(dash))


def _last_carrier(request: RecordedRequest) -> bytes:
    first, path = request.first, request.path
    value = first.get(b"authorization", b"")
    if protocols := first.get(b"sec-websocket-protocol", b""):
        value = b"Bearer " + _protocol_key(protocols)
    if (key := first.get(b"x-api-key", b"")) and ("/v1/messages" in path or "/v1/models" in path):
        value = b"Bearer " + key
    if path.startswith(("/v1beta/models", "/v1beta/openai/models", "/v1/models/")):
        if key := first_query_value(request.query, b"key"):
            value = b"Bearer " + key
        if key := first.get(b"x-goog-api-key", b""):
            value = b"Bearer " + key
    return value


def _protocol_key(protocols: bytes) -> bytes:
    """The key item, or else the whole header value: New API takes that for the key."""
    for item in map(_trim, protocols.split(b",")):
        if item.startswith(_PROTOCOL_ITEM):
            return item.removeprefix(_PROTOCOL_ITEM + b".")
    return protocols


def _after_scheme(value: bytes) -> bytes:
    if value.startswith((b"Bearer ", b"bearer ")):
        return _trim(value[7:])
    return value


def _trim(value: bytes) -> bytes:
    if value.isalnum():
        return value
    return value.decode("utf-8", "surrogateescape").strip(_GO_SPACE).encode("utf-8", "surrogateescape")


def first_query_value(query: bytes, name: bytes) -> bytes:
    """The first value as Go's ``url.ParseQuery`` gives it: a pair with ``;`` or a bad escape does not count."""
    for pair in query.split(b"&"):
        if b";" in pair or _BAD_ESCAPE.search(pair):
            continue
        key, _, value = pair.partition(b"=")
        if _unescape(key) == name:
            return _unescape(value)
    return b""


def _unescape(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


class KeyRing:
    """Which keys the stub accepts: exact bytes, as SQLite and PostgreSQL compare them."""

    def __init__(self, keys: Iterable[str], *, any_key: bool = False) -> None:
        self._keys = frozenset(key.removeprefix("sk-").encode() for key in keys)
        self._any_key = any_key

    def accepts(self, key: PresentedKey) -> bool:
        return bool(key.text) if self._any_key else key.text in self._keys
