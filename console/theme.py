"""How a page looks before anything is on it: stylesheet, script, icon, theme, language.

Where it stands in the walk: `frame` and the sign-in page begin with it. Everything lies in ``console/static`` or in
NiceGUI's own package: nothing is fetched from elsewhere.
"""

import copy
import hashlib
import html
from pathlib import Path
from typing import Final, Literal, get_args

from nicegui import __version__ as nicegui_version
from nicegui import app, ui
from starlette.requests import Request

from console import i18n
from console.i18n import Language, Texts, negotiate

Theme = Literal["system", "light", "dark"]
Zone = Literal["local", "utc"]
THEMES: Final[tuple[Theme, ...]] = get_args(Theme)
ZONES: Final[tuple[Zone, ...]] = get_args(Zone)
THEME_COOKIE: Final = "sentinel_theme"
ZONE_COOKIE: Final = "sentinel_zone"

STATIC: Final = Path(__file__).parent / "static"
STATIC_PATH: Final = "/static"
LOGO: Final = STATIC / "logo.svg"
DARK: Final[dict[Theme, bool | None]] = {"system": None, "light": False, "dark": True}


class Preferences:
    """What a browser remembers of its user's taste, in cookies that hold nothing else."""

    def __init__(self, request: Request) -> None:
        self.language: Language = negotiate(
            request.cookies.get(i18n.COOKIE), request.headers.get("accept-language", "")
        )
        theme, zone = request.cookies.get(THEME_COOKIE), request.cookies.get(ZONE_COOKIE)
        self.theme: Theme = next((each for each in THEMES if each == theme), "system")
        self.zone: Zone = next((each for each in ZONES if each == zone), "local")

    def texts(self) -> Texts:
        return Texts(self.language)


def serve_static_files() -> None:
    app.add_static_files(STATIC_PATH, STATIC, max_cache_age=365 * 24 * 3600)


def asset(prefix: str, name: str) -> str:
    """Its URL, which changes with its content: browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{prefix}{STATIC_PATH}/{name}?v={digest}"


def dress(request: Request, preferences: Preferences, title: str) -> None:
    """Puts language, theme and our own files on the page that is being built."""
    prefix = request.scope.get("root_path", "")
    client = ui.context.client
    # A page's language and theme are settings of its route; here they are the visitor's.
    client.page = copy.copy(client.page)
    client.page.language = i18n.QUASAR[preferences.language]
    client.page.dark = DARK[preferences.theme]
    client.title = title
    attributes = {"theme": preferences.theme, "zone": preferences.zone, "path": prefix or "/"}
    data = "".join(f'd.dataset.{name}="{html.escape(value)}";' for name, value in attributes.items())
    languages = "".join(
        f'<script defer src="{prefix}/_nicegui/{nicegui_version}/static/lang/{name}.umd.prod.js"></script>'
        for name in i18n.QUASAR.values()
    )
    ui.add_head_html(
        f'<script>{{const d=document.documentElement;{data}d.lang="{preferences.language}";}}</script>'
        f'<link rel="stylesheet" href="{asset(prefix, "console.css")}">'
        f'<script defer src="{asset(prefix, "console.js")}"></script>'
    )
    ui.add_body_html(languages)
