"""The live settings: what each does, what zero means, what it was, who changed it, and what enforcing would refuse.

Where it stands in the walk: ``GET`` and ``PUT settings``, their history, ``GET settings/impact``.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from admin_api.schemas.impact import Impact
from admin_api.schemas.settings import SettingChanges, SettingsHistory, SettingsPut, SettingsState, SettingsVersion
from console.setting_fields import GROUPS, SETTINGS, Setting
from console.view import View
from console.widgets import states
from console.widgets.basics import Tag, button, moment, tag
from console.widgets.dialogs import Call, Question, show_call
from console.widgets.forms import Field, choice, text_field
from console.widgets.table import Column, DataTable, Part, Row, when

IMPACT_DAYS: Final = 7
HISTORY_ROWS: Final = 20
KEYS_SHOWN: Final = 10


async def settings(view: View) -> None:
    state, history = await asyncio.gather(
        view.api.get("/settings", SettingsState),
        view.api.get("/settings/history", SettingsHistory, {"limit": HISTORY_ROWS}),
    )
    SettingsForm(view, state).draw(history)


class SettingsForm:
    """The settings as they were read, and what was typed since."""

    def __init__(self, view: View, state: SettingsState) -> None:
        self._view = view
        self._state = state
        self._now: dict[str, Any] = msgspec.to_builtins(state.values)
        self._fields: dict[str, Field[str]] = {}
        self._faults: dict[str, Tag] = {}
        self._may = view.may("settings:write")

    def draw(self, history: SettingsHistory) -> None:
        view, t, state = self._view, self._view.t, self._state
        with tag("div", "page-head"):
            with tag("div"):
                tag("h1", text=t("nav.settings"))
                with tag("p", "lead"):
                    if state.changed_at is None:
                        tag("span", text=t("settings.initial"))
                    else:
                        tag("span", text=t("settings.version", version=state.version, name=state.changed_by))
                        tag("span", text=" ")
                        moment(state.changed_at, "")
            tag("div", "space")
            if self._may:
                button(t("action.call"), self._as_call, classes="quiet")
                button(t("settings.save"), partial(view.start, self._save), classes="primary")
        if not self._may:
            states.notice(t("settings.readonly"))
        for group, members in GROUPS.items():
            with tag("section", "card flush"):
                with tag("div", "card-head"):
                    tag("h2", text=t(f"settings.{group}"))
                for setting in members:
                    self._setting(setting)
                if group == "enforcing":
                    self._impact_place = tag("div", "card-foot")
        self._draw_impact_offer()
        _draw_history(view, history)

    def _setting(self, setting: Setting) -> None:
        t, value = self._view.t, self._now[setting.name]
        name = t(f"setting.{setting.name}")
        with tag("div", "setting"):
            with tag("div"):
                tag("h3", text=name)
                tag("p", "muted", t(f"setting.{setting.name}.what"))
                if setting.zero:
                    tag("p", "muted", t(f"setting.{setting.name}.zero"))
            with tag("div", "setting-field"):
                if setting.options:
                    options = {each: t(f"setting.{setting.name}.{each}") for each in setting.options}
                    field = choice(name, options, setting.shown(value), bare=True, disabled=not self._may)
                else:
                    kind = "url" if setting.url else "number"
                    look = partial(self._look, setting)
                    field = text_field(*(name, str(value)), bare=True, type=kind, disabled=not self._may, changed=look)
                    fault = tag("span", "fault", role="alert")
                    fault.set_visibility(False)
                    self._faults[setting.name] = fault
                    field.element.props["aria-describedby"] = fault.html_id
                self._fields[setting.name] = field
                field.element.props["name"] = setting.name

    def _look(self, setting: Setting) -> None:
        """While one types: what will not do is said at once."""
        field, told = self._fields[setting.name], self._faults[setting.name]
        fault = self._fault(setting.name)
        field.refuse(fault)
        told.text = fault or ""
        told.set_visibility(fault is not None)

    def _fault(self, name: str) -> str | None:
        """Of what stands in a field, if it is not what was read."""
        text = self._fields[name].value.strip()
        return None if text == SETTINGS[name].shown(self._now[name]) else SETTINGS[name].fault(self._view.t, text)

    def _has_fault(self) -> bool:
        """Tells the first one."""
        t = self._view.t
        faults = {name: self._fault(name) for name in self._fields}
        told = next((t.pair(t(f"setting.{name}"), fault) for name, fault in faults.items() if fault is not None), None)
        if told is not None:
            self._view.tell(t("settings.invalid", fault=told), "bad")
        return told is not None

    # --- what enforcing would do -------------------------------------------------------------------------------------

    def _draw_impact_offer(self) -> None:
        view, t = self._view, self._view.t
        with self._impact_place, tag("div", "row-flex"):
            show = partial(view.start, self._show_impact)
            button(t("impact.show"), show, classes="small")
            tag("span", "muted", t("impact.lead"))

    async def _show_impact(self) -> None:
        impact = await self._view.api.get("/settings/impact", Impact, {"days": IMPACT_DAYS})
        self._impact_place.clear()
        with self._impact_place:
            draw_impact(self._view, impact)

    # --- saving ------------------------------------------------------------------------------------------------------

    def changes(self) -> dict[str, Any]:
        """What differs from what was read; nothing may have a fault."""
        changed: dict[str, Any] = {}
        for name, field in self._fields.items():
            given = SETTINGS[name].given(field.value.strip())
            if given != self._now[name]:
                changed[name] = given
        return changed

    def _put(self) -> SettingsPut:
        return SettingsPut(self._state.version, msgspec.convert(self.changes(), SettingChanges))

    def _as_call(self) -> None:
        if not self._has_fault():
            show_call(self._view.t, Call("PUT", "/settings", body=self._put()))

    async def _save(self) -> None:
        view, t = self._view, self._view.t
        if self._has_fault():
            return
        changed, wanted = self.changes(), self._put()
        if not changed:
            view.tell(t("settings.unchanged"))
            return
        question = Question(
            title=t("settings.confirm"),
            consequence=await self._consequence(changed),
            action=t("settings.save"),
            danger=changed.get("mode") == "enforce",
            asks_reason=False,
        )
        if await view.ask(question) is None:
            return
        before = {name: self._now[name] for name in changed}
        saved = await view.api.put("/settings", wanted, SettingsState)
        told = t("binding.saved") if saved.published else t("bulk.unpublished")
        view.tell(told, undo=partial(self._undo, saved.version, before))
        view.redraw()

    async def _consequence(self, changed: Mapping[str, Any]) -> str:
        """Old and new of each; before enforcing, also what it would refuse."""
        t = self._view.t
        told = [
            t.pair(t(f"setting.{name}"), _step(self._view, name, self._now, value)) for name, value in changed.items()
        ]
        if changed.get("mode") == "enforce":
            impact = await self._view.api.get("/settings/impact", Impact, {"days": IMPACT_DAYS})
            told.append(impact_text(self._view, impact))
        return "\n".join(told)

    async def _undo(self, version: int, before: Mapping[str, Any]) -> None:
        wanted = SettingsPut(version, msgspec.convert(dict(before), SettingChanges))
        await self._view.api.put("/settings", wanted, SettingsState)
        self._view.tell(self._view.t("action.undone"))
        self._view.redraw()


def draw_impact(view: View, impact: Impact) -> None:
    """In words, and the keys that it would meet."""
    t = view.t
    states.notice(impact_text(view, impact), "warn" if impact.requests else "good", "policy")
    if not impact.most:
        return
    columns = [
        Column("key", t("bindings.key"), "code"),
        Column("note", t("bindings.note"), "wide"),
        Column("requests", t("bindings.requests"), "number"),
        Column("addresses", t("impact.addresses"), "number"),
        Column("last", t("dashboard.last"), "time"),
    ]
    table = DataTable(t, t("impact.show"), columns)
    table.show([
        Row(
            each.binding_id,
            {
                "key": [Part(each.hint, href=view.href(f"/bindings/{each.binding_id}"), kind="mono")],
                "note": [Part(each.note, kind="clip", title=each.note)] if each.note else [],
                "requests": [Part(f"{each.requests:,}")],
                "addresses": [Part(f"{each.addresses:,}")],
                "last": when(each.last_at, ""),
            },
        )
        for each in impact.most[:KEYS_SHOWN]
    ])  # fmt: skip


def impact_text(view: View, impact: Impact) -> str:
    t = view.t
    if not impact.requests:
        return t("impact.nothing", days=IMPACT_DAYS)
    counts = {"requests": f"{impact.requests:,}", "keys": f"{impact.keys:,}", "addresses": f"{impact.addresses:,}"}
    told = t("impact.would", days=IMPACT_DAYS, **counts)
    return f"{told} {t('impact.estimated')}" if impact.estimated else told


def _draw_history(view: View, history: SettingsHistory) -> None:
    t = view.t
    with tag("section", "card flush"):
        with tag("div", "card-head"):
            tag("h2", text=t("settings.history"))
        if not history.items:
            tag("p", "card-none", t("settings.initial"))
            return
        columns = [
            Column("version", t("settings.number"), "code"),
            Column("at", t("settings.at"), "time"),
            Column("by", t("settings.by")),
            Column("what", t("settings.what"), "wide"),
        ]
        table = DataTable(t, t("settings.history"), columns)
        older: list[SettingsVersion | None] = [*history.items[1:], None]
        table.show([_version(view, *pair) for pair in zip(history.items, older, strict=True)])


def _version(view: View, version: SettingsVersion, older: SettingsVersion | None) -> Row:
    before = {} if older is None else older.values
    parts = [
        Part(view.t.pair(view.t.known(f"setting.{name}", name), _step(view, name, before, value)), kind="block")
        for name, value in version.values.items()
        if older is not None and before.get(name) != value
    ]
    cells = {
        "version": [Part(str(version.version))],
        "at": when(version.changed_at, ""),
        "by": [Part(version.changed_by)],
        "what": parts or [Part(view.t("settings.first" if older is None else "settings.unchanged"), kind="muted")],
    }
    return Row(version.version, cells)


def _step(view: View, name: str, before: Mapping[str, Any], value: object) -> str:
    new = shown(view, name, value)
    return f"{shown(view, name, before[name])} → {new}" if name in before else new


def shown(view: View, name: str, value: object) -> str:
    """A value in words where it has some."""
    text = SETTINGS[name].shown(value) if name in SETTINGS else str(value)
    return view.t.known(f"setting.{name}.{text}", text or "\N{EN DASH}")
