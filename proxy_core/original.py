"""The original request: what a proxy in front says of the request that it wants a verdict on.

Where it stands in the walk: `verdict_service` asks first of all, and only for a peer that is trusted. What comes out is
read by `intake` as if the client had sent it here.

Rules for whoever edits this file:

- The proxy says it in exactly one of three ways (`_WAYS`), each part of it exactly once. Anything else is refused and
  never guessed: a client can send these headers too, and a proxy that lets one through would have another request
  judged than it forwards (oauth2-proxy CVE-2026-40575).
- What frames this request belongs to the hop between the proxy and us and says nothing of the client's.
- ``Connection`` cannot name what the proxy says: it is read before `headers` obeys that (Traefik CVE-2024-45410).
"""

from typing import Any, Final, NamedTuple

import msgspec

from proxy_core.contracts import Reason
from proxy_core.errors import RequestRefused

PATH: Final = b"/sentinel/verdict"


class _Way(NamedTuple):
    """The headers that say it. ``rewrites``: the proxy forwards the target of our answer."""

    method: bytes
    target: bytes
    rewrites: bool


_WAYS = (
    _Way(b"x-original-method", b"x-original-uri", rewrites=True),  # nginx, as nginx/forward-auth.conf sets them
    _Way(b"x-forwarded-method", b"x-forwarded-uri", rewrites=False),  # Traefik, Caddy
)
_SAID = frozenset(name for way in _WAYS for name in (way.method, way.target))

_OF_THE_HOP = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
_HANDSHAKE = [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]


class OriginalRequest(msgspec.Struct, frozen=True, gc=False):
    """The client's request; ``headers`` without what the proxy added to describe it.

    ``rewritten_target``: the proxy forwards the target that the verdict names, else the client's own.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    rewritten_target: bool

    def __repr__(self) -> str:
        return "OriginalRequest(…)"

    def scope(self, asking: dict[str, Any]) -> dict[str, Any]:
        """The ASGI scope of the client's request, on the connection of the one that asks."""
        said = {"method": self.method, "raw_path": self.raw_path, "query_string": self.query, "headers": self.headers}
        return {**asking, **said}


def says_nginx(scope: dict[str, Any]) -> bool:
    """Whether nginx asks, which passes on only headers of a refusal; whatever else may be wrong with what it says."""
    return any(name in (_WAYS[0].method, _WAYS[0].target) for name, _ in scope["headers"])


def read_original(scope: dict[str, Any]) -> OriginalRequest:
    """Raises RequestRefused (400 ``original_request_unknown``)."""
    said: dict[bytes, list[bytes]] = {}
    headers: list[tuple[bytes, bytes]] = []
    handshake = False
    for line in scope["headers"]:
        name, value = line
        if name in _SAID:
            said.setdefault(name, []).append(value)
        elif name not in _OF_THE_HOP:
            headers.append(line)
            handshake = handshake or name == b"sec-websocket-key"
    method, target, rewrites = _said(scope, said)
    if handshake and method == "GET":
        # Proxies keep `Upgrade` to themselves when they ask; no handshake can do without the key (RFC 6455 4.1).
        headers += _HANDSHAKE
    raw_path, _, query = target.partition(b"?")
    return OriginalRequest(method, raw_path, query, headers, rewritten_target=rewrites)


def _said(scope: dict[str, Any], said: dict[bytes, list[bytes]]) -> tuple[str, bytes, bool]:
    """Method, target, and whether the proxy forwards the rewritten target."""
    appended: bytes = scope["raw_path"][len(PATH) :]
    ways = [way for way in _WAYS if way.method in said or way.target in said]
    if len(ways) + bool(appended) != 1:
        raise _unknown("the proxy in front says in two ways, or in none, which request it asks about")
    if appended:  # Envoy: its own method, the path behind ours
        query: bytes = scope["query_string"]
        return scope["method"], appended + b"?" + query if query else appended, False
    way = ways[0]
    methods, targets = said.get(way.method, ()), said.get(way.target, ())
    if len(methods) != 1 or len(targets) != 1:
        raise _unknown("the proxy in front does not say exactly once which request it asks about")
    return methods[0].decode("latin-1"), targets[0], way.rewrites


def _unknown(detail: str) -> RequestRefused:
    return RequestRefused(400, Reason.ORIGINAL_REQUEST_UNKNOWN, detail)
