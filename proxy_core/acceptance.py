"""Acceptance: what the upstream makes of a key that nobody owns yet.

Where it stands in the walk: `handler` has the answer to a first use judged here before any of it goes back.
`verdict_service` never sees that answer, and asks the upstream itself: one ``GET /v1/models`` with the key, which every
upstream answers without cost and refuses like any other request if the key is none.
"""

import asyncio

import msgspec

from proxy_core.contracts import ClientAddress, RequestHead, UpstreamProfile
from proxy_core.errors import UpstreamTimeout
from proxy_core.exchange import Connection, ResponseHead
from proxy_core.headers import write_request_head
from proxy_core.upstream import Upstream
from proxy_core.verdict import JUDGED_BY_BODY, Acceptance, upstream_accepted

JUDGED_BODY_BYTES = 65_536
"""How much of an answer to a first use is read before it is decided whether the upstream refused the key."""

PROBE_PATH = b"/v1/models"
PROBE_LIMIT_S = 10.0
_PROBE_HEADERS = [(b"accept", b"application/json"), (b"user-agent", b"key-ip-sentinel")]


class Judged(msgspec.Struct, frozen=True):
    """``read`` are the body bytes that had to be read to judge."""

    acceptance: Acceptance
    read: bytes


async def judge_answer(connection: Connection, response: ResponseHead, profile: UpstreamProfile) -> Judged:
    """Whether the upstream took the key of the request that ``connection`` carried. Raises UpstreamCut."""
    read = b""
    if response.status in JUDGED_BY_BODY:
        while len(read) < JUDGED_BODY_BYTES and (chunk := await connection.read()):
            read += chunk
    content_type = next((value for name, value in response.headers if name == b"content-type"), b"")
    return Judged(upstream_accepted(response.status, content_type, read, profile), read)


class KeyProbe:
    """Asks the upstream whether it takes a key. ``base_path`` and ``authority`` are the upstream's."""

    def __init__(self, upstream: Upstream, profile: UpstreamProfile, *, base_path: bytes, authority: bytes) -> None:
        self._upstream = upstream
        self._profile = profile
        self._target = base_path + PROBE_PATH
        self._authority = authority

    async def ask(
        self, authorization: bytes, address: ClientAddress, *, scheme: bytes, request_id: bytes
    ) -> Acceptance:
        """``authorization`` as the upstream gets it. Raises UpstreamError or UpstreamCut when there is no answer."""
        head = write_request_head(
            "GET",
            self._target,
            RequestHead(_PROBE_HEADERS),
            credential=[(b"authorization", authorization)],
            address=address,
            scheme=scheme,
            request_id=request_id,
            default_host=self._authority,
        )
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                return await self._exchange(head)
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not say in time whether it takes a key") from None

    async def _exchange(self, head: bytes) -> Acceptance:
        connection = await self._upstream.acquire()
        try:
            connection.begin(bodiless=False)
            connection.write(head)
            connection.request_sent()
            judged = await judge_answer(connection, await connection.response_head(), self._profile)
        finally:
            self._upstream.release(connection)
        return judged.acceptance
