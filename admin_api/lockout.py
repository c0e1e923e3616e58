"""Failed sign-ins: who has to wait, and for how long. Counted in Redis, so that every gateway knows.

Where it stands in the walk: `operations.sessions` asks before it looks at a password, and says afterwards that the
password was right. An attempt counts as failed until then, so that a thousand at once are no way around.

Rules for whoever edits this file:

- A pair of account and address is refused after PAIR_FREE failures, an address after ADDRESS_FREE, for a time that
  doubles with each further one. Neither touches anybody at another address.
- An account that is tried from everywhere is never refused. Strangers to it wait a moment first; an address from which
  it was signed in to before does not even wait, and is spared the limit of its address (its pair's limit stays).
- `Tally` and the Lua text are one rule in two languages; tests hold both to it.
- While Redis is away each process counts for itself, in bounded memory.
"""

import asyncio
import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, cast

import msgspec
import structlog
from redis.asyncio import Redis

from admin_api.errors import TooManyAttempts
from proxy_core import keyspace
from proxy_core.cache import FAILURES

log = structlog.get_logger(__name__)

PAIR_FREE: Final = 8
ADDRESS_FREE: Final = 40
ACCOUNT_FREE: Final = 30
FIRST_WAIT_S: Final = 5
LONGEST_WAIT_S: Final = 900
LONGEST_PAUSE_S: Final = 3.0
REMEMBERED_MAX: Final = 10_000
IPV6_PREFIX: Final = 64

# KEYS: counters. ARGV: lifetime; then for each counter how many failures are free. All or nothing is counted.
ADMIT = """
local now = tonumber(redis.call('TIME')[1])
local longest = 0
for index, key in ipairs(KEYS) do
  local lifted = tonumber(redis.call('HGET', key, 'lifted') or '0')
  if lifted - now > longest then longest = lifted - now end
end
if longest > 0 then return longest end
for index, key in ipairs(KEYS) do
  local over = redis.call('HINCRBY', key, 'failures', 1) - tonumber(ARGV[index + 3])
  if over >= 0 then
    redis.call('HSET', key, 'lifted', now + math.min(tonumber(ARGV[3]), tonumber(ARGV[2]) * 2 ^ math.min(over, 20)))
  end
  redis.call('EXPIRE', key, ARGV[1])
end
return 0
"""

# KEYS: the pair, which is forgotten, and the counters that this attempt is taken back from. ARGV: the free failures.
TAKE_BACK = """
redis.call('DEL', KEYS[1])
for index = 2, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then
    local failures = redis.call('HINCRBY', KEYS[index], 'failures', -1)
    if failures < tonumber(ARGV[index - 1]) then redis.call('HDEL', KEYS[index], 'lifted') end
  end
end
return 0
"""


class Attempt(NamedTuple):
    """One sign-in. ``account`` is opaque; a password change alters it, so that a reset ends the pair's wait."""

    account: str
    address: str | None
    stranger: bool

    @property
    def pair(self) -> str:
        return _digest("pair", self.account, network_of(self.address))

    @property
    def counters(self) -> list[tuple[str, int]]:
        """Each counter that may refuse it, with its free failures; the pair first."""
        counters = [(self.pair, PAIR_FREE)]
        if self.stranger:
            counters.append((_digest("address", network_of(self.address)), ADDRESS_FREE))
        return counters


class Tally(msgspec.Struct):
    """Failures of one counter, and the Unix second until which it refuses."""

    failures: int = 0
    lifted_at: float = 0.0

    def count(self, free: int, now: float) -> None:
        self.failures += 1
        over = self.failures - free
        if over >= 0:
            self.lifted_at = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(over, 20))


class Lockout:
    """One a process. ``clock`` gives Unix seconds, ``sleep`` waits some."""

    def __init__(
        self,
        redis: Redis,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._sleep = sleep
        self._own: OrderedDict[str, Tally] = OrderedDict()

    async def admit(self, attempt: Attempt) -> None:
        """Counts the attempt as failed and lets it go on, perhaps after a pause. Raises TooManyAttempts."""
        counters = attempt.counters
        try:
            wait_s = await self._ask(
                ADMIT,
                [keyspace.login_failures(name) for name, _ in counters],
                [keyspace.LOGIN_FAILURES_TTL_S, FIRST_WAIT_S, LONGEST_WAIT_S, *(free for _, free in counters)],
            )
            tried = await self._count_account(attempt) if attempt.stranger and not wait_s else 0
        except FAILURES as error:
            log.warning("redis does not count sign-ins, this process does", failure=type(error).__name__)
            wait_s, tried = self._admit_alone(counters), 0
        if wait_s:
            log.warning("sign-in refused for a while", address=attempt.address, retry_after_s=wait_s)
            raise TooManyAttempts("wait, then try again", retry_after_s=wait_s)
        if tried > ACCOUNT_FREE:
            await self._sleep(min(LONGEST_PAUSE_S, 0.1 * (tried - ACCOUNT_FREE)))

    async def succeeded(self, attempt: Attempt) -> None:
        """Takes the attempt back: the pair begins anew, its address has one failure less."""
        counters = attempt.counters
        for name, free in counters:
            self._take_back_alone(name, free, whole=name == counters[0][0])
        try:
            await self._ask(
                TAKE_BACK, [keyspace.login_failures(name) for name, _ in counters], [free for _, free in counters[1:]]
            )
        except FAILURES as error:
            log.warning("redis does not take a sign-in back", failure=type(error).__name__)

    async def _ask(self, script: str, keys: list[str], arguments: list[int]) -> int:
        return int(await cast("Awaitable[Any]", self._redis.eval(script, len(keys), *keys, *map(str, arguments))))

    async def _count_account(self, attempt: Attempt) -> int:
        key = keyspace.login_failures(_digest("account", attempt.account))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, keyspace.LOGIN_FAILURES_TTL_S)
            tried, _ = await pipe.execute()
        return int(tried)

    def _admit_alone(self, counters: list[tuple[str, int]]) -> int:
        now = self._clock()
        tallies = [self._own.setdefault(name, Tally()) for name, _ in counters]
        longest = max(tally.lifted_at for tally in tallies) - now
        if longest <= 0:
            for (name, free), tally in zip(counters, tallies, strict=True):
                if tally.lifted_at and now - tally.lifted_at > keyspace.LOGIN_FAILURES_TTL_S:
                    tally.failures = 0
                tally.count(free, now)
                self._own.move_to_end(name)
        while len(self._own) > REMEMBERED_MAX:
            self._own.popitem(last=False)
        return max(0, int(-(-longest // 1)))

    def _take_back_alone(self, name: str, free: int, *, whole: bool) -> None:
        tally = self._own.get(name)
        if tally is None:
            return
        tally.failures = 0 if whole else max(0, tally.failures - 1)
        if tally.failures < free:
            tally.lifted_at = 0.0


def network_of(address: str | None) -> str:
    """What counts as one address: an IPv6 network of 64 bits is one customer. Unknown addresses are one."""
    if address is None:
        return "unknown"
    if ipaddress.ip_address(address).version == 4:
        return address
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def _digest(*parts: str) -> str:
    """Names in Redis have a fixed length, and do not show what people typed for a name."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
