"""What surrounds every page: navigation, search, language, theme, account, and the places for content and toasts.

Where it stands in the walk: `View.open` calls `draw`, and so does a change of language.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from nicegui import ui

from console import i18n
from console.look_up import look_up
from console.theme import LOGO, THEMES, ZONES, asset
from console.view import View
from console.widgets.basics import Tag, icon, link, set_attribute, tag
from console.widgets.search import Place, SearchBox, Suggestion

N = TypeVar("N", bound=str)


def draw(view: View) -> None:
    if view.shell is not None:
        view.shell.delete()
    with view.client.content, tag("div", "shell") as view.shell:
        tag("a", "skip", view.t("nav.skip"), href="#content")
        _navigation(view)
        with tag("div"):
            _top(view)
            view.content = tag("main", tabindex="-1")
            view.content.props["id"] = "content"
            view.toasts = tag("div", "toasts", aria_live="polite")


def _navigation(view: View) -> None:
    items: dict[str, Tag] = {}
    group = ""
    with tag("nav", "side", aria_label=view.t("nav.label")):
        with link(view.href("/"), classes="brand"):
            tag("img", src=asset(view.prefix, LOGO.name), alt="")
            tag("span", text=view.t("app.name"))
        for page in view.pages:
            if not page.icon:
                continue
            if page.group and page.group != group:
                group = page.group
                tag("div", "group", view.t(group))
            with link(view.href(page.path), classes="item", title=view.t(page.title)) as items[page.path]:
                icon(page.icon)
                tag("span", text=view.t(page.title))
    view.moved = partial(_mark, view, items)
    view.moved()


def _mark(view: View, items: Mapping[str, Tag]) -> None:
    """A page below another one in the navigation counts as that one."""
    for path, item in items.items():
        here = view.path == path or (path != "/" and view.path.startswith(path + "/"))
        if (item.props.get("aria-current") is not None) != here:
            set_attribute(item, "aria-current", "page" if here else None)


def _top(view: View) -> None:
    places = [Place(page.path, view.t(page.title)) for page in view.pages if page.icon]
    with tag("header", "top"):
        SearchBox(view.t, places, lambda suggestion, typed: _search(view, suggestion, typed))
        tag("div", "space")
        languages = {name: i18n.NAMES[name] for name in i18n.LANGUAGES}
        with menu_button("translate", view.t("language.label")):
            menu_choice(languages, view.t.language, view.set_language)
        with menu_button("contrast", view.t("theme.label")):
            themes = {name: view.t(f"theme.{name}") for name in THEMES}
            menu_choice(themes, view.theme, view.set_theme, view.t("theme.label"))
            zones = {name: view.t(f"zone.{name}") for name in ZONES}
            menu_choice(zones, view.zone, view.set_zone, view.t("zone.label"))
        _account(view)
        view.busy = tag("div", "busy-bar")


def _account(view: View) -> None:
    operator = view.session.operator
    with menu_button("account_circle", view.t("account.label", name=operator.name), text=operator.name):
        tag("div", "menu-title", view.t(f"role.{operator.role}") if operator.role else operator.name)
        with tag("form", method="post", action=view.href("/logout")), tag("button", "menu-item", type="submit"):
            icon("logout")
            tag("span", text=view.t("account.sign_out"))


def menu_button(icon_name: str, label: str, text: str = "") -> ui.menu:
    """A button that opens a menu, which is returned to be filled."""
    attributes = {"type": "button", "aria_label": label, "title": label, "aria_haspopup": "true"}
    with tag("button", f"btn quiet {'' if text else 'icon'}", **attributes):
        icon(icon_name)
        if text:
            tag("span", text=text)
        return ui.menu().props("anchor='bottom right' self='top right' transition-duration=0")


def menu_choice(options: Mapping[N, str], chosen: N, choose: Callable[[N], None], title: str = "") -> None:
    """Within a menu: one of several, the present one ticked."""
    if title:
        tag("div", "menu-title", title)
    items: dict[N, tuple[Tag, Tag]] = {}

    def pick(name: N) -> None:
        for other, (tick, item) in items.items():
            tick.text = "✓" if other == name else ""
            set_attribute(item, "aria-checked", str(other == name).lower())
        choose(name)

    with tag("div", role="menu", aria_label=title or None):
        for name, text in options.items():
            with tag(
                "button", "menu-item", type="button", role="menuitemradio", aria_checked=str(name == chosen).lower()
            ) as item:
                tick = tag("span", "tick", "✓" if name == chosen else "", aria_hidden="true")
                tag("span", text=text)
            item.on("click", partial(pick, name), [])
            items[name] = tick, item


async def _search(view: View, suggestion: Suggestion, typed: str) -> None:
    view.session.touch()
    if suggestion.href:
        view.visit(suggestion.href)
    else:
        view.start(partial(look_up, view, typed.strip()))
