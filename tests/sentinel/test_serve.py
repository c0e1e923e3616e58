"""`sentinel serve`: what its worker processes are to the system."""

import os
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
