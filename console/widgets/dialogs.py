"""Questions to an operator: what will happen, to how many, and why it is done."""

import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from nicegui import ui

from console.i18n import Texts
from console.widgets.basics import button, copyable, tag
from console.widgets.forms import choice, text_field

DURATIONS: dict[str, timedelta | None] = {
    "good": None,
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}

SUBMITTED = "(event) => { event.preventDefault(); emit(Object.fromEntries(new FormData(event.target))) }"
"""The fields as they are at that moment: what was typed last may not have reached the server yet."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """``consequence`` names what will happen. ``choices``: value to text, the first one chosen."""

    title: str
    consequence: str
    action: str
    danger: bool = False
    asks_reason: bool = True
    asks_duration: bool = False
    choices_label: str = ""
    choices: Mapping[str, str] = {}


class Answer(msgspec.Struct, frozen=True):
    """``expires_at`` None: for good."""

    reason: str = ""
    expires_at: datetime | None = None
    choice: str = ""


async def ask(t: Texts, question: Question) -> Answer | None:
    """None: the operator thought better of it. Escape and a click beside it cancel."""
    with ui.dialog() as dialog, tag("div", "dialog"), tag("form", "dialog-form") as form:
        heading = tag("h2", text=question.title)
        told = tag("p", text=question.consequence)
        dialog.props["aria-labelledby"] = heading.html_id
        dialog.props["aria-describedby"] = told.html_id
        if question.choices:
            choice(question.choices_label, question.choices, next(iter(question.choices)), name="choice")
        if question.asks_duration:
            names = {name: t(f"duration.{name}") for name in DURATIONS}
            choice(t("duration.label"), names, "good", name="duration")
        if question.asks_reason:
            text_field(t("reason.label"), maxlength=500, name="reason")
        with tag("div", "buttons"):
            button(t("action.cancel"), lambda: dialog.submit(None), autofocus=not question.asks_reason)
            style = "danger solid" if question.danger else "primary"
            tag("button", f"btn {style}", question.action, type="submit")
        form.on("submit", lambda event: dialog.submit(event.args), js_handler=SUBMITTED)
    try:
        submitted = await dialog
    finally:
        dialog.delete()
    return None if submitted is None else _answer(submitted)


def _answer(values: Mapping[str, str]) -> Answer:
    lasts = DURATIONS.get(values.get("duration", ""))
    expires_at = None if lasts is None else datetime.now(UTC) + lasts
    return Answer(values.get("reason", "").strip(), expires_at, values.get("choice", ""))


def api_call(t: Texts, method: str, path: str, body: Callable[[], object]) -> None:
    """Shows the request that a form stands for, as a command. ``body``: made of the fields as they are."""
    sent = shlex.quote(msgspec.json.encode(body()).decode())
    command = f'curl -sS -f -H "$AUTH" -X {method} "$API{path}" -H "Content-Type: application/json" -d {sent}'

    def build(dialog: ui.dialog) -> None:
        tag("p", "muted", t("call.why"))
        tag("pre", "code mono", command)
        with tag("div", "buttons"):
            copyable(command, t("call.title"))
            button(t("action.close"), dialog.close, autofocus=True)

    window(t("call.title"), build, wide=True)


def window(title: str, build: Callable[[ui.dialog], None], *, wide: bool = False) -> ui.dialog:
    """A dialog of any content, open already; it deletes itself when it is closed."""
    with ui.dialog() as dialog, tag("div", f"dialog {'wide' if wide else ''}".strip()):
        heading = tag("h2", text=title)
        dialog.props["aria-labelledby"] = heading.html_id
        build(dialog)
    dialog.on("hide", dialog.delete)
    dialog.open()
    return dialog
