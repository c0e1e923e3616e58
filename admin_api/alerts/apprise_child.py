"""A process of its own in which apprise sends one message: ``python -m admin_api.alerts.apprise_child``.

Where it stands in the walk: `services` starts it, writes one JSON `Task` to its stdin and reads one word from its
stdout. Why a process: apprise blocks, resolves names by itself, follows redirects, and logs URLs. Here it can be ended
when its time is over, its log goes nowhere, and Python's audit hook (which nothing can take away again) looks at every
connection it makes: an address that alerts may not go to is refused at the connection itself, whatever name or
redirect led there.

What remains: code in C that opens sockets of its own is not seen by the hook (none of apprise's services is known to),
and a service may send the message in plain text, if that is what its URL says (``json://`` instead of ``jsons://``).
"""

import ipaddress
import json
import logging
import os
import sys
from typing import Any

from admin_api.alerts.addresses import PrivateTargets, is_allowed

SENT, NOT_SENT, BAD_URL, REFUSED, KNOWN = "sent", "not_sent", "bad_url", "refused", "known"

_SENDING = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
_NEVER = frozenset(
    ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "socket.bind")
)
# They act on the machine they run on, or load code from it.
LOCAL_SERVICES = frozenset(("dbus", "glib", "gnome", "kde", "qt", "macosx", "windows", "syslog", "custom", "notify"))


class Forbidden(OSError):
    """Where the guard stopped it."""


class Guard:
    """``stopped``: whether a connection was refused, whatever apprise made of the exception."""

    def __init__(self, policy: PrivateTargets) -> None:
        self._policy = policy
        self.stopped = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NEVER or (event in _SENDING and not self._may(arguments)):
            self.stopped = True
            raise Forbidden(event)

    def _may(self, arguments: tuple[Any, ...]) -> bool:
        """Internet addresses only, resolved ones only: a name would be resolved after we looked."""
        address = arguments[1]
        if address is None:  # sent over a connection that was looked at
            return True
        try:
            return is_allowed(ipaddress.ip_address(address[0]), self._policy)
        except (ValueError, TypeError, IndexError):
            return False


def main() -> None:
    task = json.load(sys.stdin)
    told = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    logging.disable(logging.CRITICAL)
    os.write(told, run(task).encode())


def run(task: dict[str, Any]) -> str:
    """``task``: ``url``, ``policy``, and ``title`` and ``body`` unless it is only to be looked at."""
    import apprise

    if task["url"].partition("://")[0].lower() in LOCAL_SERVICES:
        return BAD_URL
    service = apprise.Apprise.instantiate(task["url"], suppress_exceptions=True)
    if service is None:
        return BAD_URL
    if "body" not in task:
        return KNOWN
    guard = Guard(PrivateTargets(task["policy"]))
    sys.addaudithook(guard)
    sent = service.notify(title=task["title"], body=task["body"])
    if guard.stopped and not sent:
        return REFUSED
    return SENT if sent else NOT_SENT


if __name__ == "__main__":
    main()
