"""The alerts: what was raised and whether it arrived, one with every attempt, and sending it anew.

Where it stands in the walk: ``GET alerts`` and ``GET alerts/{id}``, ``POST alerts/redeliver``.
"""

from functools import partial
from typing import Any, Final

from admin_api.schemas.alerts import (
    AlertDetail,
    AlertKind,
    AlertPage,
    AlertStatus,
    AlertView,
    AttemptView,
    DeliveryState,
    DeliveryView,
    Redeliver,
    SendOutcome,
)
from admin_api.schemas.common import Outcome, Results
from console.client import Problem
from console.filter_bar import FilterBar
from console.listing import Listing
from console.networks import short
from console.pages.binding import fact
from console.view import View
from console.widgets import states
from console.widgets.basics import badge, button, link, moment, tag
from console.widgets.table import Column, DataTable, Part, Row, when

STATUS_TONE: Final = {
    AlertStatus.PENDING: "info",
    AlertStatus.DELIVERED: "good",
    AlertStatus.DEAD: "bad",
    AlertStatus.NO_TARGET: "warn",
}
STATE_TONE: Final = {DeliveryState.PENDING: "info", DeliveryState.DELIVERED: "good", DeliveryState.DEAD: "bad"}
ID_MAX_DIGITS: Final = 18


async def alerts(view: View) -> None:
    t = view.t
    with tag("div", "page-head"):
        with tag("div"):
            tag("h1", text=t("nav.alerts"))
            tag("p", "lead", t("alerts.lead"))
        tag("div", "space")
        link(view.href("/targets"), t("nav.targets"), "btn")
    bar = FilterBar(view, t("bindings.filters"))
    with bar:
        bar.time_range()
        kinds = {kind.value: t(f"alert.{kind.value}") for kind in AlertKind}
        bar.choice("kind", t("alerts.kind"), {"": t("alerts.any_kind")} | kinds)
        statuses = {status.value: t(f"delivery.{status.value}") for status in AlertStatus}
        bar.choice("status", t("alerts.delivery"), {"": t("alerts.any_status")} | statuses)
        bar.hint()
    bar.name("fingerprint", t("bindings.fingerprint"))
    bar.name("binding_id", t("binding.title"))
    rows = AlertRows(view)
    rows.listing = Listing(view, "/alerts", AlertPage, rows.make_table, rows.row, rows.none, filters=bar)
    await rows.listing.load()


