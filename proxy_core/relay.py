"""The relay: the life of one WebSocket, from its handshake to its close.

Where it stands in the walk: `app` hands every WebSocket scope here. The handshake is read, decided and written like any
request (`intake`, `admission`), so that nothing can be done through a WebSocket that HTTP refuses. What is refused, by
us or by the upstream, is a plain HTTP answer. After ``101`` messages go both ways, each awaited, until one side closes.

Rules for whoever edits this file:

- Nothing is accepted before the upstream has accepted, and a first use is bound before the client is told.
- One message at a time in each direction: whoever does not take a message is sent no other, and makes the other wait.
- A socket that broke is never closed as if it had ended: the client is told 1011, the upstream 1001.
- Three may end a socket, the client, the upstream and ourselves (`end`). The first one decides, and both are told.
- Granian's end of the socket has no fragments, no pings, no extensions, and no reason of the client's close; it cannot
  tell a client that left from one that closed without a code. The table in README.md says what that means.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from websockets.utils import accept_key, generate_key

from proxy_core.bindings import Claim
from proxy_core.concurrency import Seats
from proxy_core.contracts import Reason
from proxy_core.credentials import Rewritten, selected_protocol
from proxy_core.errors import ClientGone, ProxyError, RequestRefused, UpstreamCut, UpstreamError, UpstreamTimeout
from proxy_core.exchange import SWITCHING, Connection, ResponseHead
from proxy_core.frames import UpstreamSocket
from proxy_core.handler import Gateway, Rooms, Send
from proxy_core.headers import response_headers
from proxy_core.intake import Story
from proxy_core.replies import Reply
from proxy_core.roster import KEY_RELEASED
from proxy_core.verdict import Acceptance, upstream_accepted
from proxy_core.watch import Client, Outlet

log = structlog.get_logger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]

REFUSAL_MAX_BYTES = 1024 * 1024
"""How much of the upstream's answer instead of ``101`` is passed on: the server takes it in one piece only."""

MIB = 1024 * 1024

GOODBYE_LIMIT_S = 1.0
"""How long each end may take to be told of the close."""

GOING_AWAY, NO_STATUS, POLICY, TOO_BIG, INTERNAL = 1001, 1005, 1008, 1009, 1011

_REVOKED = {
    Reason.KEY_BANNED: "this API key was banned",
    Reason.KEY_BOUND_TO_OTHER_ADDRESS: "this API key was bound to another network address",
    KEY_RELEASED: "this API key was released; connect again",
}


class RelayLimits(msgspec.Struct, frozen=True):
    """``message_bytes`` and ``handshake_s`` 0: none. ``send_s``: how long the upstream may refuse to take a message."""

    message_bytes: int
    handshake_s: float
    send_s: float


class Ending(msgspec.Struct, frozen=True):
    """Who is told what. None: nothing, since it has left or closed itself; `NO_STATUS`: a close without a code."""

    client: int | None
    upstream: int | None
    reason: str = ""


class SocketOutlet(Outlet):
    """What the client of a socket is given: one message, which has the time of the limit for each MiB that it begins.

    ``on_end`` is told why it has to end; ``message_length`` is in bytes, of a text in characters.
    """

    __slots__ = ("_on_end", "message_length")

    def __init__(self, client: Client | None, on_end: Callable[[ProxyError], object]) -> None:
        super().__init__(client)
        self._on_end = on_end
        self.message_length = 0

    def stalls(self, now: float, limit_s: float) -> bool:
        return super().stalls(now, limit_s * (1 + self.message_length // MIB))

    def fail(self, error: ProxyError) -> None:
        self._on_end(error)


class Session(Story):
    """A handshake's story and the socket that came of it, if ``accepted``. ``ending``: how we end it ourselves."""

    __slots__ = ("accepted", "claim", "ending", "receive", "seats", "send")

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send, request_id: bytes) -> None:
        # A handshake is a GET, and is judged and forwarded as one, whatever method the server let pass for it.
        super().__init__(
            scope | {"method": "GET", "scheme": "https" if scope["scheme"] == "wss" else "http"}, request_id
        )
        self.receive = receive
        self.send = send
        self.claim: Claim | None = None
        self.seats: Seats = ()
        self.accepted = False
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def end(self, ending: Ending) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)

    def revoke(self, reason: str) -> None:
        """The key may not be used from there any more; called by the roster."""
        self.end(Ending(POLICY, GOING_AWAY, f"{reason}: {_REVOKED[reason]}"))


