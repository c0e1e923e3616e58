"""Messages through apprise: Feishu, DingTalk, WeCom, Slack, Telegram, e-mail and a hundred others.

Where it stands in the walk: `sending` calls `send`, `operations.alert_targets` asks `knows`. The work is done in a
process for each message, see `apprise_child`; it is ended when its time is over. Raises nothing for what goes wrong.
"""

import asyncio
import contextlib
import json
import os
import sys
import time

from admin_api.alerts import apprise_child
from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.messages import Message
from admin_api.schemas.alerts import SendOutcome, SendResult

LIMIT_S = 20.0
"""Above apprise's own limits for one exchange, most of a second of which the process needs to start."""

AT_ONCE = 2

_OUTCOMES = {
    apprise_child.SENT: SendOutcome.DELIVERED,
    apprise_child.NOT_SENT: SendOutcome.NOT_SENT,
    apprise_child.BAD_URL: SendOutcome.BAD_URL,
    apprise_child.REFUSED: SendOutcome.REFUSED_ADDRESS,
}
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class Services:
    """One a process: no more than `AT_ONCE` of the children run for it."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def send(self, url: str, message: Message, policy: PrivateTargets, *, limit_s: float = LIMIT_S) -> SendResult:
        task = {"url": url, "policy": policy.value, "title": message.title, "body": message.text}
        began = time.monotonic()
        answer = await self._ask(task, limit_s)
        outcome = SendOutcome.TIMEOUT if answer is None else _OUTCOMES.get(answer, SendOutcome.NOT_SENT)
        return SendResult(outcome, int((time.monotonic() - began) * 1000))

    async def knows(self, url: str) -> bool:
        """Whether apprise makes a service of this URL; nothing is sent."""
        return await self._ask({"url": url}, LIMIT_S) == apprise_child.KNOWN

    async def _ask(self, task: dict[str, str], limit_s: float) -> str | None:
        """None: its time was over. The URL goes through stdin: others on the machine see command lines."""
        async with self._slots:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", apprise_child.__name__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                # None of the proxies that an environment may name: names would be resolved there, unseen.
                env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
            )
            try:
                async with asyncio.timeout(limit_s):
                    told, _ = await process.communicate(json.dumps(task).encode())
            except TimeoutError:
                return None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        return told.decode("ascii", "replace")
