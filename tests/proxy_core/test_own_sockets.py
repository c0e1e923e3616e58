"""The server's sockets, found without the server: whoever was cut is hung up on, and only that one."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its sockets")

HANG_UP = """
import socket
from proxy_core.own_sockets import Clients

listener = socket.create_server(({address!r}, 0), family={family})
elsewhere = socket.create_server(({address!r}, 0), family={family})
pair, file = socket.socketpair(), open("/etc/hosts")
ours = Clients(listener.getsockname()[1])

def connect(listener):
    client = socket.create_connection(listener.getsockname()[:2])
    accepted, _ = listener.accept()
    return client, accepted

(cut, its_end), (kept, other_end), (foreign, foreign_end) = map(connect, (listener, listener, elsewhere))
its_end.sendall(b"the last words")
assert ours.hang_up({{(its_end.getpeername()[0], its_end.getpeername()[1]), ("198.51.100.1", 1)}}) == 1
assert cut.recv(100) == b"the last words" and cut.recv(100) == b""
assert ours.hang_up(set()) == 0
there = kept.getsockname()[:2]
its_end.close()
assert ours.missing({{there, cut.getsockname()[:2], foreign.getsockname()[:2]}}) == {{
    cut.getsockname()[:2], foreign.getsockname()[:2]
}}
assert Clients(elsewhere.getsockname()[1]).hang_up({{kept.getsockname()[:2]}}) == 0
other_end.sendall(b"goes on")
assert kept.recv(100) == b"goes on"

assert ours.hang_up() >= 1
assert kept.recv(100) == b""
foreign_end.sendall(b"goes on")
assert foreign.recv(100) == b"goes on"
pair[0].sendall(b"x")
assert pair[1].recv(1) == b"x" and file.read(1)
late, late_end = connect(listener)
late_end.sendall(b"served")
assert late.recv(100) == b"served"
"""

STALL = """
import select, socket
from proxy_core.own_sockets import bound_stalls

listener = socket.create_server(("127.0.0.1", 0))
assert bound_stalls(0.5) == 1
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
client.connect(listener.getsockname())
reader = socket.create_connection(listener.getsockname())
accepted, _ = listener.accept()
other, _ = listener.accept()
accepted.setblocking(False)
try:
    while True:
        accepted.send(bytes(65536))
except BlockingIOError:
    pass
assert select.select([], [accepted], [], 60)[1], "the system never gave it up"
try:
    accepted.send(b"x")
except TimeoutError:
    pass
else:
    raise AssertionError("the client had room again")
other.sendall(b"goes on")
assert reader.recv(100) == b"goes on"
"""


def run(script: str) -> None:
    """In a process of its own: all its descriptors are looked through."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("family", "address"), [("socket.AF_INET", "127.0.0.1"), ("socket.AF_INET6", "::1")])
def test_who_is_named_is_hung_up_on_and_nobody_else_and_who_has_left_is_missed(family: str, address: str) -> None:
    run(HANG_UP.format(family=family, address=address))


def test_the_system_gives_up_a_client_that_takes_nothing() -> None:
    """A silent one that has taken everything goes on."""
    run(STALL)
