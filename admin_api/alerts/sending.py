"""One message to one target, whatever kind it is.

Where it stands in the walk: `jobs.deliveries` and the API's "send a test" come here; `webhook` and `services` do it.
"""

import ssl
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from admin_api.alerts import messages, signing, webhook
from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.messages import Alert
from admin_api.alerts.services import Services
from admin_api.schemas.alerts import Language, SendResult, TargetKind


class Target(msgspec.Struct, frozen=True):
    """What sending needs of a target's row; ``secrets`` as they lie there."""

    kind: TargetKind
    url: str
    language: Language
    secrets: list[dict[str, Any]]

    def __repr__(self) -> str:
        return f"Target({self.kind.value})"


class Sender:
    """One a process. ``verify`` None: certificates are verified against the usual authorities or `SSL_CERT_FILE`."""

    def __init__(self, policy: PrivateTargets, console_url: str, *, verify: ssl.SSLContext | None = None) -> None:
        self.policy = policy
        self.services = Services()
        self._console_url = console_url.rstrip("/")
        self._verify = verify

    async def send(self, target: Target, alert: Alert) -> SendResult:
        """Raises nothing for what goes wrong on the way."""
        message = messages.word(alert, target.language, self._console_url)
        if target.kind is TargetKind.APPRISE:
            return await self.services.send(target.url, message, self.policy)
        if self._verify is None:
            self._verify = httpx.create_ssl_context()
        body = messages.as_json(alert, message)
        secrets = signing.live(target.secrets, datetime.now(UTC))
        headers = signing.headers(messages.webhook_id(alert.message_id), int(time.time()), body, secrets)
        return await webhook.post(webhook.Post(target.url, headers, body), self.policy, verify=self._verify)


def trial() -> Alert:
    """What "send a test" sends."""
    return Alert(uuid.uuid4().hex, messages.TEST, datetime.now(UTC))
