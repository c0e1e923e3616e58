"""The audit: who changed what, when and why, with what was before and after.

Where it stands in the walk: rows of ``GET audit``, newest first; the URL says which.
"""

from collections.abc import Mapping
from typing import Any, Final

from nicegui import ui

from admin_api.schemas.audit import AuditEntry, AuditPage
from console.filter_bar import FilterBar
from console.listing import Listing
from console.view import View
from console.widgets import states
from console.widgets.basics import button, moment, tag
from console.widgets.dialogs import window
from console.widgets.table import Column, DataTable, Part, Row, when

KINDS: Final = ("binding", "settings", "operator", "session", "token", "archive", "alert", "alert_target")
CHANGES_SHOWN: Final = 3
TEXT_MAX: Final = 120
NONE: Final = "\N{EN DASH}"
HIDDEN: Final = ("version",)
"""Rises with every change, and tells nothing."""


async def audit(view: View) -> None:
    t = view.t
    with tag("div", "page-head"), tag("div"):
        tag("h1", text=t("nav.audit"))
        tag("p", "lead", t("audit.lead"))
    bar = FilterBar(view, t("bindings.filters"))
    with bar:
        bar.time_range()
        bar.text("actor", t("audit.actor"), maxlength=128)
        actions = {"": t("audit.any_kind")} | {f"{kind}:": t(f"audit.kind.{kind}") for kind in KINDS}
        bar.choice("action", t("audit.action"), actions)
    bar.name("subject_kind", t("audit.subject_kind"))
    bar.name("subject_id", t("audit.subject"))
    rows = AuditRows(view)
    rows.listing = Listing(view, "/audit", AuditPage, rows.make_table, rows.row, rows.none, filters=bar)
    await rows.listing.load()


