"""The control plane's static settings: the data plane's, how alerts are sent, and what signing operators in needs.

One environment serves every process; a gateway that does not serve the admin API reads `proxy_core.settings` alone, a
worker needs no secret of the admin API.
"""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from admin_api.alerts.addresses import PrivateTargets
from proxy_core.setting_values import refuse_weak_secret
from proxy_core.settings import Settings

PASSWORD_MIN_CHARACTERS = 12


class WorkerSettings(Settings):
    """What `sentinel worker` reads, and the admin API too, which sends tests. Made by ``load(WorkerSettings)``."""

    console_url: str = Field(
        default="",
        description="where operators reach the console, such as `https://example.com/admin/ui`: alerts link to "
        "bindings there. Empty: alerts have no links",
    )
    alert_private_targets: PrivateTargets = Field(
        default=PrivateTargets.REFUSE,
        description="addresses besides public ones that alerts may be sent to: `refuse`: none; `private`: private "
        "networks (also over plain http); `all`: this machine too. Whoever may edit targets can make the server send "
        "there. Link-local and metadata addresses are refused always",
    )

    @field_validator("console_url")
    @classmethod
    def _check_console_url(cls, value: str) -> str:
        url = urlsplit(value)
        if value and (url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment):
            raise ValueError("must begin with https:// or http://, name a host, and have no query")
        return value


class AdminSettings(WorkerSettings):
    """Made by ``load(AdminSettings)``."""

    admin_jwt_secret: SecretStr = Field(
        validation_alias="ADMIN_JWT_SECRET",
        description="signs operators' access tokens; at least 32 random bytes, not the HMAC secret. "
        "Changing it signs everybody out",
    )
    admin_password: SecretStr | None = Field(
        default=None,
        validation_alias="ADMIN_PASSWORD",
        description="password of the first operator `admin`, made when there is no operator yet. "
        "Empty: make one with `sentinel user add`",
    )
    access_token_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = Field(
        default=15, description="life of an operator's access token; the refresh token renews it"
    )
    session_days: Annotated[int, Field(ge=1, le=365)] = Field(
        default=14, description="life of a session without use, after which an operator signs in again"
    )

    @field_validator("admin_jwt_secret")
    @classmethod
    def _check_admin_jwt_secret(cls, value: SecretStr) -> SecretStr:
        refuse_weak_secret(value.get_secret_value())
        return value

    @field_validator("admin_password")
    @classmethod
    def _check_admin_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < PASSWORD_MIN_CHARACTERS:
            raise ValueError(f"is shorter than {PASSWORD_MIN_CHARACTERS} characters")
        return value
