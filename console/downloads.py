"""Files that a browser saves: streamed from the admin API in the name of the session, since tokens stay here.

Where it stands in the walk: ordinary links of pages lead here, with the page's query; `app` finds the session.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from console.client import Api, Problem, SignedOut
from console.filter_bar import time_bounds
from console.theme import Preferences
from console.widgets.states import explain

INTERCEPTS_PATH: Final = "/intercepts/export"
FILTERS: Final = ("reason", "enforced", "network", "hint", "fingerprint", "binding_id", "gateway")
"""What intercepts are filtered by, beside the time; the page's links carry the same."""

KEPT_HEADERS: Final = ("content-type", "content-disposition")


async def intercepts(request: Request, api: Api) -> Response:
    """Every row that the page's filters let through. Raises SignedOut."""
    given = request.query_params
    query = {name: given.get(name, "") for name in (*FILTERS, "format")} | time_bounds(given, datetime.now(UTC))
    return await _file(request, api, "/logs/export", query)


async def _file(request: Request, api: Api, path: str, query: Mapping[str, str]) -> Response:
    async with AsyncExitStack() as opened:
        try:
            answer = await opened.enter_async_context(api.file(path, query))
        except SignedOut:
            raise
        except Problem as problem:
            told = explain(Preferences(request).texts(), problem)
            return PlainTextResponse(f"{told}\n", problem.status if problem.status >= 400 else 502)
        headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
        return _Download(answer.aiter_bytes(), opened.pop_all(), headers)
    raise AssertionError("unreachable")


class _Download(StreamingResponse):
    """Lets go of the admin API's answer at the end, also when the browser leaves in the middle or at once."""

    def __init__(self, pieces: AsyncIterator[bytes], opened: AsyncExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(pieces, headers={**headers, "cache-control": "no-store"})
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            await super().__call__(scope, receive, send)
