"""Signing in: a plain form, so that password managers and the cookie work as they do everywhere.

Where it stands in the walk: `app` shows it to whoever has no session; the form is posted to `Console.sign_in`, and what
went wrong comes back as a code in the URL, which is translated here and never shown as it came.
"""

from collections.abc import Callable
from functools import partial

from nicegui import ui
from starlette.requests import Request

from console import i18n, theme
from console.i18n import Language, Texts
from console.messages import CATALOGUE
from console.theme import LOGO, Preferences, asset
from console.widgets.basics import button, tag
from console.widgets.states import notice

LONGEST_WAIT_S = 24 * 3600
WHY = ("idle", "ended", "left")


def sign_in_page(request: Request) -> None:
    preferences = Preferences(request)
    t = preferences.texts()
    theme.dress(request, preferences, f"{t('login.title')} · {t('app.name')}")
    with tag("main", "gate"), tag("div") as gate:
        _form(request, t)

    def switch(language: Language) -> None:
        ui.run_javascript(f"sentinel.language('{language}', '{i18n.QUASAR[language]}')")
        gate.clear()
        with gate:
            _form(request, Texts(language))
            _languages(switch)

    with gate:
        _languages(switch)


def _form(request: Request, t: Texts) -> None:
    prefix = request.scope.get("root_path", "")
    with tag("form", "card", method="post", action=f"{prefix}/login"):
        with tag("div", "brand"):
            tag("img", src=asset(prefix, LOGO.name), alt="")
            tag("h1", text=t("app.name"))
        _told(request, t)
        tag("input", type="hidden", name="next", value=request.query_params.get("next", "")[:2048])
        with tag("div", "field"):
            tag("label", text=t("login.name"), for_="name")
            name = tag("input", "in", name="name", autocomplete="username", required=True, maxlength=64, autofocus=True)
            name.props["id"] = "name"
        with tag("div", "field"):
            tag("label", text=t("login.password"), for_="password")
            password = tag(
                *("input", "in"), name="password", type="password", autocomplete="current-password", required=True,
                maxlength=1024,
            )  # fmt: skip
            password.props["id"] = "password"
        tag("button", "btn primary", t("login.submit"), type="submit")
        tag("p", "muted", t("login.help"))


def _told(request: Request, t: Texts) -> None:
    """What went wrong, if anything did, or why one is here."""
    code, why = request.query_params.get("problem", ""), request.query_params.get("why", "")
    if code == "too_many_attempts":
        _waiting(t, _seconds(request.query_params.get("wait", "")))
    elif f"problem.{code}" in CATALOGUE:
        notice(t(f"problem.{code}", store="…"), "bad", "error")
    elif why in WHY:
        notice(t(f"login.{why}"), "good" if why == "left" else "")


def _waiting(t: Texts, wait_s: int) -> None:
    """Counts down to when the next attempt is allowed."""
    left = [wait_s]

    def text() -> str:
        return t("login.wait", time=f"{left[0] // 60}:{left[0] % 60:02}")

    with tag("div", "notice bad", role="alert"):
        shown = tag("div", text=text())

    def tick() -> None:
        left[0] = max(0, left[0] - 1)
        shown.text = text()
        if not left[0]:
            timer.deactivate()

    timer = ui.timer(1.0, tick)


def _seconds(text: str) -> int:
    return min(int(text), LONGEST_WAIT_S) if text.isascii() and text.isdigit() and len(text) < 9 else 60


def _languages(switch: Callable[[Language], None]) -> None:
    with tag("nav", "foot"):
        for language in i18n.LANGUAGES:
            button(i18n.NAMES[language], partial(switch, language), classes="quiet small", lang=language)
