"""Routes: what a method and path mean to the binding, and in which dialect their clients read errors.

Where it stands in the walk: `handler` asks first of all; `credentials` reads and rewrites by the answer. The tables
restate the upstream's routers (``new-api-auth`` sections 4 and 6).

Rules for whoever edits this file:

- A path that is not in a list is a key route: forgetting one costs a convenience, adding one too many is a bypass.
- Decisions are made on the path decoded once, as gin makes them, and the raw path is what is forwarded. Where a hop
  behind us could see another path in the same bytes (``%2f``, ``..``, ``//``), the request is refused, not normalised.
- ``/:mode/mj/…`` reaches key routes below any first segment, so no prefix may be listed that covers a whole one.
"""

import re
from urllib.parse import unquote_to_bytes

from proxy_core.contracts import Dialect, Reason, RequestHead, Route, UpstreamProfile
from proxy_core.errors import RequestRefused

MEMO_ROUTES = 4096
MEMO_PATH_BYTES = 256

_PREFLIGHT = Route(bound=False, dialect=Dialect.OPENAI, anonymous=True)
_PUBLIC = Route(bound=False, dialect=Dialect.OPENAI)
_DASHBOARD = Route(bound=False, dialect=Dialect.OPENAI, session=True)
_VIDEO_CONTENT = Route(bound=True, dialect=Dialect.TASK, session=True)
_READ_ONLY = Route(bound=True, dialect=Dialect.READ_ONLY, pins_channel=False)

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_RAW_NEVER = re.compile(rb"[\x00-\x20\x7f?#]|%(?![0-9A-Fa-f]{2})")
_ENCODED_SEPARATOR = re.compile(rb"%(?:2[fF]|5[cC])")
_AMBIGUOUS = re.compile(rb"[\x00-\x1f\x7f\\]|//|/\.\.?(?:/|\Z)")
_NON_ASCII = re.compile(rb"[\x80-\xff]")

_MIDJOURNEY = re.compile(rb"/(?:[^/]*/)?mj(?:/.*)?", re.DOTALL)
_MIDJOURNEY_IMAGE = re.compile(rb"/(?:[^/]+/)?mj/image/[^/]+")
_MIDJOURNEY_TRAP = re.compile(rb"/[^/]*/mj(?:/.*)?", re.DOTALL)
_VIDEO_CONTENT_PATH = re.compile(rb"/v1/videos/[^/]+/content/?")

_PAGES = frozenset((b"/", b"/favicon.ico", b"/logo.png", b"/robots.txt"))
_ASSETS = (b"/assets/", b"/static/")
_READ_ONLY_PATHS = frozenset((b"/api/usage/token", b"/api/log/token"))

_NEW_API_EXACT = frozenset(
    b"/api/" + name
    for name in (
        *(b"status", b"status/test", b"setup", b"notice", b"about", b"home_page_content", b"user-agreement"),
        *(b"privacy-policy", b"uptime/status", b"ratio_config", b"pricing", b"rankings", b"verification"),
        *(b"reset_password", b"verify", b"mj", b"mj/self"),
        *(b"stripe/webhook", b"creem/webhook", b"waffo/webhook"),
    )
) | {b"/pg/chat/completions"}
_NEW_API_FAMILIES = (
    *(b"perf-metrics", b"oauth", b"waffo-pancake/webhook", b"user", b"token", b"log", b"data", b"subscription"),
    *(b"task", b"models", b"channel", b"option", b"redemption", b"group", b"vendors", b"deployments"),
    *(b"performance", b"system-task", b"system-info", b"custom-oauth-provider", b"ratio_sync", b"prefill_group"),
    b"authz",
)
_ONE_API_EXACT = frozenset(
    b"/api/" + name
    for name in (
        *(b"status", b"status/test", b"notice", b"about", b"home_page_content", b"verification", b"reset_password"),
        *(b"models", b"topup"),
    )
)
_ONE_API_FAMILIES = (b"oauth", b"user", b"option", b"channel", b"token", b"redemption", b"log", b"group")

_TASKS = (b"/suno/", b"/kling/", b"/jimeng/", b"/v1/video/", b"/v1/videos/")
_TASK_ROOTS = frozenset((b"/suno", b"/kling", b"/jimeng", b"/v1/video", b"/v1/videos"))


