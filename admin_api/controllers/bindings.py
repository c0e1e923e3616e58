"""Bindings over HTTP: lists and look-ups, one with its timeline, and what operators do about them.

Where it stands in the walk: reads go to `repositories`, writes to `operations`; keys come in bodies only.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, Parameter, SkipValidation
from litestar.response import Stream

from admin_api import keys
from admin_api.actors import Actor, Scope
from admin_api.errors import InvalidInput, NotFound, Stale
from admin_api.export import as_file, as_json_lines
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.operations import bindings as operations
from admin_api.operations.imports import import_lines
from admin_api.operations.networks import parse
from admin_api.repositories import archive, decisions, timelines
from admin_api.repositories import bindings as repository
from admin_api.repositories.bindings import BindingFilter, Paging
from admin_api.rooms import AdminRooms
from admin_api.schemas.bindings import (
    Ban,
    BindingMode,
    BindingPage,
    BindingSort,
    BindingStatus,
    BindingView,
    Decide,
    Decided,
    Edited,
    ImportReport,
    Lookup,
    LookupAnswer,
    Order,
    SetMode,
    SetNetworks,
    SetNote,
    Timeline,
    Unban,
    Unbind,
)
from admin_api.schemas.common import NO_NUL, Results, refuse_beyond_calendar

IMPORT_MAX_BYTES = 1024 * 1024 * 1024
JSON_LINES = "application/x-ndjson"
EXAMPLE_LINE = '{"key": "sk-…", "networks": ["203.0.113.0/24"], "note": "office"}'

READ = [requires(Scope.BINDINGS_READ)]
WRITE = [requires(Scope.BINDINGS_WRITE)]

Cursor = Annotated[str | None, Parameter(description="`next` of the page before", max_length=1024)]
Limit = Annotated[int, Parameter(ge=1, le=200)]
IdInPath = Annotated[int, Parameter(ge=1, le=2**63 - 1)]
IfMatch = Annotated[str | None, HeaderParameter(name="if-match", description="the ETag that was read", max_length=64)]

Wanted = NamedDependency[SkipValidation[BindingFilter]]
"""Checked by its provider; Litestar cannot look into a union of network types."""


def provide_filter(
    status: BindingStatus | None = None,
    mode: BindingMode | None = None,
    note: Annotated[str | None, Parameter(description="part of the note", max_length=200, pattern=NO_NUL)] = None,
    hint: Annotated[str | None, Parameter(description="how the hint begins", max_length=16, pattern=NO_NUL)] = None,
    fingerprint: Annotated[str | None, Parameter(description="in hex", pattern="^[0-9a-fA-F]{64}$")] = None,
    network: Annotated[
        str | None, Parameter(description="bound to a network that overlaps this", max_length=64)
    ] = None,
    used_from: datetime | None = None,
    used_to: datetime | None = None,
) -> BindingFilter:
    """``used_from`` is included, ``used_to`` is not; a time without an offset is refused."""
    for name, moment in (("used_from", used_from), ("used_to", used_to)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput(f"{name} has no offset", faults=[{"field": name, "detail": "add Z or an offset"}])
        try:
            refuse_beyond_calendar(moment)
        except ValueError as fault:
            raise InvalidInput(str(fault), faults=[{"field": name, "detail": str(fault)}]) from None
    try:
        around = None if network is None else parse(network)
    except ValueError as fault:
        raise InvalidInput(str(fault), faults=[{"field": "network", "detail": str(fault)}]) from None
    key_hash = None if fingerprint is None else bytes.fromhex(fingerprint)
    return BindingFilter(status, mode, note or None, hint or None, key_hash, around, used_from, used_to)


class BindingReads(Controller):
    """What a viewer may see."""

    path = "/bindings"
    tags = ("bindings",)
    guards = READ
    dependencies = {"wanted": Provide(provide_filter, sync_to_thread=False)}  # noqa: RUF012 - Litestar's attribute

    @get(summary="List bindings", responses=problems())
    async def list(
        self,
        rooms: AdminRooms,
        wanted: Wanted,
        sort: BindingSort = BindingSort.LAST_USED_AT,
        order: Order = Order.DESC,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> BindingPage:
        """Filters and sort orders are indexed; ``note`` is looked for in every note there is."""
        async with rooms.sessions() as session:
            return await repository.page(session, wanted, Paging(sort, order, limit, cursor))

    @get("/export", summary="Export bindings as JSON lines", media_type=JSON_LINES, responses=problems())
    async def export(self, rooms: AdminRooms, wanted: Wanted) -> Stream:
        """Exactly the bindings that the same filter lists, by id; each line is one that an import takes."""
        rows = _rows(rooms, wanted)
        return await as_file(rows, as_json_lines(rows), name="bindings.jsonl", media_type=JSON_LINES)

    @get("/{binding_id:int}", summary="One binding with all its networks", responses=problems(NotFound))
    async def one(self, rooms: AdminRooms, binding_id: IdInPath) -> Response[BindingView]:
        """The ETag is its version: send it back as If-Match with an edit."""
        async with rooms.sessions() as session:
            view = await repository.find(session, binding_id)
        if view is None:
            raise NotFound("there is no binding with this id (any more)")
        return Response(view, headers={"etag": _etag(view)})

    @get("/{binding_id:int}/timeline", summary="What happened to a binding, latest first", responses=problems(NotFound))
    async def timeline(
        self, rooms: AdminRooms, binding_id: IdInPath, limit: Limit = 50, cursor: Cursor = None
    ) -> Timeline:
        """Networks that it got, operators' edits, and refused or observed requests with its key."""
        async with rooms.sessions() as session:
            return await timelines.page(session, binding_id, limit, cursor)

    @post("/lookup", summary="Find the binding of a key", status_code=200, responses=problems())
    async def lookup(self, rooms: AdminRooms, data: Lookup) -> LookupAnswer:
        """The key is hashed at once and kept nowhere."""
        identity = keys.identify(rooms.credentials, data.key)
        async with rooms.sessions() as session:
            found = await repository.find_keys(session, [identity.fingerprint])
            archived = await archive.count_of(session, identity.fingerprint)
        fingerprint = identity.fingerprint.hex()
        return LookupAnswer(fingerprint, identity.hint, found.get(fingerprint), archived)


