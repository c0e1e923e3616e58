"""Importing bindings from JSON lines: read, planned and written some hundred at a time, each lot in one transaction.

Where it stands in the walk: `POST bindings/import` hands the body over as it arrives. Memory holds one lot and the
report. A lot that is written stays written when a later one fails: importing the same again changes nothing.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import keys
from admin_api.actors import Actor
from admin_api.errors import InvalidInput
from admin_api.operations.bindings import Written, audited, commit_and_publish, record
from admin_api.operations.networks import parse
from admin_api.operations.publishing import changed
from admin_api.repositories import bindings as repository
from admin_api.rooms import AdminRooms
from admin_api.schemas.bindings import (
    NETWORKS_IN_LISTS,
    BindingMode,
    BindingStatus,
    BindingView,
    ImportChange,
    ImportedNetwork,
    ImportFault,
    ImportLine,
    ImportReport,
)
from admin_api.schemas.common import Outcome
from proxy_core.credentials import Credentials

LINE_MAX_BYTES = 1024 * 1024
LOT_LINES = 200
LOT_BYTES = 1024 * 1024
SHOWN = 1000
NO_HINT = "…"
BOM = b"\xef\xbb\xbf"


class Network(msgspec.Struct, frozen=True):
    network: str
    expires_at: datetime | None


class Wanted(msgspec.Struct, frozen=True):
    """One binding as it shall be; ``_UPSERT`` and ``_PUT_NETWORKS`` read it as JSON."""

    fingerprint: str
    hint: str
    status: BindingStatus
    ban_reason: str | None
    ban_expires_at: datetime | None
    mode: str | None
    note: str
    networks: list[Network]
    first_used_at: datetime
    last_used_at: datetime


class Item(msgspec.Struct, frozen=True):
    """A line that can be read: its number, what it says, and whose key it is about."""

    number: int
    line: ImportLine
    fingerprint: str
    hint: str
    networks: list[Network] | None


class Report:
    """Counts, and the first of what is told one by one."""

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.created = self.updated = self.unchanged = self.failed = 0
        self.published = True
        self.faults: list[ImportFault] = []
        self.changes: list[ImportChange] = []

    def fault(self, number: int, message: str) -> None:
        self.failed += 1
        if len(self.faults) < SHOWN:
            self.faults.append(ImportFault(number, message))

    def change(self, item: Item, before: BindingView | None, wanted: Wanted) -> None:
        if before is None:
            self.created += 1
        else:
            self.updated += 1
        if len(self.changes) < SHOWN:
            told = None if before is None else _told(audited(before))
            self.changes.append(
                ImportChange(item.number, item.fingerprint, wanted.hint, told, _told(_as_audited(wanted)))
            )

    def finished(self) -> ImportReport:
        return ImportReport(
            self.dry_run,
            self.created,
            self.updated,
            self.unchanged,
            self.failed,
            self.published,
            self.faults,
            self.changes,
        )


async def import_lines(rooms: AdminRooms, actor: Actor, body: AsyncIterator[bytes], *, dry_run: bool) -> ImportReport:
    """Never raises for what a line says: that is in the report."""
    report = Report(dry_run=dry_run)
    lot: dict[str, Item] = {}
    size = 0
    async for number, raw in _lines(body, report):
        item = _read(rooms.credentials, number, raw, report)
        if item is None:
            continue
        # Of two lines about one key the second has to find what the first made of it.
        if item.fingerprint in lot or len(lot) >= LOT_LINES or size + len(raw) > LOT_BYTES:
            await _write(rooms, actor, list(lot.values()), report)
            lot, size = {}, 0
        lot[item.fingerprint] = item
        size += len(raw)
    await _write(rooms, actor, list(lot.values()), report)
    return report.finished()


async def _lines(body: AsyncIterator[bytes], report: Report) -> AsyncIterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, without blank ones; of one that is too long only the fault is kept."""
    rest = b""
    number = 0
    skipping = False
    async for chunk in body:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            if skipping or len(line) > LINE_MAX_BYTES:
                skipping = False
                report.fault(number, f"is longer than {LINE_MAX_BYTES} bytes")
            elif line.strip():
                yield number, line
        if len(rest) > LINE_MAX_BYTES:
            rest, skipping = b"", True
    if skipping:
        report.fault(number + 1, f"is longer than {LINE_MAX_BYTES} bytes")
    elif rest.strip():
        yield number + 1, rest


