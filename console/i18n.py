"""The console's words in English and Chinese: catalogues, the language of a browser, numbers and times in words.

    t = Texts("zh-CN")
    t("bindings.title")                      # 绑定
    t.n("bulk.selected", 3)                  # "bulk.selected.one" is the English singular, where there is one

Where it stands in the walk: each page writes through it. The catalogues lie in `console.messages`, both languages of a
message side by side; tests fail on one that is missing, unused, or filled with other names in the other language.
"""

from collections.abc import Iterable
from typing import Final, Literal, get_args

from console.messages import CATALOGUE

Language = Literal["en", "zh-CN"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
NAMES: Final[dict[Language, str]] = {"en": "English", "zh-CN": "简体中文"}
QUASAR: Final[dict[Language, Literal["en-US", "zh-CN"]]] = {"en": "en-US", "zh-CN": "zh-CN"}
"""What NiceGUI calls them."""

COLON: Final[dict[Language, str]] = {"en": ": ", "zh-CN": "\N{FULLWIDTH COLON}"}
COMMA: Final[dict[Language, str]] = {"en": ", ", "zh-CN": "\N{FULLWIDTH COMMA}"}
COOKIE = "sentinel_language"


class Texts:
    """One language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._index = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """The message with its ``{names}`` filled in. An unknown key raises KeyError: tests find it first."""
        text = CATALOGUE[key][self._index]
        return text.format(**values) if values else text

    def n(self, key: str, n: int, **values: object) -> str:
        """For a count: ``{n}`` is it, with separators."""
        singular = f"{key}.one"
        chosen = singular if n == 1 and self.language == "en" and singular in CATALOGUE else key
        return self(chosen, n=f"{n:,}", **values)

    def pair(self, name: str, value: object) -> str:
        """A name and what it is, with the language's own colon."""
        return f"{name}{COLON[self.language]}{value}"

    def listed(self, texts: Iterable[str]) -> str:
        """One after the other, with the language's own comma."""
        return COMMA[self.language].join(texts)

    def known(self, key: str, otherwise: str, **values: object) -> str:
        """For keys made of what the admin API answered, which may be newer than this console."""
        return self(key, **values) if key in CATALOGUE else otherwise


def negotiate(cookie: str | None, accept_language: str) -> Language:
    """What was chosen here before, else the first of the browser's languages that we have, else English."""
    for language in LANGUAGES:
        if cookie == language:
            return language
    for wanted in sorted(accept_language.split(","), key=_quality, reverse=True):
        name = wanted.partition(";")[0].strip().lower()
        if name.startswith("zh"):
            return "zh-CN"
        if name.startswith("en"):
            return "en"
    return "en"


def _quality(part: str) -> float:
    _, _, quality = part.partition(";q=")
    try:
        return float(quality) if quality else 1.0
    except ValueError:
        return 0.0
