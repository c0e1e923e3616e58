"""A door that shuts: who is in the queue gets in, who comes later is refused before a byte of theirs was taken."""

import subprocess
import sys

import pytest

SCRIPT = """
import errno, select, socket
from proxy_core.listeners import stop_new_connections

family, address = {family}, {address!r}
listener = socket.socket(family)
listener.bind((address, 0))
listener.listen(16)
waiting = socket.create_connection(listener.getsockname()[:2])
waiting.sendall(b"on its way")
assert stop_new_connections() == 1

late = socket.socket(family)
late.setblocking(False)
assert late.connect_ex(listener.getsockname()) == errno.EINPROGRESS

accepted, _ = listener.accept()
assert accepted.recv(100) == b"on its way"
accepted.sendall(b"answer")
assert waiting.recv(100) == b"answer"
assert select.select([], [late], [], 0)[1] == [], "it was let in"

listener.close()
_, told, _ = select.select([], [late], [], 60)
assert told and late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
accepted.sendall(b"goes on")
assert waiting.recv(100) == b"goes on"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
@pytest.mark.parametrize(("family", "address"), [("socket.AF_INET", "127.0.0.1"), ("socket.AF_INET6", "::1")])
def test_the_queue_is_served_and_newcomers_are_refused(family: str, address: str) -> None:
    """In a process of its own: all listeners of a process are shut."""
    script = SCRIPT.format(family=family, address=address)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_listens_nowhere_shuts_nothing() -> None:
    script = "from proxy_core.listeners import stop_new_connections; print(stop_new_connections())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "0\n"
