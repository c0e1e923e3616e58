"""The handler: the life of one request, top to bottom, in the order in which it happens.

Where it stands in the walk: `app` hands every request here that is not Sentinel's own. The request is read
(`intake`), decided (`admission`), answered (`replies`) or passed on and its answer passed back (`headers`,
`upstream`); `events` learns once what came of it.

Rules for whoever edits this file:

- It is the request's way: what is added here is paid by every request. Measure with ``make bench``.
- No task unless the client is still uploading while the upstream may answer.
- Nothing is sent to the client before the verdict, and nothing of a first use's answer before its claim is settled.
- After the response has begun there is no refusal any more: a failure breaks the response off, so that the client
  cannot take a part for the whole.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from proxy_core.acceptance import judge_answer
from proxy_core.admission import Admission
from proxy_core.bindings import Claim
from proxy_core.concurrency import Concurrency, Seats
from proxy_core.contracts import Reason, RequestHead, UpstreamProfile
from proxy_core.errors import (
    BodyTooLarge,
    ClientGone,
    ClientStalled,
    KeyRevoked,
    ProxyError,
    RequestRefused,
    ResponseBroken,
    UploadTimeout,
    UpstreamCut,
    UpstreamError,
)
from proxy_core.events import Events
from proxy_core.exchange import Connection, ResponseHead
from proxy_core.headers import response_headers
from proxy_core.histogram import Histogram
from proxy_core.intake import Intake, Story
from proxy_core.roster import Roster
from proxy_core.upstream import Upstream
from proxy_core.watch import ClientWatch, Receive, Visit

log = structlog.get_logger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY_BROKEN = "the request body is malformed or was broken off"
TAKEN_BYTES, TAKEN_S = 32 * 1024 * 1024, 10.0
"""How much of a refused request's body is taken all the same, and for how long."""

CONTINUE_WAIT_S = 1.0
"""How long the upstream may think about ``Expect: 100-continue`` before the body is sent all the same."""

CLOSE = (b"connection", b"close")


class Rooms(msgspec.Struct, frozen=True):
    """What the handler works with; `app` furnishes it."""

    intake: Intake
    admission: Admission
    concurrency: Concurrency
    events: Events
    upstream: Upstream
    watch: ClientWatch
    roster: Roster
    profile: UpstreamProfile
    body_max_bytes: int
    server_timing: bool


class Exchange(Story):
    """A story that is passed on. ``claim`` belongs to a first use; ``started``: the response has begun.

    ``seats`` are what it counts for where a live setting limits open requests.
    """

    __slots__ = ("claim", "seats", "send", "started", "visit")

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send, request_id: bytes) -> None:
        super().__init__(scope, request_id)
        self.send = send
        self.visit = Visit(receive, scope["client"])
        self.claim: Claim | None = None
        self.seats: Seats = ()
        self.started = False

    def revoke(self, reason: str) -> None:
        """Cuts the stream; called by the roster."""
        self.visit.fail(KeyRevoked(reason))


