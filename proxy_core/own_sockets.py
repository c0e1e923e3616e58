"""This process's TCP sockets, which the server does not show: the system tells them.

Where it stands in the walk: beside it. `app` has the system bound at the start for how long a client may take nothing,
`watch` hangs up on clients that were cut and asks who is still there, `listeners` shuts the door at the end.

Rules for whoever edits this file:

- All descriptors of the process are looked through, about 10 µs for each: never on a request's way.
- A descriptor is duplicated before it is looked at, and the copy closed: the server's threads may close the original
  at any moment, and its number may then be another connection's.
- Without Linux there is nothing to find: what is done here bounds more tightly what is bounded elsewhere too.
"""

import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")

Peer = tuple[str, int]
"""Address and port of a client."""


def listening() -> Iterator[socket.socket]:
    """The sockets that accept connections. What is given is closed again; the original stays."""
    for own in _sockets():
        with contextlib.suppress(OSError):
            accepting = own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            family = own.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
            if accepting and family in (socket.AF_INET, socket.AF_INET6):
                yield own


def bound_stalls(limit_s: float) -> int:
    """Has the system end each connection that is accepted from now on when its client has taken nothing of what waits
    for it for this long, even where only the server still holds something. Returns the number of listeners.
    """
    limited = 0
    for listener in listening():
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limit_s * 1000))
        limited += 1
    return limited


class Clients:
    """The connections that clients have to one port of ours."""

    def __init__(self, port: int) -> None:
        self._port = port

    def hang_up(self, peers: set[Peer] | None = None) -> int:
        """Ends the connections of these, or of all, whatever is still to be sent to them. Returns how many it were."""
        wanted = None if peers is None else {_canonical(peer) for peer in peers}
        ended = 0
        for own, peer in self._connected():
            if wanted is None or peer in wanted:
                with contextlib.suppress(OSError):  # it has ended by itself
                    own.shutdown(socket.SHUT_RDWR)
                    ended += 1
        return ended

    def missing(self, peers: set[Peer]) -> set[Peer]:
        """Those of them that have no connection any more. None where the system does not tell."""
        if sys.platform != "linux":
            return set()
        here = {peer for _, peer in self._connected()}
        return {peer for peer in peers if _canonical(peer) not in here}

    def _connected(self) -> Iterator[tuple[socket.socket, Peer]]:
        for own in _sockets():
            with contextlib.suppress(OSError):  # not connected
                here = own.getsockname()
                if isinstance(here, tuple) and here[1] == self._port:
                    yield own, _canonical(own.getpeername())


def _canonical(peer: Peer) -> Peer:
    """As the server and the system may each write an IPv6 address; the system adds a flow and a scope."""
    return str(ipaddress.ip_address(peer[0].partition("%")[0])), peer[1]


def _sockets() -> Iterator[socket.socket]:
    """A copy of each descriptor that is a socket, of whatever family: to ask for it would cost time.

    It is called IPv6, which gives it room for the addresses of both.
    """
    for entry in DESCRIPTORS.iterdir() if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):
            copy = os.dup(int(entry.name))
            try:
                own = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, fileno=copy)
            except OSError:
                os.close(copy)
                continue
            with own:
                yield own
