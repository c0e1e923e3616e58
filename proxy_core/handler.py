"""The handler: the life of one request, top to bottom, in the order in which it happens.

Where it stands in the walk: `app` hands every request here that is not Sentinel's own. The request is read
(`headers`, `client_ip`, `credentials`), decided (`bindings`, `verdict`), answered (`replies`) or passed on and its
answer passed back (`headers`, `upstream`); `events` learns once what came of it.

Rules for whoever edits this file:

- It is the request's way: what is added here is paid by every request. Measure with ``make bench``.
- One settings snapshot a request. No task unless the client is still uploading while the upstream may answer.
- The key leaves this file only inside the request head for the upstream.
- Nothing is sent to the client before the verdict, and nothing of a first use's answer before its claim is settled.
- After the response has begun there is no refusal any more: a failure breaks the response off, so that the client
  cannot take a part for the whole.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from proxy_core.admission import Admission, Question
from proxy_core.bindings import Claim
from proxy_core.client_ip import ClientAddressReader
from proxy_core.contracts import ClientAddress, Reason, RequestHead, Route
from proxy_core.credentials import Credentials
from proxy_core.errors import (
    ClientGone,
    ProxyError,
    RequestRefused,
    ResponseBroken,
    UploadTimeout,
    UpstreamCut,
    UpstreamError,
)
from proxy_core.events import Events
from proxy_core.exchange import Connection, ResponseHead
from proxy_core.headers import client_scheme, read_request_head, response_headers, write_request_head
from proxy_core.live_settings import LiveSettingsFeed
from proxy_core.replies import refusal
from proxy_core.routes import error_dialect
from proxy_core.upstream import Upstream
from proxy_core.verdict import JUDGED_BY_BODY, Acceptance, upstream_accepted
from proxy_core.watch import ClientWatch, Receive, Visit

log = structlog.get_logger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]

JUDGED_BODY_BYTES = 65_536
"""How much of an answer to a first use is read before it is decided whether the upstream refused the key."""

CONTINUE_WAIT_S = 1.0
"""How long the upstream may think about ``Expect: 100-continue`` before the body is sent all the same."""

RETRY_AFTER_S = 5


class Rooms(msgspec.Struct, frozen=True):
    """What the handler works with; `app` furnishes it."""

    credentials: Credentials
    addresses: ClientAddressReader
    admission: Admission
    live: LiveSettingsFeed
    events: Events
    upstream: Upstream
    watch: ClientWatch
    base_path: bytes
    authority: bytes


class Story:
    """One request's facts, filled in as they become known. ``claim`` and ``question`` belong to a first use."""

    __slots__ = ("address", "claim", "head", "question", "request_id", "route", "scope", "send", "started", "visit")

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send, request_id: bytes) -> None:
        self.scope = scope
        self.send = send
        self.request_id = request_id
        self.visit = Visit(receive)
        self.route: Route | None = None
        self.head: RequestHead | None = None
        self.address: ClientAddress | None = None
        self.question: Question | None = None
        self.claim: Claim | None = None
        self.started = False