def _read(credentials: Credentials, number: int, raw: bytes, report: Report) -> Item | None:
    try:
        line = _decoder.decode(raw.removeprefix(BOM))
        if (line.key is None) == (line.fingerprint is None):
            raise ValueError("needs either key or fingerprint")  # noqa: TRY301 - every fault of a line is told alike
        networks = None if line.networks is None else _networks(line.networks)
        if line.key is not None:
            identity = keys.identify(credentials, line.key)
            return Item(number, line, identity.fingerprint.hex(), identity.hint, networks)
        return Item(number, line, str(line.fingerprint).lower(), line.hint or NO_HINT, networks)
    except (msgspec.MsgspecError, InvalidInput, ValueError, RecursionError) as fault:
        report.fault(number, str(fault))
        return None


def _networks(given: Sequence[str | ImportedNetwork]) -> list[Network]:
    """In their order, each once; the last word on one counts. Raises ValueError."""
    networks: dict[str, Network] = {}
    for each in given:
        name, expires_at = (each, None) if isinstance(each, str) else (each.network, each.expires_at)
        name = str(parse(name))
        networks[name] = Network(name, expires_at)
    return list(networks.values())


async def _write(rooms: AdminRooms, actor: Actor, lot: Sequence[Item], report: Report) -> None:
    if not lot:
        return
    fingerprints = [bytes.fromhex(item.fingerprint) for item in lot]
    if report.dry_run:
        async with rooms.sessions() as session:
            for item, view, wanted in _plan(lot, await repository.find_keys(session, fingerprints), report):
                report.change(item, view, wanted)
        return
    planned: list[tuple[Item, BindingView | None, Wanted]] = []
    faults = Report(dry_run=False)

    async def write(session: AsyncSession) -> Written:
        nonlocal planned, faults  # a lot that is tried again is planned again
        faults = Report(dry_run=False)
        await session.execute(_LOCK, {"fingerprints": fingerprints})
        planned = list(_plan(lot, await repository.find_keys(session, fingerprints), faults))
        rows = msgspec.json.encode([wanted for _, _, wanted in planned]).decode()
        for statement in (_UPSERT, _DROP_NETWORKS, _PUT_NETWORKS):
            await session.execute(statement, {"rows": rows})
        after = await repository.find_keys(session, [bytes.fromhex(item.fingerprint) for item, _, _ in planned])
        told = [(before, after[item.fingerprint]) for item, before, _ in planned]
        await record(session, actor, "binding:import", "", told)
        return Written({view.id: Outcome.DONE for view in after.values()}, [changed(view) for view in after.values()])

    _, published = await commit_and_publish(rooms, write)
    report.published &= published
    report.unchanged += faults.unchanged
    for fault in faults.faults:
        report.fault(fault.line, fault.message)
    for item, before, wanted in planned:
        report.change(item, before, wanted)


def _plan(
    lot: Sequence[Item], found: dict[str, BindingView], report: Report
) -> list[tuple[Item, BindingView | None, Wanted]]:
    """What has to be written; ``report`` is told of what needs no writing and of what cannot be."""
    now = datetime.now(UTC)
    planned = []
    for item in lot:
        view = found.get(item.fingerprint)
        wanted = _wanted(item, view, now)
        if not wanted.networks and wanted.status is not BindingStatus.BANNED:
            report.fault(item.number, "a binding that is not banned needs at least one network")
        elif view is not None and _is_so(view, wanted):
            report.unchanged += 1
        else:
            planned.append((item, view, wanted))
    return planned