class Relay:
    """The raw ASGI application for WebSockets, beside the gateway whose rooms it shares."""

    def __init__(self, rooms: Rooms, gateway: Gateway, limits: RelayLimits) -> None:
        self._rooms = rooms
        self._gateway = gateway
        self._limits = limits
        self._sessions: set[Session] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        story = Session(scope, receive, send, self._rooms.intake.next_request_id())
        self._sessions.add(story)
        try:
            await receive()  # websocket.connect
            await self._answer(story)
        except RequestRefused as refused:
            await self._refuse(story, refused.status, refused.reason, refused.detail)
        except ClientGone:  # during the handshake
            self._rooms.events.count("client_gone")
        except (UpstreamError, UpstreamCut) as failed:
            log.warning("websocket not opened", request_id=story.request_id.decode(), detail=str(failed))
            await self._refuse(story, failed.status, failed.reason, "")
        except Exception:
            log.exception("websocket failed unexpectedly", request_id=story.request_id.decode())
            if story.accepted:
                await _goodbye(story, Ending(INTERNAL, None, "the gateway failed"))
            else:
                await self._refuse(story, 500, Reason.INTERNAL_ERROR, "")
        finally:
            self._sessions.discard(story)
            self._rooms.concurrency.leave(story.seats)
            if story.claim is not None:
                await story.claim.release()

    def close(self) -> None:
        """The server is stopping. It drops open sockets as soon as it is told to, so both ends are told at once."""
        for story in self._sessions:
            story.end(Ending(GOING_AWAY, GOING_AWAY, "the gateway is stopping"))

    # -- the handshake

    async def _answer(self, story: Session) -> None:
        intake = self._rooms.intake
        head, rewritten = intake.read(story)
        if not head.upgrade or story.scope["http_version"] != "1.1":
            # The server took it for a handshake and has promised to switch: it cannot be passed on as anything else.
            raise RequestRefused(400, Reason.MALFORMED_REQUEST, "the WebSocket handshake is malformed")
        websocket_key = generate_key()
        request = intake.write_head(story, head, rewritten, websocket_key=websocket_key.encode())
        if story.question is not None:
            story.claim = await self._rooms.admission.admit(story.question)
        if (story.live.max_concurrent_per_key or story.live.max_concurrent_per_address) and story.address is not None:
            story.seats = await self._rooms.concurrency.enter(story.live, story.fingerprint, story.address)
        self._gateway.added_time.add(story.decided())
        entry = None
        if story.fingerprint is not None and story.address is not None:
            entry = self._rooms.roster.enter(story.fingerprint, story.address, story.revoke, persistent=True)
        try:
            await self._open(story, request, websocket_key, rewritten)
        finally:
            if entry is not None:
                self._rooms.roster.leave(entry)

    async def _open(self, story: Session, request: bytes, websocket_key: str, sent: Rewritten) -> None:
        connection = await self._rooms.upstream.acquire()
        connection.begin(bodiless=False)
        connection.expect_upgrade()
        try:
            connection.write(request)
            response, body = await self._answer_of(connection, story)
            self._gateway.note_answer(response.status)
            if response.status == SWITCHING:
                await self._switch(story, connection, response, websocket_key, sent)
            else:
                await self._settle(story, response, body)
                await self._deny(story, Reply(response.status, response_headers(response.headers), body))
        finally:
            self._rooms.upstream.release(connection)

    async def _answer_of(self, connection: Connection, story: Session) -> tuple[ResponseHead, bytes]:
        """To the handshake, with its body unless it is ``101``. Raises ClientGone when nobody waits for it any more."""
        caller = SocketOutlet(story.scope["client"], connection.fail)
        self._rooms.watch.enter_caller(caller)
        try:
            async with asyncio.timeout(self._limits.handshake_s or None):
                response = await connection.response_head()
                return response, b"" if response.status == SWITCHING else await _whole_body(connection)
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not answer a handshake in time") from None
        finally:
            self._rooms.watch.leave_caller(caller)

    async def _settle(self, story: Session, response: ResponseHead, body: bytes) -> None:
        """Binds a first use by what the upstream made of it, as `handler` does."""
        if story.claim is None:
            return
        if response.status == SWITCHING:
            acceptance = Acceptance.ACCEPTED
        else:
            content_type = next((value for name, value in response.headers if name == b"content-type"), b"")
            acceptance = upstream_accepted(response.status, content_type, body, self._rooms.profile)
        await self._rooms.admission.settle(story.question, story.claim, acceptance)

    async def _switch(
        self, story: Session, connection: Connection, response: ResponseHead, websocket_key: str, sent: Rewritten
    ) -> None:
        protocol = _check_switch(response, websocket_key, sent)
        await self._settle(story, response, b"")
        self._rooms.events.count("websocket_opened")
        story.accepted = True
        await story.send({"type": "websocket.accept", "subprotocol": protocol})
        limits = self._limits
        socket = UpstreamSocket(connection, max_message_bytes=limits.message_bytes, send_limit_s=limits.send_s)
        ending = await self._move(story, socket)
        await self._finish(story, socket, ending)

    # -- the messages

    async def _move(self, story: Session, socket: UpstreamSocket) -> Ending:
        """Both ways until the first end. What the upstream closed with counts more than what the client did then."""
        if story.ending.done():  # while the upstream thought about the handshake
            return story.ending.result()
        outlet = SocketOutlet(story.scope["client"], functools.partial(self._stalled, story))
        self._rooms.watch.enter_socket(outlet)
        down = asyncio.create_task(self._down(story, socket, outlet))
        up = asyncio.create_task(self._up(story, socket))
        try:
            await asyncio.wait((down, up, story.ending), return_when=asyncio.FIRST_COMPLETED)
            first = next(task for task in (story.ending, down, up) if task.done())
            return first.result()
        finally:
            self._rooms.watch.leave_socket(outlet)
            for task in (down, up):
                task.cancel()
            await asyncio.wait((down, up), timeout=GOODBYE_LIMIT_S)
            outlet.forget()

    async def _up(self, story: Session, socket: UpstreamSocket) -> Ending:
        limit = self._limits.message_bytes
        try:
            while True:
                event = await story.receive()
                if event["type"] == "websocket.disconnect":
                    return Ending(None, event.get("code", NO_STATUS))
                text = event.get("text")
                data = event["bytes"] if text is None else text.encode()
                if limit and len(data) > limit:
                    return Ending(TOO_BIG, GOING_AWAY, f"a message may have {limit} bytes")
                await socket.send(data, text=text is not None)
        except ProxyError as broken:
            return self._broken(story, broken)
        except RuntimeError:  # the server's: the client has left
            return Ending(None, NO_STATUS)

    async def _down(self, story: Session, socket: UpstreamSocket, outlet: SocketOutlet) -> Ending:
        send = story.send
        try:
            while (message := await socket.receive()) is not None:
                kind = "text" if isinstance(message, str) else "bytes"
                outlet.message_length = len(message)
                outlet.sending = send({"type": "websocket.send", kind: message})
                await outlet.sending
                outlet.sending = None
        except ProxyError as broken:
            return self._broken(story, broken)
        except RuntimeError:  # the server's: the client has left
            return Ending(None, NO_STATUS)
        if socket.fault is not None:
            log.warning(
                "websocket closed", request_id=story.request_id.decode(), detail=f"the upstream's {socket.fault!r}"
            )
            code = TOO_BIG if socket.fault == TOO_BIG else INTERNAL
            return Ending(code, None, "the model API behind this gateway sent what cannot be passed on")
        closed = socket.close_received
        return Ending(closed.code, None, closed.reason) if closed is not None else Ending(INTERNAL, None)

    def _stalled(self, story: Session, stalled: ProxyError) -> None:
        """Called by the watch, which hangs up then. The client is told nothing: it would not read that either."""
        log.info("cut a client", request_id=story.request_id.decode(), detail=str(stalled))
        self._rooms.events.count("client_stalled")
        story.end(Ending(None, GOING_AWAY, "the client did not take a message in time"))

    def _broken(self, story: Session, broken: ProxyError) -> Ending:
        log.warning("websocket broken off", request_id=story.request_id.decode(), detail=str(broken))
        self._rooms.events.count("response_broken")
        return Ending(INTERNAL, GOING_AWAY, "the model API behind this gateway broke the connection off")

    # -- the end

    async def _finish(self, story: Session, socket: UpstreamSocket, ending: Ending) -> None:
        client = asyncio.create_task(_goodbye(story, ending))
        await socket.close(ending.upstream, ending.reason, limit_s=GOODBYE_LIMIT_S)
        await asyncio.wait((client,), timeout=GOODBYE_LIMIT_S)
        client.cancel()

    # -- refusing

    async def _refuse(self, story: Session, status: int, reason: Reason, detail: str) -> None:
        self._rooms.events.count(reason.value)
        await self._deny(story, story.refusal(status, reason, detail))

    async def _deny(self, story: Session, reply: Reply) -> None:
        """A plain answer instead of the switch."""
        headers = story.mark(reply.headers, timing=self._rooms.server_timing)
        with contextlib.suppress(RuntimeError):  # the server's: the client has left
            await story.send({"type": "websocket.http.response.start", "status": reply.status, "headers": headers})
            await story.send({"type": "websocket.http.response.body", "body": reply.body, "more_body": False})


