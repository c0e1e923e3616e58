"""Credentials: the one model key that a request carries, its identity, and what the upstream gets in its place.

Where it stands in the walk: after `headers` took the head apart and `routes` said what the path means. `read` gives a
key or none, `identify` what is kept of it, `rewrite` the only credential bytes that the upstream will see.

Rules for whoever edits this file (``new-api-auth`` is the specification):

- Extract → decide → rewrite. Which carrier the upstream reads depends on its version, the decoded path, the body and
  the database's collation. None of that is imitated: every value of every carrier is read on every path, all must name
  the same key, all are deleted, and one credential made here is sent.
- A value is a key by a strict ASCII grammar, or it is not forwarded on a key route. No trimming of Unicode white space,
  no repairing: MySQL takes full-width letters, ``KEY`` + U+200B and ``key`` for the same token.
- The identity folds letter case, for the same reason; what is sent keeps the client's spelling.
- Where Go and others parse a query differently, the parameter is taken for a carrier and removed under either reading.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from proxy_core.contracts import KeyIdentity, ModelKey, Reason, RequestHead, Route, UpstreamProfile
from proxy_core.errors import RequestRefused
from proxy_core.routes import Routes

PLACEHOLDER: Final = b"midjourney-proxy"  # "no key here, look at mj-api-secret", in any carrier
PROTOCOL_KEY: Final = b"openai-insecure-api-key"  # [H] looks for this prefix without its dot, so do we
GENERATED_KEY_CHARACTERS: Final = 48
HINT_CHARACTERS = 4
SHA256_BLOCK_BYTES = 64

_BLANKS = b" \t"
_SCHEME = re.compile(rb"bearer(?:[ \t]+|\Z)", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_JWT = re.compile(rb"eyJ[0-9A-Za-z_-]*\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+")
_NEVER_IN_TARGETS = bytes((*range(0x21), 0x7F))
# What some database or trimming rule behind us may ignore at the edges of a value.
_IGNORABLE = bytes((*range(0x21), 0x7F, *range(0x80, 0x100)))


class Rewritten(msgspec.Struct, frozen=True, gc=False):
    """What goes to the upstream in place of the client's carriers: credential headers, and the target without any."""

    headers: list[tuple[bytes, bytes]]
    target: bytes

    def __repr__(self) -> str:
        return "Rewritten(…)"


