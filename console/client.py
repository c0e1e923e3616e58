"""The admin API as pages use it: typed answers, and problems as exceptions with the code that `i18n` translates.

    page = await api.get("/bindings", BindingPage, {"limit": 50})
    results = await api.post("/bindings/ban", Ban([1, 2], "resold"), Results)

Where it stands in the walk: the only way out of the console. Paths are relative to ``/admin/api``.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import httpx
import msgspec

from admin_api.schemas.auth import Login, Refresh, SignedIn
from console.session import Session

T = TypeVar("T")
Query = Mapping[str, object]

PREFIX = "/admin/api"
TIME_LIMIT_S = 30.0
CONNECT_LIMIT_S = 3.0
CONNECTIONS = 64


class Problem(Exception):
    """The admin API refused, or could not be reached (``unreachable``). ``detail`` is English, for people."""

    def __init__(
        self,
        code: str,
        status: int = 0,
        detail: str = "",
        faults: list[dict[str, str]] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.detail = detail
        self.faults = faults or []
        self.extra = extra or {}


class SignedOut(Problem):
    """The session has ended: sign in again."""

    def __init__(self) -> None:
        super().__init__("not_authenticated", 401)


class _Document(msgspec.Struct, frozen=True):
    code: str = "internal_error"
    detail: str = ""
    faults: list[dict[str, str]] = []
    extra: dict[str, Any] = {}


class Backend:
    """The connections to the admin API: one a process, shared by all sessions."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=url + PREFIX,
            timeout=httpx.Timeout(TIME_LIMIT_S, connect=CONNECT_LIMIT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=16),
            trust_env=False,  # the admin API is a neighbour: a proxy of the environment must not see its tokens
            transport=transport,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def sign_in(self, login: Login, address: str | None, user_agent: str) -> SignedIn:
        """Raises Problem, such as ``wrong_credentials`` or ``too_many_attempts``."""
        headers = _visitor(address, user_agent)
        return _decoded(await self.send("POST", "/login", headers, body=login), SignedIn)

    async def sign_out(self, session: Session) -> None:
        """Ends it at the admin API too, if that can be reached."""
        with suppress(Problem):
            if session.needs_renewal:
                await self.renew(session, session.access_token)
            await self.send("POST", "/logout", _authorized(session))

    async def token_of(self, session: Session) -> str:
        """An access token that is good for a while yet. Raises SignedOut, Problem."""
        if session.ended:
            raise SignedOut
        if session.needs_renewal:
            await self.renew(session, session.access_token)
        return session.access_token

    async def renew(self, session: Session, spent: str) -> None:
        """Unless somebody else has renewed the token ``spent`` meanwhile. Raises SignedOut, Problem."""
        async with session.lock:
            if session.access_token != spent:
                return
            headers = _visitor(session.address, session.user_agent)
            try:
                answer = await self.send("POST", "/refresh", headers, body=Refresh(session.refresh_token))
            except Problem as problem:
                if problem.status == 401:
                    session.ended = True
                    raise SignedOut from problem
                raise
            session.renew(_decoded(answer, SignedIn))

    async def send(
        self, method: str, path: str, headers: dict[str, str], query: Query | None = None, body: object = None
    ) -> httpx.Response:
        content = None if body is None else msgspec.json.encode(body)
        if content is not None:
            headers = headers | {"content-type": "application/json"}
        try:
            answer = await self._http.request(method, path, params=_parameters(query), content=content, headers=headers)
        except httpx.HTTPError as error:
            raise Problem("unreachable", detail=type(error).__name__) from error
        if answer.is_success:
            return answer
        raise _problem(answer)

    @asynccontextmanager
    async def stream(self, path: str, headers: dict[str, str], query: Query) -> AsyncIterator[httpx.Response]:
        """For files. Raises Problem before the first byte; later faults are httpx' own."""
        try:
            async with self._http.stream("GET", path, params=_parameters(query), headers=headers) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _problem(answer)
                yield answer
        except httpx.ConnectError as error:
            raise Problem("unreachable", detail=type(error).__name__) from error


class Api:
    """The admin API in the name of one session."""

    def __init__(self, backend: Backend, session: Session) -> None:
        self._backend = backend
        self._session = session

    async def get(self, path: str, kind: type[T], query: Query | None = None) -> T:
        return _decoded(await self._send("GET", path, query=query), kind)

    async def post(self, path: str, body: object, kind: type[T]) -> T:
        return _decoded(await self._send("POST", path, body=body), kind)

    async def put(self, path: str, body: object, kind: type[T]) -> T:
        return _decoded(await self._send("PUT", path, body=body), kind)

    async def patch(self, path: str, body: object, kind: type[T]) -> T:
        return _decoded(await self._send("PATCH", path, body=body), kind)

    async def call(self, method: str, path: str, body: object = None) -> None:
        """For what answers with nothing."""
        await self._send(method, path, body=body)

    @asynccontextmanager
    async def file(self, path: str, query: Query) -> AsyncIterator[httpx.Response]:
        """Streams a download; see `Backend.stream`."""
        await self._backend.token_of(self._session)
        async with self._backend.stream(path, _authorized(self._session), query) as answer:
            yield answer

    async def _send(self, method: str, path: str, query: Query | None = None, body: object = None) -> httpx.Response:
        token = await self._backend.token_of(self._session)
        try:
            return await self._backend.send(method, path, _authorized(self._session), query, body)
        except Problem as problem:
            if problem.code != "not_authenticated":
                raise
        # Refused before its time: revoked, or the signing secret was changed. The refresh token knows which.
        await self._backend.renew(self._session, token)
        try:
            return await self._backend.send(method, path, _authorized(self._session), query, body)
        except Problem as problem:
            if problem.code == "not_authenticated":
                self._session.ended = True
                raise SignedOut from problem
            raise


def _authorized(session: Session) -> dict[str, str]:
    return _visitor(session.address, session.user_agent) | {"authorization": f"Bearer {session.access_token}"}


def _visitor(address: str | None, user_agent: str) -> dict[str, str]:
    """The operator's own address, for the lockout and the audit, which the admin API believes its proxies only."""
    headers = {"user-agent": user_agent.encode("latin-1", "replace").decode("latin-1")[:512]}
    return headers if address is None else headers | {"x-real-ip": address}


def _parameters(query: Query | None) -> dict[str, str]:
    values = {} if query is None else {name: value for name, value in query.items() if value not in (None, "")}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def _decoded(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise Problem("unreadable_answer", answer.status_code, str(error)) from error


def _problem(answer: httpx.Response) -> Problem:
    try:
        document = msgspec.json.decode(answer.content, type=_Document)
    except msgspec.MsgspecError:
        # Not the admin API: a proxy between, or something else on that port.
        return Problem("unreadable_answer", answer.status_code)
    return Problem(document.code, answer.status_code, document.detail, document.faults, document.extra)
