"""What was committed, told to Redis and to every gateway worker: entry first, then the message, in version order.

Where it stands in the walk: the last step of every write to bindings, after its commit. A failure here never fails the
request: the write stands. It is told again in the background until Redis has heard it; should this process end before,
gateways see the change when they next compare the entry with PostgreSQL (`proxy_core.bindings.REFRESH_AFTER_S`).
"""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from admin_api.problems import POSTGRESQL_FAILURES
from admin_api.repositories import bindings as repository
from admin_api.rooms import AdminRooms, Newsroom
from admin_api.schemas.bindings import BindingView
from proxy_core.contracts import Binding
from proxy_core.errors import StoreUnavailable

log = structlog.get_logger(__name__)

AT_ONCE = 16
"""Below the pool of `Cache`, which others use too."""

RETRY_EVERY_S = 1.0
RETRY_BATCH = 200


class Change(msgspec.Struct, frozen=True):
    """One key's committed state; ``binding`` None: unbound, with the version that the deletion drew."""

    fingerprint: bytes
    version: int
    binding: Binding | None


def changed(view: BindingView) -> Change:
    """As the data plane reads a binding."""
    fingerprint = bytes.fromhex(view.fingerprint)
    return Change(fingerprint, view.version, repository.to_binding(view))


async def publish(rooms: AdminRooms | Newsroom, changes: Sequence[Change]) -> bool:
    """True: every gateway that hears Redis has been told. False: it goes on in the background."""
    unheard = await _tell(rooms, changes)
    if unheard:
        log.warning("redis could not be told of changed bindings, trying again", bindings=len(unheard))
        rooms.tasks.start(_tell_until_heard(rooms, unheard), name="late news of bindings")
    return not unheard


async def _tell(rooms: AdminRooms | Newsroom, changes: Sequence[Change]) -> list[Change]:
    """Those that Redis has not confirmed, in order."""
    unheard: list[Change] = []
    for start in range(0, len(changes), AT_ONCE):
        some = changes[start : start + AT_ONCE]
        answers = await asyncio.gather(
            *(rooms.cache.publish_change(each.fingerprint, each.version, each.binding) for each in some),
            return_exceptions=True,
        )
        for change, answer in zip(some, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                unheard.append(change)
            elif isinstance(answer, BaseException):
                raise answer
    return unheard


async def _tell_until_heard(rooms: AdminRooms | Newsroom, unheard: list[Change]) -> None:
    while unheard:
        await asyncio.sleep(RETRY_EVERY_S)
        some, rest = unheard[:RETRY_BATCH], unheard[RETRY_BATCH:]
        try:
            left = await _tell(rooms, await _as_now(rooms, some))
        except (SQLAlchemyError, *POSTGRESQL_FAILURES):
            left = some
        unheard = left + rest
    log.info("redis has been told of the changed bindings")


async def _as_now(rooms: AdminRooms | Newsroom, changes: list[Change]) -> list[Change]:
    """Late news is read again: of an entry that is gone meanwhile Redis could not see that the news is old.

    Of a key that nobody owns any more the old version is told, which overwrites nothing that is newer.
    """
    async with rooms.sessions() as session:
        found = await repository.find_keys(session, [change.fingerprint for change in changes])
    return [
        changed(view)
        if (view := found.get(change.fingerprint.hex())) is not None
        else Change(change.fingerprint, change.version, None)
        for change in changes
    ]
