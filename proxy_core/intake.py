"""The intake: what one request says of itself, read before anything is decided or sent.

Where it stands in the walk: first. `handler` comes with a fresh `Story` for each request; the head is taken apart
(`headers`), the client's address derived (`client_ip`), the key found and every carrier rewritten (`credentials`), and
memory asked whether the key may be used from there (`admission`).

Rules for whoever edits this file:

- It is the request's way: what is added here is paid by every request. Measure with ``make bench``.
- One settings snapshot a request.
- Facts go into the story as soon as they are known: a refusal half-way answers in the dialect and names the address.
- The key leaves this file only inside what is sent to the upstream.
"""

import os
import time
from typing import Any

import msgspec

from proxy_core.admission import Admission, Question
from proxy_core.client_ip import ClientAddressReader
from proxy_core.contracts import ClientAddress, LiveSettings, Reason, RequestHead, RequestLimits, Route
from proxy_core.credentials import Credentials, Rewritten
from proxy_core.errors import RequestRefused
from proxy_core.headers import client_scheme, read_request_head, write_request_head
from proxy_core.live_settings import LiveSettingsFeed
from proxy_core.replies import Reply, refusal
from proxy_core.routes import error_dialect

RETRY_AFTER_S = 5


class Story:
    """One request's facts, filled in as they become known.

    ``scope`` is the server's (ASGI). ``live`` is there once the request was read; ``fingerprint`` is its key's.
    ``question`` is there when memory alone cannot say whether the request may pass.
    ``peer_vouches``: the TCP peer is a trusted proxy that said more of the request than the address. ``held_ns``: how
    long it took until the request could be passed on, 0 while it has not been.
    ``target_stays``: whoever forwards the request cannot replace its target, so no key may be in it.
    """

    __slots__ = (
        "address",
        "came_ns",
        "fingerprint",
        "head",
        "held_ns",
        "live",
        "peer_vouches",
        "question",
        "request_id",
        "route",
        "scope",
        "target_stays",
    )

    live: LiveSettings

    def __init__(self, scope: dict[str, Any], request_id: bytes) -> None:
        self.came_ns = time.perf_counter_ns()
        self.held_ns = 0
        self.scope = scope
        self.request_id = request_id
        self.route: Route | None = None
        self.head: RequestHead | None = None
        self.address: ClientAddress | None = None
        self.fingerprint: bytes | None = None
        self.question: Question | None = None
        self.peer_vouches = False
        self.target_stays = False

    def decided(self) -> int:
        """It may pass: how long it was held until then, in ns."""
        self.held_ns = held_ns = time.perf_counter_ns() - self.came_ns
        return held_ns

    def mark(self, headers: list[tuple[bytes, bytes]], *, timing: bool) -> list[tuple[bytes, bytes]]:
        """Adds to an answer's ``headers`` what it says of us, whoever made it, ``timing``: with the time that we took.

        The upstream's ``x-request-id`` is its own, and SDKs show it to whoever asks the upstream's operator for help.
        """
        headers.append((b"x-sentinel-request-id", self.request_id))
        if timing:
            own_ns = self.held_ns or time.perf_counter_ns() - self.came_ns
            headers.append((b"server-timing", b"sentinel;dur=%.3f" % (own_ns / 1e6)))
        return headers

    def refusal(self, status: int, reason: Reason, detail: str) -> Reply:
        """In the dialect of the route, as far as it is known."""
        return refusal(
            error_dialect(self.route, self.head),
            status,
            reason,
            address=self.address.text if self.address is not None else None,
            request_id=self.request_id.decode(),
            detail=detail,
            retry_after_s=RETRY_AFTER_S if status in (429, 503) else None,
        )


class IntakeRooms(msgspec.Struct, frozen=True):
    """What the intake works with; `app` furnishes it. ``base_path`` and ``authority`` are the upstream's."""

    credentials: Credentials
    addresses: ClientAddressReader
    admission: Admission
    live: LiveSettingsFeed
    limits: RequestLimits
    base_path: bytes
    authority: bytes


class Intake:
    """One a worker."""

    def __init__(self, rooms: IntakeRooms) -> None:
        self._credentials = rooms.credentials
        self._addresses = rooms.addresses
        self._admission = rooms.admission
        self._live = rooms.live
        self._limits = rooms.limits
        self._base_path = rooms.base_path
        self._authority = rooms.authority
        self._id_prefix = os.urandom(6).hex().encode() + b"-"
        self.requests = 0

    def next_request_id(self) -> bytes:
        """Counts the request. Unique among all workers."""
        self.requests = number = self.requests + 1
        return self._id_prefix + b"%x" % number

    def read(self, story: Story) -> tuple[RequestHead, Rewritten]:
        """The head, and what goes to the upstream in place of the client's carriers. Raises RequestRefused."""
        scope = story.scope
        method: str = scope["method"]
        raw_path: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        credentials = self._credentials
        story.route = route = credentials.classify(method, raw_path)
        limits = self._limits
        if len(raw_path) + len(query) > limits.target_max_bytes:
            raise RequestRefused(414, Reason.TARGET_TOO_LONG, "")
        story.head = head = read_request_head(scope["headers"], limits)
        length = head.content_length
        if length and limits.body_max_bytes and length > limits.body_max_bytes:
            raise RequestRefused(413, Reason.BODY_TOO_LARGE, "")
        client = scope["client"]
        peer: str = client[0] if client else ""
        story.address = address = self._addresses.read(peer, head.real_ip)
        key = credentials.read(route, method, raw_path, query, head)
        rewritten = credentials.rewrite(route, method, raw_path, query, head, key)
        if story.target_stays and rewritten.target != (raw_path + b"?" + query if query else raw_path):
            detail = "the API key is in the query, where the proxy in front cannot replace it; send it in a header"
            raise RequestRefused(400, Reason.MALFORMED_REQUEST, detail)
        story.live = live = self._live.current
        if key is not None:
            now = time.time()
            story.fingerprint = fingerprint = credentials.fingerprint(key)
            if not self._admission.passes_by_memory(fingerprint, address, live, now):
                identity = credentials.identify(key)
                story.question = Question(
                    identity, address, live, now, method, raw_path, head.upgrade, head.user_agent, peer
                )
        if (head.forwarded_proto or head.request_id) and self._addresses.is_trusted(peer):
            story.peer_vouches = True
            story.request_id = head.request_id or story.request_id
        return head, rewritten

    def write_head(self, story: Story, head: RequestHead, rewritten: Rewritten, *, websocket_key: bytes = b"") -> bytes:
        """The request's head as the upstream gets it; with a ``websocket_key`` an opening handshake.

        Raises ValueError for a story that was not read.
        """
        scope, address = story.scope, story.address
        if address is None:
            raise ValueError("a head is written for a request that was read")
        return write_request_head(
            scope["method"],
            self._base_path + rewritten.target,
            head,
            credential=rewritten.headers,
            address=address,
            scheme=client_scheme(head, peer_is_trusted=story.peer_vouches, own=scope["scheme"].encode()),
            request_id=story.request_id,
            websocket_key=websocket_key,
            default_host=self._authority,
        )
