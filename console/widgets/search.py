"""The search box: what an operator typed, and what it may mean. `suggest` is pure; `SearchBox` shows it."""

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode

import msgspec
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from console.i18n import Texts
from console.networks import is_network

FINGERPRINT: Final = re.compile(r"[0-9a-fA-F]{64}")
HINT_MAX: Final = 16
KEY_MIN: Final = 20


class Place(msgspec.Struct, frozen=True):
    """A page that one can go to."""

    href: str
    title: str


class Suggestion(msgspec.Struct, frozen=True):
    """``href`` empty: look the typed text up as a key, which must not stand in a URL."""

    text: str
    icon: str
    href: str = ""


def suggest(t: Texts, typed: str, places: list[Place]) -> list[Suggestion]:
    """The likeliest first. A text that may be a key is shown nowhere."""
    text = typed.strip()
    pages = [
        Suggestion(t("search.page", page=place.title), "arrow_forward", place.href)
        for place in places
        if text.lower() in place.title.lower()
    ]
    if not text:
        return pages
    found = []
    if FINGERPRINT.fullmatch(text):
        found.append(Suggestion(t("search.fingerprint", text=f"{text[:12]}…"), "fingerprint", _list(fingerprint=text)))
    elif looks_like_key(text):
        return [Suggestion(t("search.key"), "vpn_key")]
    if is_network(text):
        found.append(Suggestion(t("search.network", text=text), "lan", _list(network=text)))
    hint = text.removeprefix("sk-")
    if hint and len(hint) <= HINT_MAX and not is_network(text):
        found.append(Suggestion(t("search.hint", text=hint), "vpn_key", _list(hint=hint)))
    found.append(Suggestion(t("search.note", text=text[:80]), "sticky_note_2", _list(note=text[:200])))
    return found + pages


def looks_like_key(text: str) -> bool:
    """As long as a key and as unbroken as one: those do not go into URLs, which are logged and shared."""
    return len(text) >= KEY_MIN and not is_network(text) and re.fullmatch(r"[!-~]+", text) is not None


class SearchBox(Element, component="search.js"):
    """``chosen`` gets the suggestion and what was typed."""

    def __init__(
        self, t: Texts, places: list[Place], chosen: Callable[[Suggestion, str], Awaitable[None] | None]
    ) -> None:
        super().__init__()
        self._t = t
        self._places = places
        self._chosen = chosen
        self.props["label"] = t("search.label")
        self.props["placeholder"] = t("search.placeholder")
        self.on("typed", self._typed, throttle=0.1, leading_events=False)
        self.on("chosen", self._choose)

    def _typed(self, event: GenericEventArguments) -> None:
        self.props["suggestions"] = msgspec.to_builtins(suggest(self._t, str(event.args), self._places)[:8])
        self.update()

    def _choose(self, event: GenericEventArguments) -> Awaitable[None] | None:
        # Made anew from what was typed: Enter may come before the last suggestions did.
        typed = str(event.args["text"])
        found = suggest(self._t, typed, self._places)[:8]
        index = int(event.args["index"])
        return self._chosen(found[index], typed) if 0 <= index < len(found) else None


def _list(**query: str) -> str:
    return f"/bindings?{urlencode(query)}"
