"""The settings as README.md, README.zh-CN.md and .env.example show them. ``make docs`` writes them; a test holds them
to the code."""

import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple

from pydantic_settings import BaseSettings

from admin_api.settings import AdminSettings
from console.settings import ConsoleSettings
from proxy_core.setting_values import shown
from proxy_core.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
README_ZH = ROOT / "README.zh-CN.md"
CHINESE = ROOT / "docs/settings.zh-CN.toml"
EXAMPLE = ROOT / ".env.example"
BEGIN = "<!-- settings: written by `make docs` -->\n"
END = "<!-- end of settings -->\n"
HEAD = """\
# Copy to .env, which `sentinel` reads from the folder it is started in; the environment goes before it.
# The lines without # are required; the others show their defaults.
"""


class SettingRow(NamedTuple):
    """One setting as the documentation shows it."""

    variable: str
    default: str
    description: str


def setting_rows(kind: type[BaseSettings] = Settings) -> list[SettingRow]:
    """Every setting in the order of its file, for README.md and its test."""
    rows = []
    for name, field in kind.model_fields.items():
        default = (
            "required" if field.is_required() else f"`{shown(field.default)}`" if field.default_factory is None else ""
        )
        rows.append(SettingRow(variable_of(name, kind), "" if default == "``" else default, field.description or ""))
    return rows


def rows() -> list[SettingRow]:
    """Those of the gateway, then what the console adds: some variables are read by both."""
    planes = setting_rows(AdminSettings)
    known = {row.variable for row in planes}
    return planes + [row for row in setting_rows(ConsoleSettings) if row.variable not in known]


def rows_zh() -> list[SettingRow]:
    """The same in Chinese. Raises KeyError with the variable that docs/settings.zh-CN.toml lacks."""
    said = tomllib.loads(CHINESE.read_text(encoding="utf-8"))
    return [
        SettingRow(row.variable, "必填" if row.default == "required" else row.default, said[row.variable])
        for row in rows()
    ]


def table() -> str:
    return _table("| variable | default | what it does |", rows())


def table_zh() -> str:
    return _table("| 变量 | 默认值 | 作用 |", rows_zh())


def _table(head: str, listed: list[SettingRow]) -> str:
    lines = [head, "|---|---|---|"]
    lines += [f"| `{row.variable}` | {row.default} | {_sentence(row)} |" for row in listed]
    return "\n".join(lines) + "\n"


COMPOSE = """
# -- Only for compose.yaml, which itself sets PG_DSN, REDIS_URL, SENTINEL_TRUSTED_PROXIES, SENTINEL_HOST, SENTINEL_PORT
#    and SENTINEL_EVENT_SPOOL_DIR, and DOWNSTREAM_URL where it is empty (to the New API that it starts).

# password of the database that compose.yaml starts (openssl rand -hex 24): letters and digits, it becomes part of a URL
#POSTGRES_PASSWORD=

# ports of this machine that nginx answers on
#HTTP_PORT=80
#HTTPS_PORT=443
"""


def example() -> str:
    return HEAD + "".join(f"\n{_comment(row)}\n{_assignment(row)}\n" for row in rows()) + COMPOSE


def readme_with(text: str, settings: str) -> str:
    """``text``, a README, with the table of today between the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, "the README has lost the marker before its settings"
    assert end, "the README has lost the marker after its settings"
    return before + BEGIN + settings + END + after


def _sentence(row: SettingRow) -> str:
    return row.description.replace("|", "\\|")


def _comment(row: SettingRow) -> str:
    return textwrap.fill(
        row.description.replace("`", ""),
        width=120,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _assignment(row: SettingRow) -> str:
    if row.default == "required":
        return f"{row.variable}="
    return f"#{row.variable}={row.default.strip('`')}"


def main() -> None:
    README.write_text(readme_with(README.read_text(encoding="utf-8"), table()), encoding="utf-8")
    README_ZH.write_text(readme_with(README_ZH.read_text(encoding="utf-8"), table_zh()), encoding="utf-8")
    EXAMPLE.write_text(example(), encoding="utf-8")


if __name__ == "__main__":
    main()