@dataclass
class ImportOperation(Operation):
    """Says in the OpenAPI document what Litestar cannot see of a body that is read as a stream."""

    def __post_init__(self) -> None:
        lines = Schema(type=OpenAPIType.STRING, description="one JSON object a line", examples=[EXAMPLE_LINE])
        self.request_body = RequestBody({JSON_LINES: OpenAPIMediaType(lines)}, required=True)


class BindingWrites(Controller):
    """What an operator may do."""

    path = "/bindings"
    tags = ("bindings",)
    guards = WRITE

    @post("/unbind", summary="Unbind: the next user of each key owns it", status_code=200, responses=problems())
    async def unbind(self, rooms: AdminRooms, actor: Actor, data: Unbind) -> Results:
        """Moves them into the archive, from where they can be restored. Banned ones stay: unban them first."""
        return await operations.unbind(rooms, actor, data.ids, data.reason)

    @post("/ban", summary="Ban keys, for good or until a moment", status_code=200, responses=problems())
    async def ban(self, rooms: AdminRooms, actor: Actor, data: Ban) -> Results:
        """Holds in observe mode too."""
        return await operations.ban(rooms, actor, data.ids, data.reason, data.expires_at)

    @post("/unban", summary="Lift bans", status_code=200, responses=problems())
    async def unban(self, rooms: AdminRooms, actor: Actor, data: Unban) -> Results:
        return await operations.unban(rooms, actor, data.ids, data.reason)

    @put("/ip", summary="Set the networks that may use a key", responses=problems(NotFound, Stale))
    async def networks(
        self, rooms: AdminRooms, actor: Actor, data: SetNetworks, if_match: IfMatch = None
    ) -> Response[Edited]:
        """Replaces all of them. Duplicates, and networks inside others, are left out.

        One for a while is `{"network": "203.0.113.7", "expires_at": "2030-01-01T00:00:00Z"}`.
        """
        edited = await operations.set_networks(rooms, actor, data, _expected(if_match, data.version))
        return Response(edited, headers={"etag": _etag(edited.binding)})

    @put("/mode", summary="Set how keys are enforced", responses=problems())
    async def mode(self, rooms: AdminRooms, actor: Actor, data: SetMode) -> Results:
        """``inherit`` follows the live setting."""
        return await operations.set_mode(rooms, actor, data.ids, data.mode, data.reason)

    @put("/note", summary="Set a binding's note", responses=problems(NotFound, Stale))
    async def note(self, rooms: AdminRooms, actor: Actor, data: SetNote, if_match: IfMatch = None) -> Response[Edited]:
        edited = await operations.set_note(rooms, actor, data, _expected(if_match, data.version))
        return Response(edited, headers={"etag": _etag(edited.binding)})

    @post(
        "/import",
        summary="Import bindings from JSON lines",
        status_code=200,
        request_max_body_size=IMPORT_MAX_BYTES,
        operation_class=ImportOperation,
        responses=problems(),
    )
    async def import_(
        self, rooms: AdminRooms, actor: Actor, request: Request[Actor, None, Any], dry_run: bool = False
    ) -> ImportReport:
        """The body is one JSON object a line, as an export has them, or with ``key`` in place of ``fingerprint``.

        A faulty line is reported and the others are imported. Importing the same again changes nothing. A dry run
        writes nothing and says what would change.
        """
        return await import_lines(rooms, actor, request.stream(), dry_run=dry_run)


class Decisions(Controller):
    """Beside the bindings: what would happen."""

    path = "/decide"
    tags = ("bindings",)
    guards = READ

    @post(summary="What would happen to a request, and by which rule", status_code=200, responses=problems(NotFound))
    async def decide(self, rooms: AdminRooms, data: Decide) -> Decided:
        """For a key or a binding, and an address; in enforce mode and in observe mode. Changes nothing."""
        async with rooms.sessions() as session:
            return await decisions.decide(session, rooms.credentials, rooms.settings.initial_live_settings(), data)


async def _rows(rooms: AdminRooms, wanted: BindingFilter) -> AsyncGenerator[BindingView, None]:
    async with rooms.sessions() as session:
        async for view in repository.every(session, wanted):
            yield view


def _etag(view: BindingView) -> str:
    return f'"{view.version}"'


def _expected(if_match: str | None, version: int | None) -> int | None:
    """The version that an edit was made for. Raises InvalidInput for an If-Match that no ETag of ours can match."""
    if if_match is None or if_match.strip() == "*":
        return version
    digits = if_match.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit()) or version not in (None, int(digits)):
        message = "send the ETag that was read, and the same version if both are sent"
        raise InvalidInput("If-Match names no version", faults=[{"field": "if-match", "detail": message}])
    return int(digits)
