"""What operators do to bindings: ban and unban, unbind, set networks, mode and note.

Where it stands in the walk: controllers call one function a request. Rows are locked in id order, changed with a
version of `binding_version_seq`, audited one by one, committed, and then published.

Rules for whoever edits this file:

- Decide on what the lock returned and change nothing that is as wanted already: a repeated request writes nothing.
- Every edit draws a new version, also of what gateways do not look at (notes): it is what a stale edit is told by.
- A write that has begun goes on when its client leaves: between commit and publication nothing may stop it.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import archiving
from admin_api.actors import Actor
from admin_api.alerts.raising import KEYS_SHOWN, Event
from admin_api.errors import InvalidInput, NotFound, Stale
from admin_api.operations import audit
from admin_api.operations.alerts import raise_event
from admin_api.operations.networks import parse_timed
from admin_api.operations.publishing import Change, changed, publish
from admin_api.repositories import bindings as repository
from admin_api.rooms import AdminRooms
from admin_api.schemas.alerts import AlertKind
from admin_api.schemas.bindings import BindingMode, BindingStatus, BindingView, Edited, SetNetworks, SetNote
from admin_api.schemas.common import Outcome, Result, Results

T = TypeVar("T")
Views = dict[int, BindingView]

SUBJECT = "binding"
DEADLOCK = "40P01"
ATTEMPTS = 3


class Written(msgspec.Struct, frozen=True):
    """What one transaction did: an outcome for each id that was found, and what gateways have to be told."""

    outcomes: dict[int, Outcome]
    changes: list[Change]
    views: Views = {}


Write = Callable[[AsyncSession], Awaitable[Written]]


async def ban(rooms: AdminRooms, actor: Actor, ids: Sequence[int], reason: str, expires_at: datetime | None) -> Results:
    """Raises InvalidInput for an expiry that is no future. Banning anew replaces reason and expiry."""
    if expires_at is not None and expires_at <= datetime.now(UTC):
        message = "lies in the past; leave it out for a ban without end"
        raise InvalidInput("the ban would be over already", faults=[{"field": "expires_at", "detail": message}])

    def differs(view: BindingView) -> bool:
        known = (view.status, view.ban_reason, view.ban_expires_at)
        return known != (BindingStatus.BANNED, reason, expires_at)

    async def write(session: AsyncSession) -> Written:
        values = {"reason": reason, "expires_at": expires_at}
        written = await _update(session, actor, "binding:ban", ids, reason, differs, _BAN, values)
        banned = [view for id_, view in written.views.items() if written.outcomes[id_] is Outcome.DONE]
        if banned:
            await raise_event(session, _ban_told(actor, banned, reason, expires_at))
        return written

    return await _in_bulk(rooms, ids, write)


def _ban_told(actor: Actor, banned: Sequence[BindingView], reason: str, expires_at: datetime | None) -> Event:
    """One alert for all of them."""
    one = banned[0] if len(banned) == 1 else None
    return Event(
        AlertKind.BINDING_BANNED,
        {
            "by": actor.name,
            "reason": reason,
            "expires_at": expires_at,
            "count": len(banned),
            "keys": [{"binding_id": view.id, "hint": view.hint} for view in banned[:KEYS_SHOWN]],
        },
        hint=one.hint if one else "",
        binding_id=one.id if one else None,
        fingerprint=bytes.fromhex(one.fingerprint) if one else None,
    )


async def unban(rooms: AdminRooms, actor: Actor, ids: Sequence[int], reason: str) -> Results:
    def differs(view: BindingView) -> bool:
        return view.status is BindingStatus.BANNED

    async def write(session: AsyncSession) -> Written:
        return await _update(session, actor, "binding:unban", ids, reason, differs, _UNBAN, {})

    return await _in_bulk(rooms, ids, write)


async def set_mode(rooms: AdminRooms, actor: Actor, ids: Sequence[int], mode: BindingMode, reason: str) -> Results:
    async def write(session: AsyncSession) -> Written:
        values = {"mode": None if mode is BindingMode.INHERIT else mode.value}
        return await _update(session, actor, "binding:mode", ids, reason, lambda v: v.mode is not mode, _MODE, values)

    return await _in_bulk(rooms, ids, write)


async def unbind(rooms: AdminRooms, actor: Actor, ids: Sequence[int], reason: str) -> Results:
    """Moves them into the archive; whoever uses such a key next owns it. Banned ones stay: anybody could use them."""

    async def write(session: AsyncSession) -> Written:
        found = await lock(session, ids)
        free = [view for view in found.values() if view.status is BindingStatus.ACTIVE]
        await session.execute(_ARCHIVE, {"ids": [view.id for view in free], "by": actor.name, "cause": "unbound"})
        deleted = await session.execute(_DELETE, {"ids": [view.id for view in free]})
        changes = [Change(row.key_hash, row.version, None) for row in deleted]
        await record(session, actor, "binding:unbind", reason, [(view, None) for view in free])
        gone = {view.id for view in free}
        return Written({id_: Outcome.DONE if id_ in gone else Outcome.BANNED for id_ in found}, changes)

    return await _in_bulk(rooms, ids, write)


async def set_networks(rooms: AdminRooms, actor: Actor, wanted: SetNetworks, version: int | None) -> Edited:
    """Raises InvalidInput, NotFound, and Stale if it is not at ``version`` any more."""
    ends = parse_timed(wanted.networks, datetime.now(UTC))

    async def write(session: AsyncSession) -> Written:
        view = await _lock_one(session, wanted.id, version)
        same = {each.network: each.expires_at for each in view.networks} == ends
        if same and wanted.note in (None, view.note):
            return Written({view.id: Outcome.UNCHANGED}, [], {view.id: view})
        if not same:
            await replace_networks(session, view.id, ends)
        values = {"note": view.note if wanted.note is None else wanted.note}
        return await _apply(session, actor, "binding:networks", {view.id: view}, [view], wanted.reason, _NOTE, values)

    return await _single(rooms, wanted.id, write)


async def set_note(rooms: AdminRooms, actor: Actor, wanted: SetNote, version: int | None) -> Edited:
    """Raises NotFound, and Stale if it is not at ``version`` any more."""

    async def write(session: AsyncSession) -> Written:
        view = await _lock_one(session, wanted.id, version)
        chosen = [] if view.note == wanted.note else [view]
        return await _apply(session, actor, "binding:note", {view.id: view}, chosen, "", _NOTE, {"note": wanted.note})

    return await _single(rooms, wanted.id, write)


# --- what the writes share -------------------------------------------------------------------------------------------


async def lock(session: AsyncSession, ids: Sequence[int]) -> Views:
    """Locked in id order, so that two writes never wait for each other; then read, so that nothing seen is old."""
    await session.execute(_LOCK, {"ids": list(ids)})
    return await repository.find_many(session, ids)


async def replace_networks(session: AsyncSession, binding_id: int, ends: Mapping[str, datetime | None]) -> None:
    """Those that stay keep their source and time, and get the end that an operator named, or none."""
    values = {
        "id": binding_id, "networks": [ipaddress.ip_network(each) for each in ends], "ends": list(ends.values())
    }  # fmt: skip
    await session.execute(_DROP_NETWORKS, values)
    await session.execute(_PUT_NETWORKS, values)


async def record(
    session: AsyncSession,
    actor: Actor,
    action: str,
    reason: str,
    pairs: Sequence[tuple[BindingView | None, BindingView | None]],
) -> None:
    """``pairs``: before and after of each; one of the two is there."""
    subjects = []
    for before, after in pairs:
        view = before or after
        assert view is not None  # noqa: S101 - see above
        states = [None if state is None else audited(state) for state in (before, after)]
        subjects.append(audit.Subject(str(view.id), view.hint, *states))
    await audit.record_many(session, actor, action, SUBJECT, subjects, reason=reason)


def audited(view: BindingView) -> dict[str, Any]:
    """What operators change of a binding; ``network_ends`` of those networks that do not stay for good."""
    ends = {each.network: each.expires_at for each in view.networks if each.expires_at is not None}
    return {
        "status": view.status.value,
        "ban_reason": view.ban_reason,
        "ban_expires_at": view.ban_expires_at,
        "mode": view.mode.value,
        "note": view.note,
        "networks": [each.network for each in view.networks],
        "version": view.version,
    } | ({"network_ends": ends} if ends else {})


async def commit_and_publish(rooms: AdminRooms, write: Write) -> tuple[Written, bool]:
    """Runs ``write`` in one transaction and tells the gateways, to the end, also when the client has left meanwhile."""
    return await asyncio.shield(rooms.tasks.start(_commit_and_publish(rooms, write), name="write to bindings"))


async def _commit_and_publish(rooms: AdminRooms, write: Write) -> tuple[Written, bool]:
    written = await _transact(rooms, write)
    return written, await publish(rooms, written.changes)


async def _transact(rooms: AdminRooms, write: Write) -> Written:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with rooms.sessions.begin() as session:
                return await write(session)
        except DBAPIError as fault:
            # Ingestion locks rows in the order of its own batch; PostgreSQL ends one of the two, and nothing was done.
            if attempt == ATTEMPTS or getattr(fault.orig, "sqlstate", None) != DEADLOCK:
                raise
    raise AssertionError("unreachable")


async def _in_bulk(rooms: AdminRooms, ids: Sequence[int], write: Write) -> Results:
    written, published = await commit_and_publish(rooms, write)
    results = [Result(id_, written.outcomes.get(id_, Outcome.NOT_FOUND)) for id_ in dict.fromkeys(ids)]
    return Results(results, published)


async def _single(rooms: AdminRooms, binding_id: int, write: Write) -> Edited:
    written, published = await commit_and_publish(rooms, write)
    return Edited(written.outcomes[binding_id], published, written.views[binding_id])


async def _lock_one(session: AsyncSession, binding_id: int, version: int | None) -> BindingView:
    view = (await lock(session, [binding_id])).get(binding_id)
    if view is None:
        raise NotFound("there is no binding with this id (any more)")
    if version is not None and version != view.version:
        raise Stale("the binding was changed since it was read", version=view.version)
    return view


async def _update(
    session: AsyncSession,
    actor: Actor,
    action: str,
    ids: Sequence[int],
    reason: str,
    differs: Callable[[BindingView], bool],
    statement: Any,
    values: dict[str, Any],
) -> Written:
    found = await lock(session, ids)
    chosen = [view for view in found.values() if differs(view)]
    return await _apply(session, actor, action, found, chosen, reason, statement, values)


async def _apply(
    session: AsyncSession,
    actor: Actor,
    action: str,
    found: Views,
    chosen: Sequence[BindingView],
    reason: str,
    statement: Any,
    values: dict[str, Any],
) -> Written:
    """``statement`` changes the chosen ones; it takes ``ids`` beside ``values``."""
    if not chosen:
        return Written(dict.fromkeys(found, Outcome.UNCHANGED), [], found)
    ids = [view.id for view in chosen]
    await session.execute(statement, {"ids": ids, **values})
    after = await repository.find_many(session, ids)
    await record(session, actor, action, reason, [(view, after[view.id]) for view in chosen])
    outcomes = {id_: Outcome.DONE if id_ in after else Outcome.UNCHANGED for id_ in found}
    return Written(outcomes, [changed(view) for view in after.values()], found | after)


# --- the statements --------------------------------------------------------------------------------------------------

_LOCK = text("SELECT id FROM binding WHERE id = ANY (:ids) ORDER BY id FOR UPDATE")

_BAN = text("""
UPDATE binding SET status = 'banned', ban_reason = :reason, ban_expires_at = :expires_at,
    version = nextval('binding_version_seq')