def _wanted(item: Item, view: BindingView | None, now: datetime) -> Wanted:
    """The line over what is there. A ban that is over by now is none."""
    line = item.line
    known = None if view is None else [Network(each.network, each.expires_at) for each in view.networks]
    banned = view is not None and view.status is BindingStatus.BANNED
    reason, expires_at = (view.ban_reason, view.ban_expires_at) if view is not None else (None, None)
    if line.status is not None:
        banned = line.status is BindingStatus.BANNED
        reason = line.ban_reason if line.ban_reason is not None else reason or ""
        expires_at = line.ban_expires_at
    banned = banned and (expires_at is None or expires_at > now)
    mode = line.mode or (BindingMode.INHERIT if view is None else view.mode)
    first_used_at = line.first_used_at or line.last_used_at or now
    return Wanted(
        fingerprint=item.fingerprint,
        hint=item.hint if view is None else view.hint,
        status=BindingStatus.BANNED if banned else BindingStatus.ACTIVE,
        ban_reason=reason if banned else None,
        ban_expires_at=expires_at if banned else None,
        mode=None if mode is BindingMode.INHERIT else mode.value,
        note=line.note if line.note is not None else "" if view is None else view.note,
        networks=item.networks if item.networks is not None else known or [],
        first_used_at=first_used_at if view is None else view.first_used_at,
        last_used_at=max(line.last_used_at or now, first_used_at) if view is None else view.last_used_at,
    )


def _is_so(view: BindingView, wanted: Wanted) -> bool:
    there = {(each.network, each.expires_at) for each in view.networks}
    return (
        {(each.network, each.expires_at) for each in wanted.networks} == there
        and view.status is wanted.status
        and view.ban_reason == wanted.ban_reason
        and view.ban_expires_at == wanted.ban_expires_at
        and view.mode.value == (wanted.mode or "inherit")
        and view.note == wanted.note
    )


def _as_audited(wanted: Wanted) -> dict[str, Any]:
    """As `operations.bindings.audited`; the version is not known before it is written."""
    return {
        "status": wanted.status.value,
        "ban_reason": wanted.ban_reason,
        "ban_expires_at": wanted.ban_expires_at,
        "mode": wanted.mode or BindingMode.INHERIT.value,
        "note": wanted.note,
        "networks": [each.network for each in wanted.networks],
    }


def _told(state: dict[str, Any]) -> dict[str, Any]:
    """Of thousands of networks an answer shows some."""
    return state | {"networks": state["networks"][:NETWORKS_IN_LISTS], "network_count": len(state["networks"])}


_decoder = msgspec.json.Decoder(ImportLine)

# --- the statements --------------------------------------------------------------------------------------------------

_LOCK = text("SELECT id FROM binding WHERE key_hash = ANY (:fingerprints) ORDER BY id FOR UPDATE")

_UPSERT = text("""
INSERT INTO binding (key_hash, key_hint, status, ban_reason, ban_expires_at, mode, note, first_used_at, last_used_at)
SELECT decode(fingerprint, 'hex'), hint, status, ban_reason, ban_expires_at, mode, note, first_used_at, last_used_at
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (fingerprint text, hint text, status text, ban_reason text,
    ban_expires_at timestamptz, mode text, note text, first_used_at timestamptz, last_used_at timestamptz)
ORDER BY fingerprint
ON CONFLICT (key_hash) DO UPDATE SET status = excluded.status, ban_reason = excluded.ban_reason,
    ban_expires_at = excluded.ban_expires_at, mode = excluded.mode, note = excluded.note,
    version = nextval('binding_version_seq')
""")

_DROP_NETWORKS = text("""
DELETE FROM binding_network n
USING jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (fingerprint text, networks jsonb), binding b
WHERE b.key_hash = decode(r.fingerprint, 'hex') AND n.binding_id = b.id AND NOT EXISTS (
    SELECT FROM jsonb_to_recordset(r.networks) AS w (network cidr) WHERE w.network = n.network
)
""")

_PUT_NETWORKS = text("""
INSERT INTO binding_network (binding_id, network, source, expires_at)
SELECT b.id, w.network, 'operator', w.expires_at
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (fingerprint text, networks jsonb)
JOIN binding b ON b.key_hash = decode(r.fingerprint, 'hex'),
    ROWS FROM (jsonb_to_recordset(r.networks) AS (network cidr, expires_at timestamptz)) WITH ORDINALITY
        AS w (network, expires_at, place)
ORDER BY b.id, w.place
ON CONFLICT (binding_id, network) DO UPDATE SET expires_at = excluded.expires_at
    WHERE binding_network.expires_at IS DISTINCT FROM excluded.expires_at
""")
