"""One browser tab of somebody who is signed in: what it shows, in which language, and where it goes next.

Where it stands in the walk: `app` makes a view for each page that a browser loads, `frame` draws what surrounds the
content, and a page's function gets the view and draws the content.

    async def bindings(view: View) -> None:
        page = await view.api.get("/bindings", BindingPage, {"hint": view.query.get("hint")})
        ...
        view.change(hint="abcd")        # into the URL; the page is drawn again

Rules for whoever edits this file:

- The URL is the state: what a page shows follows from `View.path`, `View.params` and `View.query` alone, so that Back,
  a reload and a copied link show the same.
- The content is drawn into a hidden place and shown when it is whole; a slower, older drawing is given up.
- Timers of a page begin with ``immediate=False``. One that begins at once waits for the browser's socket, and as soon
  as anything waits for it NiceGUI answers with what is drawn by then: a list without its rows, which follow later.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import structlog
from nicegui import background_tasks, ui
from nicegui.client import Client
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from console import i18n
from console.bulk_run import Runs
from console.client import Api, Problem, SignedOut
from console.i18n import Language, Texts
from console.session import Session, Sessions
from console.theme import Preferences, Theme, Zone
from console.widgets import states
from console.widgets.basics import Handler, Tag, button, tag
from console.widgets.dialogs import Answer, Question, ask

log = structlog.get_logger(__name__)

FIRST_DRAWING_S = 2.0
"""How long the answer to a browser waits for the content; a slower one follows through the socket."""

TOAST_S = 12.0
SESSION_LOOK_S = 5.0
LOOK_AGAIN_S = 5.0
"""While a store or the admin API is away."""


class Page(msgspec.Struct, frozen=True):
    """``path`` may have parts in braces, which become `View.params`. ``icon``: stands in the navigation.

    ``scope``: what one must be allowed to see it. ``title``: a message key.
    """

    path: str
    title: str
    build: Callable[["View"], Awaitable[None]]
    icon: str = ""
    scope: str = ""
    group: str = ""

    def match(self, path: str) -> dict[str, str] | None:
        wanted, given = self.path.split("/"), (path.rstrip("/") or "/").split("/")
        if len(wanted) != len(given):
            return None
        params = {}
        for want, have in zip(wanted, given, strict=True):
            if want.startswith("{") and have:
                params[want.strip("{}")] = have
            elif want != have:
                return None
        return params


class View:
    """See above. ``draw_frame`` draws everything around the content and is given by `frame`."""

    def __init__(
        self, request: Request, session: Session, sessions: Sessions, api: Api, pages: Sequence[Page], runs: Runs
    ) -> None:
        preferences = Preferences(request)
        self.session = session
        self.api = api
        self.runs = runs
        self.pages = [page for page in pages if not page.scope or session.may(page.scope)]
        self.t: Texts = preferences.texts()
        self.theme: Theme = preferences.theme
        self.zone: Zone = preferences.zone
        self.prefix: str = request.scope.get("root_path", "")
        self.request = request
        self.client: Client = ui.context.client
        self.page: Page | None = None
        self.path = "/"
        self.params: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.draw_frame: Callable[[View], None] = lambda _: None
        self.moved: Callable[[], None] = lambda: None
        self.shell: Tag | None = None
        self.content: Tag | None = None
        self.toasts: Tag | None = None
        self.busy: Tag | None = None
        self._sessions = sessions
        self._drawing: asyncio.Task[None] | None = None
        self._on_change: Handler | None = None
        self._locate(request.url.path.removeprefix(self.prefix), request.url.query)

    # --- where it is -------------------------------------------------------------------------------------------------

    def may(self, scope: str) -> bool:
        return self.session.may(scope)

    def href(self, path: str, query: dict[str, str] | None = None) -> str:
        """For a link: with the prefix, without what is empty."""
        kept = {name: value for name, value in (query or {}).items() if value}
        return f"{self.prefix}{path}{'?' + urlencode(kept) if kept else ''}"

    def here(self, **changes: str) -> str:
        """This page with another query."""
        return self.href(self.path, self.query | changes)

    def visit(self, href: str) -> None:
        """To another page, or to this one with another query. ``href`` as `href` makes it, or without the prefix."""
        parts = urlsplit(href)
        self._locate(parts.path.removeprefix(self.prefix), parts.query)
        self._announce(push=True)
        self.redraw(settle=True)

    def change(self, **changes: str) -> None:
        """Puts filters, sort, page or range into the URL; the page's own `on_change` draws, or all of it again."""
        kept = {name: value for name, value in (self.query | changes).items() if value}
        if kept == self.query:
            return
        self.query = kept
        self._announce(push=True)
        if self._on_change is None:
            self.redraw()
        else:
            self.start(self._on_change)

    def on_change(self, refresh: Handler) -> None:
        """For a page that can draw a part of itself again when its query has changed, and keep the focus."""
        self._on_change = refresh

    def _locate(self, path: str, query: str) -> None:
        self.path = "/" + path.strip("/")
        self.query = dict(parse_qsl(query[:4096]))
        self.page, self.params, self._on_change = None, {}, None
        for page in self.pages:
            params = page.match(self.path)
            if params is not None:
                self.page, self.params = page, params
                return

    @property
    def title(self) -> str:
        return f"{self.t(self.page.title if self.page else 'state.not_found')} · {self.t('app.name')}"

    def _announce(self, *, push: bool) -> None:
        self.moved()
        href, title = json.dumps(self.here()), json.dumps(self.title)
        self.client.run_javascript(f"sentinel.place({href}, {title}, {json.dumps(push)})")

    # --- drawing -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """The first drawing, while the browser waits for the page. Listens to the browser from then on."""
        ui.on("sentinel_go", lambda event: self.visit(event.args["href"]))
        ui.on("sentinel_pop", self._popped)
        ui.on("sentinel_active", lambda _: self.session.touch())
        ui.timer(SESSION_LOOK_S, self._look_at_session, immediate=False)
        self.client.on_exception(self._failed)
        self.draw_frame(self)
        self.redraw()
        if self._drawing is not None:
            await asyncio.wait({self._drawing}, timeout=FIRST_DRAWING_S)

    def redraw(self, *, settle: bool = False) -> None:
        """Draws the content from the URL."""
        if self._drawing is not None:
            self._drawing.cancel()
        if self.content is not None:
            self._drawing = background_tasks.create(self._draw(settle=settle), name=f"draw {self.path}")

    async def _draw(self, *, settle: bool) -> None:
        assert self.content is not None  # noqa: S101 - `redraw` looked
        self._set_busy(on=True)
        old = list(self.content.default_slot.children)
        with self.content:
            fresh = tag("div", "stack")
        fresh.set_visibility(not old)
        try:
            with fresh:
                await self._build()
        except asyncio.CancelledError:
            if not fresh.is_deleted:
                fresh.delete()
            raise
        if self.client.is_deleted:
            return
        for element in old:
            if not element.is_deleted:
                element.delete()
        fresh.set_visibility(True)
        self._set_busy(on=False)
        if settle:
            self.client.run_javascript("sentinel.settle()")

    async def _build(self) -> None:
        try:
            if self.page is None:
                self._not_found()
            else:
                await self.page.build(self)
        except SignedOut:
            self.leave("ended")
        except Problem as problem:
            states.failed(self.t, problem, self.redraw)
            if states.passes(problem):
                ui.timer(LOOK_AGAIN_S, self.redraw, once=True)
        except Exception:
            log.exception("a page could not be drawn", page=self.path)
            states.notice(self.t("state.fault"), "bad", "error")

    def _not_found(self) -> None:
        with states.empty(self.t("state.not_found"), self.t("state.not_found.why"), "explore_off"):
            button(self.t("state.home"), lambda: self.visit("/"))

    def _set_busy(self, *, on: bool) -> None:
        if self.busy is not None and not self.busy.is_deleted:
            self.busy.classes(add="on") if on else self.busy.classes(remove="on")

    def _popped(self, event: GenericEventArguments) -> None:
        parts = urlsplit(event.args["href"])
        self._locate(parts.path.removeprefix(self.prefix), parts.query)
        self._announce(push=False)
        self.redraw()

    # --- what an operator asked for ----------------------------------------------------------------------------------

    def start(self, action: Handler) -> None:
        """Runs it; a problem is told, the end of the session leads to the sign-in page."""

        async def run() -> None:
            with self.client:
                self._set_busy(on=True)
                try:
                    done = action()
                    if done is not None:
                        await done
                except SignedOut:
                    self.leave("ended")
                except Problem as problem:
                    self.tell(states.explain(self.t, problem), "bad")
                finally:
                    self._set_busy(on=False)

        background_tasks.create(run(), name=f"action on {self.path}")

    async def ask(self, question: Question) -> Answer | None:
        """Within an action. None: the operator thought better of it."""
        self._set_busy(on=False)
        answer = await ask(self.t, question)
        self._set_busy(on=answer is not None)
        return answer

    def tell(self, text: str, tone: str = "good", undo: Handler | None = None) -> None:
        """A toast; with ``undo`` it has a button for it. Stays for a while."""
        if self.toasts is None or self.toasts.is_deleted:
            return
        with self.toasts, tag("div", f"toast {tone}", role="status") as toast:
            tag("span", text=text)
            if undo is not None:
                button(self.t("action.undo"), lambda: self._undo(toast, undo))
            button("", toast.delete, classes="icon", icon_name="close", label=self.t("action.close"))
            ui.timer(TOAST_S, toast.delete, once=True)

    def _undo(self, toast: Tag, undo: Handler) -> None:
        toast.delete()
        self.start(undo)

    # --- taste -------------------------------------------------------------------------------------------------------

    def set_language(self, language: Language) -> None:
        """At once, without a load: everything is drawn again from the URL."""
        self.t = Texts(language)
        self.client.run_javascript(f"sentinel.language({json.dumps(language)}, {json.dumps(i18n.QUASAR[language])})")
        self._announce(push=False)
        self.draw_frame(self)
        self.redraw()

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        self.client.run_javascript(f"sentinel.theme({json.dumps(theme)})")
        self.redraw()  # charts take their colours when they are drawn

    def set_zone(self, zone: Zone) -> None:
        self.zone = zone
        self.client.run_javascript(f"sentinel.zone({json.dumps(zone)})")

    # --- leaving -----------------------------------------------------------------------------------------------------

    def leave(self, why: str) -> None:
        """To the sign-in page, which leads back here."""
        back = urlencode({"why": why, "next": self.here().removeprefix(self.prefix)})
        self.client.open(f"/login?{back}")

    def _look_at_session(self) -> None:
        if self._sessions.is_idle(self.session):
            self.leave("idle")
        elif self.session.ended:
            self.leave("ended")

    def _failed(self, error: Exception) -> Any:
        """What an event handler did not catch; NiceGUI has logged it."""
        if isinstance(error, SignedOut):
            self.leave("ended")
        elif isinstance(error, Problem):
            self.tell(states.explain(self.t, error), "bad")
        else:
            self.tell(self.t("state.fault"), "bad")
