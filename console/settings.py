"""The console's static settings, read once at its start like those of the other processes (the roof loads them).

No secret is among them: a browser holds a random session id, and what it stands for stays in this process' memory.
"""

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(value: object) -> object:
    """Texts separated by commas or blanks, as the data plane reads the same variable."""
    if not isinstance(value, str):
        return value
    return tuple(ipaddress.ip_network(each, strict=False) for each in value.replace(",", " ").split())


class ConsoleSettings(BaseSettings):
    """Made by ``proxy_core.settings.load(ConsoleSettings)``."""

    model_config = SettingsConfigDict(
        env_prefix="SENTINEL_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    admin_api_url: str = Field(
        default="http://127.0.0.1:7000",
        description="where the console reaches the admin API: `http(s)://host[:port]`, without `/admin/api`",
    )
    console_host: str = Field(
        default="127.0.0.1",
        description="address on which the console listens. The default suits a reverse proxy on the same machine",
    )
    console_port: int = Field(default=7080, ge=1, le=65_535, description="port on which the console listens")
    console_path: str = Field(
        default="",
        description="path below which browsers see the console, such as `/admin/ui`; the proxy may pass it on or cut "
        "it off. Empty: the root",
    )
    console_idle_minutes: Annotated[float, Field(ge=0, le=7 * 24 * 60, allow_inf_nan=False)] = Field(
        default=60.0, description="time without a click or a key press after which the console signs out. 0: never"
    )
    trusted_proxies: Annotated[tuple[IPNetwork, ...], NoDecode, BeforeValidator(_networks)] = Field(
        default=(), description="networks of the reverse proxies whose `X-Real-IP` is believed"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe level that is logged"
    )

    @field_validator("admin_api_url")
    @classmethod
    def _check_admin_api_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError("must be http://host:port or https://host:port, without a path")
        return value.rstrip("/")

    @field_validator("console_path")
    @classmethod
    def _check_console_path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and (not path.startswith("/") or path.startswith("//") or not _is_plain(path)):
            raise ValueError("must look like /admin/ui: letters, digits and . _ - after slashes")
        return path


def _is_plain(path: str) -> bool:
    return all(part.replace("-", "a").replace("_", "a").replace(".", "a").isalnum() for part in path[1:].split("/"))
