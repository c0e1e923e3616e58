"""The first page: how the house stands, what happened today and before, and who is intercepted most.

Where it stands in the walk: ``GET dashboard``, ``GET dashboard/history`` and ``GET gateways``; it looks again by
itself, which does not count as an operator's doing.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from nicegui import ui

from admin_api.schemas.dashboard import Dashboard, History, HistoryPoint, Total
from admin_api.schemas.gateways import Gateways, GatewayView
from console.client import Problem, SignedOut
from console.view import View
from console.widgets import states
from console.widgets.basics import Tag, button, tag
from console.widgets.chart import Series, over_time
from console.widgets.forms import choice
from console.widgets.table import Column, DataTable, Part, Row, when

LOOK_EVERY_S: Final = 10.0
NONE: Final = "\N{EN DASH}"
RANGES: Final = {
    "24h": (timedelta(hours=24), "hour"),
    "7d": (timedelta(days=7), "hour"),
    "30d": (timedelta(days=30), "day"),
    "90d": (timedelta(days=90), "day"),
}
DAYS_FROM: Final = timedelta(days=10)


async def dashboard(view: View) -> None:
    with tag("div", "page-head"):
        with tag("div"):
            tag("h1", text=view.t("nav.dashboard"))
            tag("p", "lead", view.t("dashboard.lead"))
        tag("div", "space")
    board = Board(view)
    await board.look()
    ui.timer(LOOK_EVERY_S, board.look_again, immediate=False)


class Board:
    """The parts that are drawn again while one looks."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._banner = tag("div", "stack")
        self._tiles = tag("div", "tiles")
        with tag("section", "card flush"):
            with tag("div", "card-head"):
                tag("h2", text=view.t("dashboard.traffic"))
                tag("span", "muted", view.t("dashboard.zoom"))
                tag("div", "space")
                self._whole = button(view.t("dashboard.zoomed_out"), self._zoom_out, classes="small quiet")
                names = {name: view.t(f"range.{name}") for name in RANGES}
                chosen = view.query.get("range", "24h")
                self._range = choice(
                    view.t("dashboard.range"),
                    names,
                    chosen if chosen in RANGES else "24h",
                    bare=True,
                    changed=self._chosen,
                )
            self._chart = tag("div", "chart-place")
        with tag("div", "halves"):
            self._most = tag("section", "card flush")
            self._newest = tag("section", "card flush")
        self._gateways = tag("section", "card flush")
        self._shown_history: History | None = None
        view.on_change(self._draw_history)

    async def look(self) -> None:
        view = self._view
        board, gateways, _ = await asyncio.gather(
            view.api.get("/dashboard", Dashboard), self._ask_gateways(), self._draw_history()
        )
        self._draw_banner(board)
        self._draw_tiles(board)
        self._draw_most(board)
        self._draw_newest(board)
        self._draw_gateways(gateways)

    async def look_again(self) -> None:
        try:
            await self.look()
        except SignedOut:
            self._view.leave("ended")
        except Problem as problem:
            self._banner.clear()
            with self._banner:
                states.notice(states.explain(self._view.t, problem), "bad", "cloud_off")

    async def _ask_gateways(self) -> Gateways | None:
        try:
            return await self._view.api.get("/gateways", Gateways)
        except SignedOut:
            raise
        except Problem:
            return None

    # --- what is enforced now ----------------------------------------------------------------------------------------

    def _draw_banner(self, board: Dashboard) -> None:
        t = self._view.t
        redis, postgresql = (state == "available" for state in (board.stores.redis, board.stores.postgresql))
        self._banner.clear()
        with self._banner:
            if not redis and not postgresql:
                states.notice(t("degraded.both"), "bad", "error")
            elif not redis:
                states.notice(t("degraded.redis"), "warn", "warning")
            elif not postgresql:
                states.notice(t("degraded.postgresql"), "bad", "error")
            gateways = board.gateways
            if gateways is not None and not gateways.alive:
                states.notice(t("degraded.gateways"), "bad", "error")
            elif gateways is not None and gateways.alive < gateways.known:
                gone = gateways.known - gateways.alive
                states.notice(t("degraded.some_gateways", gone=gone, known=gateways.known), "warn", "warning")
        self._banner.set_visibility(bool(self._banner.default_slot.children))

    def _draw_tiles(self, board: Dashboard) -> None:
        t, today, totals = self._view.t, board.today, board.totals
        unknown = t("dashboard.unknown")
        self._tiles.clear()
        with self._tiles:
            if today is None:
                for name in ("requests", "refused", "observed", "bound"):
                    tile(t(f"dashboard.{name}"), NONE, unknown)
            else:
                tile(t("dashboard.requests"), f"{today.requests:,}", t.n("dashboard.passed", today.allowed))
                tile(t("dashboard.refused"), f"{today.refused_total:,}", self._why(today.refused))
                tile(t("dashboard.observed"), f"{today.observed:,}", t("dashboard.observed.why"))
                tile(t("dashboard.bound"), f"{today.bound:,}", t.n("dashboard.unbound", today.unbound))
            if totals is None:
                tile(t("dashboard.bindings"), NONE, unknown)
            else:
                banned, archived = self._count(totals.banned), self._count(totals.archived)
                below = f"{t('dashboard.banned', n=banned)} · {t('dashboard.archived', n=archived)}"
                tile(t("dashboard.bindings"), self._count(totals.bindings), below)

    def _why(self, refused: dict[str, int]) -> str:
        """The two commonest reasons."""
        t = self._view.t
        top = sorted(refused.items(), key=lambda each: -each[1])[:2]
        return " · ".join(f"{t.known(f'reason.{code}', code)} {count:,}" for code, count in top if count) or NONE

    def _count(self, total: Total) -> str:
        shown = f"{total.count:,}"
        return self._view.t("dashboard.about", n=shown) if total.estimated else shown

    # --- over time ---------------------------------------------------------------------------------------------------

    def _chosen(self) -> None:
        self._view.change(range="" if self._range.value == "24h" else self._range.value, since="", until="")

    def _zoom_out(self) -> None:
        self._view.change(since="", until="")

    def _zoom(self, since: datetime, until: datetime) -> None:
        self._view.change(since=_text(since), until=_text(until))

    async def _draw_history(self) -> None:
        view = self._view
        since, until, step = span(view.query, datetime.now(UTC))
        self._whole.set_visibility("since" in view.query)
        query = {"from": _text(since), "to": _text(until), "step": step}
        try:
            points = await view.api.get("/dashboard/history", History, query)
        except SignedOut:
            raise
        except Problem as problem:
            self._shown_history = None
            self._chart.clear()
            with self._chart:
                states.failed(view.t, problem, partial(view.start, self._draw_history))
            return
        if points == self._shown_history:
            return  # the chart stays, and with it what one is pointing at
        self._shown_history = points
        self._chart.clear()
        with self._chart:
            self._draw_chart(points.items)

    def _draw_chart(self, points: list[HistoryPoint]) -> None:
        t = self._view.t
        if not any(point.requests or point.intercepted for point in points):
            states.empty(t("dashboard.traffic.none"), t("dashboard.traffic.none.why"), "bar_chart")
            return
        sums = [sum(getattr(point, name) for point in points) for name in ("requests", "intercepted", "observed")]
        names = [t("dashboard.requests"), t("dashboard.intercepted"), t("dashboard.observed")]
        label = t.listed(t.pair(name, f"{count:,}") for name, count in zip(names, sums, strict=True))
        over_time(
            f"{t('dashboard.traffic')}. {label}",
            [point.at for point in points],
            [
                Series(names[0], "--chart-1", [point.requests for point in points]),
                Series(names[1], "--chart-2", [point.intercepted for point in points]),
                Series(names[2], "--chart-3", [point.observed for point in points]),
            ],
            self._zoom,
        )
        with tag("p", "chart-foot muted", label):
            if points[-1].partial:
                tag("span", text=f" · {t('dashboard.traffic.partial')}")

    # --- lists -------------------------------------------------------------------------------------------------------

    def _draw_most(self, board: Dashboard) -> None:
        view, t = self._view, self._view.t
        self._most.clear()
        with self._most:
            _head(t("dashboard.most"))
            top = board.most_intercepted
            if top is None or not top.items:
                tag("p", "card-none", t("dashboard.unknown") if top is None else t("dashboard.most.none"))
                return
            columns = [
                Column("key", t("bindings.key"), "code"),
                Column("count", t("bindings.intercepts"), "number"),
                Column("last", t("dashboard.last"), "time"),
            ]
            table = DataTable(t, t("dashboard.most"), columns)
            table.show([
                Row(
                    each.fingerprint,
                    {
                        "key": [key_part(view, each.hint, each.binding_id)],
                        "count": [Part(f"{each.intercepts:,}")],
                        "last": when(each.last_at, ""),
                    },
                )
                for each in top.items
            ])  # fmt: skip

    def _draw_newest(self, board: Dashboard) -> None:
        view, t = self._view, self._view.t
        self._newest.clear()
        with self._newest:
            _head(t("dashboard.newest"))
            found = board.newest_bindings
            if not found:
                tag("p", "card-none", t("dashboard.unknown") if found is None else t("dashboard.newest.none"))
                return
            columns = [
                Column("key", t("bindings.key"), "code"),
                Column("networks", t("bindings.networks"), "code"),
                Column("first", t("bindings.first_used"), "time"),
            ]
            table = DataTable(t, t("dashboard.newest"), columns)
            table.show([
                Row(
                    each.id,
                    {
                        "key": [key_part(view, each.hint, each.id)],
                        "networks": [Part(network.removesuffix("/32"), kind="mono") for network in each.networks[:2]],
                        "first": when(each.first_used_at, ""),
                    },
                )
                for each in found
            ])  # fmt: skip

    def _draw_gateways(self, gateways: Gateways | None) -> None:
        t = self._view.t
        self._gateways.clear()
        with self._gateways:
            _head(t("dashboard.gateways"))
            if gateways is None or not gateways.items:
                tag("p", "card-none", t("dashboard.unknown") if gateways is None else t("dashboard.gateways.none"))
                return
            columns = [
                Column("name", t("dashboard.gateway")),
                Column("state", t("dashboard.state"), "status"),
                Column("workers", t("dashboard.workers"), "number"),
                Column("open", t("dashboard.open"), "number"),
                Column("lag", t("dashboard.lag"), "number"),
                Column("version", t("dashboard.version"), "code"),
                Column("seen", t("dashboard.seen"), "time"),
            ]
            table = DataTable(t, t("dashboard.gateways"), columns)
            table.show([self._gateway(each) for each in gateways.items])

    def _gateway(self, gateway: GatewayView) -> Row:
        state, tone = "gone", "bad"
        if gateway.alive:
            whole = all(worker.redis_available and worker.postgresql_available for worker in gateway.workers)
            state, tone = ("alive", "good") if whole else ("degraded", "warn")
        cells = {
            "name": [Part(gateway.name)],
            "state": [Part(self._view.t(f"gateway.{state}"), badge=tone)],
            "workers": [Part(f"{gateway.workers_alive} / {gateway.workers_expected}")],
            "open": [Part(f"{gateway.open_exchanges:,}")],
            "lag": [Part(f"{gateway.lag_events:,}")],
            "version": [Part(" ".join(gateway.versions), kind="mono")],
            "seen": when(gateway.last_seen_at, ""),
        }
        return Row(gateway.name, cells)


def tile(name: str, value: str, below: str) -> Tag:
    with tag("div", "tile") as made:
        tag("div", "tile-name", name)
        tag("div", "tile-value", value)
        tag("div", "tile-below", below)
    return made


def key_part(view: View, hint: str, binding_id: int | None) -> Part:
    href = view.href(f"/bindings/{binding_id}") if binding_id is not None else ""
    return Part(hint, href=href, kind="mono")


def span(query: dict[str, str], now: datetime) -> tuple[datetime, datetime, str]:
    """What the URL's range means: since, until, and the step of the figures."""
    length, step = RANGES.get(query.get("range", ""), RANGES["24h"])
    since, until = _moment(query.get("since")), _moment(query.get("until"))
    if since is not None and until is not None and since < until:
        return since, until, "day" if until - since > DAYS_FROM else "hour"
    return now - length, now, step


def _moment(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _head(title: str) -> None:
    with tag("div", "card-head"):
        tag("h2", text=title)