class AuditRows:
    """What the list shows of an entry, and the window with all of it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.listing: Listing[AuditEntry]

    def make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("at", t("intercepts.at"), "time"),
            Column("actor", t("audit.actor")),
            Column("action", t("audit.action"), "status"),
            Column("subject", t("audit.subject"), "code"),
            Column("changes", t("audit.changes"), "wide"),
            Column("reason", t("intercepts.reason")),
            Column("more", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.audit"), columns)
        table.on_act(self._act)
        return table

    def row(self, entry: AuditEntry) -> Row:
        t = self._view.t
        changed = [
            Part(t.pair(name, f"{old} \N{RIGHTWARDS ARROW} {new}"), kind="block")
            for name, old, new in self._short(entry)
        ]
        kind = t.known(f"audit.by.{entry.actor_kind}", entry.actor_kind)
        by = [] if entry.actor_kind == "user" else [Part(kind, kind="muted")]
        cells = {
            "at": when(entry.at, ""),
            "actor": [self._cell(entry.actor, {"actor": entry.actor}), *by],
            "action": [self._cell(action_text(self._view, entry.action), {"action": entry.action}, badge="plain")],
            "subject": self._subject(entry),
            "changes": changed,
            "reason": [Part(entry.reason, kind="clip", title=entry.reason)] if entry.reason else [],
            "more": [Part(t("audit.open"), action="open")],
        }
        return Row(entry.id, cells, name=f"{entry.action} {entry.subject_name}")

    def _short(self, entry: AuditEntry) -> list[tuple[str, str, str]]:
        found = differences(entry)
        if entry.before is None or entry.after is None:
            return []
        return [
            (self._field(name), clipped(self._value(name, old)), clipped(self._value(name, new)))
            for name, old, new in found[:CHANGES_SHOWN]
        ]

    def _field(self, name: str) -> str:
        t = self._view.t
        return t.known(f"field.{name}", t.known(f"bindings.{name}", t.known(f"setting.{name}", name)))

    def _value(self, name: str, text: str) -> str:
        """Of a status, a mode, a role or a setting's choice its name."""
        t = self._view.t
        return t.known(f"{name}.{text}", t.known(f"setting.{name}.{text.lower()}", text))

    def _subject(self, entry: AuditEntry) -> list[Part]:
        view, t = self._view, self._view.t
        name = subject_text(view, entry)
        parts = [self._cell(name, {"subject_kind": entry.subject_kind, "subject_id": entry.subject_id}, kind="mono")]
        if entry.subject_kind == "binding" and entry.after is not None and view.may("bindings:read"):
            href = view.href(f"/bindings/{entry.subject_id}")
            parts.append(Part("\N{NORTH EAST ARROW}", href=href, title=t("why.open")))
        return parts

    def _cell(self, text: str, wanted: dict[str, str], **looks: str) -> Part:
        return Part(text, title=self._view.t("list.filter_by", value=text), filter=wanted, **looks)

    def none(self) -> None:
        states.empty(self._view.t("audit.empty"), self._view.t("audit.empty.why"), "history")

    # --- all of one entry --------------------------------------------------------------------------------------------

    def _act(self, _action: str, entry_id: int | str) -> None:
        entry = next((each for each in self.listing.items if each.id == entry_id), None)
        if entry is None:
            return

        def build(dialog: ui.dialog) -> None:
            self._draw(entry, dialog)

        title = self._view.t.pair(action_text(self._view, entry.action), subject_text(self._view, entry))
        window(title, build, wide=True)

    def _draw(self, entry: AuditEntry, dialog: ui.dialog) -> None:
        t = self._view.t
        kind = t.known(f"audit.by.{entry.actor_kind}", entry.actor_kind)
        facts = {
            t("audit.actor"): f"{entry.actor} ({kind})",
            t("audit.address"): entry.address or NONE,
            t("intercepts.reason"): entry.reason or NONE,
            t("audit.request"): entry.request_id or NONE,
        }
        with tag("dl", "facts"):
            tag("dt", text=t("intercepts.at"))
            with tag("dd"):
                moment(entry.at, "", absolute=True)
            for name, text in facts.items():
                tag("dt", text=name)
                tag("dd", text=text)
        if entry.before is not None or entry.after is not None:
            self._difference(entry)
        with tag("div", "buttons"):
            button(t("action.close"), dialog.close, autofocus=True)

    def _difference(self, entry: AuditEntry) -> None:
        t = self._view.t
        with tag("div", "grid-wrap"), tag("table", "grid audit-diff", aria_label=t("audit.changes")):
            self._heads(entry)
            with tag("tbody"):
                for name, old, new in differences(entry, everything=True):
                    with tag("tr", "" if old == new else "changed"):
                        tag("th", text=self._field(name), scope="row")
                        if entry.before is not None:
                            tag("td", text=self._value(name, old))
                        if entry.after is not None:
                            tag("td", text=self._value(name, new))

    def _heads(self, entry: AuditEntry) -> None:
        t = self._view.t
        with tag("thead"), tag("tr"):
            tag("th", text=t("audit.field"), scope="col")
            if entry.before is not None:
                tag("th", text=t("audit.before"), scope="col")
            if entry.after is not None:
                tag("th", text=t("audit.after"), scope="col")


def subject_text(view: View, entry: AuditEntry) -> str:
    """The settings are one subject, whose name is none to an operator."""
    return view.t("nav.settings") if entry.subject_kind == "settings" else entry.subject_name or entry.subject_id


def action_text(view: View, action: str) -> str:
    """``binding:ban`` in words; a newer one as it is."""
    return view.t.known(f"audit.action.{action}", action)


def differences(entry: AuditEntry, *, everything: bool = False) -> list[tuple[str, str, str]]:
    """Field, before and after, as texts; those that are the same only if ``everything`` is wanted."""
    before: Mapping[str, Any] = entry.before or {}
    after: Mapping[str, Any] = entry.after or {}
    names = [name for name in dict.fromkeys([*before, *after]) if name not in HIDDEN]
    found = [(name, text_of(before.get(name)), text_of(after.get(name))) for name in names]
    return [each for each in found if everything or each[1] != each[2]]


def text_of(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(text_of, value)) or NONE
    if isinstance(value, dict):
        return ", ".join(f"{name}: {text_of(each)}" for name, each in value.items()) or NONE
    if isinstance(value, bool):
        return "\N{CHECK MARK}" if value else "\N{MULTIPLICATION SIGN}"
    return NONE if value in (None, "") else str(value)


def clipped(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
