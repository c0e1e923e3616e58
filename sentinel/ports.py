"""Looks at TCP ports before somebody else's error message would."""

import errno
import socket

from sentinel.errors import ProcessFailed


def refuse_busy_port(host: str, port: int, variables: str = "SENTINEL") -> None:
    """Raises ProcessFailed saying which port is busy and what to do. ``variables``: how the settings' names begin."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ProcessFailed(f"{host!r} is not an address of this machine: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = (
                    f"port {port} on {host} is in use: stop what listens there, or choose another with {variables}_PORT"
                )
            else:
                why = (
                    f"cannot listen on {host} port {port}: {error.strerror}; see {variables}_HOST and {variables}_PORT"
                )
            raise ProcessFailed(why) from error


def free_port() -> int:
    """A port of the loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