class Gateway:
    """The raw ASGI application of the data plane. Raises ResponseBroken to have a response broken off."""

    def __init__(self, rooms: Rooms) -> None:
        self._intake = rooms.intake
        self._admission = rooms.admission
        self._concurrency = rooms.concurrency
        self._events = rooms.events
        self._upstream = rooms.upstream
        self._watch = rooms.watch
        self._roster = rooms.roster
        self._profile = rooms.profile
        self._body_max_bytes = rooms.body_max_bytes
        self._server_timing = rooms.server_timing
        self._answers = [0] * 10
        self.added_time = Histogram()
        """How long requests that passed were held until it was decided that they may."""
        self._parting = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        intake = self._intake
        story = Exchange(scope, receive, send, intake.next_request_id())
        self._watch.enter(story.visit)
        try:
            head, rewritten = intake.read(story)
            request = intake.write_head(story, head, rewritten)
            if story.question is not None:
                story.claim = await self._admission.admit(story.question)
            live = story.live
            if live.max_concurrent_per_key or live.max_concurrent_per_address:
                await self._take_seats(story)
            self.added_time.add(story.decided())
            await self._forward(story, head, request)
        except RequestRefused as refused:
            await self._refuse(story, refused.status, refused.reason, refused.detail)
            await self._take_body(story)
        except ClientGone:
            self._events.count("client_gone")
            if story.visit.uploading and not story.started:
                # So does a chunk that is none look from here: who sent it is still there, to be told.
                await self._answer_refusal(story, 400, Reason.MALFORMED_REQUEST, BODY_BROKEN)
        except (KeyRevoked, ClientStalled) as cut:  # only what has begun is cut
            self._note_cut(story, cut)
            raise ResponseBroken from None
        except (UpstreamError, UpstreamCut, UploadTimeout, BodyTooLarge) as failed:
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
            if story.seats or story.claim is not None:
                await self._give_back(story)

    def part(self) -> None:
        """From now on every answer closes its connection: a proxy in front that keeps it open asks elsewhere next."""
        self._parting = True

    def counts(self) -> dict[str, int]:
        """Since the start: requests that came, and answers of the upstream by class of status."""
        answers = {f"answered_{number}xx": count for number, count in enumerate(self._answers) if count}
        return {"requests": self._intake.requests} | answers

    def note_answer(self, status: int) -> None:
        """Counts an answer of the upstream."""
        self._answers[status // 100] += 1

    def _note_cut(self, story: Exchange, cut: ProxyError) -> None:
        """Of a revoked key the roster tells."""
        if isinstance(cut, ClientStalled):
            self._events.count("client_stalled")
            log.info("cut a client", request_id=story.request_id.decode(), detail=str(cut))

    async def _take_seats(self, story: Exchange) -> None:
        if story.address is not None:
            story.seats = await self._concurrency.enter(story.live, story.fingerprint, story.address)

    async def _give_back(self, story: Exchange) -> None:
        self._concurrency.leave(story.seats)
        if story.claim is not None:
            await story.claim.release()

    # -- passing on

    async def _forward(self, story: Exchange, head: RequestHead, request: bytes) -> None:
        """``request`` is the head as the upstream gets it; the body follows."""
        visit = story.visit
        length = head.content_length
        body = b""
        whole = not (length or head.chunked)
        visit.uploading = more = not whole
        if more and not head.expect_continue:
            body, more = await self._next_piece(visit)
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
                upload = asyncio.create_task(self._upload(visit, head, connection, body, more=more))
            await self._answer(story, connection)
        finally:
            if upload is not None:
                upload.cancel()
                await asyncio.wait((upload,))
            if visit.connection is connection:  # else it was given back, and may be another request's by now
                visit.connection = None
                self._upstream.release(connection)

    async def _upload(
        self, visit: Visit, head: RequestHead, connection: Connection, first: bytes, *, more: bool
    ) -> None:
        """Sends a body that did not come in one piece, at the pace at which the upstream takes it."""
        piece = first
        left = head.content_length
        limit, sent = self._body_max_bytes, 0
        try:
            if head.expect_continue:
                await connection.wait_continue(CONTINUE_WAIT_S)
                if connection.head is not None:
                    return  # answered without wanting the body: the client need not send it
                piece, more = await self._next_piece(visit)
            while True:
                if left is None:
                    sent += len(piece)
                    if limit and sent > limit:
                        raise BodyTooLarge
                    connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
                else:
                    left -= len(piece)
                    connection.write(piece)
                if left == 0 or not more:
                    break
                await connection.drain()
                piece, more = await self._next_piece(visit)
        except ProxyError as ended:
            connection.fail(ended)
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

    async def _answer(self, story: Exchange, connection: Connection) -> None:
        response = connection.head or await connection.response_head()
        self.note_answer(response.status)
        read = b"" if story.claim is None else await self._settle(story, story.claim, connection, response)
        send = story.send
        headers = story.mark(response_headers(response.headers), timing=self._server_timing)
        if self._parting or story.visit.uploading:  # the rest of a body that nobody reads ends the connection
            headers = [*headers, CLOSE]
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
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
        if story.fingerprint is None or story.address is None:
            await self._stream(story.visit, send, connection)
            return
        entry = self._roster.enter(story.fingerprint, story.address, story.revoke, persistent=False)
        try:
            await self._stream(story.visit, send, connection)
        finally:
            self._roster.leave(entry)

    @staticmethod
    async def _stream(visit: Visit, send: Send, connection: Connection) -> None:
        arrived, more = connection.arrived, connection.more
        try:
            while (chunk := arrived()) != b"":
                if chunk is None:
                    connection.check_silence(in_time=await more())
                else:
                    visit.sending = send({"type": "http.response.body", "body": chunk, "more_body": True})
                    await visit.sending
                    visit.sending = None
        except asyncio.CancelledError:
            if visit.failure is None:
                raise
            raise visit.failure from None
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _settle(self, story: Exchange, claim: Claim, connection: Connection, response: ResponseHead) -> bytes:
        """Binds the key, or not, by what the upstream made of it, before any of its answer goes back.

        Returns the body bytes that had to be read for that. Raises RequestRefused if another address was first.
        """
        judged = await judge_answer(connection, response, self._profile)
        await self._admission.settle(story.question, claim, judged.acceptance)
        return judged.read

    # -- refusing

    async def _refuse(self, story: Exchange, status: int, reason: Reason, detail: str) -> None:
        self._events.count(reason.value)
        await self._answer_refusal(story, status, reason, detail)

    async def _answer_refusal(self, story: Exchange, status: int, reason: Reason, detail: str) -> None:
        reply = story.refusal(status, reason, detail)
        headers = story.mark(reply.headers, timing=self._server_timing)
        story.started = True
        if self._parting:
            headers = [*headers, CLOSE]
        await story.send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await story.send({"type": "http.response.body", "body": reply.body, "more_body": False})

    @staticmethod
    async def _take_body(story: Exchange) -> None:
        """Takes what the client is still sending, or it would never read why it should not.

        The server resets a connection with unread bytes, and an SDK that finds it reset begins all over again.
        """
        head = story.head
        if head is None or head.expect_continue or not (head.content_length or head.chunked):
            return
        taken = 0
        with contextlib.suppress(ProxyError, TimeoutError):
            async with asyncio.timeout(TAKEN_S):
                while taken < TAKEN_BYTES:
                    message = await story.visit.next_message()
                    taken += len(message["body"])
                    if not message["more_body"]:
                        return