class Credentials:
    """Reads, identifies and rewrites the credentials of one upstream profile's requests.

    ``extra_key_characters`` widens the grammar for keys that an operator imported; ``allow_channel_suffix`` lets
    administrators' keys pin a channel (``sk-KEY-12``). Raises ValueError for characters that would break the grammar.
    """

    def __init__(
        self,
        secret: bytes,
        profile: UpstreamProfile,
        extra_key_characters: str = "",
        allow_channel_suffix: bool = False,
    ) -> None:
        unfit = [c for c in extra_key_characters if not "!" <= c <= "~" or c in "-,;%&="]
        if unfit:
            raise ValueError(f"extra key characters cannot include {' '.join(map(ascii, unfit))}")
        letters = b"[0-9A-Za-z" + re.escape(extra_key_characters.encode()) + b"]"
        suffix = b"(-[0-9]{1,10})?" if allow_channel_suffix else b"()"
        if profile is UpstreamProfile.OPENAI:
            # Nobody cuts these keys at a hyphen or takes their prefix off: the whole of `sk-proj-…` is the key.
            letters, suffix, self._prefix = letters[:-1] + b"_-]", b"()", b""
            bare = rb"(" + letters + rb"{1,256}+)" + suffix
        else:
            self._prefix = b"sk-"
            bare = rb"(?:sk-)?+(" + letters + rb"{1,128}+)" + suffix
        self._text = re.compile(letters + b"{1,128}")
        self._bare_value = re.compile(bare)
        self._value = re.compile(rb"[ \t]*+(?:[Bb][Ee][Aa][Rr][Ee][Rr][ \t]++)?+" + bare + rb"[ \t]*+")
        self._many_carriers = profile is UpstreamProfile.NEW_API
        self._inner, self._outer = _hmac_halves(secret)
        self.profile = profile
        self.classify = Routes(profile).classify

    # -- reading

    def read(self, route: Route, method: str, raw_path: bytes, query: bytes, head: RequestHead) -> ModelKey | None:  # noqa: ARG002 - one set of facts for read and rewrite
        """The key that the request is made with, or None. Raises RequestRefused (401, or 400 for two keys)."""
        if route.anonymous:
            return None
        authorization = head.authorization
        if (
            len(authorization) == 1
            and not (head.x_api_key or head.mj_api_secret or head.x_goog_api_key or head.websocket_protocols)
            and not (query and _may_have_key(query))
            and (found := self._value.fullmatch(authorization[0])) is not None
            and route.bound
            and not _is_scheme_alone(found[1])
        ):
            return ModelKey(found[1], found[2] or b"")
        return self._read_all(route, query, head)

    def _read_all(self, route: Route, query: bytes, head: RequestHead) -> ModelKey | None:
        values = [value for value in self._values(query, head) if value and value != PLACEHOLDER]
        if not values:
            return None
        if not route.bound and not any(map(self._is_clearly_a_key, values)):
            return None
        if route.bound and route.session and self._session(head, values):
            return None
        keys = [self._parse(value) for value in values]
        first = keys[0]
        identity = first.text.lower()
        if any(key.text.lower() != identity for key in keys):
            raise RequestRefused(400, Reason.CONFLICTING_CREDENTIALS, "the request carries two different API keys")
        return first

    def _values(self, query: bytes, head: RequestHead) -> Iterator[bytes]:
        """Every value of every carrier, without blanks around it and without its scheme."""
        for value in head.authorization:
            yield _bare(value)
        if self._many_carriers:
            for lines in (head.x_api_key, head.x_goog_api_key, head.mj_api_secret):
                for value in lines:
                    yield _bare(value)
            for value in _split_query(query)[0]:
                yield _bare(value)
        if head.websocket_protocols:
            yield from self._protocol_keys(head)

    def _protocol_keys(self, head: RequestHead) -> Iterator[bytes]:
        """Keys among the subprotocols: the marked items, and any item that is clearly a key, which [H] takes whole."""
        for item in _protocols(head):
            if item.startswith(PROTOCOL_KEY + b"."):
                yield item[len(PROTOCOL_KEY) + 1 :].strip(_BLANKS)
            elif PROTOCOL_KEY in item.lower():
                raise _invalid("the WebSocket subprotocol that carries the API key is malformed")
            elif self._is_clearly_a_key(item):
                yield item
            elif item and head.upgrade and _TOKEN.fullmatch(item) is None:
                raise RequestRefused(400, Reason.MALFORMED_REQUEST, "a WebSocket subprotocol is not a token")

    def _parse(self, value: bytes) -> ModelKey:
        """The key in a value without its scheme; a second scheme is part of the value and no key to the upstream."""
        found = self._bare_value.fullmatch(value)
        if found is None or _is_scheme_alone(found[1]):
            raise _invalid("the API key is malformed")
        return ModelKey(found[1], found[2] or b"")

    def _is_clearly_a_key(self, value: bytes) -> bool:
        """Whether a value on a route without model keys is one all the same (section 6.3): logins never look so."""
        bare = value.strip(_IGNORABLE)
        if bare.startswith(b"sk-"):
            return True
        text = bare.partition(b"-")[0]
        return len(text) == GENERATED_KEY_CHARACTERS and text.isalnum()

    def _session(self, head: RequestHead, values: list[bytes]) -> bool:
        """Whether the only credential is a dashboard's JWT, and no key under any reading (section 6.3)."""
        if len(values) != 1 or len(head.authorization) != 1 or _bare(head.authorization[0]) != values[0]:
            return False
        text = values[0].partition(b"-")[0]
        return _JWT.fullmatch(values[0]) is not None and self._text.fullmatch(text) is None

    # -- identifying

    def fingerprint(self, key: ModelKey) -> bytes:
        """HMAC-SHA256 over the folded key. Two copied hash states take half the time of `hmac.digest`."""
        inner = self._inner.copy()
        inner.update(key.text.lower())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def identify(self, key: ModelKey) -> KeyIdentity:
        """With the hint, which only what is stored or recorded needs."""
        return KeyIdentity(self.fingerprint(key), _hint(key.text.removeprefix(b"sk-")))

    # -- rewriting

    def rewrite(
        self,
        route: Route,
        method: str,  # noqa: ARG002 - one set of facts for read and rewrite
        raw_path: bytes,
        query: bytes,
        head: RequestHead,
        key: ModelKey | None,
    ) -> Rewritten:
        """What replaces the carriers, for the ``key`` that `read` gave for this very request.

        Raises RequestRefused (400 ``malformed_request``) for a query that cannot stand in a request line.
        """
        kept, in_query = query, False
        if query:
            if len(query.translate(None, _NEVER_IN_TARGETS)) != len(query):
                raise RequestRefused(400, Reason.MALFORMED_REQUEST, "the query contains a space or control character")
            if (route.bound or route.anonymous or key is not None) and _may_have_key(query):
                values, kept = _split_query(query)
                in_query = any(values)
        target = raw_path + b"?" + kept if kept else raw_path
        if key is None:
            return Rewritten(_login(head) if route.session else [], target)
        secret = self._prefix + key.text + key.suffix if route.pins_channel else self._prefix + key.text
        headers = [(b"authorization", b"Bearer " + secret)]
        if route.lists_models and self._many_carriers:
            if any(head.x_api_key):
                headers.append((b"x-api-key", secret))
            if in_query or any(head.x_goog_api_key):
                headers.append((b"x-goog-api-key", secret))
        if head.upgrade and head.websocket_protocols:
            protocols = self._rewritten_protocols(head, secret)
            if protocols:
                headers.append((b"sec-websocket-protocol", protocols))
        return Rewritten(headers, target)

    def _rewritten_protocols(self, head: RequestHead, secret: bytes) -> bytes:
        """The offered subprotocols with one key item: [H] takes the whole value for a key if there is none."""
        ours = PROTOCOL_KEY + b"." + secret
        offered: list[bytes] = []
        for item in _protocols(head):
            if PROTOCOL_KEY in item.lower():
                if ours not in offered:
                    offered.append(ours)
            elif item and not self._is_clearly_a_key(item):
                offered.append(item)
        if offered and ours not in offered and self._many_carriers:
            offered.append(ours)
        return b", ".join(offered)


