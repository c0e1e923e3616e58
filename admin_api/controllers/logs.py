"""``/logs``: the intercepts, page by page, and exactly the same as a file."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.background_tasks import BackgroundTask
from litestar.di import Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Dependency, Parameter
from litestar.response import Stream

from admin_api import export
from admin_api.actors import Scope
from admin_api.errors import InvalidInput
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.operations import networks
from admin_api.repositories import cursors
from admin_api.repositories import logs as repository
from admin_api.repositories.logs import LogFilter
from admin_api.rooms import AdminRooms
from admin_api.schemas.common import NO_NUL
from admin_api.schemas.logs import ExportFormat, InterceptPage, InterceptView
from proxy_core.contracts import Reason

MEDIA_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSONL: "application/jsonl; charset=utf-8"}
Wanted = Annotated[LogFilter, Dependency(skip_validation=True)]
COLUMNS = msgspec.structs.fields(InterceptView)


def log_filter(
    since: Annotated[datetime | None, Parameter(query="from", description="inclusive; UTC without an offset")] = None,
    until: Annotated[datetime | None, Parameter(query="to", description="exclusive; UTC without an offset")] = None,
    reason: Annotated[Reason | None, Parameter(query="reason")] = None,
    enforced: Annotated[
        bool | None, Parameter(query="enforced", description="true: refused; false: only observed")
    ] = None,
    network: Annotated[
        str | None, Parameter(query="network", max_length=64, description="a network or an address of clients")
    ] = None,
    key: Annotated[
        str | None, Parameter(query="fingerprint", pattern="^[0-9a-fA-F]{64}$", description="of the key, in hex")
    ] = None,
    binding: Annotated[
        int | None, Parameter(query="binding_id", ge=1, le=2**63 - 1, description="intercepts of its key")
    ] = None,
    hint: Annotated[
        str | None, Parameter(query="hint", min_length=1, max_length=64, pattern=NO_NUL, description="how it begins")
    ] = None,
    gateway: Annotated[str | None, Parameter(query="gateway", min_length=1, max_length=64, pattern=NO_NUL)] = None,
) -> LogFilter:
    """What a query says of the intercepts wanted. Raises InvalidInput."""
    return LogFilter(
        since=moment(since, "from"),
        until=moment(until, "to"),
        reason=reason,
        enforced=enforced,
        network=None if network is None else _network(network),
        fingerprint=None if key is None else bytes.fromhex(key),
        binding_id=binding,
        hint=hint,
        gateway=gateway,
    )


class LogsController(Controller):
    path = "/logs"
    tags = ("logs",)
    dependencies = {"wanted": Provide(log_filter, sync_to_thread=False)}  # noqa: RUF012 - Litestar's declaration

    @get(
        "/",
        guards=[requires(Scope.LOGS_READ)],
        summary="Refused and observed requests, newest first",
        responses=problems(),
    )
    async def page(
        self,
        rooms: AdminRooms,
        wanted: Wanted,
        limit: Annotated[int, Parameter(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Parameter(max_length=cursors.MAX_CHARACTERS)] = None,
    ) -> InterceptPage:
        async with rooms.sessions.begin() as session:
            return await repository.page(session, wanted, limit, cursor)

    @get(
        "/export",
        guards=[requires(Scope.LOGS_READ)],
        summary="The same as a file",
        responses=problems()
        | {
            200: ResponseSpec(
                str, generate_examples=False, media_type="text/csv", description="the rows, as they are read"
            )
        },
    )
    async def download(
        self,
        rooms: AdminRooms,
        wanted: Wanted,
        form: Annotated[ExportFormat, Parameter(query="format")] = ExportFormat.CSV,
        bom: Annotated[
            bool, Parameter(description="begin with a byte order mark, for spreadsheets on Windows")
        ] = False,
    ) -> Stream:
        """Every row that the filter lets through. A file that ends early was cut off: the connection breaks then."""
        rows = _rows(rooms, wanted)
        if form is ExportFormat.CSV:
            pieces = export.as_csv(rows, [column.name for column in COLUMNS], bom=bom)
        else:
            pieces = export.as_json_lines(rows, bom=bom)
        name = f"sentinel-intercepts-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{form.value}"
        return Stream(
            _begun(await anext(pieces), pieces),
            media_type=MEDIA_TYPES[form],
            headers={"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"},
            background=BackgroundTask(_close, rows),
        )


def moment(given: datetime | None, field: str) -> datetime | None:
    """In UTC. Raises InvalidInput at the ends of the calendar, where there is no UTC."""
    if given is None or given.tzinfo is None:
        return given if given is None else given.replace(tzinfo=UTC)
    try:
        return given.astimezone(UTC)
    except (OverflowError, ValueError):
        raise InvalidInput(f"{field} is out of range", faults=[{"field": field, "detail": "is out of range"}]) from None


def _network(written: str) -> networks.IPNetwork:
    try:
        return networks.parse(written)
    except ValueError as fault:
        raise InvalidInput(str(fault), faults=[{"field": "network", "detail": str(fault)}]) from None


async def _rows(rooms: AdminRooms, wanted: LogFilter) -> AsyncIterator[InterceptView]:
    async with rooms.sessions.begin() as session:
        async for row in repository.every(session, wanted):
            yield row


async def _begun(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first piece was asked for before the answer began, so that an absent store is an error and no empty file."""
    yield first
    async for piece in rest:
        yield piece


async def _close(rows: AsyncIterator[InterceptView]) -> None:
    """Where a client left in the middle, the cursor is closed here and not by the garbage collector."""
    await rows.aclose()  # type: ignore[attr-defined] # it is a generator
