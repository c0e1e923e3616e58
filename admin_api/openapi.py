"""What the OpenAPI document says of errors: each route names those it answers with, each with an example.

    @get("/{id:int}", guards=[requires(Scope.BINDINGS_READ)], responses=problems(NotFound))

Where it stands in the walk: controllers use it where they declare their routes.
"""

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from admin_api.errors import AdminError, InvalidInput, NotAllowed, NotAuthenticated, Unavailable
from admin_api.problems import MEDIA_TYPE, Problem

USUAL = (InvalidInput, NotAuthenticated, NotAllowed, Unavailable)
"""Every route that needs a scope can answer with these."""

EXTRA_EXAMPLES: dict[str, dict[str, object]] = {
    "stale_version": {"version": 7},
    "too_many_attempts": {"retry_after_s": 30},
    "not_allowed": {"scope": "bindings:write"},
    "store_unavailable": {"store": "postgresql"},
}


def problems(*errors: type[AdminError], usual: tuple[type[AdminError], ...] = USUAL) -> dict[int, ResponseSpec]:
    """For ``responses=``: the usual errors of a route and its own, by status; several of one status share an entry."""
    by_status: dict[int, list[type[AdminError]]] = {}
    for error in dict.fromkeys((*usual, *errors)):
        by_status.setdefault(error.status, []).append(error)
    return {status: _described(status, kinds) for status, kinds in sorted(by_status.items())}


def _described(status: int, kinds: list[type[AdminError]]) -> ResponseSpec:
    return ResponseSpec(
        Problem,
        generate_examples=False,
        description="; ".join(f"{kind.title} (`{kind.code}`)" for kind in kinds),
        media_type=MEDIA_TYPE,
        examples=[
            Example(
                summary=kind.title,
                value={"title": kind.title, "status": status, "code": kind.code}
                | ({"extra": EXTRA_EXAMPLES[kind.code]} if kind.code in EXTRA_EXAMPLES else {}),
            )
            for kind in kinds
        ],
    )
