"""The live settings as the console knows them: in which order, with which choices, and what may be typed.

Where it stands in the walk: the page of the settings makes a field of each. The bounds of the numbers are read from the
wire contract, so that they stand nowhere twice.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from admin_api.schemas.settings import SettingValues
from console.i18n import Texts

INTEGER_MAX_DIGITS: Final = 9
URL_MAX: Final = 2048


class Setting(msgspec.Struct, frozen=True):
    """``options``: one of these, else a number, or a URL if ``url``. ``zero``: zero means something of its own.

    ``switch``: the options are false and true.
    """

    name: str
    options: tuple[str, ...] = ()
    zero: bool = False
    url: bool = False
    switch: bool = False

    def shown(self, value: Any) -> str:
        return str(value).lower() if self.switch else str(value)

    def given(self, text: str) -> Any:
        """The value that was chosen or typed. It must be free of `fault`."""
        if self.switch:
            return text == "true"
        return text if self.options or self.url else int(text)

    def fault(self, t: Texts, text: str) -> str | None:
        """Why what was typed will not do."""
        if self.options:
            return None
        if self.url:
            return t("settings.no_url") if text and not _is_url(text) else None
        low, high = BOUNDS[self.name]
        is_number = text.isascii() and text.isdigit() and len(text) <= INTEGER_MAX_DIGITS
        if is_number and low <= int(text) <= high:
            return None
        return t("settings.out_of_range", low=f"{low:,}", high=f"{high:,}")


GROUPS: Final[Mapping[str, tuple[Setting, ...]]] = {
    "enforcing": (
        Setting("mode", ("enforce", "observe")),
        Setting("failsafe", ("closed", "open")),
        Setting("cut_on_revocation", ("false", "true"), switch=True),
    ),
    "limiting": (
        Setting("max_concurrent_per_key", zero=True),
        Setting("max_concurrent_per_address", zero=True),
    ),
    "binding": (
        Setting("bind_on", ("accepted", "first_use")),
        Setting("bind_methods", ("any", "generating")),
        Setting("ipv4_prefix"),
        Setting("ipv6_prefix"),
        Setting("networks_per_key"),
    ),
    "keeping": (Setting("archive_days", zero=True), Setting("log_retention_days", zero=True)),
    "alerting": (
        Setting("alert_threshold_count", zero=True),
        Setting("alert_threshold_s"),
        Setting("alert_cooldown_s", zero=True),
        Setting("alert_webhook_url", url=True),
    ),
}
SETTINGS: Final = {setting.name: setting for group in GROUPS.values() for setting in group}


def _bounds() -> dict[str, tuple[int, int]]:
    values = msgspec.inspect.type_info(SettingValues)
    assert isinstance(values, msgspec.inspect.StructType)  # noqa: S101 - it is one
    kinds = {field.encode_name: _bare(field.type) for field in values.fields}
    return {
        name: (kind.ge or 0, kind.le or 10**INTEGER_MAX_DIGITS)
        for name, kind in kinds.items()
        if isinstance(kind, msgspec.inspect.IntType)
    }


def _bare(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Without its description."""
    return kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind


BOUNDS: Final = _bounds()
"""The least and the greatest of each number."""


def _is_url(text: str) -> bool:
    """An http or https URL with a host, as the admin API will take it."""
    try:
        parts = urlsplit(text)
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_plain = len(text) <= URL_MAX and all("!" <= letter <= "~" for letter in text)
    return has_place and is_plain and parts.scheme in ("http", "https")
