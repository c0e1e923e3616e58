"""`sentinel up`: what it prints works as it stands, and whatever ends it, nothing of it is left."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sentinel.ports import free_port
from tests.support.processes import Sentinel, all_gone, named, processes_of, sentinel
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

READY = "the refusals, as recorded:"


@contextlib.contextmanager
def demo(folder: Path, **settings: str) -> Iterator[Sentinel]:
    ports = {"SENTINEL_PORT": str(free_port()), "SENTINEL_CONSOLE_PORT": str(free_port())}
    with sentinel(folder, "up", "--demo", SENTINEL_WORKERS="1", **(ports | settings)) as running:
        yield running


def printed_commands(running: Sentinel) -> list[list[str]]:
    """First use, the same as a stream, another address, health, signing in, the records."""
    running.wait_for("SELECT")
    return [shlex.split(line) for line in running.stdout.splitlines() if line.startswith("  ")]


def run(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
async def test_printed_commands_show_a_key_bound_passing_refused_and_recorded(data_dir: Path) -> None:
    with demo(data_dir) as running:
        first, stream, stranger, health, sign_in, records = printed_commands(running)

        assert '"content":"Hello from the stub model."' in run(first)
        assert run(stream).rstrip().endswith("data: [DONE]")
        refused = run(stranger)
        assert refused.startswith("HTTP/1.1 403 ")
        assert '"code":"key_bound_to_other_address"' in refused
        assert run(health).strip() == '{"status":"ok"}'
        assert '"access_token":' in run(sign_in)
        url = re.search(r"the console: (\S+)", running.stdout)[1]
        password = re.search(r"sign in as admin with the password (\S+)", running.stdout)[1]
        async with httpx.AsyncClient(base_url=url) as visitor:
            assert (await visitor.get("/login")).status_code == 200
            entered = await visitor.post("/login", data={"name": "admin", "password": password})
            assert "sentinel_session" in entered.cookies
        await eventually(lambda: "127.0.0.2" in run(records))
        rows = run(records)
        assert "{127.0.0.1/32}" in rows
        assert "key_bound_to_other_address" in rows

        with demo(data_dir) as second:
            assert second.wait() == 1
        assert f"{data_dir} is in use by process {running.process.pid}" in second.stderr

        assert running.end(signal.SIGINT) == 0
        assert processes_of(data_dir) == []


def test_one_process_that_dies_is_named_and_ends_all(data_dir: Path) -> None:
    """Here a worker of the gateway's server: it ends its server, and that everything."""
    with demo(data_dir) as running:
        running.wait_for(READY)
        os.kill(named(data_dir, "sentinel serve")[-1], signal.SIGKILL)
        assert running.wait() == 1
        assert "error: gateway ended with status 1" in running.stderr
        assert f"{data_dir}/log/gateway.log" in running.stderr
        assert processes_of(data_dir) == []


def test_nothing_outlives_up_when_it_is_killed(data_dir: Path) -> None:
    with demo(data_dir) as running:
        running.wait_for(READY)
        running.end(signal.SIGKILL)
        assert all_gone(data_dir)


def test_interrupt_in_the_middle_of_the_start_leaves_nothing(data_dir: Path) -> None:
    with demo(data_dir) as running:
        running.wait_for("PostgreSQL", "err")
        assert running.end(signal.SIGINT) == 0
        assert "Traceback" not in running.stderr
        assert processes_of(data_dir) == []


def test_busy_port_is_said_plainly(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with sentinel(data_dir, "up", "--demo", SENTINEL_PORT=str(port)) as running:
            assert running.wait() == 1
        assert f"error: port {port} on 127.0.0.1 is in use" in running.stderr
        assert "SENTINEL_PORT" in running.stderr
        assert "gateway" not in running.stderr
        assert processes_of(data_dir) == []