class Routes:
    """One upstream profile's routes, with a bounded memory of those asked for."""

    def __init__(self, profile: UpstreamProfile) -> None:
        self._exact: frozenset[bytes] = frozenset()
        families: tuple[bytes, ...] = ()
        self._pages: frozenset[bytes] = _PAGES
        self._assets: tuple[bytes, ...] = _ASSETS
        self._has_dashboard = profile is not UpstreamProfile.OPENAI
        if profile is UpstreamProfile.NEW_API:
            self._exact, families = _NEW_API_EXACT, _NEW_API_FAMILIES
        elif profile is UpstreamProfile.ONE_API:
            self._exact, families = _ONE_API_EXACT, _ONE_API_FAMILIES
        self._exact |= {b"/api/" + family for family in families}
        self._prefixes = tuple(b"/api/" + family + b"/" for family in families)
        self._takes_sessions = profile is UpstreamProfile.NEW_API
        self._known: dict[tuple[str, bytes], Route] = {}

    def classify(self, method: str, raw_path: bytes) -> Route:
        """Raises RequestRefused (400 ``malformed_request``) for a path that could be read in two ways."""
        known = self._known.get((method, raw_path))
        if known is not None:
            return known
        route = self._classify(method, raw_path)
        if len(raw_path) <= MEMO_PATH_BYTES:
            if len(self._known) >= MEMO_ROUTES:
                self._known.clear()
            self._known[method, raw_path] = route
        return route

    def _classify(self, method: str, raw_path: bytes) -> Route:
        if _METHOD.fullmatch(method) is None or method == "CONNECT":
            raise _malformed("the method is not served here")
        if method == "OPTIONS" and raw_path == b"*":
            return _PREFLIGHT
        if not raw_path.startswith(b"/") or _RAW_NEVER.search(raw_path) is not None:
            raise _malformed("the path is not a plain absolute path")
        if method == "OPTIONS":
            return _PREFLIGHT
        path = unquote_to_bytes(raw_path)
        if _ENCODED_SEPARATOR.search(raw_path) is not None or _AMBIGUOUS.search(path) is not None:
            raise _malformed("the path has encoded separators, empty or dot segments, or control characters")
        unbound = self._unbound(method, path) if self._has_dashboard else None
        if unbound is not None:
            return unbound
        if _NON_ASCII.search(path) is not None:
            raise _malformed("the path has characters outside ASCII")
        return self._key_route(method, path)

    def _unbound(self, method: str, path: bytes) -> Route | None:
        """The explicit list of routes without a model key; None for every other path."""
        if path in self._pages:
            return _PUBLIC
        if method in ("GET", "HEAD") and _MIDJOURNEY_IMAGE.fullmatch(path) is not None:
            return _PUBLIC
        bare = path.removesuffix(b"/")
        if bare in _READ_ONLY_PATHS:
            return None
        if bare in self._exact:
            return _DASHBOARD
        if _MIDJOURNEY_TRAP.fullmatch(path) is not None:
            return None
        if path.startswith(self._assets):
            return _PUBLIC
        return _DASHBOARD if path.startswith(self._prefixes) else None

    def _key_route(self, method: str, path: bytes) -> Route:
        bare = path.removesuffix(b"/")
        if bare in _READ_ONLY_PATHS:
            return _READ_ONLY
        if self._takes_sessions and method in ("GET", "HEAD") and _VIDEO_CONTENT_PATH.fullmatch(path) is not None:
            return _VIDEO_CONTENT
        lists_models = method in ("GET", "HEAD") and (bare == b"/v1/models" or path.startswith(b"/v1/models/"))
        return Route(bound=True, dialect=_dialect(method, path), lists_models=lists_models)


def error_dialect(route: Route | None, head: RequestHead | None) -> Dialect:
    """The dialect of a refusal: the route's, but Anthropic's for a client that says it speaks that (section 8.3)."""
    dialect = route.dialect if route is not None else Dialect.OPENAI
    if dialect is Dialect.OPENAI and head is not None and head.anthropic:
        return Dialect.ANTHROPIC
    return dialect


def _dialect(method: str, path: bytes) -> Dialect:
    if path == b"/v1/messages" or path.startswith(b"/v1/messages/"):
        return Dialect.ANTHROPIC
    if path.startswith(b"/v1beta/") or (method == "POST" and path.startswith(b"/v1/models/")):
        return Dialect.GEMINI
    if _MIDJOURNEY.fullmatch(path) is not None:
        return Dialect.MIDJOURNEY
    if path in _TASK_ROOTS or path.startswith(_TASKS):
        return Dialect.TASK
    return Dialect.OPENAI


def _malformed(detail: str) -> RequestRefused:
    return RequestRefused(400, Reason.MALFORMED_REQUEST, detail)
