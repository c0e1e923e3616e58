"""The intercepts: found by what an operator knows of them, followed live, taken along as a file, explained one by one.

Where it stands in the walk: rows of ``GET logs``, newest first; the URL says which, and whether they are followed.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from nicegui import ui

from admin_api.schemas.bindings import Lookup, LookupAnswer
from admin_api.schemas.logs import ExportFormat, InterceptPage, InterceptView
from console import downloads
from console.client import Problem, SignedOut
from console.filter_bar import TIMES, FilterBar
from console.listing import Listing
from console.lists import NO_PAGING
from console.networks import short
from console.pages.intercept_why import explain
from console.view import View
from console.widgets import states
from console.widgets.basics import Tag, button, set_attribute, tag
from console.widgets.search import FINGERPRINT, HINT_MAX, looks_like_key
from console.widgets.table import Column, DataTable, Part, Row

REASONS: Final = ("key_bound_to_other_address", "key_banned")
"""Of all reasons those two that are recorded one by one: they are about a key's binding."""

NETWORKS_SHOWN: Final = 1


async def intercepts(view: View) -> None:
    await InterceptList(view).open()


class InterceptList:
    """The list of one view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._exports: dict[ExportFormat, Tag] = {}

    async def open(self) -> None:
        view = self._view
        self._head()
        self._bar = self._make_bar()
        self._status = tag("div", "tail", role="status")
        self._list: Listing[InterceptView] = Listing(
            *(view, "/logs", InterceptPage, self._make_table, self._row, self._none), filters=self._bar
        )
        self._tail = Tail(view, self._list, self._status)
        view.on_change(self.load)
        await self.load()

    async def load(self) -> None:
        view = self._view
        live = bool(view.query.get("tail"))
        for form, element in self._exports.items():
            query = {name: view.query.get(name, "") for name in (*downloads.FILTERS, *TIMES)}
            set_attribute(element, "href", view.href(downloads.INTERCEPTS_PATH, query | {"format": form.value}))
        set_attribute(self._live, "aria-pressed", str(live).lower())
        self._list.page_by_page(on=not live)
        await self._list.load()
        self._tail.follow(on=live)

    def _head(self) -> None:
        view, t = self._view, self._view.t
        with tag("div", "page-head"):
            with tag("div"):
                tag("h1", text=t("nav.intercepts"))
                tag("p", "lead", t("intercepts.lead"))
            tag("div", "space")
            with tag("div", "row-flex"):
                for form in ExportFormat:
                    text = t(f"intercepts.export.{form.value}")
                    self._exports[form] = tag(
                        "a", "btn quiet", text, href="", download="", title=t("intercepts.export")
                    )
                button(
                    "", partial(view.start, self.load), classes="icon", icon_name="refresh", label=t("action.refresh")
                )

    def _make_bar(self) -> FilterBar:
        view, t = self._view, self._view.t
        bar = FilterBar(view, t("bindings.filters"))
        with bar:
            bar.time_range()
            bar.choice(
                "reason",
                t("intercepts.reason"),
                {"": t("intercepts.any_reason")} | {r: t(f"reason.{r}") for r in REASONS},
            )
            verdicts = {"true": t("verdict.refuse"), "false": t("verdict.observe")}
            bar.choice("enforced", t("why.verdict"), {"": t("intercepts.any_verdict")} | verdicts)
            bar.text("network", t("intercepts.network"), maxlength=64)
            bar.text("key", t("intercepts.find"), self._found_key)
            self._live = button(t("tail.start"), self._toggle, icon_name="play_arrow", aria_pressed="false")
        bar.name("hint", t("bindings.hint"))
        bar.name("fingerprint", t("bindings.fingerprint"))
        bar.name("binding_id", t("binding.title"))
        bar.name("gateway", t("dashboard.gateway"))
        return bar

    def _toggle(self) -> None:
        on = not self._view.query.get("tail")
        self._view.change(tail="1" if on else "", **NO_PAGING)

    def _found_key(self, text: str) -> None:
        """A whole key goes to the admin API in a body, and into no URL: its fingerprint does."""
        view = self._view
        bare = text.removeprefix("sk-")
        if FINGERPRINT.fullmatch(text):
            view.change(fingerprint=text, **NO_PAGING)
        elif looks_like_key(text) or len(bare) > HINT_MAX:
            view.start(partial(self._look_up, text))
        else:
            view.change(hint=bare, **NO_PAGING)

    async def _look_up(self, key: str) -> None:
        answer = await self._view.api.post("/bindings/lookup", Lookup(key), LookupAnswer)
        self._view.change(fingerprint=answer.fingerprint, **NO_PAGING)

    # --- rows --------------------------------------------------------------------------------------------------------

    def _make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("at", t("intercepts.at"), "time"),
            Column("verdict", t("why.verdict"), "status"),
            Column("client", t("intercepts.client"), "code"),
            Column("key", t("bindings.key"), "code"),
            Column("bound", t("intercepts.bound"), "code"),
            Column("request", t("intercepts.request"), "wide"),
            Column("gateway", t("dashboard.gateway")),
            Column("why", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.intercepts"), columns)
        table.on_act(self._act)
        return table

    def _act(self, _action: str, event_id: int | str) -> None:
        found = next((each for each in self._list.items if each.event_id == event_id), None)
        if found is not None:
            self._view.start(partial(explain, self._view, found, self.load))

    def _row(self, item: InterceptView) -> Row:
        t = self._view.t
        verdict = t("verdict.refuse" if item.enforced else "verdict.observe")
        reason = t.known(f"reason.{item.reason}", item.reason)
        tone = "bad" if item.enforced else "warn"
        shown = [Part(short(each), kind="mono") for each in item.bound_networks[:NETWORKS_SHOWN]]
        more = len(item.bound_networks) - len(shown)
        request = f"{item.method} {item.path}"
        cells = {
            "at": [Part(at=item.at.isoformat())],
            "verdict": [
                self._cell(verdict, "enforced", str(item.enforced).lower(), badge=tone),
                self._cell(reason, "reason", item.reason),
                *([Part(f"\N{MULTIPLICATION SIGN}{item.repeat_count:,}")] if item.repeat_count > 1 else []),
            ],
            "client": [self._cell(item.client, "network", item.client, kind="mono")] if item.client else [],
            "key": self._key(item),
            "bound": [*shown, *([Part(t("list.more", n=more), kind="muted")] if more > 0 else [])],
            "request": [Part(request, kind="clip", title=f"{request}\n{item.user_agent}")],
            "gateway": [self._cell(item.gateway, "gateway", item.gateway)],
            "why": [Part(t("why.ask"), action="why", title=t("why.title"))],
        }
        return Row(item.event_id, cells, name=item.hint)

    def _key(self, item: InterceptView) -> list[Part]:
        view = self._view
        parts = [self._cell(item.hint, "fingerprint", item.fingerprint, kind="mono")]
        if item.binding_id is not None and view.may("bindings:read"):
            href = view.href(f"/bindings/{item.binding_id}")
            parts.append(Part("\N{NORTH EAST ARROW}", href=href, title=view.t("why.open")))
        return parts

    def _cell(self, text: str, name: str, value: str, **looks: str) -> Part:
        return Part(text, title=self._view.t("list.filter_by", value=text), filter={name: value}, **looks)

    def _none(self) -> None:
        t = self._view.t
        states.empty(t("intercepts.empty"), t("intercepts.empty.why"), "verified_user")


class Tail:
    """Follows the newest rows: asks for them once and again, shows a bounded number of them, and can be paused.

    It asks the admin API alone, never more often than answers come, and so costs the data path nothing.
    """

    LOOK_EVERY_S: Final = 0.7
    ROWS_AT_ONCE: Final = 50
    ROWS_KEPT: Final = 100

    def __init__(self, view: View, listing: Listing[InterceptView], status: Tag) -> None:
        self._view = view
        self._list = listing
        self._paused = False
        self._waiting: dict[str, InterceptView] = {}
        self._following = 0
        with status:
            self._dot = tag("span", "badge good")
            self._told = tag("span", "muted")
            self._pause = button(view.t("tail.pause"), self._toggle, classes="small")
        self._status = status
        self._timer = ui.timer(self.LOOK_EVERY_S, self._look, active=False, immediate=False)

    def follow(self, *, on: bool) -> None:
        """From what the list shows at this moment."""
        self._paused = False
        self._waiting = {}
        self._following += 1
        self._status.set_visibility(on)
        self._tell("")
        self._timer.activate() if on else self._timer.deactivate()

    def _toggle(self) -> None:
        self._paused = not self._paused
        if not self._paused:
            self._take(self._waiting)
            self._waiting = {}
        self._tell("")

    async def _look(self) -> None:
        following = self._following
        try:
            page = await self._list.fetch(self.ROWS_AT_ONCE, "")
        except SignedOut:
            self._view.leave("ended")
            return
        except Problem as problem:
            self._tell(states.explain(self._view.t, problem), lost=True)
            return
        if following != self._following:
            return  # the filters have changed meanwhile: these are rows of the former ones
        known = {each.event_id: each for each in self._list.items} | self._waiting
        fresh = {each.event_id: each for each in page.items if known.get(each.event_id) != each}
        missed = bool(known) and len(fresh) == self.ROWS_AT_ONCE
        if self._paused:
            self._waiting = dict(list((fresh | self._waiting).items())[: self.ROWS_KEPT])
        elif fresh:
            self._take(fresh)
        if self._paused or fresh or self._was_lost:
            self._tell(self._view.t("tail.capped") if missed else "")

    def _take(self, fresh: Mapping[str, InterceptView]) -> None:
        if fresh:
            rows = {each.event_id: each for each in self._list.items} | dict(fresh)
            newest = sorted(rows.values(), key=lambda each: (each.at, each.event_id), reverse=True)
            self._list.show(newest[: self.ROWS_KEPT])

    def _tell(self, text: str, *, lost: bool = False) -> None:
        t = self._view.t
        self._was_lost = lost
        state = "lost" if lost else "paused" if self._paused else "live"
        self._dot.text = t(f"tail.{state}")
        self._dot.classes(replace=f"badge {'bad' if lost else 'warn' if self._paused else 'good'}")
        waiting = t.n("tail.waiting", len(self._waiting)) if self._waiting else ""
        self._told.text = " ".join(each for each in (text, waiting) if each)
        self._pause.text = t("tail.continue" if self._paused else "tail.pause")
