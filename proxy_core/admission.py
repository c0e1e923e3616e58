"""Admission: whether a request with a key may pass, from memory if possible, and what is recorded of that.

Where it stands in the walk: `handler` comes with a `Question` once it knows key and address. `bindings` knows owners,
`verdict` decides, `events` gets every verdict that is final, exactly once a request.

Rules for whoever edits this file:

- `passes_by_memory` is on the way of nearly every request: no await, nothing allocated that is not kept.
- A first use is admitted before it owns anything: it comes back with its claim when the upstream has answered, and is
  judged again by what PostgreSQL then holds.
- A refusal is raised, so that no caller can overlook it.
"""

import msgspec
import structlog

from proxy_core.bindings import Bindings, Claim, ClaimedElsewhere
from proxy_core.contracts import INTERCEPTS, Action, Binding, ClientAddress, KeyIdentity, LiveSettings, Verdict
from proxy_core.errors import RequestRefused, StoreUnavailable
from proxy_core.events import Events
from proxy_core.verdict import ALLOWED, REFUSED_ELSEWHERE, STATUS, Acceptance, elsewhere, failsafe, judge, may_claim

log = structlog.get_logger(__name__)


class Question(msgspec.Struct, frozen=True, gc=False):
    """May this key be used from this address? With what is recorded if it may not.

    ``now`` in Unix seconds. ``peer`` is the TCP peer, a trusted proxy if it is not the address itself.
    """

    identity: KeyIdentity
    address: ClientAddress
    live: LiveSettings
    now: float
    method: str
    path: bytes
    upgrade: bytes
    user_agent: bytes
    peer: str


class Admission:
    def __init__(self, bindings: Bindings, events: Events) -> None:
        self._bindings = bindings
        self._events = events

    def passes_by_memory(self, fingerprint: bytes, address: ClientAddress, live: LiveSettings, now: float) -> bool:
        """True: it may pass and is recorded. False: ask `admit`."""
        binding = self._bindings.peek(fingerprint)
        if binding is None or judge(binding, address, live, now, may_claim=True) is not ALLOWED:
            return False
        self._events.touch(binding.id, fingerprint, address.text, now)
        return True

    async def admit(self, question: Question) -> Claim | None:
        """A claim if this request may become the key's owner: `confirm` or release it. Raises RequestRefused."""
        try:
            return await self._admit(question)
        except StoreUnavailable as exc:
            verdict = failsafe(question.live)
            log.warning("cannot tell who owns a key", detail=str(exc), action=verdict.action.value)
            self._events.count("failsafe")
            self._conclude(question, verdict, None)
            return None

    async def confirm(self, question: Question, claim: Claim) -> None:
        """The upstream took the key: stores the binding. Raises RequestRefused if another address was first."""
        binding = await claim.accept()
        verdict = judge(binding, question.address, question.live, question.now, may_claim=True)
        try:
            await self._conclude_or_learn(question, verdict, binding)
        except StoreUnavailable:
            self._conclude(question, REFUSED_ELSEWHERE, binding)

    async def settle(self, question: Question | None, claim: Claim, acceptance: Acceptance) -> None:
        """What the upstream made of a first use: binds the key, or not. Raises RequestRefused as `confirm` does."""
        if acceptance is Acceptance.ACCEPTED and question is not None:
            await self.confirm(question, claim)
        else:
            self._events.count(acceptance.value)
            await claim.release()

    async def _admit(self, question: Question) -> Claim | None:
        live, address, now = question.live, question.address, question.now
        bindings = self._bindings
        claims = may_claim(question.method, question.upgrade, live)
        fingerprint = question.identity.fingerprint
        binding = bindings.peek(fingerprint) or await bindings.find(fingerprint)
        verdict = judge(binding, address, live, now, may_claim=claims)
        if verdict.action is Action.CLAIM:
            outcome = await bindings.claim(question.identity, address, live)
            if isinstance(outcome, Claim):
                return outcome
            if isinstance(outcome, ClaimedElsewhere):
                self._conclude(question, elsewhere(live.mode), None, (outcome.network.text,))
                return None
            binding = outcome
            verdict = judge(binding, address, live, now, may_claim=True)
        await self._conclude_or_learn(question, verdict, binding)
        return None

    async def _conclude_or_learn(self, question: Question, verdict: Verdict, binding: Binding | None) -> None:
        if verdict.action is Action.LEARN and binding is not None:
            live = question.live
            binding = await self._bindings.learn(binding, question.address, live)
            verdict = judge(binding, question.address, live, question.now, may_claim=True)
            if verdict.action is Action.LEARN:  # what is stored has no room, whatever this worker's settings say
                verdict = elsewhere(binding.mode or live.mode)
        self._conclude(question, verdict, binding)

    def _conclude(
        self, question: Question, verdict: Verdict, binding: Binding | None, networks: tuple[str, ...] = ()
    ) -> None:
        """Records a final verdict and raises it if it is a refusal."""
        events, reason = self._events, verdict.reason
        refused = verdict.action is Action.REFUSE
        if binding is not None:
            networks = tuple(bound.network.text for bound in binding.networks)
            if not refused and binding.id:
                events.touch(binding.id, binding.fingerprint, question.address.text, question.now)
        elif not refused and reason is None:
            events.count("allowed_unbound")
        if reason in INTERCEPTS:
            events.intercept(
                question.identity,
                question.address,
                reason,
                enforced=refused,
                bound_networks=networks,
                method=question.method,
                path=question.path,
                user_agent=question.user_agent,
                now=question.now,
                peer=question.peer,
            )
        if refused and reason is not None:
            raise RequestRefused(STATUS[reason], reason, "")
