"""The console's application and its server.

Served by uvicorn, not by Granian as the planes are: NiceGUI keeps each page's state in one process and reaches the
server that runs it by looking for uvicorn's (`ui.run_with`), its socket.io is tested on nothing else, and more than one
worker is not possible. Nothing here is on the way of a request of a model API, so its speed does not matter there.

Where it stands in the walk: a browser's request passes `edge`, finds its session here, and becomes a `View`.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from urllib.parse import urlencode

import structlog
import uvicorn
from fastapi import FastAPI
from nicegui import Client, ui
from nicegui import app as nicegui_app
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from admin_api.schemas.auth import Login
from console import downloads, frame, session, theme
from console.bulk_run import Runs
from console.client import Api, Backend, Problem, SignedOut
from console.edge import Edge, visitor_address
from console.pages import PAGES
from console.pages.login import sign_in_page
from console.session import Session, Sessions
from console.settings import ConsoleSettings
from console.view import View

log = structlog.get_logger(__name__)

RECONNECT_S = 10.0
"""How long a tab may be away before what it showed is given up; then it loads its URL again."""

SWEEP_S = 30.0
STOP_S = 3
FORM_MAX_BYTES = 16 * 1024
RESPONSE_S = 15.0


class Console:
    """What one process shares between its browsers."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self.settings = settings
        self.sessions = Sessions(settings.console_idle_minutes * 60)
        self.backend = Backend(settings.admin_api_url)
        self.runs = Runs()
        self.path = settings.console_path
        self._tasks: set[asyncio.Task[None]] = set()

    # --- signing in and out: plain forms, so that the cookie is set by an answer that no script reads ----------------

    async def sign_in(self, request: Request) -> Response:
        if int(request.headers.get("content-length") or FORM_MAX_BYTES + 1) > FORM_MAX_BYTES:
            return PlainTextResponse("too large\n", 413)
        form = await request.form()
        name, password, back = (str(form.get(field, "")) for field in ("name", "password", "next"))
        user_agent = request.headers.get("user-agent", "")
        address = self._address(request)
        try:
            signed_in = await self.backend.sign_in(Login(password, name), address, user_agent)
        except Problem as problem:
            wait_s = problem.extra.get("retry_after_s", "")
            query = urlencode({"problem": problem.code, "wait": wait_s, "next": back})
            return RedirectResponse(f"{self.path}/login?{query}", 303)
        self._end_in_background(self._session(request))
        cookie, _ = self.sessions.open(signed_in, address, user_agent)
        answer = RedirectResponse(self.path + safe_path(back), 303)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        answer.set_cookie(session.COOKIE, cookie, path=self.path or "/", httponly=True, samesite="lax", secure=secure)
        return answer

    async def sign_out(self, request: Request) -> Response:
        self._end_in_background(self._session(request))
        answer = RedirectResponse(f"{self.path}/login?why=left", 303)
        answer.delete_cookie(session.COOKIE, path=self.path or "/", httponly=True, samesite="lax")
        return answer

    def _end_in_background(self, ended: Session | None) -> None:
        if ended is not None:
            self.sessions.end(ended)
            self._start(self.backend.sign_out(ended))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ends sessions that nobody uses any more, also at the admin API."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await self.runs.aclose()
            await asyncio.wait({sweeper, *self._tasks}, timeout=STOP_S)
            await self.backend.aclose()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for unused in self.sessions.over():
                if not self.runs.need(unused):
                    self._end_in_background(unused)

    async def health(self) -> dict[str, object]:
        """Whether the process answers, and how much it holds; says nothing of the admin API."""
        return {"status": "ok", "tabs": len(Client.instances), "sessions": len(self.sessions)}

    # --- pages -------------------------------------------------------------------------------------------------------

    async def show(self, request: Request) -> Response | None:
        """Every page: the content follows from the URL. NiceGUI makes the answer of what is drawn."""
        found = self._session(request)
        if found is None:
            here = request.url.path.removeprefix(self.path) + (f"?{request.url.query}" if request.url.query else "")
            query = {"next": here} | ({"why": "ended"} if session.COOKIE in request.cookies else {})
            return RedirectResponse(f"{self.path}/login?{urlencode(query)}", 303)
        found.touch()
        view = View(request, found, self.sessions, Api(self.backend, found), PAGES, self.runs)
        theme.dress(request, theme.Preferences(request), view.title)
        view.draw_frame = frame.draw
        await view.open()
        if view.page is None:
            ui.context.client.status_code = 404
        return None

    async def download_intercepts(self, request: Request) -> Response:
        found = self._session(request)
        if found is not None:
            found.touch()
            with contextlib.suppress(SignedOut):
                return await downloads.intercepts(request, Api(self.backend, found))
        return RedirectResponse(f"{self.path}/login?{urlencode({'why': 'ended', 'next': '/intercepts'})}", 303)

    async def show_sign_in(self, request: Request) -> Response | None:
        if self._session(request) is not None:
            return RedirectResponse(self.path + safe_path(request.query_params.get("next", "")), 303)
        sign_in_page(request)
        return None

    def _session(self, request: Request) -> Session | None:
        return self.sessions.find(request.cookies.get(session.COOKIE))

    def _address(self, request: Request) -> str | None:
        peer = request.client.host if request.client else ""
        return visitor_address(peer, request.headers.getlist("x-real-ip"), self.settings.trusted_proxies)


