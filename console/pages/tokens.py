"""Service tokens, for scripts: made with scopes, networks and an end, shown once, revoked.

Where it stands in the walk: ``tokens`` of the admin API. A token has no right that its maker lacks.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

from admin_api.schemas.tokens import ServiceToken, ServiceTokenMade, ServiceTokenNew, ServiceTokens
from console import networks
from console.entry import entry, show_secret
from console.listing import Listing
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.dialogs import DURATIONS, Call, Question
from console.widgets.forms import Field, check, choice, text_field
from console.widgets.table import Column, DataTable, Part, Row, when

LASTS: Final = ("month", "week", "day", "hour", "good")


async def tokens(view: View) -> None:
    page = TokensPage(view)
    page.draw()
    await page.listing.load()


class TokensPage:
    def __init__(self, view: View) -> None:
        self._view = view
        self._may = view.may("tokens:write")

    def draw(self) -> None:
        view, t = self._view, self._view.t
        with tag("div", "page-head"):
            with tag("div"):
                tag("h1", text=t("nav.tokens"))
                tag("p", "lead", t("tokens.lead"))
            tag("div", "space")
            if self._may:
                button(t("tokens.make"), self._make, classes="primary")
        self.listing: Listing[ServiceToken] = Listing(
            view, "/tokens", ServiceTokens, self._make_table, self._row, self._none
        )

    def _make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("name", t("field.name")),
            Column("hint", t("tokens.begins"), "code"),
            Column("state", t("bindings.status"), "status"),
            Column("scopes", t("field.scopes"), "wide"),
            Column("networks", t("tokens.networks"), "code"),
            Column("by", t("tokens.by")),
            Column("used", t("bindings.last_used"), "time"),
            Column("expires", t("field.expires_at"), "time"),
            Column("act", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.tokens"), columns)
        table.on_act(self._act)
        return table

    def _row(self, token: ServiceToken) -> Row:
        t = self._view.t
        state = state_of(token, datetime.now(UTC))
        tone = {"live": "good", "expired": "warn", "revoked": "plain"}[state]
        anywhere = [Part(t("tokens.anywhere"), kind="muted")]
        cells = {
            "name": [Part(token.name, kind="clip", title=token.name)],
            "hint": [Part(f"{token.hint}…", kind="mono")],
            "state": [Part(t(f"tokens.{state}"), badge=tone)],
            "scopes": [Part(", ".join(token.scopes))],
            "networks": [Part(networks.short(each), kind="mono block") for each in token.networks] or anywhere,
            "by": [Part(token.created_by)],
            "used": when(token.used_at, t("time.never")),
            "expires": when(token.expires_at, t("binding.for_good")),
            "act": [Part(t("tokens.revoke"), action="revoke")] if self._may and state == "live" else [],
        }
        return Row(token.id, cells, name=token.name)

    def _none(self) -> None:
        states.empty(self._view.t("tokens.none"), self._view.t("tokens.none.why"), "vpn_key")

    # --- making one --------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        view, t = self._view, self._view.t
        scopes: dict[str, Field[bool]] = {}

        def build() -> None:
            text_field(t("field.name"), hint=t("tokens.name.hint"), maxlength=100, name="name", required=True)
            with tag("fieldset", "scopes"):
                tag("legend", text=t("field.scopes"))
                for scope in view.session.operator.scopes:
                    scopes[scope] = check(scope)
            text_field(t("tokens.networks"), hint=t("tokens.networks.hint"), lines=2, name="networks")
            choice(t("duration.label"), {name: t(f"duration.{name}") for name in LASTS}, "month", name="lasts")

        def call(values: Mapping[str, str]) -> Call:
            chosen = [name for name, field in scopes.items() if field.value]
            lasts = DURATIONS[values["lasts"]]
            end = None if lasts is None else datetime.now(UTC) + lasts
            given = networks.entered(values["networks"]).networks
            return Call("POST", "/tokens", body=ServiceTokenNew(values["name"].strip(), chosen, given, end))

        async def submit(values: Mapping[str, str]) -> str | None:
            given = networks.entered(values["networks"])
            if not any(field.value for field in scopes.values()):
                return t("tokens.no_scope")
            if given.faults:
                fault = given.faults[0]
                return t(f"networks.{fault.kind}", line=fault.line, text=fault.text, meant=fault.meant)
            wanted = call(values)
            made = await view.api.post(wanted.path, wanted.body, ServiceTokenMade)
            show_secret(view, t("tokens.made", name=made.description.name), t("secret.once"), made.token)
            await self.listing.load()
            return None

        entry(view, t("tokens.make"), t("tokens.make"), build, submit, wide=True, call=call)

    # --- revoking ----------------------------------------------------------------------------------------------------

    def _act(self, _action: str, token_id: int | str) -> None:
        token = next((each for each in self.listing.items if each.id == token_id), None)
        if token is not None:
            self._view.start(partial(self._revoke, token))

    async def _revoke(self, token: ServiceToken) -> None:
        view, t = self._view, self._view.t
        wanted = Call("DELETE", f"/tokens/{token.id}")
        question = Question(
            title=t("tokens.revoke.title", name=token.name),
            consequence=t("tokens.revoke.consequence"),
            action=t("tokens.revoke.do"),
            danger=True,
            asks_reason=False,
            call=lambda _: wanted,
        )
        if await view.ask(question) is not None:
            await view.api.call(wanted.method, wanted.path)
            view.tell(t("tokens.revoke.done", name=token.name))
            await self.listing.load()


def state_of(token: ServiceToken, now: datetime) -> str:
    """live, expired or revoked."""
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "live"
