"""What stands between the server and NiceGUI: the path prefix, who the visitor is, and the headers that guard a page.

Where it stands in the walk: outermost, around everything that the console serves.

Facts that this file rests on (NiceGUI 3.18):

- The page prefix is the header ``X-Forwarded-Prefix`` plus ASGI's ``root_path``, and the header comes from whoever
  sends it. It is dropped here; the setting alone says where the console lies.
- Pages need ``'unsafe-eval'``: Vue compiles templates in the browser, and NiceGUI evaluates what its server sends.
  Styles need ``'unsafe-inline'``. Scripts do not: each script of the template gets a nonce here, so that a script or an
  event handler that somebody smuggled into a page does not run. A ``<script`` in an answer can only be the template's
  own, since NiceGUI escapes ``<`` in everything that it puts between.
- Its WebSocket takes any origin. Here an origin must be our own host, or another site open in the same browser could
  drive a console.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.settings import IPNetwork

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SOCKET_PATH = "/_nicegui_ws"
POLICY = (
    "default-src 'none'; "
    "script-src 'self' 'unsafe-eval' 'nonce-{nonce}'; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; "
    "font-src 'self' data:; "
    "connect-src 'self'; "
    "form-action 'self'; "
    "base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Edge:
    """ASGI: wraps the application. ``prefix`` is empty or ``/some/path``."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = self._placed(scope)
        if not _is_same_site(scope):
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, send if scope["type"] == "websocket" else _Answer(send).send)

    def _placed(self, scope: Scope) -> Scope:
        """Below the prefix, whether the proxy in front has cut it off or not."""
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"x-forwarded-prefix"]
        path = scope["path"]
        if self._prefix and path != self._prefix and not path.startswith(self._prefix + "/"):
            path = self._prefix + path
        return {**scope, "headers": headers, "root_path": self._prefix, "path": path, "raw_path": path.encode()}


class _Answer:
    """Puts the headers on one answer, and nonces into it if it is a page."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._page = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
            headers.setdefault("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
        elif self._start is not None:
            self._page += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_page(self._start)
            return
        await self._send(message)

    async def _send_page(self, start: Message) -> None:
        nonce = secrets.token_urlsafe(16)
        page = bytes(self._page).replace(b"<script", f'<script nonce="{nonce}"'.encode())
        headers = MutableHeaders(scope=start)
        headers["content-security-policy"] = POLICY.format(nonce=nonce)
        headers["content-length"] = str(len(page))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": page})


def _is_same_site(scope: Scope) -> bool:
    """Whether a request that may change something, or opens the socket, comes from a page of ours.

    Only the host's name is compared: proxies often pass it on without its port, and cookies know no ports either.
    """
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS and SOCKET_PATH not in scope["path"]:
        return True
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is None:
        return True  # no browser, or one that says so in another way: SameSite cookies stay away from other sites
    named = urlsplit(origin).hostname
    return bool(named) and named == urlsplit(f"//{headers.get('host', '')}").hostname


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await PlainTextResponse("this came from a page of another site\n", 403)(scope, receive, send)


def visitor_address(peer: str, real_ip: Sequence[str], trusted: Sequence[IPNetwork]) -> str | None:
    """Whose browser it is: the peer, or what a trusted proxy says in its one ``X-Real-IP``; None: it cannot be told."""
    address = _address(peer)
    if address is None or not any(address in network for network in trusted if network.version == address.version):
        return None if address is None else str(address)
    named = _address(real_ip[0]) if len(real_ip) == 1 else None
    return None if named is None else str(named)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
