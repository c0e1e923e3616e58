"""The fields above a list: each stands for one name of the URL's query, and shows what the URL says.

    bar = FilterBar(view, view.t("bindings.filters"))
    with bar:
        bar.time_range()
        bar.choice("reason", "Reason", {"": "Any reason", "key_banned": "Key banned"})
        bar.text("network", "Network")

Where it stands in the walk: the pages that show lists call `sync` whenever they draw, since Back and chips change the
URL too.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from nicegui.events import GenericEventArguments

from console.lists import NO_PAGING, chips
from console.view import View
from console.widgets.basics import Tag, tag
from console.widgets.forms import Field, choice, text_field
from console.widgets.search import HINT_MAX

RANGES: Final = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
BETWEEN: Final = "between"
"""The range of two moments, which stand beside it."""

KEY_PREFIX: Final = "sk-"
TIMES: Final = ("range", "from", "to")


def time_bounds(query: Mapping[str, str], now: datetime) -> dict[str, str]:
    """What the admin API is asked for: ``from`` and ``to`` as they are, else what ``range`` means at this moment."""
    given = {name: query[name] for name in ("from", "to") if query.get(name)}
    lasts = RANGES.get(query.get("range", ""))
    if given or lasts is None:
        return given
    return {"from": (now - lasts).isoformat()}


class FilterBar:
    """Fields are made between ``with bar:`` and its end; the chips below them are drawn by `sync`."""

    def __init__(self, view: View, label: str) -> None:
        self._view = view
        self._fields: dict[str, Field[str]] = {}
        self._shown: dict[str, Callable[[str], str]] = {}
        self._names: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._moments: Tag | None = None
        self.place = tag("div", "filters", role="group", aria_label=label)
        self._chips = tag("div", "filters")

    def __enter__(self) -> None:
        self.place.__enter__()

    def __exit__(self, *_: object) -> None:
        self.place.__exit__()

    def name(self, name: str, label: str, values: Mapping[str, str] | None = None) -> None:
        """A filter that has a chip and no field: clicks on cells set it."""
        self._names[name] = label
        self._values |= values or {}

    def choice(self, name: str, label: str, options: Mapping[str, str]) -> None:
        self.name(name, label, {value: text for value, text in options.items() if value})
        field = choice(label, options, self._view.query.get(name, ""), bare=True, name=name)
        field.element.on("change", lambda _: self._put(name, field.value), [])
        self._fields[name] = field

    def hint(self) -> None:
        """How a key begins, with or without the ``sk-`` that all of them begin with."""
        self.text("hint", self._view.t("bindings.hint"), maxlength=HINT_MAX + len(KEY_PREFIX))

    def text(
        self,
        name: str,
        label: str,
        entered: Callable[[str], None] | None = None,
        *,
        maxlength: int = 600,
        grow: bool = False,
    ) -> None:
        """Enter, or leaving the field, puts it into the URL; or gives it to ``entered``, and the field is empty."""
        if entered is None:
            self.name(name, label)
        value = "" if entered else self._view.query.get(name, "")
        field = text_field(label, value, bare=True, placeholder=label, name=name, maxlength=maxlength)
        if grow:
            field.element.classes("grow")

        def changed(event: GenericEventArguments) -> None:
            field.value = event.args.strip()
            if entered is None:
                self._put(name, field.value.removeprefix(KEY_PREFIX) if name == "hint" else field.value)
            elif field.value:
                field.put("")
                entered(field.value)

        field.element.on("change", changed, js_handler="(event) => emit(event.target.value)")
        if entered is None:
            self._fields[name] = field

    def time_range(self) -> None:
        """Since when: a choice, or two moments in UTC."""
        t = self._view.t
        options = {"": t("range.any")} | {name: t(f"range.{name}") for name in RANGES}
        self.choice("range", t("dashboard.range"), options | {BETWEEN: t("range.between")})
        with tag("div", "row-flex") as self._moments:
            for name, label in (("from", t("range.from")), ("to", t("range.to"))):
                self.name(name, label)
                tag("span", "muted", label, aria_hidden="true")
                self._moment(name, label)

    def _moment(self, name: str, label: str) -> None:
        field = text_field(label, _local(self._view.query.get(name, "")), bare=True, type="datetime-local", name=name)
        self._shown[name] = _local

        def changed(event: GenericEventArguments) -> None:
            field.value = event.args
            self._put(name, f"{field.value}:00Z" if len(field.value) == len("2030-12-31T23:59") else field.value)

        field.element.on("change", changed, js_handler="(event) => emit(event.target.value)")
        self._fields[name] = field

    def _put(self, name: str, value: str) -> None:
        """A range and a moment exclude each other."""
        others = {"range": {"from": "", "to": ""}, "from": {"range": BETWEEN}, "to": {"range": BETWEEN}}
        self._view.change(**({name: value} | others.get(name, {}) | NO_PAGING))

    @property
    def active(self) -> bool:
        query = self._view.query
        return any(query.get(name) for name in self._names if (name, query.get(name)) != ("range", BETWEEN))

    def clear(self) -> None:
        self._view.change(**(dict.fromkeys(self._names, "") | NO_PAGING))

    def query(self) -> dict[str, str]:
        """What the admin API is asked for."""
        wanted = {name: self._view.query.get(name, "") for name in self._names if name not in TIMES}
        return wanted | time_bounds(self._view.query, datetime.now(UTC))

    def sync(self) -> None:
        """Fields and chips as the URL is."""
        for name, field in self._fields.items():
            wanted = self._shown.get(name, str)(self._view.query.get(name, ""))
            if field.value != wanted:
                field.value = wanted
                field.put(wanted)
        query = self._view.query
        if self._moments is not None:
            self._moments.set_visibility(
                any(query.get(name) for name in ("from", "to")) or query.get("range") == BETWEEN
            )
        named = {name: label for name, label in self._names.items() if (name, query.get(name)) != ("range", BETWEEN)}
        chips(self._view, self._chips, named, self._values)


def _local(moment: str) -> str:
    """As the browser's field writes it, in UTC; empty if it is no time."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return ""
    return (at if at.tzinfo is None else at.astimezone(UTC)).strftime("%Y-%m-%dT%H:%M")
