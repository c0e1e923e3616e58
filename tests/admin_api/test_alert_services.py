"""Messages through apprise: in a process of their own, which goes only where alerts may go."""

import json
import subprocess
import sys

import pytest

from admin_api.alerts import apprise_child
from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.messages import Message
from admin_api.alerts.services import Services
from admin_api.schemas.alerts import SendOutcome
from tests.support.receivers import Receiver

pytestmark = pytest.mark.anyio

MESSAGE = Message("标题", ["first line", "second line"], "https://console.test/bindings/1")


def json_url(there: Receiver, host: str = "127.0.0.1") -> str:
    return f"json://{host}:{there.port}/hook?:token=t0ken"


async def test_a_message_arrives_whole(there: Receiver):
    result = await Services().send(json_url(there), MESSAGE, PrivateTargets.ALL)
    assert (result.outcome, result.status) == (SendOutcome.DELIVERED, None)
    said = json.loads(there.received[0].body)
    assert (said["title"], said["message"]) == (MESSAGE.title, MESSAGE.text)
    assert said["message"].endswith("/bindings/1")


async def test_a_refusal_and_an_absent_receiver_are_told(there: Receiver):
    there.answers = [500]
    for url in (json_url(there), "json://127.0.0.1:9/"):
        assert (await Services().send(url, MESSAGE, PrivateTargets.ALL)).outcome is SendOutcome.NOT_SENT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_it_connects_to_no_address_that_is_not_allowed(there: Receiver, host: str):
    for policy in (PrivateTargets.REFUSE, PrivateTargets.PRIVATE):
        result = await Services().send(json_url(there, host), MESSAGE, policy)
        assert result.outcome is SendOutcome.REFUSED_ADDRESS
    assert there.received == []


async def test_a_redirect_to_a_metadata_address_ends_there(there: Receiver):
    """apprise follows redirects; the connection is what is judged."""
    there.answers, there.location = [307], "http://169.254.169.254/latest/meta-data/"
    result = await Services().send(json_url(there), MESSAGE, PrivateTargets.ALL)
    assert result.outcome is SendOutcome.REFUSED_ADDRESS
    assert len(there.received) == 1


async def test_a_receiver_that_hangs_costs_no_more_than_the_limit(there: Receiver):
    there.answers = ["hang"]
    result = await Services().send(json_url(there), MESSAGE, PrivateTargets.ALL, limit_s=2.0)
    assert result.outcome is SendOutcome.TIMEOUT


async def test_urls_of_services_are_known_without_sending(there: Receiver):
    services = Services()
    assert await services.knows("feishu://abcdefghijklmnop")
    assert await services.knows(json_url(there))
    assert there.received == []
    for unknown in ("nonsense://x", "json://", "syslog://", "dbus://", "windows://"):
        assert not await services.knows(unknown), unknown


def test_neither_the_command_line_nor_its_output_shows_the_url(there: Receiver):
    task = {"url": json_url(there), "policy": "refuse", "title": "t", "body": "b"}
    ran = subprocess.run(
        [sys.executable, "-m", apprise_child.__name__],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == (apprise_child.REFUSED, "")
    assert "t0ken" not in " ".join(ran.args)


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', {port}))",
        "import socket; socket.socket().connect(('localhost', {port}))",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('169.254.169.254', 80))",
        "import socket; socket.socket(socket.AF_UNIX).connect('/tmp/no-such-socket')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
    ],
)
def test_the_guard_stops_every_way_out_that_python_has(there: Receiver, attempt: str):
    code = (
        "import sys\n"
        "from admin_api.alerts.apprise_child import Forbidden, Guard\n"
        "from admin_api.alerts.addresses import PrivateTargets\n"
        "guard = Guard(PrivateTargets.PRIVATE)\n"
        "sys.addaudithook(guard)\n"
        f"try:\n    {attempt.format(port=there.port)}\nexcept Forbidden:\n    print('stopped', guard.stopped)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "stopped True\n", ran.stderr
    assert there.received == []
