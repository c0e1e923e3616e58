"""``/logs``: the intercepts, page by page, and exactly the same as a file."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIResponse, Operation
from litestar.params import Parameter, QueryParameter, SkipValidation
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

MEDIA_TYPES = {ExportFormat.CSV: "text/csv", ExportFormat.JSONL: "application/jsonl"}
# Text, and read by `moment`: a fault is then told under the name that the client used, which no Python name can be.
From = Annotated[
    str | None,
    QueryParameter(name="from", max_length=64, schema_extra={"format": "date-time"}, description="inclusive, ISO 8601"),
]
To = Annotated[
    str | None,
    QueryParameter(name="to", max_length=64, schema_extra={"format": "date-time"}, description="exclusive, ISO 8601"),
]
Wanted = NamedDependency[SkipValidation[LogFilter]]
COLUMNS = msgspec.structs.fields(InterceptView)


def log_filter(
    since: From = None,
    until: To = None,
    reason: Reason | None = None,
    enforced: Annotated[bool | None, Parameter(description="true: refused; false: only observed")] = None,
    network: Annotated[str | None, Parameter(max_length=64, description="a network or an address of clients")] = None,
    fingerprint: Annotated[str | None, Parameter(pattern="^[0-9a-fA-F]{64}$", description="of the key, in hex")] = None,
    binding_id: Annotated[int | None, Parameter(ge=1, le=2**63 - 1, description="intercepts of its key")] = None,
    hint: Annotated[
        str | None, Parameter(min_length=1, max_length=64, pattern=NO_NUL, description="how it begins")
    ] = None,
    gateway: Annotated[str | None, Parameter(min_length=1, max_length=64, pattern=NO_NUL)] = None,
) -> LogFilter:
    """What a query says of the intercepts wanted. Raises InvalidInput."""
    return LogFilter(
        since=moment(since, "from"),
        until=moment(until, "to"),
        reason=reason,
        enforced=enforced,
        network=None if network is None else _network(network),
        fingerprint=None if fingerprint is None else bytes.fromhex(fingerprint),
        binding_id=binding_id,
        hint=hint,
        gateway=gateway,
    )


@dataclass
class ExportOperation(Operation):
    """Litestar declares one content type an answer; this one has two."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content:
            answer.content |= {MEDIA_TYPES[ExportFormat.JSONL]: answer.content[MEDIA_TYPES[ExportFormat.CSV]]}


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
        operation_class=ExportOperation,
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
        form: Annotated[ExportFormat, QueryParameter(name="format")] = ExportFormat.CSV,
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
        return await export.as_file(rows, pieces, name=name, media_type=MEDIA_TYPES[form])


def moment(given: str | None, field: str) -> datetime | None:
    """In UTC, which is also what no offset means. Raises InvalidInput, also at the ends of the calendar."""
    if given is None:
        return None
    try:
        at = msgspec.convert(given, datetime, strict=False)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError, ValueError):
        detail = "must be a time as in 2030-12-31T23:59:59Z"
        raise InvalidInput(f"{field} {detail}", faults=[{"field": field, "detail": detail}]) from None


def _network(written: str) -> networks.IPNetwork:
    try:
        return networks.parse(written)
    except ValueError as fault:
        raise InvalidInput(str(fault), faults=[{"field": "network", "detail": str(fault)}]) from None


async def _rows(rooms: AdminRooms, wanted: LogFilter) -> AsyncGenerator[InterceptView, None]:
    async with rooms.sessions.begin() as session:
        async for row in repository.every(session, wanted):
            yield row
