"""Where alerts go: targets are made, changed, tried, and their signing secrets made anew.

Where it stands in the walk: ``alerts/targets`` of the admin API. URLs are shown masked, secrets once.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from admin_api.schemas.alerts import (
    AlertKind,
    Language,
    Rotate,
    SendOutcome,
    SendResult,
    TargetEdit,
    TargetKind,
    TargetMade,
    TargetNew,
    Targets,
    TargetView,
)
from console.entry import entry, show_secret
from console.i18n import NAMES
from console.listing import Listing
from console.pages.alerts import outcome_text
from console.view import View
from console.widgets import states
from console.widgets.basics import button, link, tag
from console.widgets.dialogs import Answer, Call, Question
from console.widgets.forms import Field, check, choice, text_field
from console.widgets.table import Column, DataTable, Part, Row

KEEP_HOURS: Final = {"24": 24, "168": 168, "0": 0}


async def targets(view: View) -> None:
    page = TargetsPage(view)
    page.draw()
    await page.listing.load()


class TargetsPage:
    def __init__(self, view: View) -> None:
        self._view = view
        self._may = view.may("alert_targets:write")

    def draw(self) -> None:
        view, t = self._view, self._view.t
        with tag("div", "page-head"):
            with tag("div"):
                tag("h1", text=t("nav.targets"))
                tag("p", "lead", t("targets.lead"))
            tag("div", "space")
            with tag("div", "row-flex"):
                link(view.href("/alerts"), t("nav.alerts"), "btn")
                if self._may:
                    button(t("targets.add"), self._add, classes="primary")
        self.listing: Listing[TargetView] = Listing(
            view, "/alerts/targets", Targets, self._make_table, self._row, self._none
        )

    def _make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("name", t("field.name")),
            Column("url", t("targets.url"), "code"),
            Column("state", t("bindings.status"), "status"),
            Column("events", t("targets.events"), "wide"),
            Column("language", t("language.label")),
            Column("signed", t("targets.signed"), "status"),
            Column("act", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.targets"), columns)
        table.on_act(self._act)
        return table

    def _row(self, target: TargetView) -> Row:
        t = self._view.t
        because = "" if target.disabled_because is None else target.disabled_because.value
        off = t.known(f"targets.disabled.{because}", t("operators.disabled"))
        state = Part(t("targets.enabled"), badge="good") if target.enabled else Part(off, badge="warn")
        kind = [Part(t(f"targets.kind.{target.kind.value}"), kind="muted")]
        origin = [Part(t("targets.from_setting"), kind="block muted")] if target.from_setting else []
        cells = {
            "name": [Part(target.name, kind="clip", title=target.name), *origin],
            "url": [Part(target.url or "\N{EN DASH}", kind="mono"), *kind],
            "state": [state],
            "events": [Part(", ".join(t(f"alert.{event.value}") for event in target.events))],
            "language": [Part(NAMES[target.language.value])],
            "signed": self._signed(target),
            "act": self._actions(target),
        }
        return Row(target.id, cells, name=target.name)

    def _signed(self, target: TargetView) -> list[Part]:
        t = self._view.t
        if not target.secrets:
            return [Part(t("targets.unsigned"), kind="muted")]
        parts = [Part(t.n("targets.secrets", len(target.secrets)))]
        ends = [each.expires_at for each in target.secrets if each.expires_at is not None]
        return [*parts, Part(t("binding.until"), kind="block muted"), Part(at=min(ends).isoformat())] if ends else parts

    def _actions(self, target: TargetView) -> list[Part]:
        names = ["test"] if self._view.may("alerts:write") and target.url else []
        if self._may:
            names += ["edit", "disable" if target.enabled else "enable"]
            names += ["rotate"] if target.kind is TargetKind.WEBHOOK else []
            names += [] if target.from_setting else ["remove"]
        return [Part(self._view.t(f"targets.{name}"), action=name) for name in names]

    def _none(self) -> None:
        states.empty(self._view.t("targets.none"), self._view.t("targets.none.why"), "notifications_off")

    # --- what is done ------------------------------------------------------------------------------------------------

    def _act(self, action: str, target_id: int | str) -> None:
        target = next((each for each in self.listing.items if each.id == target_id), None)
        if target is None:
            return
        if action == "edit":
            self._change(target)
            return
        does = {
            "test": self._test, "enable": self._enable, "disable": self._disable, "rotate": self._rotate,
            "remove": self._remove,
        }  # fmt: skip
        self._view.start(partial(does[action], target))

    async def _test(self, target: TargetView) -> None:
        view = self._view
        result = await view.api.post(f"/alerts/targets/{target.id}/test", {}, SendResult)
        good = result.outcome is SendOutcome.DELIVERED
        outcome = outcome_text(view, result.outcome, result.status)
        told = view.t("targets.tested", name=target.name, outcome=outcome, ms=f"{result.took_ms:,}")
        view.tell(told, "good" if good else "bad")
        await self.listing.load()

    async def _enable(self, target: TargetView) -> None:
        await self._switch(target, enabled=True)

    async def _disable(self, target: TargetView) -> None:
        await self._switch(target, enabled=False)

    async def _switch(self, target: TargetView, *, enabled: bool) -> None:
        async def put(version: int, *, wanted: bool) -> TargetView:
            edit = TargetEdit(version, enabled=wanted)
            return await self._view.api.patch(f"/alerts/targets/{target.id}", edit, TargetView)

        edited = await put(target.version, wanted=enabled)

        async def undo() -> None:
            await put(edited.version, wanted=not enabled)
            await self._done(self._view.t("action.undone"))

        self._view.tell(self._view.t("targets.changed", name=target.name), undo=undo)
        await self.listing.load()

    async def _rotate(self, target: TargetView) -> None:
        view, t = self._view, self._view.t

        def call(answer: Answer) -> Call:
            return Call("POST", f"/alerts/targets/{target.id}/rotate", body=Rotate(KEEP_HOURS[answer.choice]))

        question = Question(
            title=t("targets.rotate.title", name=target.name),
            consequence=t("targets.rotate.consequence"),
            action=t("targets.rotate"),
            asks_reason=False,
            choices_label=t("targets.keep"),
            choices={name: t(f"targets.keep.{name}") for name in KEEP_HOURS},
            call=call,
        )
        answer = await view.ask(question)
        if answer is not None:
            wanted = call(answer)
            self._show(await view.api.post(wanted.path, wanted.body, TargetMade))
            await self.listing.load()

    async def _remove(self, target: TargetView) -> None:
        view, t = self._view, self._view.t
        wanted = Call("DELETE", f"/alerts/targets/{target.id}")
        question = Question(
            title=t("targets.remove.title", name=target.name),
            consequence=t("targets.remove.consequence"),
            action=t("targets.remove"),
            danger=True,
            asks_reason=False,
            call=lambda _: wanted,
        )
        if await view.ask(question) is not None:
            await view.api.call(wanted.method, wanted.path)
            await self._done(t("targets.removed", name=target.name))

    async def _done(self, told: str) -> None:
        self._view.tell(told)
        await self.listing.load()

    def _show(self, made: TargetMade) -> None:
        t = self._view.t
        if made.secret is not None:
            show_secret(self._view, t("targets.secret", name=made.target.name), t("secret.once"), made.secret)

    # --- the form ----------------------------------------------------------------------------------------------------

    def _add(self) -> None:
        view, t = self._view, self._view.t
        events: dict[AlertKind, Field[bool]] = {}

        def build() -> None:
            kinds = {kind.value: t(f"targets.kind.{kind.value}.long") for kind in TargetKind}
            choice(t("alerts.kind"), kinds, TargetKind.WEBHOOK.value, name="kind")
            self._fields(events, [AlertKind.KEY_INTERCEPTED], "", Language(view.t.language), needs_url=True)

        def call(values: Mapping[str, str]) -> Call:
            new = TargetNew(
                values["name"].strip(), TargetKind(values["kind"]), values["url"].strip(), ticked(events),
                Language(values["language"]),
            )  # fmt: skip
            return Call("POST", "/alerts/targets", body=new)

        async def submit(values: Mapping[str, str]) -> str | None:
            if not ticked(events):
                return t("targets.no_event")
            wanted = call(values)
            made = await view.api.post(wanted.path, wanted.body, TargetMade)
            self._show(made)
            await self._done(t("targets.added", name=made.target.name))
            return None

        entry(view, t("targets.add"), t("targets.add"), build, submit, wide=True, call=call)

    def _change(self, target: TargetView) -> None:
        view, t = self._view, self._view.t
        events: dict[AlertKind, Field[bool]] = {}

        def build() -> None:
            self._fields(events, target.events, target.name, target.language, has_url=not target.from_setting)

        def call(values: Mapping[str, str]) -> Call:
            url, language = values.get("url", "").strip(), Language(values["language"])
            edit = TargetEdit(target.version, values["name"].strip(), url or msgspec.UNSET, ticked(events), language)
            return Call("PATCH", f"/alerts/targets/{target.id}", body=edit)

        async def submit(values: Mapping[str, str]) -> str | None:
            if not ticked(events):
                return t("targets.no_event")
            wanted = call(values)
            edited = await view.api.patch(wanted.path, wanted.body, TargetView)
            await self._done(t("targets.changed", name=edited.name))
            return None

        title = t("targets.edit.title", name=target.name)
        entry(view, title, t("targets.save"), build, submit, wide=True, call=call)

    def _fields(
        self,
        events: dict[AlertKind, Field[bool]],
        chosen: list[AlertKind],
        name: str,
        language: Language,
        *,
        has_url: bool = True,
        needs_url: bool = False,
    ) -> None:
        t = self._view.t
        text_field(t("field.name"), name, maxlength=100, name="name", required=True)
        if has_url:
            hint = t("targets.url.hint") if needs_url else t("targets.url.keep")
            text_field(t("targets.url"), hint=hint, maxlength=2048, name="url", required=needs_url)
        with tag("fieldset", "scopes"):
            tag("legend", text=t("targets.events"))
            for kind in AlertKind:
                events[kind] = check(t(f"alert.{kind.value}"), value=kind in chosen)
        languages = {each.value: NAMES[each.value] for each in Language}
        choice(t("targets.language"), languages, language.value, name="language")


def ticked(events: Mapping[AlertKind, Field[bool]]) -> list[AlertKind]:
    return [kind for kind, field in events.items() if field.value]
