"""Who owns a key: one worker's memory, then Redis, then PostgreSQL. The walk comes here with a fingerprint.

    bindings = Bindings(cache, store, tasks, gateway settings…)      # in the lifespan, after Cache and Store
    bindings.start()                                                 # follows the invalidation channel, renews claims

    binding = bindings.peek(identity.fingerprint)                    # hot path: no await, memory only; None: not known here
    if binding is None:
        binding = await bindings.find(identity.fingerprint)          # None: nobody owns it. raises StoreUnavailable
    verdict = decide(binding, …)
    # verdict CLAIM
    outcome = await bindings.claim(identity, address, live)          # raises StoreUnavailable (failsafe decides)
    match outcome:
        case Binding(): ...                                          # it is owned by now: decide again on it
        case ClaimedElsewhere(): ...                                 # 403 key_bound_to_other_address, outcome.network
        case Claim():                                                # forward; then, before the response head:
            try:
                binding = await outcome.accept()                     # the binding that is there: judge it again
            finally:
                await outcome.release()                              # drops it unless accepted; any number of times
    # verdict LEARN
    binding = await bindings.learn(binding, address, live)           # raises StoreUnavailable; judge the answer again
"""

import msgspec

from proxy_core.contracts import Binding, ClientAddress, KeyIdentity, LiveSettings, Network


class ClaimedElsewhere(msgspec.Struct, frozen=True):
    """Another network's first request with this key is in flight; a value, because it makes an ordinary refusal."""

    network: Network


class Claim:
    """The right to be the first user of a key, held while one request is with the upstream."""

    network: Network
    joined: bool

    async def accept(self) -> Binding:
        """The upstream took the key. Never raises StoreUnavailable: see `Bindings.claim`."""
        raise NotImplementedError

    async def release(self) -> None:
        """The upstream refused the key, or was never asked. Idempotent, and nothing at all after `accept`."""
        raise NotImplementedError


class Bindings:
    def start(self) -> None:
        raise NotImplementedError

    def peek(self, fingerprint: bytes) -> Binding | None:
        raise NotImplementedError

    async def find(self, fingerprint: bytes) -> Binding | None:
        raise NotImplementedError

    async def claim(
        self, identity: KeyIdentity, address: ClientAddress, live: LiveSettings
    ) -> Claim | Binding | ClaimedElsewhere:
        raise NotImplementedError

    async def learn(self, binding: Binding, address: ClientAddress, live: LiveSettings) -> Binding:
        raise NotImplementedError