class AlertRows:
    """What the list shows of each."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.listing: Listing[AlertView]

    def make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("at", t("alerts.raised"), "time"),
            Column("kind", t("alerts.kind"), "status"),
            Column("about", t("alerts.about"), "code"),
            Column("what", t("alerts.what"), "wide"),
            Column("status", t("alerts.delivery"), "status"),
            Column("act", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.alerts"), columns)
        table.on_act(self._again)
        return table

    def row(self, alert: AlertView) -> Row:
        view, t = self._view, self._view.t
        kind, status = t(f"alert.{alert.kind.value}"), t(f"delivery.{alert.status.value}")
        actions = [Part(t("alerts.open"), href=view.href(f"/alerts/{alert.id}"))]
        if view.may("alerts:write") and alert.status in (AlertStatus.DEAD, AlertStatus.NO_TARGET):
            actions.append(Part(t("alerts.again"), action="again"))
        cells = {
            "at": when(alert.raised_at, ""),
            "kind": [self._cell(kind, "kind", alert.kind.value, "plain")],
            "about": [self._hint(alert)] if alert.hint else [],
            "what": [Part(what(view, alert))],
            "status": [self._cell(status, "status", alert.status.value, STATUS_TONE[alert.status])],
            "act": actions,
        }
        return Row(alert.id, cells, name=f"{kind} {alert.hint}")

    def _hint(self, alert: AlertView) -> Part:
        title = self._view.t("list.filter_by", value=alert.hint)
        wanted = {"fingerprint": alert.fingerprint} if alert.fingerprint else {"hint": alert.hint[:4]}
        return Part(alert.hint, kind="mono", title=title, filter=wanted)

    def _cell(self, text: str, name: str, value: str, tone: str) -> Part:
        return Part(text, title=self._view.t("list.filter_by", value=text), filter={name: value}, badge=tone)

    def none(self) -> None:
        states.empty(self._view.t("alerts.none"), self._view.t("alerts.none.why"), "notifications_none")

    def _again(self, _action: str, alert_id: int | str) -> None:
        self._view.start(partial(redeliver, self._view, int(alert_id), None, self.listing.load))


async def redeliver(view: View, alert_id: int, target_id: int | None, done: Any) -> None:
    """To one target, or to all that want it."""
    results = await view.api.post("/alerts/redeliver", Redeliver([alert_id], target_id), Results)
    outcome = results.results[0].outcome
    if outcome is Outcome.DONE:
        view.tell(view.t("alerts.again.done"))
    else:
        view.tell(view.t.known(f"alerts.again.{outcome.value}", outcome.value), "bad")
    view.start(done)


def what(view: View, alert: AlertView) -> str:
    """In a sentence."""
    t, facts = view.t, alert.facts
    if alert.kind is AlertKind.KEY_INTERCEPTED:
        counts = {"refused": f"{alert.enforced_count:,}", "observed": f"{alert.observed_count:,}"}
        return t("alerts.counts", addresses=f"{alert.address_count:,}", **counts)
    shown = {name: value for name, value in facts.items() if isinstance(value, str | int | float)}
    return t.listed(t.pair(t.known(f"fact.{name}", name), value) for name, value in shown.items())


# --- one of them -----------------------------------------------------------------------------------------------------


async def alert(view: View) -> None:
    """``/alerts/{id}``"""
    given = view.params["id"]
    if not (given.isascii() and given.isdigit()) or len(given) > ID_MAX_DIGITS:
        raise Problem("not_found", 404)
    try:
        detail = await view.api.get(f"/alerts/{given}", AlertDetail)
    except Problem as problem:
        if problem.code != "not_found":
            raise
        with states.empty(view.t("alerts.gone"), view.t("alerts.gone.why"), "notifications_off"):
            link(view.href("/alerts"), view.t("nav.alerts"), "btn")
        return
    AlertDetails(view, detail).draw()


class AlertDetails:
    """As it was read."""

    def __init__(self, view: View, detail: AlertDetail) -> None:
        self._view = view
        self._alert = detail.alert
        self._deliveries = detail.deliveries

    def draw(self) -> None:
        view, t, found = self._view, self._view.t, self._alert
        with tag("div", "page-head"):
            with tag("div"):
                with tag("div", "row-flex"):
                    tag("h1", text=t(f"alert.{found.kind.value}"))
                    badge(t(f"delivery.{found.status.value}"), STATUS_TONE[found.status])
                tag("p", "lead", what(view, found))
            tag("div", "space")
            with tag("div", "row-flex"):
                if view.may("alerts:write"):
                    again = partial(redeliver, view, found.id, None, view.redraw)
                    button(t("alerts.again.all"), partial(view.start, again))
                button("", view.redraw, classes="icon", icon_name="refresh", label=t("action.refresh"))
        self._facts()
        for delivery in self._deliveries:
            self._delivery(delivery)
        if not self._deliveries:
            with tag("section", "card"):
                states.empty(t("delivery.no_target"), t("delivery.no_target.why"), "notifications_off")

    def _facts(self) -> None:
        view, t, found = self._view, self._view.t, self._alert
        with tag("section", "card"), tag("dl", "facts"):
            with fact(t("alerts.raised")):
                moment(found.raised_at, "", absolute=True)
            if found.hint:
                with fact(t("bindings.key")), tag("span", "row-flex"):
                    tag("span", "mono", found.hint)
                    if found.binding_id is not None:
                        link(view.href(f"/bindings/{found.binding_id}"), t("why.open"))
                    if found.fingerprint:
                        query = {"fingerprint": found.fingerprint}
                        link(view.href("/intercepts", query), t("nav.intercepts"))
            if found.bound_networks:
                with fact(t("why.bound")):
                    tag("span", "mono", ", ".join(map(short, found.bound_networks)))
            if found.addresses:
                with fact(t("binding.addresses")):
                    for each in found.addresses:
                        tag("div", "mono", f"{each.address} \N{MULTIPLICATION SIGN}{each.count:,}")
            if found.quiet_until is not None:
                with fact(t("alerts.quiet")):
                    moment(found.quiet_until, "")

    def _delivery(self, delivery: DeliveryView) -> None:
        view, t = self._view, self._view.t
        with tag("section", "card flush", aria_label=delivery.target_name):
            with tag("div", "card-head"):
                tag("h2", text=delivery.target_name)
                badge(t(f"delivery.{delivery.state.value}"), STATE_TONE[delivery.state])
                if delivery.next_at is not None:
                    tag("span", "muted", t("delivery.next"))
                    moment(delivery.next_at, "")
                tag("div", "space")
                if delivery.target_id is None:
                    tag("span", "muted", t("delivery.removed"))
                elif view.may("alerts:write"):
                    again = partial(redeliver, view, self._alert.id, delivery.target_id, view.redraw)
                    button(t("alerts.again"), partial(view.start, again), classes="small")
            if not delivery.attempts:
                tag("p", "card-none", t("delivery.none"))
                return
            self._attempts(delivery)

    def _attempts(self, delivery: DeliveryView) -> None:
        t = self._view.t
        columns = [
            Column("at", t("intercepts.at"), "time"),
            Column("outcome", t("delivery.outcome"), "wide"),
            Column("took", t("delivery.took"), "number"),
        ]
        table = DataTable(t, t("delivery.attempts", target=delivery.target_name), columns)
        table.show([self._attempt(number, each) for number, each in enumerate(delivery.attempts)])

    def _attempt(self, number: int, attempt: AttemptView) -> Row:
        good = attempt.outcome is SendOutcome.DELIVERED
        parts = [Part(outcome_text(self._view, attempt.outcome, attempt.status), badge="good" if good else "bad")]
        cells = {"at": when(attempt.at, ""), "outcome": parts, "took": [Part(f"{attempt.took_ms:,} ms")]}
        return Row(number, cells)


def outcome_text(view: View, outcome: SendOutcome, status: int | None) -> str:
    told = view.t(f"sent.{outcome.value}")
    return told if status is None else f"{told} ({status})"