WHERE id = ANY (:ids)
""")

_UNBAN = text("""
UPDATE binding SET status = 'active', ban_reason = NULL, ban_expires_at = NULL, version = nextval('binding_version_seq')
WHERE id = ANY (:ids)
""")

_MODE = text("UPDATE binding SET mode = :mode, version = nextval('binding_version_seq') WHERE id = ANY (:ids)")

_NOTE = text("UPDATE binding SET note = :note, version = nextval('binding_version_seq') WHERE id = ANY (:ids)")

_DROP_NETWORKS = text(
    "DELETE FROM binding_network WHERE binding_id = :id AND network <> ALL (CAST(:networks AS cidr[]))"
)

_PUT_NETWORKS = text("""
INSERT INTO binding_network (binding_id, network, source, expires_at)
SELECT :id, network, 'operator', expires_at
FROM unnest(CAST(:networks AS cidr[]), CAST(:ends AS timestamptz[])) WITH ORDINALITY
    AS given (network, expires_at, place)
ORDER BY place
ON CONFLICT (binding_id, network) DO UPDATE SET expires_at = excluded.expires_at
    WHERE binding_network.expires_at IS DISTINCT FROM excluded.expires_at
""")

_ARCHIVE = archiving.for_session(archiving.ARCHIVE, "ids", "by", "cause")

_DELETE = archiving.for_session(archiving.DELETE, "ids")