async def _goodbye(story: Session, ending: Ending) -> None:
    if ending.client not in (None, NO_STATUS):  # without a code: the server does that by itself
        with contextlib.suppress(RuntimeError):
            await story.send({"type": "websocket.close", "code": ending.client, "reason": ending.reason})


async def _whole_body(connection: Connection) -> bytes:
    body = b""
    while chunk := await connection.read():
        body += chunk
        if len(body) > REFUSAL_MAX_BYTES:
            raise UpstreamError("the upstream's answer to a handshake is too long to be passed on")
    return body


def _check_switch(response: ResponseHead, websocket_key: str, sent: Rewritten) -> str | None:
    """The subprotocol that the upstream selected. Raises UpstreamError for a switch to anything but what was asked."""

    def values(name: bytes) -> list[bytes]:
        return [value for line, value in response.headers if line == name]

    upgrades = [value.lower() for value in values(b"upgrade")]
    if upgrades != [b"websocket"] or values(b"sec-websocket-accept") != [accept_key(websocket_key).encode()]:
        raise UpstreamError("the upstream switched to something that is not this WebSocket")
    if values(b"sec-websocket-extensions"):
        raise UpstreamError("the upstream uses a WebSocket extension that was not offered")
    try:
        return selected_protocol(sent, values(b"sec-websocket-protocol"))
    except ValueError as exc:
        raise UpstreamError(str(exc)) from None
