"""The last moment of a listening socket: it takes no new connection, and loses none that it has.

Where it stands in the walk: `app` asks at the end of a drain, just before the server closes its listeners. A listener
that is closed resets whoever was connected and not yet accepted: their request may be on its way, and a proxy in front
must not send it a second time. So first the kernel is told to drop every packet that would open a connection (a filter
on the socket, which needs no privilege); what waits is accepted meanwhile. Whoever knocks then is refused a second
later, when its packet is repeated and nobody listens any more: nothing was sent, it may ask another gateway.
"""

import contextlib
import ctypes
import socket
import struct
import sys

from proxy_core.own_sockets import listening

SO_ATTACH_FILTER = 26

# Classic BPF; the packet begins with the TCP header, whose byte 13 holds the flags.
_LOAD_FLAGS = (0x30, 0, 0, 13)
_KEEP_SYN_AND_ACK = (0x54, 0, 0, 0x12)
_ONLY_SYN_ELSE_SKIP = (0x15, 0, 1, 0x02)
_DROP = (0x06, 0, 0, 0)
_PASS = (0x06, 0, 0, 0xFFFF_FFFF)
_NO_NEW_CONNECTIONS = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (_LOAD_FLAGS, _KEEP_SYN_AND_ACK, _ONLY_SYN_ELSE_SKIP, _DROP, _PASS)
)
_INSTRUCTION_BYTES = 8


def stop_new_connections() -> int:
    """Shuts the door of every TCP listener of this process; returns how many. Where the system cannot do it, 0."""
    if sys.platform != "linux":
        return 0
    program = ctypes.create_string_buffer(_NO_NEW_CONNECTIONS)
    count = len(_NO_NEW_CONNECTIONS) // _INSTRUCTION_BYTES
    attach = struct.pack("@HP", count, ctypes.addressof(program))
    shut = 0
    for listener in listening():
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attach)
            shut += 1
    return shut