class Gateway:
    """The raw ASGI application of the data plane. Raises ResponseBroken to have a response broken off."""

    def __init__(self, rooms: Rooms) -> None:
        self._credentials = rooms.credentials
        self._addresses = rooms.addresses
        self._admission = rooms.admission
        self._live = rooms.live
        self._events = rooms.events
        self._upstream = rooms.upstream
        self._watch = rooms.watch
        self._base_path = rooms.base_path
        self._authority = rooms.authority
        self._id_prefix = os.urandom(6).hex().encode() + b"-"
        self._requests = 0
        self._answers = [0] * 10

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._requests = number = self._requests + 1
        story = Story(scope, receive, send, self._id_prefix + b"%x" % number)
        self._watch.enter(story.visit)
        try:
            head, request = self._read(story)
            if story.question is not None:
                story.claim = await self._admission.admit(story.question)
            await self._forward(story, head, request)
        except RequestRefused as refused:
            await self._refuse(story, refused.status, refused.reason, refused.detail)
        except ClientGone:
            self._events.count("client_gone")
        except (UpstreamError, UpstreamCut, UploadTimeout) as failed:
            log.warning(
                "exchange failed", request_id=story.request_id.decode(), reason=failed.reason.value, detail=str(failed)
            )
            if story.started:
                self._events.count("response_broken")
                raise ResponseBroken from None
            await self._refuse(story, failed.status, failed.reason, "")
        except Exception as fault:
            log.exception("request failed unexpectedly", request_id=story.request_id.decode())
            if story.started:
                raise ResponseBroken from fault
            await self._refuse(story, 500, Reason.INTERNAL_ERROR, "")
        finally:
            story.visit.end()
            self._watch.leave(story.visit)
            if story.claim is not None:
                await story.claim.release()

    def counts(self) -> dict[str, int]:
        """Since the start: requests that came, and answers of the upstream by class of status."""
        answers = {f"answered_{number}xx": count for number, count in enumerate(self._answers) if count}
        return {"requests": self._requests} | answers

    # -- reading

    def _read(self, story: Story) -> tuple[RequestHead, bytes]:
        """The client's head and the one for the upstream. Raises RequestRefused.

        Leaves a question in the story if memory alone cannot say whether the request may pass.
        """
        scope = story.scope
        method: str = scope["method"]
        raw_path: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        credentials = self._credentials
        story.route = route = credentials.classify(method, raw_path)
        story.head = head = read_request_head(scope["headers"])
        client = scope["client"]
        peer: str = client[0] if client else ""
        story.address = address = self._addresses.read(peer, head.real_ip)
        key = credentials.read(route, method, raw_path, query, head)
        rewritten = credentials.rewrite(route, method, raw_path, query, head, key)
        if key is not None:
            live = self._live.current
            now = time.time()
            if not self._admission.passes_by_memory(credentials.fingerprint(key), address, live, now):
                identity = credentials.identify(key)
                story.question = Question(identity, address, live, now, method, raw_path, head.upgrade, head.user_agent)
        trusted = bool(head.forwarded_proto or head.request_id) and self._addresses.is_trusted(peer)
        if trusted and head.request_id:
            story.request_id = head.request_id
        return head, write_request_head(
            method,
            self._base_path + rewritten.target,
            head,
            credential=rewritten.headers,
            address=address,
            scheme=client_scheme(head, peer_is_trusted=trusted, own=scope["scheme"].encode()),
            request_id=story.request_id,
            default_host=self._authority,
        )

    # -- passing on

    async def _forward(self, story: Story, head: RequestHead, request: bytes) -> None:
        """``request`` is the head as the upstream gets it; the body follows."""
        visit = story.visit
        length = head.content_length
        body = b""
        whole = not (length or head.chunked)
        if not whole and not head.expect_continue:
            message = await visit.next_message()
            body = message["body"]
            whole = length is not None and len(body) >= length
        connection = self._upstream.take_idle() or await self._upstream.acquire()
        connection.begin(bodiless=story.scope["method"] == "HEAD")
        visit.connection = connection
        visit.uploading = not whole
        upload = None
        try:
            if whole:
                connection.write(request + body if body else request)
                connection.request_sent()
            else:
                connection.write(request)
                upload = asyncio.create_task(self._upload(visit, head, connection, body))
            await self._answer(story, connection)
        finally:
            if upload is not None:
                upload.cancel()
                await asyncio.wait((upload,))
            visit.connection = None  # it may be another request's in a moment
            self._upstream.release(connection)

    async def _upload(self, visit: Visit, head: RequestHead, connection: Connection, first: bytes) -> None:
        """Sends a body that did not come in one piece, at the pace at which the upstream takes it."""
        piece = first
        more = True
        left = head.content_length
        try:
            if head.expect_continue:
                await connection.wait_continue(CONTINUE_WAIT_S)
                if connection.head is not None:
                    return  # answered without wanting the body: the client need not send it
                piece, more = await self._next_piece(visit)
            while True:
                if left is None:
                    connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
                else:
                    left -= len(piece)
                    connection.write(piece)
                if left == 0 or not more:
                    break
                await connection.drain()
                piece, more = await self._next_piece(visit)
        except ProxyError as gone_or_late:
            connection.fail(gone_or_late)
            return
        if left:  # the server gave less than the client announced
            connection.fail(ClientGone())
            return
        if left is None:
            connection.write(b"0\r\n\r\n")
        connection.request_sent()
        visit.uploading = False

    @staticmethod
    async def _next_piece(visit: Visit) -> tuple[bytes, bool]:
        message = await visit.next_message()
        return message["body"], message["more_body"]

    # -- passing back

    async def _answer(self, story: Story, connection: Connection) -> None:
        response = connection.head or await connection.response_head()
        self._answers[response.status // 100] += 1
        read = b"" if story.claim is None else await self._settle(story, story.claim, connection, response)
        send = story.send
        start = {
            "type": "http.response.start",
            "status": response.status,
            "headers": response_headers(response.headers),
        }
        body = connection.whole_body()
        story.started = True
        if body is not None:
            story.visit.connection = None
            self._upstream.release(connection)
            await send(start)
            await send({"type": "http.response.body", "body": read + body if read else body, "more_body": False})
            return
        await send(start)
        # Granian holds the head back until the first body message, which may be minutes away.
        await send({"type": "http.response.body", "body": read, "more_body": True})
        arrived, more = connection.arrived, connection.more
        while (chunk := arrived()) != b"":
            if chunk is None:
                connection.check_silence(in_time=await more())
            else:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _settle(self, story: Story, claim: Claim, connection: Connection, response: ResponseHead) -> bytes:
        """Binds the key, or not, by what the upstream made of it, before any of its answer goes back.

        Returns the body bytes that had to be read for that. Raises RequestRefused if another address was first.
        """
        read = b""
        if response.status in JUDGED_BY_BODY:
            while len(read) < JUDGED_BODY_BYTES and (chunk := await connection.read()):
                read += chunk
        content_type = next((value for name, value in response.headers if name == b"content-type"), b"")
        acceptance = upstream_accepted(response.status, content_type, read, self._credentials.profile)
        if acceptance is Acceptance.ACCEPTED and story.question is not None:
            await self._admission.confirm(story.question, claim)
        else:
            self._events.count(acceptance.value)
            await claim.release()
        return read

    # -- refusing

    async def _refuse(self, story: Story, status: int, reason: Reason, detail: str) -> None:
        self._events.count(reason.value)
        reply = refusal(
            error_dialect(story.route, story.head),
            status,
            reason,
            address=story.address.text if story.address is not None else None,
            request_id=story.request_id.decode(),
            detail=detail,
            retry_after_s=RETRY_AFTER_S if status == 503 else None,
        )
        story.started = True
        await story.send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await story.send({"type": "http.response.body", "body": reply.body, "more_body": False})