def create_console(settings: ConsoleSettings) -> ASGIApp:
    """The ASGI application. NiceGUI has one of itself in a process: call this once."""
    console = Console(settings)
    theme.serve_static_files()
    # Its bar hijacks every request of the page, and screen readers find no name on it; ours tells the same.
    nicegui_app.config.quasar_config["loadingBar"]["skipHijack"] = True
    ui.page("/login", response_timeout=RESPONSE_S)(_builder(console.show_sign_in, "login"))
    for page in PAGES:
        ui.page(page.path, response_timeout=RESPONSE_S)(_builder(console.show, page.title))
    # After the pages: one for a path takes every earlier route of that path away.
    nicegui_app.add_api_route("/login", console.sign_in, methods=["POST"], response_model=None)
    nicegui_app.add_api_route("/logout", console.sign_out, methods=["POST"], response_model=None)
    nicegui_app.add_api_route(
        downloads.INTERCEPTS_PATH, console.download_intercepts, methods=["GET"], response_model=None
    )
    nicegui_app.add_api_route("/health", console.health, methods=["GET"], response_model=None)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with console.running():
            # What is loaded by now stays for good: looking through it again held pages up for a tenth of a second.
            gc.collect()
            gc.freeze()
            yield

    outer = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        outer,
        root=console.show,
        title="Key-IP Sentinel",
        favicon=theme.LOGO,
        tailwind=False,
        gzip_middleware_factory=None,  # outside of `Edge`, which reads the pages
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    return GZipMiddleware(Edge(outer, settings.console_path), minimum_size=1024)


def serve(settings: ConsoleSettings) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit status. Open tabs are told to come back and find the next one."""
    config = uvicorn.Config(
        create_console(settings),
        host=settings.console_host,
        port=settings.console_port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `edge` believes what the settings say, nothing else
        timeout_graceful_shutdown=STOP_S,
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


Builder = Callable[[Request], Awaitable[Response | None]]


def _builder(show: Builder, name: str) -> Builder:
    """A function of its own for each page: NiceGUI knows pages by their functions."""

    async def build(request: Request) -> Response | None:
        return await show(request)

    build.__name__ = f"show_{name.replace('.', '_')}"
    return build


def safe_path(wanted: str) -> str:
    """Where to go after signing in: a path of ours, whatever the link said."""
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_ours and not wanted.startswith(("/login", "/logout")) else "/"
