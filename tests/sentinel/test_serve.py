"""`sentinel serve`: what its worker processes are to the system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.services import Stores
from tests.support.gateways import GatewayProcess, free_port, running_gateway


def policies(gateway: GatewayProcess) -> set[int]:
    """How the threads of the gateway's one worker are scheduled."""
    server = Path(f"/proc/{gateway.process.pid}/task")
    children = {int(pid) for thread in server.iterdir() for pid in (thread / "children").read_text().split()}
    (worker,) = [pid for pid in children if len(list(Path(f"/proc/{pid}/task").iterdir())) > 1]
    return {os.sched_getscheduler(int(thread.name)) for thread in Path(f"/proc/{worker}/task").iterdir()}


@pytest.mark.parametrize(("setting", "policy"), [("batch", os.SCHED_BATCH), ("normal", os.SCHED_OTHER)])
def test_all_threads_that_serve_are_scheduled_as_the_setting_says(
    stores: Stores, pg_dsn: str, redis_url: str, setting: str, policy: int
):
    with running_gateway(
        pg_dsn=pg_dsn, redis_url=redis_url, upstream_port=free_port(), SENTINEL_CPU_SCHEDULING=setting
    ) as gateway:
        assert policies(gateway) == {policy}


def test_a_spool_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    environment = {
        "PATH": os.environ["PATH"],
        "DOWNSTREAM_URL": "http://127.0.0.1:9",
        "PG_DSN": "postgresql://nobody@127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "SENTINEL_HMAC_SECRET": "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70",
        "SENTINEL_PORT": str(free_port()),
        "SENTINEL_EVENT_SPOOL_DIR": str(tmp_path / "file" / "spool"),
    }
    command = [sys.executable, "-m", "sentinel", "serve", "--plane", "proxy"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"the event spool {tmp_path}/file/spool cannot be written: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