def selected_protocol(sent: Rewritten, selected: list[bytes]) -> str | None:
    """The subprotocol that the client may be told of, of what the upstream ``selected`` (its header lines).

    The item with the key is never told, not even to whoever sent it: answers are logged on the way, and the client may
    have offered the key in another spelling or not at all. Raises ValueError for a subprotocol that was not offered,
    which no client's library would accept either.
    """
    if not selected:
        return None
    protocol = selected[0].strip(_BLANKS)
    if PROTOCOL_KEY in protocol.lower():
        return None
    offered = next((value for name, value in sent.headers if name == b"sec-websocket-protocol"), b"")
    if len(selected) != 1 or protocol not in offered.split(b", "):
        raise ValueError("the upstream selected a subprotocol that was not offered")
    return protocol.decode("latin-1")


def _login(head: RequestHead) -> list[tuple[bytes, bytes]]:
    """A dashboard's ``Authorization`` as it came: the first line, the only one that the upstream reads."""
    first = head.authorization[0] if head.authorization else b""
    return [(b"authorization", first)] if _bare(first) not in (b"", PLACEHOLDER) else []


def _bare(value: bytes) -> bytes:
    """A value without blanks and scheme; a scheme without a value stays, so that it is refused and not overlooked."""
    value = value.strip(_BLANKS)
    scheme = _SCHEME.match(value)
    return value[scheme.end() :] or value if scheme is not None else value


def _is_scheme_alone(text: bytes) -> bool:
    return len(text) == len(b"bearer") and text.lower() == b"bearer"


def _protocols(head: RequestHead) -> Iterator[bytes]:
    for line in head.websocket_protocols:
        for item in line.split(b","):
            yield item.strip(_BLANKS)


def _may_have_key(query: bytes) -> bool:
    return b"key" in query or b"%" in query


def _split_query(query: bytes) -> tuple[list[bytes], bytes]:
    """The decoded values of all ``key`` parameters, and the query without them, byte for byte.

    A part with ``;`` counts under both readings, as one parameter (and Go drops it) and as several.
    """
    if not query or not _may_have_key(query):
        return [], query
    values: list[bytes] = []
    kept: list[bytes] = []
    for part in query.split(b"&"):
        found = [_decoded(pair) for pair in (part, *part.split(b";")) if _is_key_parameter(pair)]
        if found:
            values += found if b";" in part else found[:1]
        else:
            kept.append(part)
    return values, b"&".join(kept)


def _is_key_parameter(pair: bytes) -> bool:
    name = pair.partition(b"=")[0]
    return name == b"key" or (b"%" in name and unquote_to_bytes(name) == b"key")


def _decoded(pair: bytes) -> bytes:
    """The value of a parameter. A malformed escape stays in it, and no grammar accepts a ``%``."""
    value = pair.partition(b"=")[2]
    return unquote_to_bytes(value.replace(b"+", b" ")) if b"+" in value or b"%" in value else value


def _hmac_halves(secret: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """RFC 2104: the two hash states after their padded keys, from which every HMAC with this secret continues."""
    padded = (secret if len(secret) <= SHA256_BLOCK_BYTES else hashlib.sha256(secret).digest()).ljust(
        SHA256_BLOCK_BYTES, b"\0"
    )
    return hashlib.sha256(bytes(b ^ 0x36 for b in padded)), hashlib.sha256(bytes(b ^ 0x5C for b in padded))


def _hint(text: bytes) -> str:
    """The first and last four characters, fewer of a short key: never more than half of it."""
    shown = min(HINT_CHARACTERS, len(text) // 4)
    key = text.decode("ascii")
    return f"{key[:shown]}…{key[len(key) - shown :]}"


def _invalid(detail: str) -> RequestRefused:
    return RequestRefused(401, Reason.INVALID_API_KEY, detail)
