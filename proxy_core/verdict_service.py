"""The verdict service: may this request pass, for a proxy that forwards requests itself.

Where it stands in the walk: beside `handler`. `app` hands it what comes for `original.PATH`; who may ask, and about
which request, is settled here and in `original`; the rest is the same `intake` and `admission`, so that the verdict is
the one that the proxied request would have had, recorded once like that.

    200   may pass, with the credential headers of this answer and none of those that
          ``X-Envoy-Auth-Headers-To-Remove`` lists; ``X-Sentinel-Target`` replaces the request's target, and
          ``X-Real-IP`` is the address that was judged
    else  the refusal that the client is to get: status, headers, body
    403   to nginx, which keeps only headers of an ``auth_request``, with the refusal's status in ``X-Sentinel-Status``
          and its body in ``X-Sentinel-Body``

Rules for whoever edits this file:

- Who is not a trusted proxy learns nothing here, not even about itself.
- With ``bind_on=accepted`` a first use is settled before the verdict: the upstream's answer to the request is never
  seen, so it is asked about the key (`acceptance.KeyProbe`). While it cannot tell, nobody gets through with the key:
  a use without an owner would be a key with two users.
- A target that still holds the key is not forwarded: if the proxy cannot replace it, the request is refused.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from proxy_core.acceptance import KeyProbe
from proxy_core.admission import Admission, Question
from proxy_core.bindings import Claim
from proxy_core.client_ip import ClientAddressReader
from proxy_core.contracts import Reason, RequestHead
from proxy_core.credentials import Rewritten
from proxy_core.errors import RequestRefused, UpstreamCut, UpstreamError
from proxy_core.events import Events
from proxy_core.headers import CARRIERS, client_scheme
from proxy_core.intake import Intake, Story
from proxy_core.original import read_original, says_nginx
from proxy_core.replies import Reply
from proxy_core.verdict import Acceptance

log = structlog.get_logger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_PACKED_STATUS = 403
_TO_REMOVE = (*CARRIERS, b"api-key")


class VerdictRooms(msgspec.Struct, frozen=True):
    """What the service works with; `app` furnishes it."""

    intake: Intake
    admission: Admission
    addresses: ClientAddressReader
    events: Events
    probe: KeyProbe


class VerdictService:
    """A raw ASGI application. Answers whatever happens: a proxy takes no answer for a fault of its own."""

    def __init__(self, rooms: VerdictRooms) -> None:
        self._intake = rooms.intake
        self._admission = rooms.admission
        self._addresses = rooms.addresses
        self._events = rooms.events
        self._probe = rooms.probe

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:  # noqa: ARG002 - the body, if any, is not ours
        story = Story(scope, self._intake.next_request_id())
        try:
            reply = await self._judge(story)
        except RequestRefused as refused:
            reply = self._refused(story, scope, refused.status, refused.reason, refused.detail)
        except (UpstreamError, UpstreamCut) as failed:
            log.warning("cannot ask the upstream about a key", request_id=story.request_id.decode(), detail=str(failed))
            reply = self._refused(story, scope, failed.status, failed.reason, "")
        except Exception:
            log.exception("verdict failed unexpectedly", request_id=story.request_id.decode())
            reply = self._refused(story, scope, 500, Reason.INTERNAL_ERROR, "")
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})

    async def _judge(self, story: Story) -> Reply:
        asking = story.scope
        client = asking["client"]
        if not self._addresses.is_trusted(client[0] if client else ""):
            raise RequestRefused(403, Reason.PROXY_NOT_TRUSTED, "")
        original = read_original(asking)
        story.scope = original.scope(asking)
        story.target_stays = not original.rewritten_target
        head, rewritten = self._intake.read(story)
        if story.question is not None:
            claim = await self._admission.admit(story.question)
            if claim is not None:
                await self._settle(story, head, rewritten, story.question, claim)
        return _allowed(story, rewritten)

    async def _settle(
        self, story: Story, head: RequestHead, rewritten: Rewritten, question: Question, claim: Claim
    ) -> None:
        """Binds the key, or not, by what the upstream says of it. A key that it refuses may pass: it will say so."""
        try:
            acceptance = await self._probe.ask(
                dict(rewritten.headers)[b"authorization"],
                question.address,
                scheme=client_scheme(head, peer_is_trusted=story.peer_vouches, own=story.scope["scheme"].encode()),
                request_id=story.request_id,
            )
            if acceptance is Acceptance.ACCEPTED:
                await self._admission.confirm(question, claim)
                return
            self._events.count(acceptance.value)
            if acceptance is Acceptance.NOT_JUDGED:
                raise UpstreamError("its answer to GET /v1/models does not tell whether it takes the key")
        finally:
            await claim.release()

    def _refused(self, story: Story, asking: dict[str, Any], status: int, reason: Reason, detail: str) -> Reply:
        self._events.count(reason.value)
        reply = story.refusal(status, reason, detail)
        story.mark(reply.headers, timing=False)
        return _packed(reply) if says_nginx(asking) else reply


def _allowed(story: Story, rewritten: Rewritten) -> Reply:
    given = {name for name, _ in rewritten.headers}
    headers = [
        *rewritten.headers,
        (b"x-envoy-auth-headers-to-remove", b",".join(name for name in _TO_REMOVE if name not in given)),
        (b"x-sentinel-target", rewritten.target),
        (b"x-real-ip", story.address.encoded if story.address is not None else b""),
        (b"x-request-id", story.request_id),
        (b"cache-control", b"no-store"),
        (b"content-length", b"0"),
    ]
    return Reply(200, headers, b"")


def _packed(reply: Reply) -> Reply:
    """The same refusal with nothing but headers. Its body is JSON, which has no control characters."""
    headers = [line for line in reply.headers if line[0] != b"content-length"]
    headers += [
        (b"x-sentinel-status", b"%d" % reply.status),
        (b"x-sentinel-body", reply.body),
        (b"content-length", b"0"),
    ]
    return Reply(_PACKED_STATUS, headers, b"")
